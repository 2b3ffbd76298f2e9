//! The datagram side of a tunnel: a socket, a session and its liveness.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use gateway_proto::openconnect::frame::{Kind, put_dtls};
use tokio::net::UdpSocket;

use crate::client::secure::{Event, Liveness, Patience, Pulse, Session};

/// The largest datagram a gateway sends.
pub(super) const DATAGRAM_BYTES: usize = 65_536;
/// Room for bursts, in both directions, as far as the system grants it.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct DatagramSide {
    pub(super) socket: UdpSocket,
    session: Session,
    liveness: Liveness,
    begun: Instant,
    handshake_max: Duration,
    pub(super) is_up: bool,
    plain: Vec<u8>,
}

/// What the driver must know.
pub(super) enum News {
    Up { took: Duration },
    Frame(Vec<u8>),
    Goodbye,
    Failed(String),
}

impl DatagramSide {
    /// A session from a new port.
    pub(super) fn open(
        now: Instant,
        gateway: SocketAddr,
        session: Session,
        patience: Patience,
        handshake_max: Duration,
    ) -> io::Result<Self> {
        let any: SocketAddr = match gateway {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(gateway)?;
        socket.set_nonblocking(true)?;
        // What the system does not grant, it says by doing less.
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES).ok();
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES).ok();
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            session,
            liveness: Liveness::new(now, patience),
            begun: now,
            handshake_max,
            is_up: false,
            plain: Vec::new(),
        })
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        self.session.handle_datagram(now, datagram);
    }

    /// Protects a frame. [`DatagramSide::flush`] sends it.
    pub(super) fn send(&mut self, now: Instant, kind: Kind, payload: &[u8]) {
        put_dtls(kind, payload, &mut self.plain);
        self.session.send(&self.plain);
        self.liveness.spoke(now);
    }

    /// Sends what is to be sent; gives what the driver must know.
    pub(super) async fn flush(&mut self, now: Instant, news: &mut Vec<News>) {
        while let Some(event) = self.session.poll() {
            match event {
                Event::Transmit(datagram) => {
                    // A socket that fails loses datagrams, as networks do; the liveness shows it.
                    self.socket.send(&datagram).await.ok();
                }
                Event::Connected => {
                    self.is_up = true;
                    self.liveness.heard(now);
                    news.push(News::Up { took: now.duration_since(self.begun) });
                }
                Event::Plain(plain) => {
                    self.liveness.heard(now);
                    news.push(News::Frame(plain));
                }
                Event::Closed => news.push(News::Goodbye),
                Event::Failed(why) => news.push(News::Failed(why)),
            }
        }
    }

    /// When [`DatagramSide::handle_time`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        let own =
            if self.is_up { self.liveness.deadline() } else { self.begun + self.handshake_max };
        self.session.poll_timeout().map_or(own, |due| due.min(own))
    }

    /// Whether the peer is dead, or the handshake took too long.
    pub(super) fn handle_time(&mut self, now: Instant) -> bool {
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
        if !self.is_up {
            return now >= self.begun + self.handshake_max;
        }
        match self.liveness.poll(now) {
            Some(Pulse::Probe) => {
                put_dtls(Kind::DpdRequest, &[], &mut self.plain);
                self.session.send(&self.plain);
                false
            }
            Some(Pulse::Dead) => true,
            None => false,
        }
    }

    pub(super) fn close(&mut self) {
        self.session.close();
    }
}
