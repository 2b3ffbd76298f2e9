#![expect(clippy::unwrap_used, reason = "tests")]

use etherparse::{PacketBuilder, TcpOptionElement};

use super::*;
use crate::packet::{Packet, Payload, Segment};

/// A client's ends, and those that it is given instead, of each family.
const PAIRS: [[&str; 4]; 2] = [
    ["10.77.0.2:4000", "192.0.2.1:443", "100.96.0.7:9", "100.96.0.1:1"],
    ["[fd00::7]:4000", "[2001:db8::1]:443", "[fd00:1::9]:9", "[fd00:1::1]:1"],
];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn relabel(source: &str, destination: &str, mtu: u16) -> Relabel {
    Relabel { source: address(source), destination: address(destination), mtu }
}

/// A packet as etherparse writes it, and its options.
fn packet(from: &str, to: &str, syn: bool, data: &[u8]) -> Vec<u8> {
    let step = match (address(from).ip(), address(to).ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Some(PacketBuilder::ipv4(from.octets(), to.octets(), 64))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Some(PacketBuilder::ipv6(from.octets(), to.octets(), 64))
        }
        _ => None,
    };
    let step = step.unwrap();
    let mut step = step.tcp(address(from).port(), address(to).port(), u32::MAX - 9, 512);
    step = if syn { step.syn() } else { step.ack(77).psh().fin() };
    let options = [
        TcpOptionElement::Noop,
        TcpOptionElement::MaximumSegmentSize(1_460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(1, 2),
    ];
    let mut packet = Vec::new();
    step.options(&options).unwrap().write(&mut packet, data).unwrap();
    packet
}

fn segment(packet: &[u8]) -> Segment {
    let payload = Packet::read(packet).unwrap().payload;
    if let Payload::Tcp(segment) = payload { Some(segment) } else { None }.unwrap()
}

fn offered(packet: &[u8]) -> u16 {
    let header = TcpPacket::read(packet).unwrap().header;
    u16::from_be_bytes(*header.get(23..25).unwrap().first_chunk().unwrap())
}

#[test]
fn a_packet_with_other_ends_is_sound_and_otherwise_the_same() {
    for ([from, to, inside, own], [_, other, ..]) in PAIRS.into_iter().zip(PAIRS.into_iter().rev())
    {
        let before = packet(from, to, false, b"some data");
        let read = TcpPacket::read(&before).unwrap();
        assert!(read.is_sound());
        let mut after = Vec::new();
        read.put(&relabel(inside, own, 1_400), &mut after).unwrap();
        let again = TcpPacket::read(&after).unwrap();
        assert!(again.is_sound());
        assert_eq!((again.source, again.destination), (address(inside), address(own)));
        assert_eq!((again.data, again.end()), (read.data, read.end()));
        assert_eq!(again.acknowledged(), Some(77));
        // There and back it is what it was.
        let mut back = Vec::new();
        again.put(&relabel(from, to, 1_400), &mut back).unwrap();
        let (back, before) = (TcpPacket::read(&back).unwrap(), read);
        assert_eq!(back, before);
        let mixed = relabel(from, other, 1_400);
        assert_eq!(read.put(&mixed, &mut Vec::new()), None);
    }
}

#[test]
fn a_wrong_checksum_is_seen() {
    for [from, to, ..] in PAIRS {
        let mut packet = packet(from, to, false, b"odd");
        let last = packet.len() - 1;
        packet.get_mut(last).into_iter().for_each(|byte| *byte ^= 1);
        assert!(!TcpPacket::read(&packet).unwrap().is_sound());
    }
}

#[test]
fn no_segment_is_offered_that_does_not_fit() {
    for ([from, to, inside, own], around) in PAIRS.into_iter().zip([40, 60]) {
        let syn = packet(from, to, true, b"");
        let read = TcpPacket::read(&syn).unwrap();
        for (mtu, least) in [(1_300, 1_300 - around), (9_000, 1_460)] {
            let mut after = Vec::new();
            read.put(&relabel(inside, own, mtu), &mut after).unwrap();
            assert_eq!(offered(&after), least);
            assert!(TcpPacket::read(&after).unwrap().is_sound());
        }
        // Only a SYN offers.
        let data = packet(from, to, false, b"data");
        let mut after = Vec::new();
        TcpPacket::read(&data).unwrap().put(&relabel(inside, own, 600), &mut after).unwrap();
        assert_eq!(offered(&after), 1_460);
    }
}

#[test]
fn a_large_packet_is_cut_and_nothing_is_lost() {
    let data: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
    for [from, to, inside, own] in PAIRS {
        let large = packet(from, to, false, &data);
        let read = TcpPacket::read(&large).unwrap();
        let pieces = read.cut(&relabel(inside, own, 1_428), Some(1_348));
        assert_eq!(pieces.len(), 8);
        let mut sequence = segment(&large).sequence;
        let mut whole = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let tcp = TcpPacket::read(piece).unwrap();
            assert!(tcp.is_sound() && piece.len() <= 1_428);
            assert_eq!(segment(piece).sequence, sequence);
            assert_eq!((tcp.fin(), tcp.flags() & PSH != 0), (number == 7, number == 7));
            sequence = sequence.wrapping_add(u32::try_from(tcp.data.len()).unwrap());
            whole.extend_from_slice(tcp.data);
        }
        assert_eq!(whole, data);
        // Where the way has become smaller than the pieces, they are smaller too.
        for piece_bytes in [Some(1_348), None] {
            let pieces = read.cut(&relabel(inside, own, 1_229), piece_bytes);
            let read = |piece| TcpPacket::read(piece).unwrap();
            assert!(pieces.iter().all(|it| it.len() <= 1_229 && read(it).is_sound()));
            assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() == 1_229));
            let whole: Vec<u8> = pieces.iter().flat_map(|it| read(it).data.to_vec()).collect();
            assert_eq!(whole, data);
        }
        // What carries no data stays one packet.
        let bare = packet(from, to, false, b"");
        assert_eq!(
            TcpPacket::read(&bare).unwrap().cut(&relabel(inside, own, 1_400), None).len(),
            1
        );
    }
}

#[test]
fn a_reset_says_the_number_it_was_given() {
    for [from, to, ..] in PAIRS {
        let mut packet = Vec::new();
        put_reset(address(from), address(to), 0xdead_beef, &mut packet).unwrap();
        let segment = segment(&packet);
        assert!(segment.rst && !segment.ack && segment.sequence == 0xdead_beef);
        assert!(TcpPacket::read(&packet).unwrap().is_sound());
    }
}

#[test]
fn what_stands_before_a_packet_says_how_it_is_cut() {
    let frame = |kind: u8, bytes: u16| {
        let [low, high] = bytes.to_ne_bytes();
        [1, kind, 0, 0, low, high, 0, 0, 0, 0, 0x45]
    };
    assert_eq!(take_offload(&frame(0, 1_400)), Some((None, &[0x45][..])));
    for kind in [1, 4, 0x81, 0x84] {
        assert_eq!(take_offload(&frame(kind, 1_400)), Some((Some(1_400), &[0x45][..])));
    }
    // Never in pieces of nothing.
    assert_eq!(take_offload(&frame(1, 0)), Some((None, &[0x45][..])));
    assert_eq!(take_offload(&[0; 9]), None);
}
