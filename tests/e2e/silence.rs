//! Clients that say nothing at first: because their server begins, or because their way is slow.

use std::time::Duration;

use serde_json::Value;
use tests::{Gateway, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Longer than the gateway waits for a first byte before it thinks of servers that begin.
const SILENCE: Duration = Duration::from_secs(7);
const GREETING: &[u8] = b"220 mail.test ready\r\n";

/// Greets whoever connects, then says what it is told.
async fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(GREETING).await.ok();
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await.ok();
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_begins_late_is_decrypted_all_the_same() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let authority = format!("site.test:{}", origin.port());
    let (late, on_443) = tokio::join!(browser.open(&authority), browser.open("site.test:443"));
    let (late, on_443) = (late.unwrap(), on_443.unwrap());
    tokio::time::sleep(SILENCE).await;
    // The browser trusts nobody but the tenant's authority.
    let mut inner = browser.inner(late, &authority).await.unwrap();
    assert!(inner.get("/hello").await.unwrap().text().contains("hello from site.test"));
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!((&event["decrypted"], &event["sni"]), (&true.into(), &"site.test".into()));
    // Nobody is there, and the page that says so comes under the tenant's leaf.
    let mut page = browser.inner(on_443, "site.test:443").await.unwrap();
    assert_eq!(page.get("/").await.unwrap().status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_is_relayed_to_a_client_that_waits() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let authority = format!("mail.test:{}", greeter().await);
    let mut stream = gateway.browser().open(&authority).await.unwrap();
    let mut greeting = vec![0; GREETING.len()];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, GREETING);
    stream.write_all(b"QUIT\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"QUIT\r\n");
    let flow = |event: &Value| event["type"] == "flow" && event["host"] == "mail.test";
    let event = gateway.await_event("acme", flow).await;
    assert_eq!((&event["action"], &event["error"]), (&"allow".into(), &Value::Null), "{event}");
    assert_eq!(event["decrypt_reason"], "server_first", "{event}");
    assert_eq!((&event["request_bytes"], &event["response_bytes"]), (&6.into(), &27.into()));
}
