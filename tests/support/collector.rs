//! An HTTPS server that takes events as a SIEM or an object store does, and fails where it is told to.

use std::io::Read as _;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pki::{Fault, Pki};

/// A request that was answered with success.
#[derive(Clone, Debug)]
pub struct Taken {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    /// Unpacked.
    pub body: Vec<u8>,
}

impl Taken {
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let hit = self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        hit.map(|(_, value)| value.as_str())
    }

    /// The body as one JSON value a line.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect()
    }
}

/// Listens on `localhost` with a certificate of the test's CA.
pub struct Collector {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    status: AtomicU16,
    body_bytes_max: AtomicUsize,
    refused: Mutex<Vec<String>>,
    taken: Mutex<Vec<Taken>>,
}

impl Collector {
    /// # Panics
    /// Where it cannot listen.
    pub async fn start(pki: &Pki) -> Self {
        let chain = pki.chain("localhost", Fault::None);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the protocol versions")
            .with_no_client_auth()
            .with_single_cert(chain.certificates, chain.key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            body_bytes_max: AtomicUsize::new(usize::MAX),
            refused: Mutex::default(),
            taken: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(tcp).await {
                        while answer(&mut stream, &shared).await.is_some() {}
                    }
                });
            }
        });
        Self { port, shared }
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// What every request from now on is answered with.
    pub fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// Larger bodies are answered with 413 from now on.
    pub fn take_at_most(&self, body_bytes: usize) {
        self.shared.body_bytes_max.store(body_bytes, Ordering::SeqCst);
    }

    /// Requests that were not answered with success.
    ///
    /// # Panics
    /// Where a connection's task has.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.targets_refused().len()
    }

    /// What they asked for.
    ///
    /// # Panics
    /// Where a connection's task has.
    #[must_use]
    pub fn targets_refused(&self) -> Vec<String> {
        self.shared.refused.lock().expect("no panic before").clone()
    }

    /// # Panics
    /// Where a connection's task has.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().expect("no panic before").clone()
    }
}

/// Answers one request; `None` where there is none more.
async fn answer(
    stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    shared: &Shared,
) -> Option<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut taken = Taken { method, target, fields, body: Vec::new() };
    let length: usize = taken.field("content-length")?.parse().ok()?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let too_large = body.len() > shared.body_bytes_max.load(Ordering::SeqCst);
    let status = if too_large { 413 } else { shared.status.load(Ordering::SeqCst) };
    if (200..300).contains(&status) {
        taken.body = unpack(taken.field("content-encoding"), body);
        shared.taken.lock().expect("no panic before").push(taken);
    } else {
        shared.refused.lock().expect("no panic before").push(taken.target);
    }
    let reply = format!("HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(reply.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

fn unpack(coding: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    let mut unpacked = Vec::new();
    match coding {
        Some("gzip") => {
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut unpacked).expect("gzip");
        }
        _ => unpacked = body,
    }
    unpacked
}
