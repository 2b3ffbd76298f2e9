//! Datagram flows: CONNECT-UDP by capsules over the TLS tunnel (RFC 9298).

use tests::client::udp::UdpFlow;
use tests::{Gateway, Origin};
use tokio::net::UdpSocket;

async fn echo_server() -> u16 {
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

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_out_and_come_back() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let port = echo_server().await;
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let proxy = gateway.name("acme");
    let mut flow = UdpFlow::open(&tunnel, &proxy, "echo.test", port).await.unwrap();
    for size in [0_usize, 1, 100, 1_200] {
        let payload = vec![b'u'; size];
        flow.send(&payload).await.unwrap();
        assert_eq!(flow.receive().await.unwrap(), payload);
    }
    drop(flow);
    let event =
        gateway.await_event("acme", |one| one["type"] == "flow" && one["dest_port"] == port).await;
    assert_eq!(event["host"], "echo.test", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_leave_from_the_tenants_egress_address() {
    let origin = Origin::start().await;
    let gateway =
        Gateway::build(&origin).settings("origin: { egress: [127.0.0.9, \"::1\"] }\n").start();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let proxy = gateway.name("acme");
    let mut flow = UdpFlow::open(&tunnel, &proxy, "echo.test", port).await.unwrap();
    flow.send(b"from where").await.unwrap();
    let (_, from) = socket.recv_from(&mut [0; 64]).await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.9");
    drop(flow);
    let event =
        gateway.await_event("acme", |one| one["type"] == "flow" && one["dest_port"] == port).await;
    assert_eq!(event["egress_ip"], "127.0.0.9", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_18_datagrams_to_private_addresses_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    let tunnel = gateway.browser().tunnel().await.unwrap();
    let proxy = gateway.name("acme");
    for host in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "echo.test"] {
        let refused = UdpFlow::open(&tunnel, &proxy, host, 5_353).await;
        let status = refused.err().and_then(|error| error.status());
        assert_eq!(status, Some(403), "{host}");
    }
}
