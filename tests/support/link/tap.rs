//! A wire between one UDP client and a server that keeps what passes, and can be cut or written to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::socket;

/// Datagrams kept each way; a test looks at the first.
const KEPT_MAX: usize = 10_000;

/// Dropping it ends it.
pub struct Tap {
    /// Where the client sends to.
    pub address: SocketAddr,
    /// What the server sees the client at.
    pub upstream: Arc<UdpSocket>,
    kept: Arc<Kept>,
    task: AbortHandle,
}

#[derive(Default)]
struct Kept {
    up: Mutex<Vec<Vec<u8>>>,
    down: Mutex<Vec<Vec<u8>>>,
    cut: AtomicBool,
}

impl Tap {
    /// # Panics
    /// Where no port can be had.
    pub async fn start(server: SocketAddr) -> Self {
        let front = socket().await.expect("a port");
        let address = front.local_addr().expect("an address");
        let upstream = Arc::new(socket().await.expect("a port"));
        upstream.connect(server).await.expect("an address");
        let kept = Arc::new(Kept::default());
        let task = tokio::spawn(run(front, Arc::clone(&upstream), Arc::clone(&kept)));
        Self { address, upstream, kept, task: task.abort_handle() }
    }

    /// What the client sends goes nowhere from now on; what the server sends is still kept.
    pub fn cut(&self) {
        self.kept.cut.store(true, Ordering::Relaxed);
    }

    /// What went to the server.
    #[must_use]
    pub fn up(&self) -> Vec<Vec<u8>> {
        self.kept.up.lock().expect("the record").clone()
    }

    /// What came from the server.
    #[must_use]
    pub fn down(&self) -> Vec<Vec<u8>> {
        self.kept.down.lock().expect("the record").clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn keep(record: &Mutex<Vec<Vec<u8>>>, datagram: &[u8]) {
    let mut record = record.lock().expect("the record");
    if record.len() < KEPT_MAX {
        record.push(datagram.to_vec());
    }
}

async fn run(front: UdpSocket, upstream: Arc<UdpSocket>, kept: Arc<Kept>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((length, from)) = front.recv_from(&mut up) => {
                client = Some(from);
                if !kept.cut.load(Ordering::Relaxed) {
                    keep(&kept.up, &up[..length]);
                    upstream.send(&up[..length]).await.ok();
                }
            }
            Ok(length) = upstream.recv(&mut down) => {
                keep(&kept.down, &down[..length]);
                if let Some(client) = client {
                    front.send_to(&down[..length], client).await.ok();
                }
            }
            // A refused port is told once and then forgotten.
            else => {}
        }
    }
}
