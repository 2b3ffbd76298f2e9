//! A name server that a test scripts: IPv4 addresses, never to be kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// Query types (RFC 1035 section 3.2.2).
const A: u16 = 1;
/// A header, and the class and type after a name.
const HEADER_BYTES: usize = 12;

/// A running name server.
pub struct Dns {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// `answer` gets a name and how often its IPv4 address was asked for before.
    pub async fn start(answer: impl Fn(&str, usize) -> Ipv4Addr + Send + 'static) -> Self {
        Self::start_with(move |name, before| vec![answer(name, before)]).await
    }

    /// Names that live at several addresses, told in this order.
    pub async fn start_with(
        answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let query = &buffer[..length];
                let Some((name, kind, end)) = question(query) else { continue };
                let mut addresses = Vec::new();
                if kind == A {
                    let before = {
                        let mut log = log.lock().expect("the log");
                        log.push(name.clone());
                        log.iter().filter(|one| **one == name).count() - 1
                    };
                    addresses = answer(&name, before);
                }
                let mut reply = header(query, u16::try_from(addresses.len()).expect("a few"));
                reply.extend(&query[HEADER_BYTES..end]);
                for address in addresses {
                    // A pointer to the question's name, type A, class IN, TTL 0, four bytes.
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    reply.extend(address.octets());
                }
                socket.send_to(&reply, peer).await.ok();
            }
        });
        Self { address, asked }
    }

    /// How often the IPv4 address of `name` was asked for.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("the log").iter().filter(|one| *one == name).count()
    }
}

/// The id and the question's count, as an answer without an error.
fn header(query: &[u8], answers: u16) -> Vec<u8> {
    let mut header = query[..2].to_vec();
    header.extend([0x81, 0x80, 0, 1]);
    header.extend(answers.to_be_bytes());
    header.extend([0; 4]);
    header
}

/// Name, type and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER_BYTES);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    query.get(at..at + 4)?;
    Some((labels.join("."), kind, at + 4))
}
