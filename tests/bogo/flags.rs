//! What the runner's flags ask for. A flag that is not here asks for what the gateway does not have.

use std::str::FromStr;
use std::time::Duration;

use dimpl::NamedGroup;
use gateway::tunnel::dtls::DtlsIdentity;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// DTLS 1.3 on the wire, which the runner says as TLS 1.3.
const DTLS_1_3: u16 = 0x0304;

/// What a test wants and there is not.
pub(crate) struct Unsupported(pub(crate) String);

fn unsupported(what: impl Into<String>) -> Unsupported {
    Unsupported(what.into())
}

#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) port: u16,
    pub(crate) ipv6: bool,
    pub(crate) shim_id: u64,
    pub(crate) connections: u32,
    pub(crate) mtu: Option<usize>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) client_certificate: bool,
    pub(crate) writes_first: bool,
    pub(crate) shuts_down: bool,
    pub(crate) must_hear_goodbye: bool,
    pub(crate) may_speak_1_2: bool,
    curves: Vec<u16>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Flags {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, Unsupported> {
        let mut flags = Self { connections: 1, may_speak_1_2: true, ..Self::default() };
        let (mut is_server, mut is_dtls, mut refused_resumption) = (false, false, false);
        let mut left = arguments.iter();
        while let Some(flag) = left.next() {
            let mut value = || left.next().map(String::as_str).unwrap_or_default();
            match flag.as_str() {
                "-port" => flags.port = number(value())?,
                "-shim-id" => flags.shim_id = number(value())?,
                "-ipv6" => flags.ipv6 = true,
                "-server" => is_server = true,
                "-dtls" => is_dtls = true,
                "-cert-file" => flags.certificate = Some(value().to_owned()),
                "-key-file" => flags.key = Some(value().to_owned()),
                // Who signed is checked behind the engine: see `tunnel/accept.rs`.
                "-trust-cert" => drop(value()),
                "-initial-timeout-duration-ms" => {
                    flags.retry_after = Some(Duration::from_millis(number(value())?));
                }
                // Of protocols that are not DTLS.
                "-quic-use-legacy-codepoint" => drop(value()),
                "-mtu" => flags.mtu = Some(number(value())?),
                "-curves" => flags.curves.push(number(value())?),
                "-min-version" => flags.may_speak_1_2 &= number::<u16>(value())? != DTLS_1_3,
                "-no-tls12" => flags.may_speak_1_2 = false,
                "-max-version" if number::<u16>(value())? != DTLS_1_3 => {
                    return Err(unsupported("a server without DTLS 1.3"));
                }
                "-expect-version" if number::<u16>(value())? != DTLS_1_3 => {
                    return Err(unsupported("a server without DTLS 1.3"));
                }
                "-no-tls13" => return Err(unsupported("a server without DTLS 1.3")),
                "-verify-peer" | "-require-any-client-certificate" => {
                    flags.client_certificate = true;
                }
                "-resume-count" => flags.connections += number::<u32>(value())?,
                "-expect-session-miss" => refused_resumption = true,
                "-shim-writes-first" => flags.writes_first = true,
                "-shim-shuts-down" => flags.shuts_down = true,
                "-check-close-notify" => flags.must_hear_goodbye = true,
                // How its caller uses BoringSSL.
                "-async"
                | "-implicit-handshake"
                | "-use-exporter-between-reads"
                | "-no-tls1"
                | "-no-tls11"
                | "-no-ticket"
                | "-max-version"
                | "-expect-version"
                | "-no-op-extra-handshake"
                | "-handshake-twice" => {}
                other => return Err(unsupported(other)),
            }
        }
        if !is_dtls || !is_server {
            return Err(unsupported("a DTLS client"));
        }
        if flags.connections > 1 && !refused_resumption {
            return Err(unsupported("sessions that are resumed"));
        }
        Ok(flags)
    }

    /// What the server shows, and whether that is something else than the test's RSA certificate.
    pub(crate) fn identity(&self) -> Result<(DtlsIdentity, bool), Unsupported> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return own().map(|identity| (identity, true));
        };
        let broken = |error: rustls::pki_types::pem::Error| unsupported(error.to_string());
        let key = PrivateKeyDer::from_pem_file(key).map_err(broken)?;
        let is_ecdsa = KeyPair::try_from(&key).is_ok_and(|key| {
            let kind = key.algorithm();
            kind == &rcgen::PKCS_ECDSA_P256_SHA256 || kind == &rcgen::PKCS_ECDSA_P384_SHA384
        });
        if !is_ecdsa {
            return own().map(|identity| (identity, true));
        }
        let certificate = CertificateDer::from_pem_file(certificate).map_err(broken)?;
        Ok((DtlsIdentity::new(&certificate, key.secret_der()), false))
    }

    pub(crate) fn groups(&self) -> Result<Option<Vec<NamedGroup>>, Unsupported> {
        if self.curves.is_empty() {
            return Ok(None);
        }
        let known = |number: &u16| match number {
            23 => Ok(NamedGroup::Secp256r1),
            24 => Ok(NamedGroup::Secp384r1),
            29 => Ok(NamedGroup::X25519),
            other => Err(unsupported(format!("key exchange group {other}"))),
        };
        self.curves.iter().map(known).collect::<Result<_, _>>().map(Some)
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, Unsupported> {
    text.parse().map_err(|_| unsupported(format!("`{text}`")))
}

/// An ECDSA certificate of the shim's own.
fn own() -> Result<DtlsIdentity, Unsupported> {
    let broken = |error: rcgen::Error| unsupported(error.to_string());
    let key = KeyPair::generate().map_err(broken)?;
    let params = CertificateParams::new(["test".to_owned()]).map_err(broken)?;
    let certificate = params.self_signed(&key).map_err(broken)?;
    Ok(DtlsIdentity::new(certificate.der(), &key.serialize_der()))
}
