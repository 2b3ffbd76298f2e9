//! What RFC 9114 forbids a client, told as the RFC says: the stream, or the connection, with its code.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use gateway_proto::h3::qpack::{encode_field, encode_prefix};
use gateway_proto::h3::{Code, put_headers};
use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::http3::{Carried, Http3, bare};
use tests::client::packet::Addresses;
use tests::{Gateway, Origin};

const SOON: Duration = Duration::from_secs(10);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

pub(super) struct World {
    pub(super) origin: Origin,
    pub(super) gateway: Gateway,
    tunnel: PacketTunnel,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::of(Origin::start().await).await
    }

    pub(super) async fn of(origin: Origin) -> Self {
        let gateway = Gateway::start(&origin);
        let alice = gateway.alice();
        let (at, name) = (gateway.address(), gateway.name("acme"));
        let to = DtlsTo::new(at, at, &name, &alice.tunnel_ca_pem, &alice.chain).unwrap();
        let to = to.addresses(Addresses::of(OWN)).without_fallback();
        Self { origin, gateway, tunnel: to.connect().await.unwrap() }
    }

    /// A way to the origin's UDP port.
    pub(super) async fn carried(&self) -> Carried {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.origin.port()));
        Carried::packets(self.tunnel.stack().udp().unwrap(), at).await.unwrap()
    }

    pub(super) async fn connection(&self) -> Http3 {
        let ca = self.gateway.alice().intercept_ca_pem;
        Http3::connect(&self.carried().await, &self.authority(), &ca).await.unwrap()
    }

    /// How a connection ends whose client opens these streams of its own, and ends those that are said.
    pub(super) async fn after(&self, streams: &[(&[u8], bool)]) -> u64 {
        let ca = self.gateway.alice().intercept_ca_pem;
        let (quic, _endpoint) = bare(&self.carried().await, &self.authority(), &ca).await.unwrap();
        let mut held = Vec::new();
        for (bytes, ends) in streams {
            // The first may have ended the connection before the next is sent.
            let Ok(mut side) = quic.open_uni().await else { break };
            if side.write_all(bytes).await.is_ok() && *ends {
                side.finish().ok();
            }
            held.push(side);
        }
        let closed = tokio::time::timeout(SOON, quic.closed()).await.expect("still open");
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
        close.error_code.into_inner()
    }

    pub(super) fn authority(&self) -> String {
        format!("site.test:{}", self.origin.port())
    }
}

/// A HEADERS frame of these fields.
pub(super) fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = BytesMut::new();
    encode_prefix(&mut section);
    for (name, value) in fields {
        // The encoder would write names in lower case, so those in upper case go by hand.
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            section.put_u8(0x20 | u8::try_from(name.len()).unwrap());
            section.put_slice(name.as_bytes());
            section.put_u8(u8::try_from(value.len()).unwrap());
            section.put_slice(value.as_bytes());
        } else {
            encode_field(name.as_bytes(), value.as_bytes(), &mut section);
        }
    }
    let mut frame = BytesMut::new();
    put_headers(&section, &mut frame);
    frame.to_vec()
}

