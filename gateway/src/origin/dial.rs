//! Connects to the first of several addresses that answers, each checked before it is dialled.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use policy::verdict::DialPermit;
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::flow::guard::{Guard, Refused};
use crate::ident::Blame;

/// Head start of one address before the next (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// All attempts together. Clients give up on their own after some 20 s.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses tried, the same bound as the resolver's.
const ADDRESSES_MAX: usize = 16;

/// A dead origin is noticed within two minutes on an idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Why no address could be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DialError {
    /// No address may be dialled; nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("there is no address to dial")]
    NoAddress,
    #[error("the origin refuses connections")]
    ConnectRefused,
    #[error("the origin does not answer")]
    Timeout,
    #[error("there is no way to the origin")]
    Unreachable,
    #[error("the origin dropped the connection")]
    Reset,
    /// No egress address of the origin's family, or none that this machine has.
    #[error("no egress address can be used")]
    Egress,
    /// Out of descriptors, ports or memory.
    #[error("the gateway is out of sockets")]
    Exhausted,
    #[error("the connection failed")]
    Other,
}

impl DialError {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.label(),
            Self::NoAddress => "no_address",
            Self::ConnectRefused => "connect_refused",
            Self::Timeout => "connect_timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "connect_reset",
            Self::Egress => "egress_unavailable",
            Self::Exhausted => "out_of_sockets",
            Self::Other => "connect_failed",
        }
    }

    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Refused(_) => Blame::Client,
            Self::Egress | Self::Exhausted => Blame::Gateway,
            _ => Blame::Origin,
        }
    }

    /// Whether the gateway refused, rather than failed.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Refused(_))
    }

    #[must_use]
    pub fn is_timeout(self) -> bool {
        self == Self::Timeout
    }
}

/// Connects to `port` at one of `addresses`, tried in order with a head start each, from one of
/// `egress` (any where that is empty). Each address passes `guard` right here: what is checked is
/// what is dialled.
///
/// # Errors
/// Where none may be dialled ([`DialError::Refused`]) or none answers.
pub async fn dial(
    _permit: &DialPermit,
    addresses: &[IpAddr],
    port: u16,
    guard: &Guard,
    egress: &[IpAddr],
) -> Result<(TcpStream, SocketAddr), DialError> {
    connect(addresses, port, guard, egress).await
}

async fn connect(
    addresses: &[IpAddr],
    port: u16,
    guard: &Guard,
    egress: &[IpAddr],
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut refused = DialError::NoAddress;
    let mut attempts = Vec::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let destination = SocketAddr::new(address.to_canonical(), port);
        match guard.check_address(destination) {
            Err(reason) => refused = reason.into(),
            Ok(()) => match source(egress, destination.ip()) {
                Ok(source) => attempts.push((destination, source)),
                Err(error) => refused = error,
            },
        }
    }
    match attempts.as_slice() {
        [] => Err(refused),
        [(destination, source)] => within_time(attempt(*destination, *source)).await,
        _ => within_time(race(attempts, attempt)).await,
    }
}

async fn within_time<T>(
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout(DIAL_TIMEOUT, connecting).await.unwrap_or(Err(DialError::Timeout))
}

/// The next attempt starts when the last one failed, or has had its head start.
async fn race<T, F>(
    attempts: Vec<(SocketAddr, Option<IpAddr>)>,
    attempt: impl Fn(SocketAddr, Option<IpAddr>) -> F,
) -> Result<T, DialError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, DialError>> + Send + 'static,
{
    let mut waiting = attempts.into_iter().peekable();
    let mut running = JoinSet::new();
    let mut failure = DialError::NoAddress;
    loop {
        if let Some((destination, source)) = waiting.next() {
            running.spawn(attempt(destination, source));
        }
        let more = waiting.peek().is_some();
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(_)) => failure = DialError::Other,
                None if !more => return Err(failure),
                None => {}
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

async fn attempt(
    destination: SocketAddr,
    source: Option<IpAddr>,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let socket = match destination {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| classify(&error))?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(|_| DialError::Egress)?;
    }
    let stream = socket.connect(destination).await.map_err(|error| classify(&error))?;
    tune(&stream).map_err(|error| classify(&error))?;
    Ok((stream, destination))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The address that a socket was dialled from, by its local end.
#[must_use]
pub fn left_from(local: io::Result<SocketAddr>) -> Option<IpAddr> {
    local.ok().map(|local| local.ip().to_canonical())
}

/// The egress address to use towards `destination`; `None` leaves it to the kernel.
///
/// # Errors
/// Where none is of the destination's family.
pub fn source(egress: &[IpAddr], destination: IpAddr) -> Result<Option<IpAddr>, DialError> {
    if egress.is_empty() {
        return Ok(None);
    }
    let same_family = |source: &&IpAddr| source.is_ipv4() == destination.is_ipv4();
    egress.iter().find(same_family).map(|source| Some(*source)).ok_or(DialError::Egress)
}

fn classify(error: &io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::ConnectRefused,
        io::ErrorKind::TimedOut => DialError::Timeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            DialError::Unreachable
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => DialError::Reset,
        io::ErrorKind::OutOfMemory | io::ErrorKind::AddrInUse => DialError::Exhausted,
        io::ErrorKind::AddrNotAvailable => DialError::Exhausted,
        _ => match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS) => DialError::Exhausted,
            _ => DialError::Other,
        },
    }
}

#[cfg(test)]
mod tests;
