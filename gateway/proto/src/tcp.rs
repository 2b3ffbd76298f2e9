//! TCP packets given other ends: what a kernel's own TCP takes of a tunnel, and what it gives back, cut
//! into packets that fit (Linux's TUN with offload: `struct virtio_net_hdr`, virtio 1.2 section 5.1.6).

use std::net::{IpAddr, SocketAddr};

use etherparse::{SlicedPacket, TransportSlice};

/// What stands before each packet on a TUN device with offload. All zero is a packet as it is.
pub const OFFLOAD_BYTES: usize = 10;
/// Kinds of packets that are to be cut: TCP over IPv4 and IPv6.
const OFFLOAD_TCP: [u8; 2] = [1, 4];
/// A mark of the kinds: sent with ECN, which nothing here changes.
const OFFLOAD_ECN: u8 = 0x80;

/// A TCP header without options.
const HEADER_BYTES: usize = 20;
const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// Hops that what is sent on takes at most (RFC 1700).
const HOPS: u8 = 64;
const PROTOCOL: u8 = 6;

/// One TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPacket<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// With its options.
    header: &'a [u8],
    data: &'a [u8],
}

/// Where a packet goes on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relabel {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The largest packet of the way, bytes: no side is offered segments that would not fit (RFC 9293
    /// section 3.7.1).
    pub mtu: u16,
}

impl<'a> TcpPacket<'a> {
    /// Reads a packet; `None` where it is no TCP packet, or a fragment. The checksum is another matter.
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        if sliced.is_ip_payload_fragmented() {
            return None;
        }
        let (source, destination): (IpAddr, IpAddr) = match &sliced.net {
            Some(etherparse::NetSlice::Ipv4(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            Some(etherparse::NetSlice::Ipv6(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            _ => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        let (header, data) = (tcp.header_slice(), tcp.payload());
        Some(Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            header,
            data,
        })
    }

    /// Whether its checksum is right.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let length = self.header.len() + self.data.len();
        let sum = pseudo_header(self.source.ip(), self.destination.ip(), length);
        fold(sum + add(self.header) + add(self.data)) == u16::MAX
    }

    fn flags(&self) -> u8 {
        self.header.get(FLAGS).copied().unwrap_or(0)
    }

    #[must_use]
    pub fn syn(&self) -> bool {
        self.flags() & SYN != 0
    }

    #[must_use]
    pub fn fin(&self) -> bool {
        self.flags() & FIN != 0
    }

    #[must_use]
    pub fn rst(&self) -> bool {
        self.flags() & RST != 0
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.header.get(at..at + 4).and_then(|it| it.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The number that it acknowledges.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u32> {
        (self.flags() & ACK != 0).then(|| self.number(ACKNOWLEDGED))
    }

    /// The number that acknowledges all of it.
    #[must_use]
    pub fn end(&self) -> u32 {
        let data = u32::try_from(self.data.len()).unwrap_or(0);
        let marks = u32::from(self.syn()) + u32::from(self.fin());
        self.number(SEQUENCE).wrapping_add(data).wrapping_add(marks)
    }

    /// Appends the packet to `out` with other ends and a plain IP header; `None`, and nothing appended,
    /// where the ends are of two families.
    #[must_use]
    pub fn put(&self, relabel: &Relabel, out: &mut Vec<u8>) -> Option<()> {
        let piece = Piece { sequence: self.number(SEQUENCE), flags: self.flags(), data: self.data };
        self.put_piece(relabel, &piece, out)
    }

    /// The packet with other ends, cut into packets that fit the way, with at most `piece_bytes` of data each.
    #[must_use]
    pub fn cut(&self, relabel: &Relabel, piece_bytes: Option<usize>) -> Vec<Vec<u8>> {
        let piece_bytes = piece_bytes.unwrap_or(self.data.len()).min(self.room(relabel.mtu)).max(1);
        // One without data is one piece still.
        let count = self.data.len().div_ceil(piece_bytes).max(1);
        let mut data = self.data.chunks(piece_bytes);
        let mut sequence = self.number(SEQUENCE);
        let mut packets = Vec::with_capacity(count);
        for number in 0..count {
            let data = data.next().unwrap_or_default();
            let mut flags = self.flags();
            if number > 0 {
                flags &= !(CWR | SYN);
            }
            if number + 1 < count {
                flags &= !(FIN | PSH);
            }
            let mut packet = Vec::with_capacity(HEADER_BYTES * 3 + self.header.len() + data.len());
            if self.put_piece(relabel, &Piece { sequence, flags, data }, &mut packet).is_some() {
                packets.push(packet);
            }
            sequence = sequence.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
        }
        packets
    }

    /// Bytes of data that fit into a packet of `mtu` bytes beside this one's headers.
    fn room(&self, mtu: u16) -> usize {
        let ip = if self.destination.is_ipv4() { 20 } else { 40 };
        usize::from(mtu).saturating_sub(ip + self.header.len())
    }

    fn put_piece(&self, relabel: &Relabel, piece: &Piece<'_>, out: &mut Vec<u8>) -> Option<()> {
        let Relabel { source, destination, mtu } = *relabel;
        let length = self.header.len() + piece.data.len();
        let ip_bytes = put_ip(source.ip(), destination.ip(), length, out)?;
        let begin = out.len();
        out.extend_from_slice(self.header);
        let header = out.get_mut(begin..)?;
        write(header, 0, &source.port().to_be_bytes());
        write(header, 2, &destination.port().to_be_bytes());
        write(header, SEQUENCE, &piece.sequence.to_be_bytes());
        write(header, FLAGS, &[piece.flags]);
        write(header, CHECKSUM, &[0, 0]);
        if piece.flags & SYN != 0 {
            let around = u16::try_from(ip_bytes + HEADER_BYTES).unwrap_or(0);
            clamp(header, mtu.saturating_sub(around));
        }
        let sum = pseudo_header(source.ip(), destination.ip(), length) + add(header);
        let checksum = !fold(sum + add(piece.data));
        write(header, CHECKSUM, &checksum.to_be_bytes());
        out.extend_from_slice(piece.data);
        Some(())
    }
}

struct Piece<'a> {
    sequence: u32,
    flags: u8,
    data: &'a [u8],
}

/// A reset with this number, appended to `out`; `None` where the ends are of two families.
#[must_use]
pub fn put_reset(
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut header = [0; HEADER_BYTES];
    // Its length in words of four bytes.
    header[12] = 5 << 4;
    let reset = TcpPacket { source, destination, header: &header, data: &[] };
    let relabel = Relabel { source, destination, mtu: u16::MAX };
    reset.put_piece(&relabel, &Piece { sequence, flags: RST, data: &[] }, out)
}

/// Reads what stands before a packet on a TUN device with offload: the bytes of data of each piece that it
/// is to be cut into, and the packet.
#[must_use]
pub fn take_offload(frame: &[u8]) -> Option<(Option<usize>, &[u8])> {
    let (offload, packet) = frame.split_first_chunk::<OFFLOAD_BYTES>()?;
    let [_, kind, _, _, low, high, ..] = *offload;
    let is_cut = OFFLOAD_TCP.contains(&(kind & !OFFLOAD_ECN));
    // In the machine's own order.
    let bytes = usize::from(u16::from_ne_bytes([low, high]));
    Some(((is_cut && bytes > 0).then_some(bytes), packet))
}

fn write(header: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = header.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Appends a plain IP header for `length` bytes of TCP; its length.
fn put_ip(source: IpAddr, destination: IpAddr, length: usize, out: &mut Vec<u8>) -> Option<usize> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(length + 20).ok()?.to_be_bytes();
            // Not to be fragmented, so that its identification does not matter (RFC 6864).
            let mut header = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOPS, PROTOCOL, 0, 0]
                .into_iter()
                .chain(source.octets())
                .chain(destination.octets());
            let mut plain = [0; 20];
            plain.iter_mut().zip(&mut header).for_each(|(to, from)| *to = from);
            let checksum = !fold(add(&plain));
            write(&mut plain, 10, &checksum.to_be_bytes());
            out.extend_from_slice(&plain);
            Some(20)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(length).ok()?.to_be_bytes();
            out.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], PROTOCOL, HOPS]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            Some(40)
        }
        _ => None,
    }
}

