//! Targets of what tunnels carry and are made of: packets, name queries, DTLS, OpenConnect, QUIC and
//! HTTP/3.

use bytes::{Bytes, BytesMut};
use gateway_proto::dns::{Question, QuestionProblem};
use gateway_proto::dtls::{self, DtlsHello, HelloReader};
use gateway_proto::dtls12::PskServer;
use gateway_proto::h3::{self, Event, FrameReader, StreamTypeReader, qpack};
use gateway_proto::http1::{self, Limits};
use gateway_proto::ja4::{Transport, ja4};
use gateway_proto::openconnect::TunnelRequest;
use gateway_proto::openconnect::frame::{put_cstp, read_dtls, take_cstp};
use gateway_proto::packet::{self, Packet, Payload};
use gateway_proto::quic_frames::{Survey, challenge, survey};
use gateway_proto::quic_initial::{self, InitialReader, Version};
use gateway_proto::tcp::{self, Relabel, TcpPacket};

use super::step;

pub fn ip_packet(data: &[u8]) {
    let Ok(read) = Packet::read(data) else { return };
    // Every answer is a packet too, and goes back.
    let answers = [
        packet::echo_reply(&read),
        packet::port_unreachable(&read),
        packet::too_big(&read, 1_280),
        packet::reset(&read),
    ];
    for answer in answers.into_iter().flatten() {
        // A source that nobody may have as a destination has no answer that reads back.
        if let Ok(answer) = Packet::read(&answer) {
            assert_eq!((answer.source, answer.destination), (read.destination, read.source));
        }
    }
    if let Payload::Tcp(segment) = read.payload {
        let mut changed = data.to_vec();
        packet::set_sequence(&mut changed, !segment.sequence);
        packet::set_sequence(&mut changed, segment.sequence);
        let again = Packet::read(&changed).map(|it| it.payload);
        assert!(again == Ok(read.payload) || read.source.is_ipv6());
    }
}

pub fn tcp_packet(data: &[u8]) {
    let taken = tcp::take_offload(data);
    // Both a client's packet, and one that the kernel wants cut.
    let (piece_bytes, packet) = taken.unwrap_or((None, data));
    for packet in [data, packet] {
        let Some(read) = TcpPacket::read(packet) else { continue };
        let relabel = |source: &str, destination: &str| Relabel {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            mtu: 1_280,
        };
        let relabel = match read.source {
            std::net::SocketAddr::V4(_) => relabel("100.96.0.7:9", "100.96.0.1:1"),
            std::net::SocketAddr::V6(_) => relabel("[fd00::9]:9", "[fd00::1]:1"),
        };
        let mut whole = Vec::new();
        if read.put(&relabel, &mut whole).is_some() {
            let again = TcpPacket::read(&whole).expect("a packet that was written");
            assert!(again.is_sound());
            assert_eq!((again.source, again.destination), (relabel.source, relabel.destination));
            assert_eq!((again.end(), again.acknowledged()), (read.end(), read.acknowledged()));
        } else {
            assert!(whole.is_empty());
        }
        // Pieces follow one another and end where the whole does.
        let pieces = read.cut(&relabel, piece_bytes);
        let mut last = None;
        for piece in &pieces {
            let piece = TcpPacket::read(piece).expect("a piece that was written");
            assert!(piece.is_sound());
            last = Some(piece.end());
        }
        assert!(last.is_none_or(|last| last == read.end() || (read.syn() && pieces.len() > 1)));
    }
}

pub fn dns_query(data: &[u8]) {
    match Question::read(data) {
        Err(QuestionProblem::NotQuery) => {}
        Err(QuestionProblem::Refused(answer)) => assert!(Question::read(&answer).is_err()),
        Ok(question) => {
            let answer = question.answer(Default::default(), Vec::new(), true);
            assert!(answer.len() <= 1_232 && answer.get(..2) == data.get(..2));
            assert_eq!(Question::read(&answer), Err(QuestionProblem::NotQuery));
            assert!(!question.name().ends_with('.'));
        }
    }
}

pub fn dtls_hello(data: &[u8]) {
    drop(DtlsHello::parse(data));
    let (step, flight) = step(data);
    let mut reader = HelloReader::new();
    for datagram in flight.chunks(step.saturating_mul(8)) {
        if !matches!(reader.push(datagram), dtls::Progress::NeedMore) {
            return;
        }
    }
}

/// The client's bytes in datagrams: nothing but the key opens a connection, and no datagram gets more
/// than it brings.
pub fn dtls12_server(data: &[u8]) {
    let (step, flight) = step(data);
    let mut server = PskServer::new([7; 32], [2; 32]);
    for datagram in flight.chunks(step.saturating_mul(8)) {
        let Ok(outcome) = server.datagram(datagram) else { return };
        assert!(!outcome.connected && outcome.records.is_empty());
        let answered: usize = outcome.datagrams.iter().map(Vec::len).sum();
        assert!(answered <= datagram.len().saturating_mul(3));
    }
}

pub fn openconnect_frames(data: &[u8]) {
    let (step, stream) = step(data);
    let frames = |step: usize| {
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match take_cstp(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(problem) => return (frames, Some(problem)),
                }
            }
        }
        (frames, None)
    };
    let whole = frames(stream.len().max(1));
    assert_eq!(frames(step), whole);
    let mut written = BytesMut::new();
    for frame in &whole.0 {
        put_cstp(frame.kind, &frame.payload, &mut written);
    }
    for frame in whole.0 {
        assert_eq!(take_cstp(&mut written), Ok(Some(frame)));
    }
    drop(read_dtls(Bytes::copy_from_slice(data)));
}

