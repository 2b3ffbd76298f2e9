//! Inner IP packets: what one is, and the packets that answer it (RFC 791, RFC 8200, RFC 792, RFC 4443).

use std::net::{IpAddr, SocketAddr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket,
    TransportSlice,
};

/// What is sent on takes this many hops at most (RFC 1700).
const HOPS: u8 = 64;
/// An ICMP error carries this much of the packet it is about: the whole stays within every MTU
/// (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
const QUOTED_BYTES_MAX: usize = 540;
/// No IPv6 host sends smaller packets, whatever it is told (RFC 8201 section 4).
const IPV6_MTU_MIN: u16 = 1_280;

/// One packet, understood as far as a gateway needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub bytes: &'a [u8],
    pub source: IpAddr,
    pub destination: IpAddr,
    pub payload: Payload<'a>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    Tcp(Segment),
    Udp {
        source_port: u16,
        destination_port: u16,
        data: &'a [u8],
    },
    EchoRequest {
        id: u16,
        sequence: u16,
        data: &'a [u8],
    },
    /// Another protocol, by its number.
    Other(u8),
}

/// What matters of a TCP segment before a connection takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub data_bytes: usize,
}

impl Segment {
    /// Whether it asks for a new connection.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.syn && !self.ack && !self.rst && !self.fin
    }
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PacketProblem {
    #[error("its lengths do not add up, or it is no IP packet")]
    Malformed,
    #[error("its checksum is wrong")]
    Checksum,
    /// Tunnels carry whole packets: overlaps and half-sent ones cost memory and hide what they carry.
    #[error("it is a fragment")]
    Fragment,
    #[error("it comes from or goes to an address that no host has")]
    Address,
}

impl PacketProblem {
    /// A stable name for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Fragment => "fragment",
            Self::Address => "address",
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads one packet; what follows its own length is left out of it.
    ///
    /// # Errors
    /// Where it is none that a gateway passes on.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PacketProblem> {
        let sliced = SlicedPacket::from_ip(bytes).map_err(|_| PacketProblem::Malformed)?;
        let (source, destination): (IpAddr, IpAddr) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                if header.to_header().calc_header_checksum() != header.header_checksum() {
                    return Err(PacketProblem::Checksum);
                }
                (header.source_addr().into(), header.destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into())
            }
            _ => return Err(PacketProblem::Malformed),
        };
        if sliced.is_ip_payload_fragmented() {
            return Err(PacketProblem::Fragment);
        }
        // Loopback is the guard's matter, like every other network that a client may ask for.
        if source.is_loopback() || !is_host(source) || !is_host(destination) {
            return Err(PacketProblem::Address);
        }
        let payload = match &sliced.transport {
            Some(transport) => payload(transport, source, destination)?,
            None => {
                let ip = sliced.net.as_ref().and_then(NetSlice::ip_payload_ref);
                Payload::Other(ip.map_or(0, |ip| ip.ip_number.0))
            }
        };
        Ok(Self { bytes, source, destination, payload })
    }
}

/// Whether one host can have the address. Private and other special networks are the guard's matter.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

fn payload<'a>(
    transport: &TransportSlice<'a>,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Payload<'a>, PacketProblem> {
    Ok(match transport {
        TransportSlice::Tcp(tcp) => Payload::Tcp(Segment {
            source_port: tcp.source_port(),
            destination_port: tcp.destination_port(),
            sequence: tcp.sequence_number(),
            acknowledged: tcp.acknowledgment_number(),
            syn: tcp.syn(),
            ack: tcp.ack(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            data_bytes: tcp.payload().len(),
        }),
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let expected = match (source, destination) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())
                }
                _ => return Err(PacketProblem::Malformed),
            };
            // Over IPv4 a checksum is optional, and zero says that there is none (RFC 768).
            let absent = udp.checksum() == 0 && source.is_ipv4();
            if !absent && expected.ok() != Some(udp.checksum()) {
                return Err(PacketProblem::Checksum);
            }
            Payload::Udp {
                source_port: udp.source_port(),
                destination_port: udp.destination_port(),
                data: udp.payload(),
            }
        }
        TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(echo) => {
                Payload::EchoRequest { id: echo.id, sequence: echo.seq, data: icmp.payload() }
            }
            _ => Payload::Other(1),
        },
        TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(echo) => {
                Payload::EchoRequest { id: echo.id, sequence: echo.seq, data: icmp.payload() }
            }
            _ => Payload::Other(58),
        },
        _ => Payload::Other(0),
    })
}

