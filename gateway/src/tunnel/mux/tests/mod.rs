//! The multiplexer against an independent client (the `h2` crate), and against hostile frames.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod exchange;
mod hostile;
mod link;
mod windows;

use std::time::Duration;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::limit::window::{ProcessWindow, TUNNEL_WINDOW_BYTES};

/// Bytes in the pipe between client and gateway.
const PIPE: usize = 256 * 1024;

/// A served connection and the test's hands on it.
struct Served {
    incoming: Incoming,
    handle: Handle,
    driver: JoinHandle<Ending>,
    process: ProcessWindow,
}

fn serve_on<Io>(io: Io, settings: Settings) -> Served
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let process = ProcessWindow::new(1 << 30);
    let (driver, incoming, handle) = serve(io, settings, process.tunnel(TUNNEL_WINDOW_BYTES));
    Served { incoming, handle, driver: tokio::spawn(driver), process }
}

/// A client with windows that never hold it up, over `io`.
async fn client_on<Io>(io: Io) -> SendRequest<Bytes>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .max_send_buffer_size(1 << 20)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(async move {
        // Tests look at streams; how the connection ends is the server's to say.
        drop(connection.await);
    });
    sender.ready().await.unwrap()
}

async fn pair() -> (SendRequest<Bytes>, Served) {
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(PIPE);
    let served = serve_on(far, Settings::default());
    (client_on(near).await, served)
}

fn connect(host: &str) -> http::Request<()> {
    http::Request::connect(host).body(()).unwrap()
}

/// Answers every CONNECT with 200 and sends back what comes.
async fn echo(mut incoming: Incoming) {
    while let Some(request) = incoming.next().await {
        tokio::spawn(async move {
            let mut stream = request.responder.respond(200, &Fields::new());
            while let Ok(Some(chunk)) = stream.read_chunk().await {
                if stream.write_chunk(chunk).await.is_err() {
                    return;
                }
            }
            drop(stream.finish(&Fields::new()));
        });
    }
}

/// Sends all of `data` as the client's windows allow.
async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(256 * 1024));
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let room = room.expect("stream open").unwrap().min(data.len());
        stream.send_data(data.split_to(room), false).unwrap();
    }
    if end {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

/// Reads to the end.
async fn read_all(body: &mut h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        all.extend_from_slice(&chunk);
    }
    all
}

/// Bytes that differ at every place, so that loss, doubling and mixing show.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(next).collect();
    bytes.truncate(length);
    bytes.into()
}

/// Fails rather than hangs.
async fn soon<Out>(what: impl Future<Output = Out>) -> Out {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("in time")
}