pub fn openconnect_request(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    if let Ok(Some(head)) = http1::parse_request(&mut buffer, &Limits::REQUEST) {
        let request = TunnelRequest::read(&head.fields);
        assert!(request.previous.len() <= 2);
        assert!(request.mtu.is_none_or(|mtu| (1_280..=9_000).contains(&mtu)));
    }
}

/// A client's stream, of requests or control: the same events however it is split.
pub fn h3_frames(data: &[u8]) {
    let (step, rest) = step(data);
    let Some((place, stream)) = rest.split_first() else { return };
    let events = |step: usize| {
        let mut reader = match place % 3 {
            0 => FrameReader::control(),
            _ => FrameReader::request(1 << 10),
        };
        if place % 3 == 2 {
            reader.tunnel();
        }
        let mut events: Vec<Event> = Vec::new();
        for piece in stream.chunks(step) {
            let mut chunk = Bytes::copy_from_slice(piece);
            loop {
                match reader.next(&mut chunk) {
                    Err(fault) => return (events, Some(fault)),
                    Ok(None) => break,
                    Ok(Some(Event::Data(more))) => match events.last_mut() {
                        Some(Event::Data(before)) => {
                            *before = [before.as_ref(), more.as_ref()].concat().into();
                        }
                        _ => events.push(Event::Data(more)),
                    },
                    Ok(Some(event)) => events.push(event),
                }
            }
            assert!(chunk.is_empty());
        }
        (events, reader.finish().err())
    };
    assert_eq!(events(step), events(stream.len().max(1)));
    let mut kind = Bytes::copy_from_slice(stream);
    let _kind = StreamTypeReader::new().next(&mut kind);
}

/// A field section: what is read, written, reads the same; and the peer's instructions.
pub fn qpack_section(data: &[u8]) {
    const MOST: usize = 4_096;
    let _read = qpack::EncoderStream.read(data);
    let (step, stream) = step(data);
    let whole = qpack::DecoderStream::default().read(stream);
    let mut split = qpack::DecoderStream::default();
    let pieces = stream.chunks(step).try_for_each(|piece| split.read(piece));
    assert_eq!(whole, pieces);

    let mut fields = Vec::new();
    let decoded = qpack::decode(data, MOST, |name, value| fields.push((name, value)));
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(size <= MOST);
    if decoded != Ok(qpack::Decoded::Whole) {
        return;
    }
    let mut head = h3::HeadBuilder::default();
    let mut written = BytesMut::new();
    qpack::encode_prefix(&mut written);
    for (name, value) in &fields {
        head.field(name.clone(), value.clone());
        qpack::encode_field(name, value, &mut written);
    }
    drop(head.finish());
    let mut again = Vec::new();
    let outcome = qpack::decode(&written, MOST, |name, value| again.push((name, value)));
    assert_eq!(outcome, Ok(qpack::Decoded::Whole));
    for ((name, value), (name_again, value_again)) in fields.iter().zip(&again) {
        assert!(name.eq_ignore_ascii_case(name_again) && value == value_again);
    }
    assert_eq!(fields.len(), again.len());
}

/// The frames of one packet: another frame behind them counts once at most, wherever they end.
pub fn quic_packet(data: &[u8]) {
    let Survey { retirements, thin } = survey(data);
    assert!(2 * (retirements as usize + thin as usize) <= data.len());
    let more = survey(&[data, &[0x19, 0]].concat());
    assert!([0, 1].contains(&(more.retirements - retirements)));
    if let Some(challenge) = challenge(data) {
        assert!(data.windows(8).any(|bytes| bytes == challenge.to_be_bytes()));
    }
    // Padding before a frame changes nothing.
    let padded = [&[0; 3], data].concat();
    assert_eq!((survey(&padded), challenge(&padded)), (survey(data), challenge(data)));
}

/// As it stands the input is one datagram; and its pieces, each after its length in two bytes, are the
/// frames of one packet each, which no fuzzer could seal.
pub fn quic_initial_datagrams(data: &[u8]) {
    let mut bare = InitialReader::new();
    bare.push(data);
    bare.push(data);
    if let Some(answer) = quic_initial::version_negotiation(data) {
        assert!(answer.len() < data.len());
        assert_eq!(quic_initial::version_negotiation(&answer), None);
    }
    let (mut reader, mut again) = (InitialReader::new(), InitialReader::new());
    let (mut left, mut number) = (data, 0);
    while let Some((length, rest)) = left.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (frames, rest) = rest.split_at(length);
        left = rest;
        let mut frames = frames.to_vec();
        frames.resize(frames.len().max(1162), 0);
        let sealed = quic_initial::write_initial(Version::V1, &[5; 8], number, &frames);
        let Some(sealed) = sealed else { return };
        let progress = reader.push(&sealed);
        assert_eq!(again.push(&sealed), progress);
        assert_ne!(progress, initial_problem(quic_initial::InitialProblem::Sealed));
        if let quic_initial::Progress::Done(hello) = &progress {
            let _name = ja4(hello, Transport::Quic);
        }
        number += 1;
    }
}

fn initial_problem(problem: quic_initial::InitialProblem) -> quic_initial::Progress {
    quic_initial::Progress::NotInitial(problem)
}