/// The TCP header of a packet that this side wrote or has read: without IPv6 extensions.
fn tcp_header(packet: &[u8]) -> Option<usize> {
    match packet.first()? {
        first if first >> 4 == 4 && packet.get(9) == Some(&6) => Some(usize::from(first & 0xf) * 4),
        first if first >> 4 == 6 && packet.get(6) == Some(&6) => Some(40),
        _ => None,
    }
}

/// The number that a TCP packet acknowledges.
#[must_use]
pub fn acknowledged(packet: &[u8]) -> Option<u32> {
    let header = tcp_header(packet)?;
    let acknowledges = packet.get(header + 13)? & 0x10 != 0;
    let number = packet.get(header + 8..header + 12)?.first_chunk::<4>()?;
    acknowledges.then(|| u32::from_be_bytes(*number))
}

/// Gives a TCP packet another sequence number. Its checksum follows: a wrong one stays wrong (RFC 1624).
pub fn set_sequence(packet: &mut [u8], sequence: u32) {
    let Some(header) = tcp_header(packet) else { return };
    let Some(tcp) = packet.get_mut(header..) else { return };
    let (Some(old), Some(checksum)) = (
        tcp.get(4..8).and_then(|it| it.first_chunk::<4>()).copied(),
        tcp.get(16..18).and_then(|it| it.first_chunk::<2>()).copied(),
    ) else {
        return;
    };
    let new = sequence.to_be_bytes();
    let words =
        |[a, b, c, d]: [u8; 4]| [[a, b], [c, d]].map(|it| u32::from(u16::from_be_bytes(it)));
    let mut sum = u32::from(!u16::from_be_bytes(checksum));
    sum += words(new).iter().sum::<u32>();
    sum += words(old).iter().map(|word| !word & 0xffff).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or(u16::MAX);
    if let Some(place) = tcp.get_mut(4..8) {
        place.copy_from_slice(&new);
    }
    if let Some(place) = tcp.get_mut(16..18) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Begins a packet between two addresses of one family.
fn between(source: IpAddr, destination: IpAddr) -> Option<PacketBuilderStep<IpHeaders>> {
    Some(match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
        _ => return None,
    })
}

/// A UDP packet; `None` where the addresses are of two families or the data is too long.
#[must_use]
pub fn udp(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let step = between(source.ip(), destination.ip())?.udp(source.port(), destination.port());
    let mut packet = Vec::with_capacity(step.size(data.len()));
    step.write_to_vec(&mut packet, data).ok()?;
    Some(packet)
}

/// The answer to an echo request; `None` for every other packet.
#[must_use]
pub fn echo_reply(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let Payload::EchoRequest { id, sequence, data } = packet.payload else { return None };
    let step = between(packet.destination, packet.source)?;
    let mut reply = Vec::with_capacity(data.len().saturating_add(48));
    match packet.source {
        IpAddr::V4(_) => {
            step.icmpv4_echo_reply(id, sequence).write_to_vec(&mut reply, data).ok()?
        }
        IpAddr::V6(_) => {
            step.icmpv6_echo_reply(id, sequence).write_to_vec(&mut reply, data).ok()?
        }
    }
    Some(reply)
}

/// Says that nobody is at the port a packet goes to, so that its sender tries something else at once.
#[must_use]
pub fn port_unreachable(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let v4 = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let v6 = Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port);
    icmp(packet, v4, v6)
}

/// Says that a packet is longer than `mtu` bytes, the most that passes.
#[must_use]
pub fn too_big(packet: &Packet<'_>, mtu: u16) -> Option<Vec<u8>> {
    let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    let v4 = Icmpv4Type::DestinationUnreachable(needed);
    icmp(packet, v4, Icmpv6Type::PacketTooBig { mtu: mtu.into() })
}

