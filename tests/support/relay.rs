//! A TCP relay that keeps what goes by: a capture of the client–gateway leg.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Relays to one address and records both directions.
pub struct Recording {
    pub address: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recording {
    /// Listens on a port of its own.
    pub async fn of(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { break };
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = server.into_split();
                tokio::spawn(copy(client_reads, server_writes, Arc::clone(&kept)));
                tokio::spawn(copy(server_reads, client_writes, Arc::clone(&kept)));
            }
        });
        Self { address, bytes }
    }

    /// Whether `text` went by in clear, in either direction.
    #[must_use]
    pub fn shows(&self, text: &str) -> bool {
        let bytes = self.bytes.lock().expect("the recording");
        bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }

    /// Bytes recorded.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.lock().expect("the recording").len()
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    kept: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.lock().expect("the recording").extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
}