/// Offers no larger segments than `most` in a header with SYN.
fn clamp(header: &mut [u8], most: u16) {
    let mut at = HEADER_BYTES;
    while let Some(kind) = header.get(at).copied() {
        let length = header.get(at + 1).copied().map_or(0, usize::from);
        match (kind, length) {
            (0, _) => return,
            (1, _) => at += 1,
            (2, 4) => {
                let Some([high, low]) = header.get(at + 2..at + 4) else { return };
                let offered = u16::from_be_bytes([*high, *low]);
                return write(header, at + 2, &offered.min(most).to_be_bytes());
            }
            (_, 0 | 1) => return,
            (_, length) => at += length,
        }
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => add(&from.octets()) + add(&to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => add(&from.octets()) + add(&to.octets()),
        _ => 0,
    };
    addresses + u64::from(PROTOCOL) + length as u64
}

/// The sum of 16-bit words (RFC 1071), not folded yet. What comes after an odd length must stand alone.
fn add(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = match *words.remainder() {
        [a] => u64::from(u16::from_be_bytes([a, 0])),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a, b, c] => u64::from(u16::from_be_bytes([a, b])) + u64::from(u16::from_be_bytes([c, 0])),
        _ => 0,
    };
    let word = |four: &[u8]| four.first_chunk::<4>().map_or(0, |it| u32::from_be_bytes(*it).into());
    words.map(word).sum::<u64>() + rest
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