/// Says to whoever sends on a TCP connection from `source` that packets longer than `mtu` bytes do not pass, though
/// none was seen here: they are lost below. Its sender believes it where `sequence` is a number that it
/// has sent and that nobody has acknowledged (RFC 5927 section 4).
#[must_use]
pub fn narrowed(
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
    mtu: u16,
) -> Option<Vec<u8>> {
    let step = between(source.ip(), destination.ip())?;
    let step = step.tcp(source.port(), destination.port(), sequence, 0).ack(0);
    let mut lost = Vec::with_capacity(step.size(mtu.into()));
    // As long as one that is lost, in its own words; a router quotes the headers at least.
    step.write_to_vec(&mut lost, &vec![0; mtu.into()]).ok()?;
    lost.truncate(if source.is_ipv4() { 40 } else { 60 });
    let (from, to) = (source.ip(), destination.ip());
    let lost = Packet { bytes: &lost, source: from, destination: to, payload: Payload::Other(6) };
    too_big(&lost, if source.is_ipv4() { mtu } else { mtu.max(IPV6_MTU_MIN) })
}

fn icmp(packet: &Packet<'_>, v4: Icmpv4Type, v6: Icmpv6Type) -> Option<Vec<u8>> {
    let quoted = packet.bytes.get(..QUOTED_BYTES_MAX).unwrap_or(packet.bytes);
    let step = between(packet.destination, packet.source)?;
    let mut answer = Vec::with_capacity(quoted.len().saturating_add(48));
    match packet.source {
        IpAddr::V4(_) => step.icmpv4(v4).write_to_vec(&mut answer, quoted).ok()?,
        IpAddr::V6(_) => step.icmpv6(v6).write_to_vec(&mut answer, quoted).ok()?,
    }
    Some(answer)
}

