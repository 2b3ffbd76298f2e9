//! TCP listeners that survive the end of descriptors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel completes before we accept them: a burst of reconnecting clients.
pub const BACKLOG: i32 = 4096;
/// After a failed accept (no descriptor left) the listener rests, instead of spinning.
const REST: Duration = Duration::from_millis(50);

/// Binds a listener; a shared one beside those of other processes that share it too.
///
/// # Errors
/// Where the address cannot be bound.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Where this is not meant, a second process on the same port is a mistake that must be seen.
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too; mapped addresses are made canonical before anyone sees them.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connection after connection.
pub struct Accepting(TcpListener);

impl Accepting {
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self(listener)
    }

    /// A connection that waits already; none once there are no more. A listener that is closed resets
    /// those.
    pub async fn waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        match tokio::time::timeout(Duration::ZERO, self.0.accept()).await {
            Ok(Ok((stream, peer))) => Some((prompt(stream), peer)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// The next connection; rests and goes on where accepting fails.
    pub async fn next(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, peer)) => return (prompt(stream), peer),
                Err(error) => {
                    tracing::warn!("accept: {error}");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// Small records must not wait for acknowledgements.
fn prompt(stream: TcpStream) -> TcpStream {
    drop(stream.set_nodelay(true));
    stream
}
