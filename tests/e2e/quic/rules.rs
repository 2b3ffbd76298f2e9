//! The rules that h3spec asks of a server (RFC 9114, RFC 9204), by frames made by hand.

use std::time::Duration;

use quinn::{Connection, ConnectionError};
use tests::client::quic::{QuicTunnel, encode};
use tests::{Gateway, Origin};

use super::SOON;

const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const MESSAGE_ERROR: u64 = 0x10e;
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const DATAGRAM_ERROR: u64 = 0x33;
const DECOMPRESSION_FAILED: u64 = 0x200;
const ENCODER_STREAM_ERROR: u64 = 0x201;
const DECODER_STREAM_ERROR: u64 = 0x202;

/// SETTINGS without a setting.
const SETTINGS: &[u8] = &[4, 0];

async fn bare(gateway: &Gateway) -> Connection {
    gateway.browser().quic_to().unwrap().bare().await.unwrap()
}

/// How the gateway closed the connection.
async fn closed(connection: &Connection) -> u64 {
    let closed = tokio::time::timeout(SOON, connection.closed()).await;
    match closed.expect("still open") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

/// A connection whose streams begin with these bytes, and how it was closed.
async fn after(gateway: &Gateway, uni: &[&[u8]], request: Option<&[u8]>) -> u64 {
    let connection = bare(gateway).await;
    let mut held = Vec::new();
    for bytes in uni {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        held.push(stream);
    }
    if let Some(bytes) = request {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let code = closed(&connection).await;
        drop((recv, held));
        return code;
    }
    closed(&connection).await
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()][..], payload].concat()
}

const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "site.test:443")];

