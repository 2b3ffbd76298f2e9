//! What tests need that drive an origin's connections by hand.

use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request as HttpRequest, Response};
use tests::{BoxStream, ClientError, Http};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

pub(crate) const BOTH: [Http; 2] = [Http::One, Http::Two];
/// Nothing here takes long on an idle machine.
const WAIT: Duration = Duration::from_secs(20);

pub(crate) type Asked = HttpRequest<RecvStream>;
pub(crate) type Respond = SendResponse<Bytes>;

pub(crate) fn plain() -> h2::server::Builder {
    h2::server::Builder::new()
}

/// Reads a request's body to its end.
pub(crate) async fn drain(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut total = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        total += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(total)
}

pub(crate) fn answer(mut respond: Respond, text: &'static str) {
    let mut sender = respond.send_response(Response::new(()), false).unwrap();
    sender.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
}

/// One HTTP/1.1 head, read off a stream; empty at its end.
pub(crate) async fn head(stream: &mut BoxStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future).await.unwrap_or_else(|_| panic!("nothing came: {what}"))
}

pub(crate) fn reason_of(error: &ClientError) -> Option<Reason> {
    match error {
        ClientError::Http2(error) => error.reason(),
        _ => None,
    }
}
