//! CONNECT-UDP over QUIC: datagrams, capsules, and where they may not go.

use serde_json::json;
use tests::client::quic::{Came, QuicUdp};
use tests::dns::Dns;
use tests::{Gateway, Origin};
use tokio::net::UdpSocket;

pub(super) async fn echo_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..count], from).await.ok();
        }
    });
    port
}

async fn exchange(flow: &mut QuicUdp, sizes: &[usize]) -> Vec<Came> {
    let mut came = Vec::new();
    for size in sizes {
        flow.send(&vec![b'u'; *size]).await.unwrap();
        came.push(flow.came().await.unwrap());
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_goes_in_quic_datagrams_and_what_is_too_long_in_capsules() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let port = echo_server().await;
    let tunnel = gateway.browser().quic().await.unwrap();
    let mut flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
    let sizes = [0, 1, 100, 1_100];
    let expected = sizes.map(|size| Came::Datagram(vec![b'u'; size]));
    assert_eq!(exchange(&mut flow, &sizes).await, expected);
    flow.send_capsule(&[b'c'; 4_000]).await.unwrap();
    assert_eq!(flow.came().await.unwrap(), Came::Capsule(vec![b'c'; 4_000]));
    drop(flow);
    let event =
        gateway.await_event("acme", |one| one["type"] == "flow" && one["dest_port"] == port).await;
    assert_eq!((&event["host"], &event["access_method"]), (&json!("echo.test"), &json!("quic")));
    assert_eq!(event["request_bytes"], 5_201, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_quic_datagrams_gets_capsules() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let port = echo_server().await;
    let to = gateway.browser().quic_to().unwrap().without_datagrams();
    let tunnel = to.connect().await.unwrap();
    let mut flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
    for came in exchange(&mut flow, &[0, 1, 1_200]).await {
        assert!(matches!(came, Came::Capsule(_)), "{came:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_many_flows_reach_each_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let mut flows = Vec::new();
    for number in 0..30_u8 {
        let port = echo_server().await;
        let flow = tunnel.udp(&gateway.name("acme"), "echo.test", port).await.unwrap();
        flows.push((number, flow));
    }
    for (number, flow) in &mut flows {
        flow.send(&[*number; 9]).await.unwrap();
    }
    for (number, flow) in &mut flows {
        assert_eq!(flow.receive().await.unwrap(), [*number; 9]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_18_quic_datagrams_to_private_addresses_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    for host in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "echo.test"] {
        let refused = tunnel.udp(&proxy, host, 5_353).await;
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(403), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_by_udp_through_the_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let dns = Dns::start(|_, _| "192.0.2.7".parse().unwrap()).await;
    let tunnel = gateway.browser().quic().await.unwrap();
    let proxy = gateway.name("acme");
    let mut flow = tunnel.udp(&proxy, "127.0.0.1", dns.address.port()).await.unwrap();
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04site\x04test\x00\x00\x01\x00\x01";
    flow.send(query).await.unwrap();
    let answer = flow.receive().await.unwrap();
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[answer.len() - 4..], [192, 0, 2, 7]);
    assert_eq!(dns.asked("www.site.test"), 1);
}
