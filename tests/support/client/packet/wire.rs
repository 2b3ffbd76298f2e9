//! Inner packets built and read: UDP, ICMP echo, TCP segments, whatever their truth.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IcmpRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet,
    Ipv6Packet, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

pub use smoltcp::wire::TcpControl;

const HOP_LIMIT: u8 = 64;

/// What an IP packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: IpProtocol,
    pub payload: &'a [u8],
}

/// Takes the IP header off; `None` where it is none, or one with IPv6 extension headers.
#[must_use]
pub fn read(packet: &[u8]) -> Option<Read<'_>> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
            Some(Read { from, to, protocol: ip.next_header(), payload: ip.payload() })
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
            Some(Read { from, to, protocol: ip.next_header(), payload: ip.payload() })
        }
        _ => None,
    }
}

impl<'a> Read<'a> {
    /// Source and destination with their ports, of TCP and UDP.
    #[must_use]
    pub fn endpoints(&self) -> Option<(SocketAddr, SocketAddr)> {
        if !matches!(self.protocol, IpProtocol::Tcp | IpProtocol::Udp) {
            return None;
        }
        let (ports, _) = self.payload.split_first_chunk::<4>()?;
        let from = u16::from_be_bytes([ports[0], ports[1]]);
        let to = u16::from_be_bytes([ports[2], ports[3]]);
        Some(((self.from, from).into(), (self.to, to).into()))
    }

    /// The payload of a UDP packet whose length and checksum are right.
    #[must_use]
    pub fn udp(&self) -> Option<&'a [u8]> {
        let packet = UdpPacket::new_checked(self.payload).ok()?;
        let (from, to) = (self.from.into(), self.to.into());
        UdpRepr::parse(&packet, &from, &to, &ChecksumCapabilities::default()).ok()?;
        Some(packet.payload())
    }

    /// The TCP header.
    #[must_use]
    pub fn tcp(&self) -> Option<TcpPacket<&'a [u8]>> {
        (self.protocol == IpProtocol::Tcp).then(|| TcpPacket::new_checked(self.payload).ok())?
    }

    /// An echo request or reply.
    #[must_use]
    pub fn echo(&self) -> Option<Echo<'a>> {
        // Type and code; then checksum, identifier, sequence number and data in both families.
        let (header, data) = self.payload.split_first_chunk::<8>()?;
        let is_reply = match (self.protocol, header[0], header[1]) {
            (IpProtocol::Icmp, 8, 0) | (IpProtocol::Icmpv6, 128, 0) => false,
            (IpProtocol::Icmp, 0, 0) | (IpProtocol::Icmpv6, 129, 0) => true,
            _ => return None,
        };
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Echo { is_reply, identifier: number(4), sequence: number(6), data })
    }
}

/// A word that packets of a TCP connection are too long for their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Who sent what was too long.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    /// What passes, bytes.
    pub mtu: usize,
}

impl Read<'_> {
    /// Such a word: fragmentation needed (RFC 1191), or packet too big (RFC 4443), about TCP.
    #[must_use]
    pub fn narrowed(&self) -> Option<Narrowed> {
        let (header, quoted) = self.payload.split_first_chunk::<8>()?;
        let mtu = match (self.protocol, header[0], header[1]) {
            (IpProtocol::Icmp, 3, 4) | (IpProtocol::Icmpv6, 2, 0) => {
                usize::from(u16::from_be_bytes([header[6], header[7]]))
            }
            _ => return None,
        };
        // What is quoted is cut off, so that its own length says nothing.
        let (from, to, ip_bytes): (IpAddr, IpAddr, usize) = match quoted.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_unchecked(quoted.get(..20)?);
                (ip.src_addr().into(), ip.dst_addr().into(), 20)
            }
            _ => {
                let ip = Ipv6Packet::new_unchecked(quoted.get(..40)?);
                (ip.src_addr().into(), ip.dst_addr().into(), 40)
            }
        };
        let tcp = quoted.get(ip_bytes..)?.first_chunk::<8>()?;
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        Some(Narrowed { from: (from, port(0)).into(), to: (to, port(2)).into(), sequence, mtu })
    }
}

