//! DTLS 1.3 as a client with a device certificate: dimpl, with the server's certificate verified.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::Event;
use crate::client::error::ClientError;
use crate::pki::Chain;

/// The first flight is sent again after so long; a gateway that is near answers sooner.
const RETRANSMIT: Duration = Duration::from_millis(250);
/// Handshake datagrams fit every path that IPv6 runs on.
const HANDSHAKE_MTU: usize = 1_232;
/// A record of the largest inner packet, with room for what DTLS adds.
const OUTPUT_BYTES: usize = 2_048;

/// What the server's certificate must show. Without SNI a server cannot know which name is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Issued by a trusted CA for the gateway's name.
    Name,
    /// Issued by a trusted CA for whatever name.
    Chain,
}

/// What all sessions of one device share. Making one costs a millisecond (dimpl tests its
/// cryptography), so keep it.
#[derive(Clone)]
pub struct Dtls13Config {
    config: Arc<Config>,
    certificate: DtlsCertificate,
    verifier: Arc<WebPkiServerVerifier>,
    proof: Proof,
}

impl Dtls13Config {
    /// # Errors
    /// Where the CA cannot be used. That the device's key is ECDSA P-256 shows in the handshake.
    pub fn new(trusted_pem: &str, client: &Chain, proof: Proof) -> Result<Self, ClientError> {
        let unusable = |what: String| ClientError::Unsupported(what);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
            let certificate = certificate.map_err(|error| unusable(format!("CA file: {error}")))?;
            roots.add(certificate).map_err(|error| unusable(format!("CA file: {error}")))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable(format!("CA file: {error}")))?;
        let leaf = client.certificates.first();
        let leaf = leaf.ok_or_else(|| unusable("no client certificate".to_owned()))?;
        let certificate = DtlsCertificate {
            certificate: leaf.to_vec(),
            private_key: client.key.secret_der().to_vec(),
        };
        let config = Config::builder()
            .mtu(HANDSHAKE_MTU)
            .flight_start_rto(RETRANSMIT)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { config: Arc::new(config), certificate, verifier, proof })
    }

    /// The same with handshake datagrams of at most so many bytes.
    ///
    /// # Panics
    /// Where the library takes no such bound.
    #[must_use]
    pub fn handshake_mtu(mut self, bytes: usize) -> Self {
        let config = Config::builder().mtu(bytes).flight_start_rto(RETRANSMIT).build();
        self.config = Arc::new(config.expect("a bound that the library takes"));
        self
    }

    /// The same with another demand.
    #[must_use]
    pub fn with(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }
}

/// One session.
pub struct Dtls13 {
    dtls: Dtls,
    events: VecDeque<Event>,
    due: Option<Instant>,
    buffer: Vec<u8>,
    verifier: Arc<WebPkiServerVerifier>,
    proof: Proof,
    name: String,
    is_connected: bool,
    is_over: bool,
}

impl Dtls13 {
    /// Begins a handshake with the gateway of this name.
    #[must_use]
    pub fn new(now: Instant, config: &Dtls13Config, name: &str) -> Self {
        let mut dtls = Dtls::new_13(Arc::clone(&config.config), config.certificate.clone(), now);
        dtls.set_active(true);
        let mut session = Self {
            dtls,
            events: VecDeque::new(),
            due: None,
            buffer: vec![0; OUTPUT_BYTES],
            verifier: Arc::clone(&config.verifier),
            proof: config.proof,
            name: name.to_owned(),
            is_connected: false,
            is_over: false,
        };
        session.handle_timeout(now);
        session
    }

    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        if self.is_over {
            return;
        }
        // The library's clock stands still between timeouts.
        let handled =
            self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(datagram));
        self.after(handled);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_over {
            let handled = self.dtls.handle_timeout(now);
            self.after(handled);
        }
    }

    pub fn send(&mut self, plain: &[u8]) {
        if self.is_connected && !self.is_over {
            let sent = self.dtls.send_application_data(plain).map(|_| ());
            self.after(sent);
        }
    }

    pub fn close(&mut self) {
        if !self.is_over {
            let closed = self.dtls.close();
            self.after(closed);
            self.is_over = true;
        }
    }

    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over { None } else { self.due }
    }

    /// Drains the library, which asks for that after each call.
    fn after(&mut self, done: Result<(), dimpl::Error>) {
        if let Err(error) = done {
            self.is_over = true;
            self.events.push_back(Event::Failed(error.to_string()));
            return;
        }
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(bytes) => self.events.push_back(Event::Transmit(bytes.to_vec())),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Timeout(due) => {
                    self.due = Some(due);
                    return;
                }
                Output::Connected => {
                    self.is_connected = true;
                    self.events.push_back(Event::Connected);
                }
                Output::PeerCert(leaf) => {
                    let leaf = leaf.to_vec();
                    if let Err(why) = self.verify(&leaf) {
                        self.is_over = true;
                        self.events.push_back(Event::Failed(why));
                        return;
                    }
                }
                Output::ApplicationData(plain) => {
                    self.events.push_back(Event::Plain(plain.to_vec()));
                }
                Output::CloseNotify => {
                    self.is_over = true;
                    self.events.push_back(Event::Closed);
                    return;
                }
                _ => {}
            }
        }
    }

    /// A server shows its leaf alone, so it must be issued by a trusted CA itself.
    fn verify(&self, leaf: &[u8]) -> Result<(), String> {
        let name = ServerName::try_from(self.name.as_str()).map_err(|error| error.to_string())?;
        let leaf = CertificateDer::from(leaf);
        let verified = self.verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now());
        match verified {
            Ok(_) => Ok(()),
            Err(error) if self.proof == Proof::Chain && is_about_name(&error) => Ok(()),
            Err(error) => Err(format!("the gateway's certificate: {error}")),
        }
    }
}

/// The name is looked at last, so nothing else was wrong.
fn is_about_name(error: &rustls::Error) -> bool {
    use rustls::{CertificateError, Error};
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}
