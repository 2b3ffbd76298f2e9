//! Builds one tenant: tenant.yaml, policy.yaml, its authorities, directory, keys and revocations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use policy::content::{ProfileSource, Profiles};
use policy::decrypt::{DecryptRules, DecryptSource};
use policy::fact::Key;
use policy::list::Labels;
use policy::yaml::Node;
use policy::{Policy, Position, Problem, Severity};
use rustls::pki_types::CertificateDer;

use super::gateway::roots_from;
use super::lists::{Digest, Lists};
use super::source::{Source, TEXT_BYTES_MAX};
use crate::config::{
    FIRST, Layout, Read, Restrictions, TenantConfig, any_error, check_tenant, parse_revocations,
    position, problem, read, read_text,
};
use crate::ident::{
    CaMaterial, DIRECTORY_BYTES_MAX, Directory, Expectations, Jwks, RevocationList, TenantName,
    TokenTable,
};

/// One tenant in force. An exchange keeps the one it began with.
#[derive(Debug)]
pub struct Tenant {
    pub name: TenantName,
    /// Counts up with each swap.
    pub generation: u64,
    /// Changes only when this tenant's settings of TLS towards origins change.
    pub origin_generation: u64,
    /// Paths in it are absolute.
    pub config: TenantConfig,
    /// Vendors' headers of `restrict`.
    pub restrictions: Restrictions,
    pub policy: Arc<Policy>,
    /// Short hash of policy.yaml, as in events.
    pub policy_version: Arc<str>,
    pub decrypt: Arc<DecryptRules>,
    /// Whether some rule goes by where an address is.
    pub goes_by_country: bool,
    /// Categories of hosts that are the tenant's own.
    pub labels: Arc<Labels>,
    /// What `dlp` rules look for in bodies.
    pub profiles: Arc<Profiles>,
    pub directory: Arc<Directory>,
    /// Keys for tokens, where tokens are accepted.
    pub jwks: Option<Arc<Jwks>>,
    /// Users of the explicit listeners.
    pub tokens: Arc<TokenTable>,
    pub revoked: Arc<RevocationList>,
    /// Signs the leaves that this tenant's clients see.
    pub intercept_ca: Arc<CaMaterial>,
    /// Issued the tenant's device certificates. The key stays on disk.
    pub device_ca: CertificateDer<'static>,
    /// Its subject, DER.
    pub device_subject: Box<[u8]>,
    /// Key of pseudonyms in events.
    pub privacy_key: Option<PrivacyKey>,
    /// Authorities of `origin.extra_roots`.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Files outside the tenant's own list whose change is this tenant's change.
    pub(super) extra_files: Vec<PathBuf>,
    /// What last loaded, to be kept on disk; emptied once it is.
    pub(super) texts: parking_lot::Mutex<Vec<(&'static str, String)>>,
    /// The content of each of its lists, in order.
    pub(super) list_digests: Vec<Digest>,
    origin_digest: Vec<u8>,
}

impl Tenant {
    /// What this tenant wants of tokens; `None` where it accepts none.
    #[must_use]
    pub fn expectations(&self) -> Option<Expectations<'_>> {
        let identity = &self.config.identity;
        Some(Expectations {
            issuer: identity.issuer.as_deref()?,
            audience: identity.audience.as_deref()?,
            leeway_s: identity.leeway_s,
            bound: identity.binding == crate::config::Binding::Required,
            user_claim: &identity.claims.user,
            groups_claim: &identity.claims.groups,
            device_claim: &identity.claims.device,
            device_class_claim: &identity.claims.device_class,
            os_claim: &identity.claims.os,
        })
    }

    /// The tenant as the successor of the one in force.
    pub(super) fn after(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            self.generation = before.generation + 1;
            let same = self.origin_digest == before.origin_digest;
            self.origin_generation = before.origin_generation + u64::from(!same);
            // Whoever mints with the authority keeps its leafs as long as it is the same one.
            if *self.intercept_ca == *before.intercept_ca {
                self.intercept_ca = Arc::clone(&before.intercept_ca);
            }
        }
        self
    }
}