/// The reset that answers a segment of no known connection (RFC 9293 section 3.10.7.1); `None` for a
/// reset and for every other packet.
#[must_use]
pub fn reset(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let Payload::Tcp(segment) = packet.payload else { return None };
    if segment.rst {
        return None;
    }
    let step = between(packet.destination, packet.source)?;
    let (from, to) = (segment.destination_port, segment.source_port);
    let step = if segment.ack {
        step.tcp(from, to, segment.acknowledged, 0).rst()
    } else {
        let length = u32::try_from(segment.data_bytes).unwrap_or(0);
        let length =
            length.wrapping_add(u32::from(segment.syn)).wrapping_add(u32::from(segment.fin));
        step.tcp(from, to, 0, 0).rst().ack(segment.sequence.wrapping_add(length))
    };
    let mut answer = Vec::with_capacity(64);
    step.write_to_vec(&mut answer, &[]).ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const PAIRS: [(&str, &str); 2] =
        [("100.96.0.7:4000", "192.0.2.1:53"), ("[fd00::7]:4000", "[2001:db8::1]:53")];

    #[test]
    fn a_udp_packet_reads_back_as_it_was_written() {
        for (from, to) in PAIRS {
            let packet = udp(address(from), address(to), b"query").unwrap_or_default();
            let read = Packet::read(&packet).map(|it| (it.source, it.destination, it.payload));
            let payload = Payload::Udp { source_port: 4000, destination_port: 53, data: b"query" };
            assert_eq!(read, Ok((address(from).ip(), address(to).ip(), payload)));
            let mut broken = packet.clone();
            if let Some(last) = broken.last_mut() {
                *last ^= 1;
            }
            assert_eq!(Packet::read(&broken), Err(PacketProblem::Checksum));
        }
        assert_eq!(udp(address(PAIRS[0].0), address(PAIRS[1].1), b""), None);
    }

    #[test]
    fn fragments_and_odd_addresses_are_refused() {
        let mut packet =
            udp(address("100.96.0.7:1"), address("192.0.2.1:2"), b"x").unwrap_or_default();
        let mut header =
            etherparse::Ipv4Header::from_slice(&packet).map(|it| it.0).unwrap_or_default();
        header.more_fragments = true;
        header.header_checksum = header.calc_header_checksum();
        packet.splice(..20, header.to_bytes());
        assert_eq!(Packet::read(&packet), Err(PacketProblem::Fragment));
        for (from, to) in [("127.0.0.1:1", "192.0.2.1:2"), ("100.96.0.7:1", "224.0.0.1:2")] {
            let packet = udp(address(from), address(to), b"x").unwrap_or_default();
            assert_eq!(Packet::read(&packet), Err(PacketProblem::Address));
        }
        assert_eq!(Packet::read(b""), Err(PacketProblem::Malformed));
    }

    #[test]
    fn answers_go_back_to_who_asked() {
        for (from, to) in PAIRS {
            let packet = udp(address(from), address(to), &[7; 1000]).unwrap_or_default();
            let packet = Packet::read(&packet).unwrap();
            for answer in [port_unreachable(&packet), too_big(&packet, 1280)] {
                let answer = answer.unwrap_or_default();
                assert!(answer.len() < 600);
                let read = Packet::read(&answer).map(|it| (it.source, it.destination));
                assert_eq!(read, Ok((address(to).ip(), address(from).ip())));
            }
            assert_eq!((echo_reply(&packet), reset(&packet)), (None, None));
        }
    }

    #[test]
    fn a_sender_is_told_of_a_narrower_path_by_a_packet_of_its_own() {
        // Type, code and size (RFC 1191 section 4, RFC 4443 section 3.2).
        let told = [(20, [3, 4], 1_229_u16), (40, [2, 0], 1_280)];
        for ((from, to), (header, kind, mtu)) in PAIRS.into_iter().zip(told) {
            let message = narrowed(address(from), address(to), 0xdead_beef, 1_229).unwrap();
            assert_eq!(message.len(), header + 8 + header + 20);
            let read = Packet::read(&message).unwrap();
            assert_eq!((read.source, read.destination), (address(to).ip(), address(from).ip()));
            let icmp = message.get(header..).unwrap();
            assert_eq!(icmp.get(..2).unwrap(), kind);
            assert_eq!(icmp.get(6..8).unwrap(), mtu.to_be_bytes());
            let ends = icmp.get(8 + header..).and_then(|it| it.get(..8)).unwrap();
            assert_eq!(ends, [0x0f, 0xa0, 0, 53, 0xde, 0xad, 0xbe, 0xef]);
        }
        assert_eq!(narrowed(address(PAIRS[0].0), address(PAIRS[1].1), 1, 1_280), None);
    }

    #[test]
    fn a_changed_sequence_number_keeps_the_checksum_right_and_a_wrong_one_wrong() {
        for (from, to) in PAIRS {
            let (from, to) = (address(from), address(to));
            for (old, new) in [(1, 2), (0xffff_ffff, 0), (0x1234_5678, 0x9abc_def0), (7, 7)] {
                let write = |sequence| {
                    let step = between(from.ip(), to.ip()).unwrap();
                    let mut packet = Vec::new();
                    let step = step.tcp(4000, 443, sequence, 100).ack(0xdead_beef);
                    step.write_to_vec(&mut packet, b"data").unwrap();
                    packet
                };
                let mut packet = write(old);
                assert_eq!(acknowledged(&packet), Some(0xdead_beef));
                set_sequence(&mut packet, new);
                assert_eq!(packet, write(new));
                let last = packet.len() - 1;
                packet.get_mut(last).into_iter().for_each(|byte| *byte ^= 1);
                let mut broken = packet.clone();
                set_sequence(&mut broken, 99);
                assert_ne!(broken, write(99));
            }
        }
        assert_eq!(acknowledged(b""), None);
        set_sequence(&mut [0x45; 20], 1);
    }

    #[test]
    fn a_stray_segment_is_reset_and_a_reset_is_not() {
        for (from, to) in PAIRS {
            let (from, to) = (address(from), address(to));
            let step = between(from.ip(), to.ip()).map(|it| it.tcp(4000, 443, 77, 100).syn());
            let mut packet = Vec::new();
            step.unwrap().write_to_vec(&mut packet, &[]).unwrap();
            let read = Packet::read(&packet).unwrap();
            let answer = reset(&read).unwrap_or_default();
            let answer = Packet::read(&answer).unwrap();
            let is_reset =
                |it: Segment| it.rst && it.acknowledged == 78 && it.destination_port == 4000;
            assert!(matches!(answer.payload, Payload::Tcp(segment) if is_reset(segment)));
            assert_eq!(reset(&answer), None);
        }
    }
}
