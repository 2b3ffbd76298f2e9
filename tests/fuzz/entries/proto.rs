//! Targets of the `gateway-proto` crate. Each says what must hold for any bytes: no panic, the
//! same outcome however the bytes are split, and what is written reads back as itself.

use bytes::{Bytes, BytesMut};
use gateway_proto::capsule::{CapsuleReader, udp_payload, write_udp};
use gateway_proto::client_hello::{ClientHelloReader, HELLO_BYTES_MAX, Progress};
use gateway_proto::fields::Fields;
use gateway_proto::grpc;
use gateway_proto::h2;
use gateway_proto::http1::{self, BodyDecoder, BodyLength, Decoded, HeadReader, Limits};
use gateway_proto::ja4::{Transport, ja4};
use gateway_proto::multipart::{self, Boundary, Multipart, Part};
use gateway_proto::sniff::{SNIFF_BYTES_MAX, Sniffed, sniff};
use gateway_proto::target::{Authority, Host, RequestTarget, canonical_path};
use gateway_proto::udp;
use gateway_proto::websocket::{self, FrameWalk};
use gateway_proto::websocket_message::{Messages, Told};

#[path = "tunnels.rs"]
mod tunnels;

pub use tunnels::*;

/// A target: its name, which is its corpus folder's too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 25] = [
    ("http1_request", http1_request),
    ("http1_response", http1_response),
    ("http1_body", http1_body),
    ("client_hello", client_hello),
    ("sniff", sniff_bytes),
    ("datagram", datagram),
    ("host", host),
    ("request_target", request_target),
    ("path", path),
    ("capsule", capsule),
    ("websocket", websocket_frames),
    ("grpc", grpc_messages),
    ("multipart", multipart_form),
    ("h2_frames", h2_frames),
    ("h3_frames", h3_frames),
    ("qpack", qpack_section),
    ("packet", ip_packet),
    ("tcp", tcp_packet),
    ("dns_query", dns_query),
    ("dtls_hello", dtls_hello),
    ("dtls12", dtls12_server),
    ("openconnect_frames", openconnect_frames),
    ("openconnect_request", openconnect_request),
    ("quic_frames", quic_packet),
    ("quic_initial", quic_initial_datagrams),
];

pub fn http1_request(data: &[u8]) {
    let (step, text) = step(data);
    let mut whole = BytesMut::from(text);
    let expected = http1::parse_request(&mut whole, &Limits::REQUEST);

    let (mut reader, mut buffer) = (HeadReader::new(), BytesMut::new());
    let mut split = Ok(None);
    for piece in text.chunks(step) {
        buffer.extend_from_slice(piece);
        if split == Ok(None) {
            split = reader.request(&mut buffer, &Limits::REQUEST);
        }
    }
    assert_eq!(split.is_err(), expected.is_err());
    let Ok(Some(head)) = expected else {
        return;
    };
    assert!(split == Ok(Some(head.clone())));
    assert_eq!(buffer, whole);

    let mut written = BytesMut::new();
    http1::write_request_head(&head, &mut written).expect("what was read can be written");
    let again = http1::parse_request(&mut written, &Limits::REQUEST);
    // Trimmed white space makes it shorter, a space behind each colon longer.
    assert!(again == Ok(Some(head.clone())) || again == Err(http1::Malformed::HeadTooLarge));

    let mut stripped = head.fields.clone();
    http1::strip_hop_by_hop(&mut stripped);
    assert!(http1::hop_by_hop(&stripped).all(|field| field.is("te")));
    if let Ok(length) = http1::request_body(&head) {
        assert_ne!(length, BodyLength::UntilClose);
        decode_alike(length, &whole, step);
    }
}