/// An ICMP echo message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    pub is_reply: bool,
    pub identifier: u16,
    pub sequence: u16,
    pub data: &'a [u8],
}

/// An IP packet around a payload that `fill` writes.
///
/// # Panics
/// Where the addresses are of two families.
#[must_use]
pub fn packet(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let header = IpRepr::new(from.into(), to.into(), protocol, length, HOP_LIMIT);
    let mut bytes = vec![0; header.buffer_len()];
    header.emit(&mut bytes[..], &ChecksumCapabilities::default());
    fill(&mut bytes[header.header_len()..]);
    bytes
}

/// # Panics
/// As [`packet`].
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let header = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let length = header.header_len() + payload.len();
    packet(from.ip(), to.ip(), IpProtocol::Udp, length, |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let caps = ChecksumCapabilities::default();
        let (from, to) = (from.ip().into(), to.ip().into());
        header.emit(&mut packet, &from, &to, payload.len(), |b| b.copy_from_slice(payload), &caps);
    })
}

/// An ICMP echo request or reply.
///
/// # Panics
/// As [`packet`].
#[must_use]
pub fn echo(from: IpAddr, to: IpAddr, echo: &Echo<'_>) -> Vec<u8> {
    let (ident, seq_no, data) = (echo.identifier, echo.sequence, echo.data);
    let caps = ChecksumCapabilities::default();
    let repr = match (to, echo.is_reply) {
        (IpAddr::V4(_), false) => IcmpRepr::Ipv4(Icmpv4Repr::EchoRequest { ident, seq_no, data }),
        (IpAddr::V4(_), true) => IcmpRepr::Ipv4(Icmpv4Repr::EchoReply { ident, seq_no, data }),
        (IpAddr::V6(_), false) => IcmpRepr::Ipv6(Icmpv6Repr::EchoRequest { ident, seq_no, data }),
        (IpAddr::V6(_), true) => IcmpRepr::Ipv6(Icmpv6Repr::EchoReply { ident, seq_no, data }),
    };
    match (repr, from, to) {
        (IcmpRepr::Ipv4(repr), ..) => {
            packet(from, to, IpProtocol::Icmp, repr.buffer_len(), |bytes| {
                repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), &caps);
            })
        }
        (IcmpRepr::Ipv6(repr), IpAddr::V6(source), IpAddr::V6(target)) => {
            packet(from, to, IpProtocol::Icmpv6, repr.buffer_len(), |bytes| {
                let mut packet = Icmpv6Packet::new_unchecked(bytes);
                repr.emit(&source, &target, &mut packet, &caps);
            })
        }
        (IcmpRepr::Ipv6(_), ..) => panic!("addresses of two families"),
    }
}

/// A TCP segment of one's own making.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub control: TcpControl,
    pub sequence: u32,
    pub acknowledges: Option<u32>,
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// An opening segment.
    #[must_use]
    pub fn syn(sequence: u32) -> Self {
        Segment { control: TcpControl::Syn, sequence, acknowledges: None, payload: &[] }
    }
}

/// # Panics
/// As [`packet`].
#[must_use]
pub fn tcp(from: SocketAddr, to: SocketAddr, segment: &Segment<'_>) -> Vec<u8> {
    // Sequence numbers are 32 bits that wrap; smoltcp keeps them signed.
    let number = |value: u32| TcpSeqNumber(value.cast_signed());
    let is_syn = segment.control == TcpControl::Syn;
    let header = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control: segment.control,
        seq_number: number(segment.sequence),
        ack_number: segment.acknowledges.map(number),
        window_len: 0xffff,
        window_scale: is_syn.then_some(7),
        max_seg_size: is_syn.then_some(1_360),
        sack_permitted: is_syn,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: segment.payload,
    };
    packet(from.ip(), to.ip(), IpProtocol::Tcp, header.buffer_len(), |bytes| {
        let mut packet = TcpPacket::new_unchecked(bytes);
        let (from, to) = (from.ip().into(), to.ip().into());
        header.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    })
}