/// How a stream with these bytes ends: the code of its reset, or the status of an answer.
pub(super) async fn outcome(http3: &Http3, bytes: &[u8]) -> Result<Vec<u8>, u64> {
    let (mut send, mut receive) = http3.quic.open_bi().await.unwrap();
    // A connection or stream that ends meanwhile shows below.
    send.write_all(bytes).await.ok();
    send.finish().ok();
    receive.read_to_end(1 << 20).await.map_err(|error| match error {
        quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) => code.into_inner(),
        quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(lost)) => match lost {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_heads_end_their_stream_only() {
    let world = World::new().await;
    let authority = world.authority();
    let http3 = world.connection().await;
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority.as_str()),
        (":path", "/hello"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields: Vec<(&str, &str)> = good.to_vec();
        fields.extend(more);
        head(&fields)
    };
    let without = |name: &str| {
        let kept: Vec<_> = good.iter().copied().filter(|(one, _)| *one != name).collect();
        head(&kept)
    };
    let late = [good[0], good[1], good[2], ("accept", "*/*"), good[3]];
    let malformed = [
        ("an upper-case name", with(&[("Accept", "x")])),
        ("a connection-specific field", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("a pseudo-header twice", with(&[(":path", "/other")])),
        ("an unknown pseudo-header", with(&[(":color", "red")])),
        ("a pseudo-header of responses", with(&[(":status", "200")])),
        ("a pseudo-header behind a field", head(&late)),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("another host", with(&[("host", "other.test")])),
        ("a line break in a value", with(&[("accept", "a\r\nb: c")])),
        ("two lengths", with(&[("content-length", "1"), ("content-length", "2")])),
    ];
    for (what, bytes) in malformed {
        let code = outcome(&http3, &bytes).await.expect_err(what);
        assert_eq!(code, u64::from(Code::MESSAGE_ERROR.0), "{what}");
    }
    assert!(outcome(&http3, &with(&[])).await.is_ok(), "the connection goes on");
    let event =
        world.gateway.await_event("acme", |event| event["block_reason"] == "field_name").await;
    assert_eq!(event["http_version"], "HTTP/3", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_streams_out_of_place_end_the_connection() {
    let world = World::new().await;
    let requests: [(&str, &[u8], Code); 6] = [
        ("DATA first", &[0, 1, b'x'], Code::FRAME_UNEXPECTED),
        ("SETTINGS on a request", &[4, 0], Code::FRAME_UNEXPECTED),
        ("a frame of HTTP/2", &[8, 0], Code::FRAME_UNEXPECTED),
        ("a push promise", &[5, 1, 0], Code::FRAME_UNEXPECTED),
        ("a dynamic table", &[1, 3, 2, 0, 0x80], Code::QPACK_DECOMPRESSION_FAILED),
        ("a frame cut off", &[1, 9, 0], Code::FRAME_ERROR),
    ];
    for (what, bytes, code) in requests {
        let http3 = world.connection().await;
        let got = outcome(&http3, bytes).await.expect_err(what);
        assert_eq!(got, u64::from(code.0), "{what}");
    }
    let sides: [(&str, &[u8], Code); 3] = [
        ("a second control stream", &[0, 4, 0], Code::STREAM_CREATION_ERROR),
        ("a push stream", &[1, 0], Code::STREAM_CREATION_ERROR),
        ("a second encoder stream", &[2, 0x20], Code::STREAM_CREATION_ERROR),
    ];
    for (what, bytes, code) in sides {
        let http3 = world.connection().await;
        // The client's own streams are there first.
        assert_eq!(http3.get("/hello").await.unwrap().status, 200, "{what}");
        let mut side = http3.quic.open_uni().await.unwrap();
        side.write_all(bytes).await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = http3.quic.closed().await else {
            panic!("{what}: not closed by the gateway");
        };
        assert_eq!(close.error_code.into_inner(), u64::from(code.0), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_given_up_without_end_close_the_connection() {
    let world = World::new().await;
    let authority = world.authority();
    let http3 = world.connection().await;
    let slow = head(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &authority),
        (":path", "/slow/20000"),
    ]);
    let mut asked = 0;
    while http3.quic.close_reason().is_none() {
        assert!(asked < 5_000, "still open");
        let mut held = Vec::new();
        for _ in 0..16 {
            let Ok((mut send, receive)) = http3.quic.open_bi().await else { break };
            send.write_all(&slow).await.ok();
            held.push((send, receive));
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        for (send, receive) in &mut held {
            send.reset(0x10c_u32.into()).ok();
            receive.stop(0x10c_u32.into()).ok();
        }
    }
    assert!(asked >= 256, "a page that is left is a flood: {asked}");
    let quinn::ConnectionError::ApplicationClosed(close) = http3.quic.closed().await else {
        panic!("not closed by the gateway");
    };
    assert_eq!(close.error_code.into_inner(), u64::from(Code::EXCESSIVE_LOAD.0));
    assert_eq!(world.connection().await.get("/hello").await.unwrap().status, 200);
}