pub fn http1_response(data: &[u8]) {
    let (step, text) = step(data);
    let mut whole = BytesMut::from(text);
    let expected = http1::parse_response(&mut whole, &Limits::RESPONSE);

    let (mut reader, mut buffer) = (HeadReader::new(), BytesMut::new());
    let mut split = Ok(None);
    for piece in text.chunks(step) {
        buffer.extend_from_slice(piece);
        if split == Ok(None) {
            split = reader.response(&mut buffer, &Limits::RESPONSE);
        }
    }
    assert_eq!(split.is_err(), expected.is_err());
    let Ok(Some(head)) = expected else {
        return;
    };
    assert!(split == Ok(Some(head.clone())));
    assert_eq!(buffer, whole);

    let mut written = BytesMut::new();
    http1::write_response_head(&head, &mut written).expect("what was read can be written");
    let again = http1::parse_response(&mut written, &Limits::RESPONSE);
    assert!(again == Ok(Some(head.clone())) || again == Err(http1::Malformed::HeadTooLarge));

    for method in [&b"GET"[..], b"HEAD", b"CONNECT"] {
        if let Ok(length) = http1::response_body(&head, method) {
            decode_alike(length, &whole, step);
        }
    }
}

pub fn http1_body(data: &[u8]) {
    let (step, text) = step(data);
    decode_alike(BodyLength::Chunked, text, step);
}

/// Decodes in one piece and in many; writes the content in chunks again.
fn decode_alike(length: BodyLength, text: &[u8], step: usize) {
    let whole = decode(length, text, text.len().max(1));
    let split = decode(length, text, step);
    assert_eq!(whole.is_err(), split.is_err());
    let (Ok((content, trailers, complete, left)), Ok(split)) = (whole, split) else {
        return;
    };
    assert_eq!((&split.0, &split.1, split.2), (&content, &trailers, complete));
    assert!(!complete || length == BodyLength::UntilClose || split.3 == left);
    if !complete {
        return;
    }
    let mut written = BytesMut::new();
    for piece in content.chunks(step) {
        http1::write_chunk_header(piece.len() as u64, &mut written);
        written.extend_from_slice(piece);
        written.extend_from_slice(http1::CHUNK_END);
    }
    http1::write_last_chunk(&trailers, &mut written).expect("what was read can be written");
    let again = decode(BodyLength::Chunked, &written, step).expect("what was written can be read");
    assert_eq!((again.0, again.1, again.2), (content, trailers, true));
}

type Body = (Vec<u8>, Fields, bool, Vec<u8>);

/// The content, the trailers, whether it was complete, and what is left over.
fn decode(length: BodyLength, text: &[u8], step: usize) -> Result<Body, http1::Malformed> {
    let mut decoder = BodyDecoder::new(length);
    let (mut content, mut trailers, mut buffer) = (Vec::new(), Fields::new(), BytesMut::new());
    for piece in text.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    content.extend_from_slice(&data);
                }
                Decoded::Trailers(fields) => trailers = *fields,
                Decoded::End | Decoded::NeedMore => break,
            }
        }
    }
    Ok((content, trailers, decoder.finish().is_ok(), buffer.to_vec()))
}

pub fn client_hello(data: &[u8]) {
    let (step, stream) = step(data);
    let whole = ClientHelloReader::new().push(stream);
    let mut reader = ClientHelloReader::new();
    let mut split = Progress::NeedMore;
    for piece in stream.chunks(step) {
        split = reader.push(piece);
        if split != Progress::NeedMore {
            break;
        }
    }
    assert_eq!(split, whole);
    match whole {
        // Every byte of the longest hello in a record of its own.
        Progress::NeedMore => assert!(stream.len() <= 6 * HELLO_BYTES_MAX),
        Progress::NotTls(problem) => assert!(!problem.label().is_empty()),
        Progress::Done(hello) => {
            let name = ja4(&hello, Transport::Tcp);
            assert_eq!(name.len(), 36, "{name}");
            if let Some(name) = hello.server_name() {
                assert_eq!(
                    Host::parse(name.as_bytes()).map(|host| host.to_string()),
                    Ok(name.into())
                );
            }
        }
    }
}

pub fn sniff_bytes(data: &[u8]) {
    let data = data.get(..256).unwrap_or(data);
    let mut known = Sniffed::NeedMore;
    for end in 0..=data.len() {
        let now = sniff(data.get(..end).unwrap_or_default());
        assert!(known == Sniffed::NeedMore || now == known);
        assert!(now != Sniffed::NeedMore || end < SNIFF_BYTES_MAX);
        known = now;
    }
}