/// A key that no log shows.
pub struct PrivacyKey(zeroize::Zeroizing<String>);

impl PrivacyKey {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for PrivacyKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PrivacyKey(…)")
    }
}

/// Everything needed while one tenant is built.
struct Build<'a> {
    layout: &'a Layout,
    lists: &'a Lists,
    folder: PathBuf,
    copies: PathBuf,
    source: Source,
    problems: Vec<Problem>,
    texts: Vec<(&'static str, String)>,
}

/// Loads a tenant; `None` where anything is wrong with it.
pub(super) fn load(
    layout: &Layout,
    lists: &Lists,
    name: &TenantName,
    source: Source,
) -> (Option<Tenant>, Vec<Problem>) {
    let mut build = Build {
        layout,
        lists,
        folder: layout.tenant(name),
        copies: super::last_good::tenant_folder(layout, name),
        source,
        problems: Vec::new(),
        texts: Vec::new(),
    };
    let tenant = build.tenant(name);
    let problems = build.problems;
    (tenant.filter(|_| !any_error(&problems)), problems)
}

impl Build<'_> {
    fn tenant(&mut self, name: &TenantName) -> Option<Tenant> {
        let config = self.config();
        let policy_text = self.required("policy.yaml");
        let policy = policy_text.as_deref().and_then(|text| self.policy(text));
        let intercept = self.authority("intercept");
        let device = self.device_authority();
        let revoked = self.revoked();
        let listed = self.listed_tokens();
        let Read { value: config, tree } = config?;
        let decrypt = self.decrypt(&tree);
        let labels = self.labels(&config, &tree);
        let profiles = self.profiles(&config, &tree);
        let at = |path: &[&str]| position(&tree, path);
        let identity = &config.identity;
        let directory =
            self.directory(identity.directory.as_deref(), at(&["identity", "directory"]));
        let jwks = self.jwks(identity.jwks.as_deref(), at(&["identity", "jwks"]));
        let roots = roots_from(self.source, &self.copies, &config.origin.extra_roots);
        let extra_roots = match roots {
            Ok((text, roots)) => {
                self.texts.extend(text.map(|text| ("extra_roots.pem", text)));
                roots
            }
            Err((index, what)) => {
                let at = at(&["origin", "extra_roots", &index.to_string()]);
                self.report("tenant.yaml", at, &what, "a PEM file with certificates");
                Vec::new()
            }
        };
        let mut tokens = listed?;
        for token in &config.tokens {
            tokens.insert(&token.user, token.sha256.0, token.device.as_deref());
        }
        let policy_text = policy_text?;
        let mut extra_files = config.origin.extra_roots.clone();
        extra_files.extend(identity.directory.clone());
        extra_files.extend(config.privacy.key_file.clone());
        let privacy_key =
            self.privacy_key(config.privacy.key_file.as_deref(), at(&["privacy", "key_file"]));
        extra_files.extend(identity.jwks.clone());
        extra_files.extend(config.lists.iter().map(|list| list.file.clone()));
        let (labels, list_digests) = labels?;
        let device_ca = device?;
        let (policy, decrypt) = (policy?, decrypt?);
        let keys = policy.keys().union(decrypt.keys());
        Some(Tenant {
            name: name.clone(),
            generation: 1,
            origin_generation: 1,
            origin_digest: origin_digest(&config, &extra_roots),
            policy: Arc::new(policy),
            policy_version: short_hash(&policy_text),
            decrypt: Arc::new(decrypt),
            goes_by_country: keys.contains(Key::SourceCountry) || keys.contains(Key::DestCountry),
            labels: Arc::new(labels),
            profiles: Arc::new(profiles?),
            list_digests,
            directory: Arc::new(directory?),
            jwks: jwks?.map(Arc::new),
            privacy_key,
            tokens: Arc::new(tokens),
            revoked: Arc::new(revoked?),
            intercept_ca: Arc::new(intercept?),
            device_subject: subject(&device_ca),
            device_ca,
            extra_roots,
            extra_files,
            restrictions: config.restrict.compile(),
            texts: parking_lot::Mutex::new(std::mem::take(&mut self.texts)),
            config,
        })
    }

    fn report(&mut self, name: &str, at: Position, what: &str, expected: &str) {
        let file = self.layout.shown(&self.folder.join(name));
        self.problems.push(problem(&file, at, what, expected));
    }

    fn required(&mut self, name: &'static str) -> Option<String> {
        let live = self.folder.join(name);
        match self.source.read(&live, &self.copies, name, TEXT_BYTES_MAX) {
            Ok(text) => {
                self.texts.push((name, text.clone()));
                Some(text)
            }
            Err(error) => {
                self.report(name, FIRST, &error.to_string(), "a readable file");
                None
            }
        }
    }

    /// A file that need not be there. `Some(None)` where it is not.
    fn optional(&mut self, name: &'static str) -> Option<Option<String>> {
        let live = self.folder.join(name);
        match self.source.read(&live, &self.copies, name, TEXT_BYTES_MAX) {
            Ok(text) => {
                self.texts.push((name, text.clone()));
                Some(Some(text))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
            Err(error) => {
                self.report(name, FIRST, &error.to_string(), "a readable file");
                None
            }
        }
    }

    fn config(&mut self) -> Option<Read<TenantConfig>> {
        let text = self.required("tenant.yaml")?;
        let file = self.layout.shown(&self.folder.join("tenant.yaml"));
        match read::<TenantConfig>(&file, &text) {
            Ok(mut read) => {
                self.problems.extend(check_tenant(&file, &read.tree, &read.value));
                read.value.anchor(&self.folder);
                Some(read)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn policy(&mut self, text: &str) -> Option<Policy> {
        let file = self.layout.shown(&self.folder.join("policy.yaml"));
        Policy::load(&file, text).map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn decrypt(&mut self, tree: &Node) -> Option<DecryptRules> {
        let file = self.layout.shown(&self.folder.join("tenant.yaml"));
        let source = DecryptSource::new(tree.child("decrypt").cloned());
        source.compile(&file).map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// The tenant's lists, and its own names. A last good copy stands in for a file as it was.
    fn profiles(&mut self, config: &TenantConfig, tree: &Node) -> Option<Profiles> {
        let sources = config.content.profiles.iter().map(|(name, profile)| ProfileSource {
            name,
            entities: &profile.entities,
            terms: &profile.terms,
            patterns: &profile.patterns,
            min_count: profile.min_count,
        });
        match Profiles::compile(sources) {
            Ok(profiles) => Some(profiles),
            Err(mistakes) => {
                for mistake in mistakes {
                    let index = mistake.field.map(|(_, index)| index.to_string());
                    let mut path = vec!["content", "profiles", &mistake.profile];
                    path.extend(mistake.field.map(|(field, _)| field));
                    path.extend(index.as_deref());
                    self.report(
                        "tenant.yaml",
                        position(tree, &path),
                        &mistake.what,
                        &mistake.expected,
                    );
                }
                None
            }
        }
    }

    fn labels(&mut self, config: &TenantConfig, tree: &Node) -> Option<(Labels, Vec<Digest>)> {
        let mut labels = Labels::default();
        let mut digests = Vec::new();
        let kept = match self.source {
            Source::Live => Vec::new(),
            Source::LastGood => super::last_good::list_files(self.layout, &self.copies),
        };
        let mut sound = true;
        for (index, named) in config.lists.iter().enumerate() {
            let file = kept.get(index).unwrap_or(&named.file);
            match self.lists.load(file, named.format.map(Into::into)) {
                Ok(loaded) => {
                    self.note_malformed(&named.file, &loaded.malformed);
                    digests.push(loaded.digest);
                    labels.add_list(named.category.as_deref(), loaded.list);
                }
                Err(error) => {
                    let at = position(tree, &["lists", &index.to_string(), "file"]);
                    let what = format!("`{}`: {error}", self.layout.shown(&named.file));
                    self.report("tenant.yaml", at, &what, "a list of domains");
                    sound = false;
                }
            }
        }
        let own = config.categories.iter().flat_map(|(category, names)| {
            names.iter().map(|name| (name.as_str(), category.as_str()))
        });
        match labels.add_own(own) {
            Ok(refused) => {
                for name in refused {
                    let at = position(tree, &["categories"]);
                    let what = format!("`{name}` is no name");
                    self.report("tenant.yaml", at, &what, "`example.com` or `*.example.com`");
                    sound = false;
                }
            }
            Err(error) => {
                let at = position(tree, &["categories"]);
                self.report("tenant.yaml", at, &error.to_string(), "fewer names");
                sound = false;
            }
        }
        sound.then_some((labels, digests))
    }

    /// Lines that were not understood are worth a look; the list is used all the same.
    fn note_malformed(&mut self, file: &Path, malformed: &(usize, Vec<(u32, String)>)) {
        let shown = self.layout.shown(file);
        let (count, lines) = malformed;
        for (line, text) in lines {
            self.problems.push(Problem {
                file: shown.clone(),
                line: *line,
                column: 1,
                what: format!("`{}` is no name ({count} such lines)", text.escape_debug()),
                expected: "a line of the list's format".to_owned(),
                severity: Severity::Warning,
            });
        }
    }

    /// Authorities are read live also for a last good copy: private keys are kept in one place.
    fn authority(&mut self, which: &str) -> Option<CaMaterial> {
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
    fn device_authority(&mut self) -> Option<CertificateDer<'static>> {
        use rustls::pki_types::pem::PemObject as _;
        let pem = self.pem("ca/device.pem")?;
        let cert = CertificateDer::from_pem_slice(pem.as_bytes());
        if cert.is_err() {
            self.report("ca/device.pem", FIRST, "not a PEM file", "an authority's certificate");
        }
        cert.ok()
    }

    fn pem(&mut self, name: &str) -> Option<String> {
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

    fn revoked(&mut self) -> Option<RevocationList> {
        let Some(text) = self.optional("revoked.yaml")? else {
            return Some(RevocationList::default());
        };
        let file = self.layout.shown(&self.folder.join("revoked.yaml"));
        parse_revocations(&file, &text).map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// The users that `sluice enroll` wrote down: `user,device,sha256` per line.
    fn listed_tokens(&mut self) -> Option<TokenTable> {
        let mut table = TokenTable::default();
        let text = self.optional("tokens.csv")?.unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split(',').map(str::trim);
            let (user, device, hash) = (fields.next(), fields.next(), fields.next());
            let hash = hash.and_then(|hash| hash.parse::<crate::config::TokenHash>().ok());
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
    fn privacy_key(&mut self, path: Option<&Path>, at: Position) -> Option<PrivacyKey> {
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

    fn directory(&mut self, path: Option<&Path>, at: Position) -> Option<Directory> {
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

    fn jwks(&mut self, path: Option<&Path>, at: Position) -> Option<Option<Jwks>> {
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
    fn side_file(
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

/// Everything that decides how an origin's TLS is judged.
/// The subject of a certificate, DER; empty where it is none.
fn subject(certificate: &CertificateDer<'_>) -> Box<[u8]> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.map(|(_, certificate)| certificate.subject().as_raw().into()).unwrap_or_default()
}

fn origin_digest(config: &TenantConfig, roots: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(format!("{:?}{:?}", config.decryption, config.origin).as_bytes());
    for root in roots {
        context.update(root);
    }
    context.finish().as_ref().to_vec()
}

fn short_hash(text: &str) -> Arc<str> {
    /// 48 bits tell a tenant's policies apart.
    const SHOWN_BYTES: usize = 6;
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    crate::ident::hex::encode(hash.as_ref().get(..SHOWN_BYTES).unwrap_or_default()).into()
}
