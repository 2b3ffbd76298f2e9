//! The files beside a tenant's settings: authorities, revocations, tokens, keys, the directory.

use std::path::Path;

use policy::Position;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Build, PrivacyKey};
use crate::config::{FIRST, TokenHash, parse_revocations, problem, read_text};
use crate::ident::{CaMaterial, DIRECTORY_BYTES_MAX, Directory, Jwks, RevocationList, TokenTable};
use crate::snapshot::source::{Source, TEXT_BYTES_MAX};

impl Build<'_> {
    /// Authorities are read live also for a last good copy: private keys are kept in one place.
    pub(super) fn authority(&mut self, which: &str) -> Option<CaMaterial> {
        let (cert, key) = (format!("ca/{which}.pem"), format!("ca/{which}.key"));
        let cert_pem = self.pem(&cert)?;
        let key_pem = zeroize::Zeroizing::new(self.pem(&key)?);
        match CaMaterial::from_pem(&cert_pem, &key_pem) {
            Ok(authority) => Some(authority),
            Err(error) => {
                let expected = "an authority's certificate and its key";
                self.report(&cert, FIRST, &error.to_string(), expected);
                None
            }
        }
    }

    /// Only the certificate: verifying devices needs no key, and a key not read cannot leak.
    pub(super) fn device_authority(&mut self) -> Option<CertificateDer<'static>> {
        let pem = self.pem("ca/device.pem")?;
        let cert = CertificateDer::from_pem_slice(pem.as_bytes());
        if cert.is_err() {
            self.report("ca/device.pem", FIRST, "not a PEM file", "an authority's certificate");
        }
        cert.ok()
    }

    pub(super) fn pem(&mut self, name: &str) -> Option<String> {
        /// A chain of a few certificates.
        const PEM_BYTES_MAX: u64 = 64 << 10;
        match read_text(&self.folder.join(name), PEM_BYTES_MAX) {
            Ok(text) => Some(text),
            Err(error) => {
                self.report(name, FIRST, &error.to_string(), "a readable PEM file");
                None
            }
        }
    }

    pub(super) fn revoked(&mut self) -> Option<RevocationList> {
        let Some(text) = self.optional("revoked.yaml")? else {
            return Some(RevocationList::default());
        };
        let file = self.layout.shown(&self.folder.join("revoked.yaml"));
        parse_revocations(&file, &text).map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// The users that `sluice enroll` wrote down: `user,device,sha256` per line.
    pub(super) fn listed_tokens(&mut self) -> Option<TokenTable> {
        let mut table = TokenTable::default();
        let text = self.optional("tokens.csv")?.unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split(',').map(str::trim);
            let (user, device, hash) = (fields.next(), fields.next(), fields.next());
            let hash = hash.and_then(|hash| hash.parse::<TokenHash>().ok());
            match (user, device, hash) {
                (Some(user), Some(device), Some(hash)) if !user.is_empty() => {
                    table.insert(user, hash.0, Some(device).filter(|device| !device.is_empty()));
                }
                _ => {
                    let line = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
                    let at = Position { line, column: 1 };
                    self.report("tokens.csv", at, "malformed line", "`user,device,sha256`");
                }
            }
        }
        Some(table)
    }

    /// The key of pseudonyms. Never copied: without its file the last good tenant drops what it
    /// would have hashed.
    pub(super) fn privacy_key(&mut self, path: Option<&Path>, at: Position) -> Option<PrivacyKey> {
        /// 128 bits as hexadecimal would be 32 characters, as base64 22.
        const KEY_BYTES_MIN: usize = 16;
        let text = read_text(path?, TEXT_BYTES_MAX).map(zeroize::Zeroizing::new);
        let what = match text {
            Ok(text) if text.trim().len() >= KEY_BYTES_MIN => {
                return Some(PrivacyKey(zeroize::Zeroizing::new(text.trim().to_owned())));
            }
            Ok(_) => format!("a key shorter than {KEY_BYTES_MIN} characters"),
            Err(error) => error.to_string(),
        };
        if self.source == Source::Live {
            self.report("tenant.yaml", at, &what, "a file with a key");
        }
        None
    }

    pub(super) fn directory(&mut self, path: Option<&Path>, at: Position) -> Option<Directory> {
        let Some(path) = path else { return Some(Directory::default()) };
        let text = self.side_file(path, "directory.csv", DIRECTORY_BYTES_MAX, at)?;
        let file = self.layout.shown(path);
        match Directory::parse(&text) {
            Ok(directory) => {
                self.texts.push(("directory.csv", text));
                Some(directory)
            }
            Err(problems) => {
                self.problems.extend(problems.into_iter().map(|found| {
                    let at = Position { line: found.line, column: found.column };
                    problem(&file, at, found.what, found.expected)
                }));
                None
            }
        }
    }

    pub(super) fn jwks(&mut self, path: Option<&Path>, at: Position) -> Option<Option<Jwks>> {
        let Some(path) = path else { return Some(None) };
        let text = self.side_file(path, "jwks.json", TEXT_BYTES_MAX, at)?;
        match Jwks::parse(&text) {
            Ok(jwks) => {
                self.texts.push(("jwks.json", text));
                Some(Some(jwks))
            }
            Err(error) => {
                let file = self.layout.shown(path);
                let expected = "a key set with public keys (RFC 7517)";
                self.problems.push(problem(&file, FIRST, error.to_string(), expected));
                None
            }
        }
    }

    /// A file that tenant.yaml names; where it cannot be read, the place that names it is wrong.
    pub(super) fn side_file(
        &mut self,
        path: &Path,
        copy: &str,
        bytes_max: u64,
        at: Position,
    ) -> Option<String> {
        match self.source.read(path, &self.copies, copy, bytes_max) {
            Ok(text) => Some(text),
            Err(error) => {
                let what = format!("`{}`: {error}", self.layout.shown(path));
                self.report("tenant.yaml", at, &what, "a readable file");
                None
            }
        }
    }
}