pub fn datagram(data: &[u8]) {
    let any = udp::classify(data, 443);
    assert_ne!(any, udp::Datagram::Dns);
    let dns = udp::classify(data, 53);
    assert!(dns == udp::Datagram::Dns || dns == any);
}

pub fn host(data: &[u8]) {
    if let Ok(host) = Host::parse(data) {
        let text = host.to_string();
        assert_eq!(Host::parse(text.as_bytes()), Ok(host.clone()));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
        assert!(!text.ends_with('.') && text.len() <= 255);
        assert!(!host.is_mixed_script() || text.contains("xn--"));
    }
    if let Ok(authority) = Authority::parse(data) {
        assert_eq!(Authority::parse(authority.to_string().as_bytes()), Ok(authority));
    }
}

pub fn request_target(data: &[u8]) {
    for method in [&b"GET"[..], b"CONNECT", b"OPTIONS"] {
        if let Ok(target) = RequestTarget::parse(method, data)
            && let Some(resource) = target.resource()
        {
            let query = resource.query.map_or(0, |query| query.len() + 1);
            assert_eq!(resource.whole.len(), resource.path.len() + query);
            assert!(data.ends_with(resource.whole));
        }
    }
}

pub fn path(data: &[u8]) {
    let path = canonical_path(data);
    let text = path.as_str();
    assert!(text.starts_with('/') && !text.contains("//") && !text.contains('\\'));
    assert!(!text.chars().any(|it| it.is_ascii_control()));
    let bare = |segment: &str| segment.split(';').next().map(str::to_owned);
    assert!(!text.split('/').any(|it| matches!(bare(it).as_deref(), Some("." | ".."))));
    assert!(!path.segments().any(|it| matches!(bare(it).as_deref(), Some("." | ".."))));
    if !path.marks.encoded_slash {
        let segments: Vec<&str> = path.segments().collect();
        assert_eq!(format!("/{}", segments.join("/")), text);
    }
    if !text.contains('%') {
        assert_eq!(canonical_path(text.as_bytes()).as_str(), text);
    }
}

pub fn websocket_frames(data: &[u8]) {
    let (step, stream) = step(data);
    let (mut whole, mut split) = (FrameWalk::default(), FrameWalk::default());
    whole.advance(stream);
    stream.chunks(step).for_each(|piece| split.advance(piece));
    assert_eq!(whole, split);
    assert!(!(whole.is_open_between_frames() && whole.has_closed()));
    if whole.is_open_between_frames() {
        whole.advance(&websocket::close(websocket::SERVICE_RESTART));
        assert!(whole.has_closed());
    }
    assert_eq!(messages(stream, stream.len().max(1)), messages(stream, step));
}

/// What is told of the messages in these frames, and whether one is still gathered.
fn messages(stream: &[u8], step: usize) -> (Vec<Told>, bool) {
    let mut reader = Messages::new(64);
    let mut all = Vec::new();
    for mut piece in stream.chunks(step) {
        while !piece.is_empty() {
            let (count, told) = reader.advance(piece);
            assert!(count > 0 && (told.is_some() || count == piece.len()));
            assert!(told.is_none() || !reader.is_gathering());
            all.extend(told);
            piece = piece.get(count..).unwrap_or_default();
        }
    }
    (all, reader.is_gathering())
}

/// The messages of a call are the same however its body is cut, within their bound, and whoever holds
/// back what is being gathered holds back no message that was told.
pub fn grpc_messages(data: &[u8]) {
    let (step, stream) = step(data);
    assert_eq!(told_of_call(stream, stream.len().max(1)), told_of_call(stream, step));
}

fn told_of_call(stream: &[u8], step: usize) -> (Vec<grpc::Told>, bool) {
    const BOUND: usize = 64;
    let mut reader = grpc::Messages::new(BOUND);
    let mut all = Vec::new();
    for mut piece in stream.chunks(step) {
        while !piece.is_empty() {
            let (count, told) = reader.advance(piece);
            assert!(count > 0 && (told.is_some() || count == piece.len()));
            assert!(told.is_none() || !reader.is_gathering());
            if let Some(grpc::Told::Message { bytes, .. }) = &told {
                assert!(bytes.len() <= BOUND);
            }
            all.extend(told);
            piece = piece.get(count..).unwrap_or_default();
        }
    }
    (all, reader.is_gathering())
}

