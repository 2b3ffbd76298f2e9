//! A scriptable origin: TLS (HTTP/1.1 and HTTP/2 by ALPN) and plain HTTP, any name, any fault.

mod answer;
mod http1;
mod http2;
pub mod manual;
pub mod openssl;
pub mod websocket;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub use answer::{Answer, End, Piece};
pub(crate) use http2::send_data;

use crate::BoxStream;
use crate::pki::{Chain, Fault, Pki};

/// A running origin. It answers on 127.0.0.1 for every name; the certificate follows the SNI.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Shared>,
    tls: SocketAddr,
    plain: SocketAddr,
}

/// What the origin saw of one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub resumed: bool,
    /// Certificates the peer presented (a gateway must present none).
    pub client_certificates: usize,
    pub tls: bool,
    /// The TLS handshake failed with this.
    pub failure: Option<String>,
}

/// What the origin saw of one request.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Index into [`Origin::connections`].
    pub connection: usize,
    pub version: &'static str,
    pub method: String,
    pub target: String,
    /// `Host` or `:authority`.
    pub authority: String,
    /// Names as received (HTTP/1.1 keeps their case), in order.
    pub fields: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    pub body_bytes: u64,
    pub body_sha256: String,
}

impl Seen {
    /// The first field of that name, whatever its case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let hit = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        hit.map(|(_, value)| value.as_str())
    }
}

/// How an origin differs from the plain one. Made by [`Origin::build`].
#[derive(Default)]
pub struct Build {
    faults: HashMap<String, Fault>,
    chains: HashMap<String, Chain>,
    answers: HashMap<String, Answer>,
    alpn: Option<Vec<&'static str>>,
    client_certificate: Option<bool>,
    no_websocket_on_http2: bool,
    pki: Option<Arc<Pki>>,
    address: Option<Ipv4Addr>,
    invites_http3: bool,
}

impl Build {
    /// Says with every answer that it speaks HTTP/3 at the same port (RFC 7838).
    #[must_use]
    pub fn invites_http3(mut self) -> Self {
        self.invites_http3 = true;
        self
    }

    /// Serves `name` with a faulty certificate.
    #[must_use]
    pub fn fault(mut self, name: &str, fault: Fault) -> Self {
        self.faults.insert(name.to_owned(), fault);
        self
    }

    /// Serves `name` with this very chain.
    #[must_use]
    pub fn chain(mut self, name: &str, chain: Chain) -> Self {
        self.chains.insert(name.to_owned(), chain);
        self
    }

    /// Answers `path` with this, before the built-in paths.
    #[must_use]
    pub fn on(mut self, path: &str, answer: Answer) -> Self {
        self.answers.insert(path.to_owned(), answer);
        self
    }

    /// Offers only these protocols (`[]` = no ALPN at all). The default is h2 and http/1.1.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = Some(protocols.to_vec());
        self
    }

    /// Does not allow extended CONNECT on HTTP/2 (RFC 8441).
    #[must_use]
    pub fn no_websocket_on_http2(mut self) -> Self {
        self.no_websocket_on_http2 = true;
        self
    }

    /// Asks for a client certificate; `required` ends the handshake without one.
    #[must_use]
    pub fn wants_client_certificate(mut self, required: bool) -> Self {
        self.client_certificate = Some(required);
        self
    }

    /// Issues from CAs that another origin already has.
    #[must_use]
    pub fn pki(mut self, pki: &Arc<Pki>) -> Self {
        self.pki = Some(Arc::clone(pki));
        self
    }

    /// Listens at this address of the machine, instead of 127.0.0.1.
    #[must_use]
    pub fn at(mut self, address: Ipv4Addr) -> Self {
        self.address = Some(address);
        self
    }

    /// Listens. The origin lives until its runtime ends.
    pub async fn start(self) -> Origin {
        let address = self.address.unwrap_or(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let plain = TcpListener::bind((address, 0)).await.expect("a port");
        let pki = self.pki.unwrap_or_default();
        let certificates = Certificates {
            pki: Arc::clone(&pki),
            faults: self.faults,
            made: Mutex::new(
                self.chains.into_iter().map(|(name, chain)| (name, certified(chain))).collect(),
            ),
        };
        let alpn = self.alpn.unwrap_or_else(|| vec!["h2", "http/1.1"]);
        let config = server_config(certificates, &alpn, self.client_certificate, &pki);
        let tls = listener.local_addr().expect("an address");
        let alt_svc = format!("h3=\":{}\"; ma=3600", tls.port());
        let origin = Origin {
            shared: Arc::new(Shared {
                alt_svc: self.invites_http3.then_some(alt_svc),
                pki,
                answers: self.answers,
                websocket_on_http2: !self.no_websocket_on_http2,
                record: Mutex::default(),
            }),
            tls,
            plain: plain.local_addr().expect("an address"),
        };
        tokio::spawn(accept_loop(listener, Arc::clone(&origin.shared), Some(config)));
        tokio::spawn(accept_loop(plain, Arc::clone(&origin.shared), None));
        origin
    }
}

