//! DTLS 1.3 over a socket of its own, record by record, for benches and for those who want to see each
//! datagram. Its calls block.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{Dtls13, Dtls13Config, Event};

const DATAGRAM_BYTES: usize = 65_536;
/// Through by then, or not at all.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// A connection; dropping it says nothing.
pub struct RawDtls {
    socket: UdpSocket,
    session: Dtls13,
    buffer: Vec<u8>,
    heard: VecDeque<Vec<u8>>,
    is_connected: bool,
    is_over: bool,
}

impl RawDtls {
    /// Shakes hands with the gateway of this name.
    ///
    /// # Errors
    /// Where it does not come about.
    pub fn connect(server: SocketAddr, config: &Dtls13Config, name: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        let mut this = Self {
            socket,
            session: Dtls13::new(Instant::now(), config, name),
            buffer: vec![0; DATAGRAM_BYTES],
            heard: VecDeque::new(),
            is_connected: false,
            is_over: false,
        };
        this.act()?;
        let begun = Instant::now();
        while !this.is_connected && !this.is_over && begun.elapsed() < HANDSHAKE_MAX {
            this.step(HANDSHAKE_MAX)?;
        }
        if this.is_connected { Ok(this) } else { Err(io::Error::other("no handshake")) }
    }

    /// Sends one record.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn send(&mut self, record: &[u8]) -> io::Result<()> {
        self.session.send(record);
        self.act()
    }

    /// The next record, where one comes in time.
    ///
    /// # Errors
    /// Where the socket fails or the connection is over.
    pub fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let begun = Instant::now();
        loop {
            if let Some(record) = self.heard.pop_front() {
                return Ok(Some(record));
            }
            if self.is_over {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.step(left)?;
        }
    }

    /// Waits for a datagram or a timer, for so long at most.
    fn step(&mut self, most: Duration) -> io::Result<()> {
        let now = Instant::now();
        let due = self.session.poll_timeout().map(|at| at.saturating_duration_since(now));
        let wait = due.map_or(most, |due| due.min(most)).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv(&mut self.buffer) {
            Ok(length) => self.session.handle_datagram(Instant::now(), &self.buffer[..length]),
            Err(error) if is_timeout(&error) => self.session.handle_timeout(Instant::now()),
            Err(error) => return Err(error),
        }
        self.act()
    }

    fn act(&mut self) -> io::Result<()> {
        while let Some(event) = self.session.poll() {
            match event {
                Event::Transmit(datagram) => drop(self.socket.send(&datagram)?),
                Event::Connected => self.is_connected = true,
                Event::Plain(record) => self.heard.push_back(record),
                Event::Closed | Event::Failed(_) => self.is_over = true,
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