pub fn capsule(data: &[u8]) {
    let (step, stream) = step(data);
    let whole = datagrams(stream, stream.len().max(1));
    let split = datagrams(stream, step);
    assert_eq!(whole, split);
    let Ok((datagrams_read, _)) = whole else {
        return;
    };
    let payloads: Vec<Bytes> = datagrams_read.iter().filter_map(udp_payload).collect();
    let mut written = BytesMut::new();
    payloads.iter().for_each(|payload| write_udp(payload, &mut written));
    let (again, complete) = datagrams(&written, step).expect("what was written can be read");
    assert_eq!(again.iter().filter_map(udp_payload).collect::<Vec<_>>(), payloads);
    assert!(complete);
}

/// The datagrams of a stream, and whether it ended between two capsules.
fn datagrams(stream: &[u8], step: usize) -> Result<(Vec<Bytes>, bool), impl std::fmt::Debug + Eq> {
    let (mut reader, mut buffer) = (CapsuleReader::new(), BytesMut::new());
    let mut read = Vec::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        while let Some(datagram) = reader.datagram(&mut buffer)? {
            read.push(datagram);
        }
    }
    Ok::<_, gateway_proto::capsule::CapsuleError>((read, reader.finish(&buffer).is_ok()))
}

/// The first line is the Content-Type, the rest the body.
pub fn multipart_form(data: &[u8]) {
    let (step, text) = step(data);
    let line = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let (content_type, rest) = text.split_at(line);
    let body = rest.strip_prefix(b"\n").unwrap_or(rest);
    let Ok(Some(boundary)) = Boundary::of(content_type) else {
        return;
    };
    let whole = form(&boundary, body, body.len().max(1));
    assert_eq!(form(&boundary, body, step), whole);
    assert_eq!(multipart::parts(content_type, body).map(Option::unwrap_or_default), whole);
    for part in whole.iter().flatten() {
        assert!(part.complete && part.bytes <= body.len() as u64);
        let names = [&part.name, &part.file_name, &part.extended_file_name];
        assert!(!names.into_iter().flatten().any(|it| it.chars().any(|it| it.is_ascii_control())));
    }
}

fn form(
    boundary: &Boundary,
    body: &[u8],
    step: usize,
) -> Result<Vec<Part>, multipart::MultipartError> {
    let mut form = Multipart::new(boundary);
    for piece in body.chunks(step) {
        form.push(piece)?;
    }
    form.finish().map(<[Part]>::to_vec)
}

/// Frames after the preface; header blocks are decompressed and judged in order.
pub fn h2_frames(data: &[u8]) {
    let (step, stream) = step(data);
    assert_eq!(frames(stream, stream.len().max(1)), frames(stream, step));
}

/// Everything a connection says but where its DATA was split, and whether it failed.
fn frames(stream: &[u8], step: usize) -> (Vec<String>, Vec<u8>, bool) {
    const LIST_MAX: usize = 64 << 10;
    let mut reader = h2::FrameReader::new(LIST_MAX);
    let mut decoder = h2::hpack::Decoder::new();
    let mut buffer = BytesMut::from(h2::PREFACE);
    let (mut said, mut content) = (Vec::new(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(None) => break,
                Err(_) => return (said, content, true),
                Ok(Some(h2::Frame::Data { part, .. })) => content.extend_from_slice(&part),
                Ok(Some(h2::Frame::Headers { stream, block, .. })) => {
                    let mut builder = h2::HeadBuilder::default();
                    let decoded =
                        decoder.decode(&block, LIST_MAX, |name, value| builder.field(name, value));
                    if decoded.is_err() {
                        return (said, content, true);
                    }
                    said.push(format!("{stream} {:?}", builder.finish()));
                }
                Ok(Some(other)) => said.push(format!("{other:?}")),
            }
        }
    }
    (said, content, false)
}

/// The first byte says in pieces of how many bytes the rest comes.
fn step(data: &[u8]) -> (usize, &[u8]) {
    match data.split_first() {
        None => (1, data),
        Some((step, rest)) => (usize::from(*step).max(1), rest),
    }
}