#[tokio::test(flavor = "multi_thread")]
async fn h3_01_frames_out_of_place_close_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let control = [&[0][..], SETTINGS].concat();
    let head = encode(&CONNECT).to_vec();
    let with = |more: &[u8]| [&head[..], more].concat();
    // DATA before HEADERS, CANCEL_PUSH and others on a request, HEADERS in a tunnel, HTTP/2's types.
    let requests = [
        frame(0, b"x"),
        frame(3, &[0]),
        frame(4, &[]),
        frame(7, &[0]),
        frame(13, &[0]),
        frame(5, &[0]),
        frame(2, &[0]),
        with(&head),
        with(&frame(3, &[0])),
        with(&frame(6, &[0])),
    ];
    for request in requests {
        let code = after(&gateway, &[&control], Some(&request)).await;
        assert_eq!(code, FRAME_UNEXPECTED, "{request:?}");
    }
    for kind in [0, 1, 4, 5, 2] {
        let control = [&control[..], &frame(kind, &[])].concat();
        assert_eq!(after(&gateway, &[&control], None).await, FRAME_UNEXPECTED, "{kind}");
    }
    let cut = &head[..head.len() - 1];
    assert_eq!(after(&gateway, &[&control], Some(cut)).await, FRAME_ERROR);
    let event = gateway.await_event("acme", |it| it["error"] == "http3_violation").await;
    assert_eq!((&event["type"], &event["error_side"]), (&"session".into(), &"client".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_02_the_control_stream_begins_with_good_settings_and_stays() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for first in [frame(0, b"x"), frame(1, b"x"), frame(7, &[0]), frame(13, &[0])] {
        let control = [&[0][..], &first].concat();
        assert_eq!(after(&gateway, &[&control], None).await, MISSING_SETTINGS, "{first:?}");
    }
    // Twice the same, HTTP/2's own, neither 0 nor 1.
    for settings in [&[6, 1, 6, 1][..], &[2, 1], &[3, 1], &[4, 1], &[5, 1], &[0x33, 2], &[8, 2]] {
        let control = [&[0][..], &frame(4, settings)].concat();
        assert_eq!(after(&gateway, &[&control], None).await, SETTINGS_ERROR, "{settings:?}");
    }
    let control = [&[0][..], SETTINGS].concat();
    assert_eq!(after(&gateway, &[&control, &control], None).await, STREAM_CREATION_ERROR);
    assert_eq!(after(&gateway, &[&control, &[2], &[2]], None).await, STREAM_CREATION_ERROR);
    assert_eq!(after(&gateway, &[&control, &[1, 0]], None).await, STREAM_CREATION_ERROR);
    for wrong in [[frame(13, &[9]), frame(13, &[8])].concat(), frame(3, &[0]), {
        [frame(7, &[0]), frame(7, &[4])].concat()
    }] {
        let control = [&control[..], &wrong].concat();
        assert_eq!(after(&gateway, &[&control], None).await, ID_ERROR, "{wrong:?}");
    }
    for (bytes, finish) in [(&control[..], true), (&[2], true), (&[3], false)] {
        let connection = bare(&gateway).await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if finish {
            stream.finish().unwrap();
        } else {
            stream.reset(0x100_u32.into()).unwrap();
        }
        assert_eq!(closed(&connection).await, CLOSED_CRITICAL_STREAM, "{bytes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_03_malformed_heads_reset_their_stream_only() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "x.test"), (":path", "/")];
    let without = |name: &str| get.iter().copied().filter(|it| it.0 != name).collect::<Vec<_>>();
    let with = |more: &[(&'static str, &'static str)]| [&get[..], more].concat();
    let heads = [
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        with(&[(":method", "GET")]),
        with(&[(":path", "/")]),
        with(&[(":status", "200")]),
        with(&[(":made-up", "x")]),
        with(&[("x-regular", "1"), (":authority", "x.test")]),
        with(&[("host", "other.test")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("x-space", " leading")]),
        with(&[("content-length", "5x")]),
        vec![(":method", "CONNECT"), (":authority", "x.test:443"), (":path", "/")],
        vec![(":method", "CONNECT"), (":authority", "x.test:443"), (":scheme", "https")],
        vec![(":method", "CONNECT"), (":protocol", "connect-udp"), (":authority", "x.test")],
        vec![(":method", "CONNECT"), (":authority", "x.test")],
        vec![(":method", "CONNECT"), (":authority", "user@x.test:443")],
    ];
    for head in heads {
        let (mut send, mut recv) = tunnel.connection.open_bi().await.unwrap();
        send.write_chunk(encode(&head)).await.unwrap();
        let answer = recv.read_to_end(1_000).await;
        let quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) = answer.unwrap_err() else {
            panic!("not reset: {head:?}");
        };
        assert_eq!(code.into_inner(), MESSAGE_ERROR, "{head:?}");
    }
    // In upper case, which the encoder above would not write.
    let (mut send, mut recv) = tunnel.connection.open_bi().await.unwrap();
    let mut upper = encode(&[&CONNECT[..], &[("x-upper", "1")]].concat()).to_vec();
    let at = upper.windows(7).position(|it| it == b"x-upper").unwrap();
    upper[at] = b'X';
    send.write_all(&upper).await.unwrap();
    assert!(recv.read_to_end(1_000).await.is_err());
    assert_eq!(super::fetch(&gateway, &tunnel, &origin, "/hello").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_12_field_compression_without_a_dynamic_table() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let control = [&[0][..], SETTINGS].concat();
    let sections: [&[u8]; 5] = [
        &[0, 0, 0xff, 36],   // beyond the static table
        &[0, 0, 0x80],       // dynamic
        &[1, 0, 0xc1],       // waits for an insert
        &[0, 0x80, 0xc1],    // base below zero
        &[0, 0, 0x51, 0x0b], // cut off
    ];
    for section in sections {
        let request = frame(1, section);
        let code = after(&gateway, &[&control], Some(&request)).await;
        assert_eq!(code, DECOMPRESSION_FAILED, "{section:?}");
    }
    for instruction in [&[2, 0x3f, 0x01][..], &[2, 0xc0, 0], &[2, 0x41, b'n', 1, b'v']] {
        let code = after(&gateway, &[&control, instruction], None).await;
        assert_eq!(code, ENCODER_STREAM_ERROR, "{instruction:?}");
    }
    for instruction in [&[3, 0x00][..], &[3, 0x01], &[3, 0x84]] {
        let code = after(&gateway, &[&control, instruction], None).await;
        assert_eq!(code, DECODER_STREAM_ERROR, "{instruction:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_name_no_stream_close_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for datagram in [&[][..], &[0x40], &[0xff; 8]] {
        let connection = bare(&gateway).await;
        connection.send_datagram(datagram.to_vec().into()).unwrap();
        assert_eq!(closed(&connection).await, DATAGRAM_ERROR, "{datagram:?}");
    }
    let connection = bare(&gateway).await;
    connection.send_datagram(vec![9, 0, 1, 2].into()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(connection.close_reason().is_none(), "of a stream that is not there, or no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_its_head_says_breaks_its_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    // Unknown frames and streams are passed over.
    let mut strange = tunnel.connection.open_uni().await.unwrap();
    strange.write_all(&[0x21, 1, 2, 3]).await.ok();
    let (mut send, mut recv) = tunnel.connection.open_bi().await.unwrap();
    send.write_all(&frame(0x21, b"grease")).await.unwrap();
    send.write_chunk(encode(&CONNECT)).await.unwrap();
    let mut head = [0; 3];
    recv.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 1, "HEADERS");
}

/// Opens streams that come to nothing until the connection is over.
async fn opens_for_nothing(tunnel: &QuicTunnel, head: &[u8]) -> u32 {
    for opened in 0..5_000 {
        let Ok((mut send, mut recv)) = tunnel.connection.open_bi().await else { return opened };
        if head.is_empty() {
            send.reset(0x10c_u32.into()).ok();
            recv.stop(0x10c_u32.into()).ok();
        } else {
            send.write_all(head).await.ok();
            recv.read_to_end(1_000).await.ok();
        }
    }
    panic!("5,000 streams for nothing, and still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_given_up_or_malformed_without_end_close_the_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let malformed = encode(&[(":method", "CONNECT"), (":authority", "x.test:443"), (":path", "/")]);
    for head in [&[][..], &malformed] {
        let tunnel = gateway.browser().quic().await.unwrap();
        let opened = opens_for_nothing(&tunnel, head).await;
        assert!(opened >= 256, "a window full of tabs is closed at once: {opened}");
        assert_eq!(closed(&tunnel.connection).await, EXCESSIVE_LOAD);
    }
    let event = gateway.await_event("acme", |it| it["error"] == "http3_flood").await;
    assert_eq!((&event["type"], &event["error_side"]), (&"session".into(), &"client".into()));
    assert_eq!(origin.connections().len(), 0);
}
