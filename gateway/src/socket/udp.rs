//! The UDP port: datagrams in and out, many to a system call (GRO and GSO), never fragmented.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// One read may join this much from one sender.
const READ_BYTES: usize = 64 << 10;
/// What the kernel keeps for us: 10 ms at 3 Gbit/s. It may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// One send may carry this much (RFC 768), its headers aside.
const SEND_BYTES_MAX: usize = 65_000;

/// One socket of the port; several share it, each for one worker.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// The two ends of a datagram's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    pub peer: SocketAddr,
    /// Which of our addresses it came to; answers leave from it.
    pub local: Option<IpAddr>,
}

/// Datagrams that came together: from one sender, all of one size, the last perhaps shorter.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub way: Way,
    pub ecn: Option<EcnCodepoint>,
    /// The size of each.
    pub size: usize,
    pub joined: &'a [u8],
}

impl<'a> Batch<'a> {
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.joined.chunks(self.size.max(1))
    }

    /// One datagram of the batch as a batch.
    #[must_use]
    pub fn only(&self, datagram: &'a [u8]) -> Self {
        Self { size: datagram.len(), joined: datagram, ..*self }
    }
}

/// Where datagrams are read to.
pub struct Buffers {
    bytes: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            bytes: vec![vec![0; READ_BYTES]; BATCH_SIZE],
            meta: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }
}

impl UdpPort {
    /// Binds one socket of the port.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Smaller buffers lose datagrams under load, no more.
        drop(state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES));
        drop(state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES));
        Ok(Self { socket, state })
    }

    /// The bound address.
    ///
    /// # Errors
    /// Where the socket is gone.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for datagrams and shows each batch to `each`.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(Batch<'_>),
    ) -> io::Result<()> {
        let Buffers { bytes, meta } = buffers;
        let count = loop {
            self.socket.readable().await?;
            let mut slices: Vec<_> = bytes.iter_mut().map(|it| IoSliceMut::new(it)).collect();
            let read = self.socket.try_io(Interest::READABLE, || {
                self.state.recv(UdpSockRef::from(&self.socket), &mut slices, meta)
            });
            match read {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        };
        for (meta, bytes) in meta.iter().zip(bytes.iter()).take(count) {
            let way = Way { peer: meta.addr, local: meta.dst_ip };
            let joined = bytes.get(..meta.len).unwrap_or_default();
            each(Batch { way, ecn: meta.ecn, size: meta.stride, joined });
        }
        Ok(())
    }

    /// Sends what `transmit` says, or says that the socket's buffer is full.
    ///
    /// # Errors
    /// Where the buffer is full (`WouldBlock`) or the socket fails.
    pub fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || {
            self.state.send(UdpSockRef::from(&self.socket), transmit)
        })
    }

    /// Waits until the socket's buffer may have room.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// How many datagrams of one size one send may carry.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Whether the kernel may cut datagrams into fragments.
    #[must_use]
    pub fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Sends datagrams to one peer, in order. What the kernel does not take is lost, as on the way; gives the
    /// size of the smallest that it finds too long.
    pub async fn send(&self, way: Way, datagrams: &[Vec<u8>]) -> Option<usize> {
        let mut rest = datagrams;
        let mut too_long: Option<usize> = None;
        let mut joined = Vec::new();
        while let Some(first) = rest.first() {
            let size = first.len();
            let count = alike(rest, size, self.state.max_gso_segments());
            let (batch, later) = rest.split_at(count);
            rest = later;
            let contents = if let [one] = batch {
                one.as_slice()
            } else {
                joined.clear();
                batch.iter().for_each(|datagram| joined.extend_from_slice(datagram));
                joined.as_slice()
            };
            let transmit = Transmit {
                destination: way.peer,
                ecn: None,
                contents,
                segment_size: (count > 1).then_some(size),
                src_ip: way.local,
            };
            if self.transmit(&transmit).await == Sent::TooLong {
                too_long = Some(too_long.map_or(size, |known| known.min(size)));
            }
        }
        too_long
    }

    async fn transmit(&self, transmit: &Transmit<'_>) -> Sent {
        loop {
            if self.socket.writable().await.is_err() {
                return Sent::Otherwise;
            }
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.socket), transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!("a datagram was not sent: {error}");
                    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
                    let too_long = errno == Some(rustix::io::Errno::MSGSIZE);
                    return if too_long { Sent::TooLong } else { Sent::Otherwise };
                }
                Ok(()) => return Sent::Otherwise,
            }
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Longer than the first link of its way takes.
    TooLong,
    /// It is on its way, or lost for another reason.
    Otherwise,
}

/// How many of the first datagrams go out together: all of one size, the last may be shorter.
fn alike(datagrams: &[Vec<u8>], size: usize, segments_max: usize) -> usize {
    let most = segments_max.min(SEND_BYTES_MAX.checked_div(size).unwrap_or(1)).max(1);
    let full = datagrams.iter().take(most).take_while(|datagram| datagram.len() == size).count();
    let tail = datagrams.get(full).is_some_and(|datagram| datagram.len() < size && full < most);
    full + usize::from(tail)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_datagrams_of_one_size_go_out_together() {
        let of = |sizes: &[usize]| sizes.iter().map(|size| vec![0; *size]).collect::<Vec<_>>();
        assert_eq!(alike(&of(&[100, 100, 40, 100]), 100, 64), 3);
        assert_eq!(alike(&of(&[100, 101]), 100, 64), 1);
        assert_eq!(alike(&of(&[100, 100, 100]), 100, 2), 2);
        assert_eq!(alike(&of(&[40_000, 40_000]), 40_000, 64), 1);
        assert_eq!(alike(&of(&[0]), 0, 64), 1);
    }

    #[tokio::test]
    async fn datagrams_arrive_one_by_one_whatever_was_joined() {
        let (one, two) = (
            UdpPort::bind(([127, 0, 0, 1], 0).into()).unwrap(),
            UdpPort::bind(([127, 0, 0, 1], 0).into()).unwrap(),
        );
        let sent: Vec<Vec<u8>> =
            (0..20_u8).map(|number| vec![number; if number < 15 { 1200 } else { 300 }]).collect();
        let way = Way { peer: two.local_address().unwrap(), local: None };
        assert_eq!(one.send(way, &sent).await, None);
        let (mut got, mut buffers) = (Vec::new(), Buffers::default());
        while got.len() < sent.len() {
            two.receive(&mut buffers, |batch| {
                assert_eq!(batch.way.peer, one.local_address().unwrap());
                got.extend(batch.datagrams().map(<[u8]>::to_vec));
            })
            .await
            .unwrap();
        }
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn what_the_first_link_does_not_take_is_said_and_the_rest_is_sent() {
        let (one, two) = (
            UdpPort::bind(([127, 0, 0, 1], 0).into()).unwrap(),
            UdpPort::bind(([127, 0, 0, 1], 0).into()).unwrap(),
        );
        let way = Way { peer: two.local_address().unwrap(), local: None };
        let sent = [vec![1; 65_520], vec![2; 65_530], vec![3; 100]];
        assert_eq!(one.send(way, &sent).await, Some(65_520));
        let mut got = Vec::new();
        two.receive(&mut Buffers::default(), |batch| got.push(batch.joined.to_vec()))
            .await
            .unwrap();
        assert_eq!(got, [vec![3; 100]]);
    }
}