struct Shared {
    alt_svc: Option<String>,
    pki: Arc<Pki>,
    answers: HashMap<String, Answer>,
    websocket_on_http2: bool,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    connections: Vec<Connection>,
    requests: Vec<Seen>,
}

impl Shared {
    fn connected(&self, connection: Connection) -> usize {
        let mut record = self.record.lock().expect("the record");
        record.connections.push(connection);
        record.connections.len() - 1
    }

    fn requested(&self, seen: Seen) {
        self.record.lock().expect("the record").requests.push(seen);
    }

    /// Whether a path has an answer of its own.
    fn has_answer(&self, target: &str) -> bool {
        self.answers.contains_key(target.split('?').next().unwrap_or_default())
    }

    fn answer(&self, seen: &Seen, body: &[u8]) -> Answer {
        let path = seen.target.split('?').next().unwrap_or_default();
        let answer = match self.answers.get(path) {
            Some(answer) => answer.clone(),
            None => answer::built_in(seen, body),
        };
        match &self.alt_svc {
            Some(alternative) => answer.field("alt-svc", alternative),
            None => answer,
        }
    }
}

impl Origin {
    /// An origin with good certificates and the built-in paths (see `answer.rs`).
    pub async fn start() -> Self {
        Self::build().start().await
    }

    #[must_use]
    pub fn build() -> Build {
        Build::default()
    }

    #[must_use]
    pub fn pki(&self) -> &Arc<Pki> {
        &self.shared.pki
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.tls.port()
    }

    #[must_use]
    pub fn plain_port(&self) -> u16 {
        self.plain.port()
    }

    /// `https://name:port/path` of this origin.
    #[must_use]
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("https://{name}:{}{path}", self.tls.port())
    }

    /// `http://name:port/path` of this origin.
    #[must_use]
    pub fn plain_url(&self, name: &str, path: &str) -> String {
        format!("http://{name}:{}{path}", self.plain.port())
    }

    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.shared.record.lock().expect("the record").connections.clone()
    }

    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.record.lock().expect("the record").requests.clone()
    }

    /// The last request whose target begins with `path`.
    #[must_use]
    pub fn last(&self, path: &str) -> Option<Seen> {
        self.requests().into_iter().rev().find(|seen| seen.target.starts_with(path))
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>, tls: Option<Arc<ServerConfig>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_ok() {
                serve(stream, shared, tls).await;
            }
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, tls: Option<Arc<ServerConfig>>) {
    let Some(config) = tls else {
        let connection = shared.connected(Connection::default());
        return http1::serve(Box::new(stream), connection, shared).await;
    };
    let stream = match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            let failure = Some(error.to_string());
            shared.connected(Connection { tls: true, failure, ..Connection::default() });
            return;
        }
    };
    let state = stream.get_ref().1;
    let alpn = state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let http2 = alpn.as_deref() == Some("h2");
    let connection = shared.connected(Connection {
        sni: state.server_name().map(str::to_owned),
        alpn,
        resumed: state.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        client_certificates: state.peer_certificates().map_or(0, <[_]>::len),
        tls: true,
        failure: None,
    });
    let stream: BoxStream = Box::new(stream);
    if http2 {
        http2::serve(stream, connection, shared).await;
    } else {
        http1::serve(stream, connection, shared).await;
    }
}

fn server_config(
    certificates: Certificates,
    alpn: &[&'static str],
    client_certificate: Option<bool>,
    pki: &Pki,
) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("TLS versions");
    let builder = match client_certificate {
        None => builder.with_no_client_auth(),
        Some(required) => {
            let mut roots = rustls::RootCertStore::empty();
            let root = rustls::pki_types::CertificateDer::from_pem_slice(pki.root_pem().as_bytes());
            roots.add(root.expect("PEM")).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Certificates by SNI, made on first use.
struct Certificates {
    pki: Arc<Pki>,
    faults: HashMap<String, Fault>,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client that asks for an address sends no SNI.
        let name = hello.server_name().unwrap_or("127.0.0.1");
        let mut made = self.made.lock().ok()?;
        let made = made.entry(name.to_owned()).or_insert_with(|| {
            let fault = self.faults.get(name).copied().unwrap_or(Fault::None);
            certified(self.pki.chain(name, fault))
        });
        Some(Arc::clone(made))
    }
}

/// Unlike rustls' own constructor this checks nothing: the faults are the point.
fn certified(chain: Chain) -> Arc<CertifiedKey> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&chain.key).expect("a key");
    Arc::new(CertifiedKey::new(chain.certificates, key))
}
