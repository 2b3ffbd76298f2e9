//! What the gateway adds to each streamed message, beside direct in one run. Prints, with the bounds
//! of docs/performance.md beside; asserts nothing.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use tests::client::tls;
use tests::origin::manual::Manual;
use tests::{BoxStream, Gateway, Origin};
use tokio::net::TcpStream;

const MESSAGES: usize = 3_000;
const APART: Duration = Duration::from_millis(2);
fn now() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap()
}

/// Sends its clock, message after message.
async fn ticks(mut respond: SendResponse<Bytes>) {
    let mut head = http::Response::new(());
    head.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    let mut sender = respond.send_response(head, false).unwrap();
    let mut clock = tokio::time::interval(APART);
    for _ in 0..MESSAGES {
        clock.tick().await;
        if sender.send_data(Bytes::copy_from_slice(&now().to_be_bytes()), false).is_err() {
            return;
        }
    }
    sender.send_data(Bytes::new(), true).ok();
}

/// Nanoseconds from sending to receiving, in order of size.
async fn measure(requests: &mut SendRequest<Bytes>, url: &str) -> Vec<u64> {
    let asked = http::Request::get(url).body(()).unwrap();
    let (response, _) = requests.send_request(asked, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut spans = Vec::with_capacity(MESSAGES);
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        // Messages that were joined on the way each have their own clock.
        for sent in data.chunks_exact(8) {
            spans.push(now() - u64::from_be_bytes(sent.try_into().unwrap()));
        }
    }
    assert_eq!(spans.len(), MESSAGES);
    spans.sort_unstable();
    spans
}

async fn direct(origin: &Origin, port: u16) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let config = tls::config(&origin.pki().roots_pem(), None, &["h2"]).unwrap();
    let stream: BoxStream = Box::new(tcp);
    let stream = tls::connect(stream, "site.test", config.into()).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    requests
}

#[tokio::main]
async fn main() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let builder = h2::server::Builder::new();
    manual.serve(builder, |_, _, respond| ticks(respond), |_, _| async {});
    let mut straight = direct(&trust, port).await;
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    let through = inner.http2().unwrap();
    // Side by side, so that both meet the same machine.
    let (straight, through) = tokio::join!(measure(&mut straight, &url), measure(through, &url));
    let at =
        |spans: &[u64], permille: usize| Duration::from_nanos(spans[MESSAGES * permille / 1_000]);
    for permille in [500, 900, 990, 999] {
        let (without, with) = (at(&straight, permille), at(&through, permille));
        println!("p{permille}: direct {without:?}, through {with:?}");
    }
    let added = at(&through, 990).saturating_sub(at(&straight, 990));
    println!("added at p99: {added:?} (bound 1 ms)");
}
