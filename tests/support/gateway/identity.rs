//! An enrolled device: what `sluice enroll` wrote for it.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Gateway;
use crate::pki::Chain;

/// A device's certificate, and the CAs it is told to trust.
#[derive(Clone, Debug)]
pub struct Identity {
    pub tenant: String,
    pub user: String,
    pub device: String,
    /// The folder with `client.pem`, `tunnel-ca.pem`, `intercept-ca.pem` and maybe `proxy.url`.
    pub folder: PathBuf,
    pub chain: Chain,
    pub tunnel_ca_pem: String,
    pub intercept_ca_pem: String,
    /// Where the tenant has an explicit listener.
    pub proxy_url: Option<String>,
    /// What enroll printed.
    pub said: String,
}

impl Identity {
    pub(super) fn enroll(gateway: &Gateway, tenant: &str, user: &str, device: &str) -> Self {
        let folder = gateway.folder.path().join(format!("{tenant}-{device}-{}", crate::unique()));
        let out = folder.to_str().expect("UTF-8");
        let run = gateway.command(&["enroll", tenant, user, "--device", device, "--out", out]);
        assert!(run.status.success(), "enroll: {}", String::from_utf8_lossy(&run.stderr));
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        let client = read("client.pem").expect("client.pem");
        Self {
            tenant: tenant.to_owned(),
            user: user.to_owned(),
            device: device.to_owned(),
            chain: chain(&client),
            tunnel_ca_pem: read("tunnel-ca.pem").expect("tunnel-ca.pem"),
            intercept_ca_pem: read("intercept-ca.pem").expect("intercept-ca.pem"),
            proxy_url: read("proxy.url").ok().map(|url| url.trim().to_owned()),
            said: String::from_utf8_lossy(&run.stdout).into_owned(),
            folder,
        }
    }

    /// A file of the identity, as a path for other programs.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The certificate's serial in hex.
    #[must_use]
    pub fn serial(&self) -> String {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&self.chain.certificates[0]).expect("X.509");
        parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Certificate and key of one PEM file.
///
/// # Panics
/// Where either is missing.
#[must_use]
pub fn chain(pem: &str) -> Chain {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
    Chain {
        certificates: certificates.expect("certificates in PEM"),
        key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key in PEM"),
    }
}
