//! The secrets of the QUIC port, all of one that is kept beside the events: what one process has
//! promised, the next keeps. Ids are read, tokens taken, and connections of a process that died
//! are reset at once.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::ids::{Generation, Ids};
use crate::config::{Secrecy, read_text, write_atomically};
use crate::ident::{hex, random};

const SECRET_BYTES: usize = 32;
/// Two digits for each byte, and the end of the line.
const FILE_BYTES_MAX: u64 = 128;

/// See the module.
pub struct QuicKeys {
    pub ids: Arc<Ids>,
    pub(super) reset: Arc<hmac::Key>,
    pub(super) token: Arc<Prk>,
}

impl QuicKeys {
    /// Reads the secret, or makes it where there is none. Where it can be neither read nor kept,
    /// this process has one of its own.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn load(file: &Path, generation: Generation) -> Result<Self, Unspecified> {
        let kept = read_text(file, FILE_BYTES_MAX).ok().map(Zeroizing::new);
        let kept = kept.and_then(|text| hex::decode(text.trim()).map(Zeroizing::new));
        let secret = match kept.filter(|secret| secret.len() == SECRET_BYTES) {
            Some(secret) => secret,
            None => {
                let fresh = Zeroizing::new(random::bytes::<SECRET_BYTES>().ok_or(Unspecified)?);
                let text = Zeroizing::new(format!("{}\n", hex::encode(&*fresh)));
                if let Some(folder) = file.parent() {
                    drop(std::fs::create_dir_all(folder));
                }
                if let Err(error) = write_atomically(file, text.as_bytes(), Secrecy::Secret) {
                    tracing::warn!("the QUIC port's secret is not kept over restarts: {error}");
                }
                Zeroizing::new(fresh.to_vec())
            }
        };
        Self::new(&secret, generation)
    }

    fn new(secret: &[u8], generation: Generation) -> Result<Self, Unspecified> {
        let root = Salt::new(HKDF_SHA256, b"sluice quic").extract(secret);
        let ids = Ids::new(&expand::<16>(&root, b"connection id")?, generation)?;
        let reset = hmac::Key::new(hmac::HMAC_SHA256, &expand::<32>(&root, b"stateless reset")?);
        let token = expand::<32>(&root, b"retry token")?;
        let token = Salt::new(HKDF_SHA256, b"").extract(&token);
        Ok(Self { ids: Arc::new(ids), reset: Arc::new(reset), token: Arc::new(token) })
    }
}

/// So many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(root: &Prk, label: &[u8]) -> Result<[u8; N], Unspecified> {
    let mut out = [0; N];
    root.expand(&[label], Length(N))?.fill(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use quinn::ConnectionIdGenerator as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::ids::{Generator, Place};
    use super::*;

    #[test]
    fn the_next_process_reads_the_ids_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/quic.key");
        let before = QuicKeys::load(&file, Generation(100)).unwrap();
        let after = QuicKeys::load(&file, Generation(200)).unwrap();
        let id = Generator::new(Arc::clone(&before.ids), 1, 5).generate_cid();
        let place = Place { generation: Generation(100), worker: 1 };
        assert_eq!(after.ids.read(&id), Some(place));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&file, "not hexadecimal").unwrap();
        let other = QuicKeys::load(&file, Generation(300)).unwrap();
        assert_eq!(other.ids.read(&id), None);
    }
}
