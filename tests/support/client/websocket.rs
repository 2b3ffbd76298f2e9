//! The client's side of a WebSocket: by Upgrade, or by extended CONNECT on HTTP/2.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::error::ClientError;
use super::h2_stream::H2Stream;
use super::inner::{Inner, pairs};
use super::message::{Reply, Request};
use super::tunnel::WAIT_MAX;
use crate::BoxStream;
use crate::origin::websocket::{frame, read_frame};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [1, 2, 3, 4];
const POLL: Duration = Duration::from_millis(5);

/// An open WebSocket.
pub struct WebSocket {
    /// What the handshake was answered with.
    pub reply: Reply,
    stream: Beneath,
    buffer: BytesMut,
    /// Keeps the HTTP/2 connection open for as long as the WebSocket.
    connection: Option<SendRequest<Bytes>>,
}

enum Beneath {
    Connection(BoxStream),
    Stream(H2Stream),
}

/// How a handshake ended.
pub enum Opened {
    Yes(WebSocket),
    /// With any other response.
    No(Reply),
}

impl Opened {
    /// # Panics
    /// Where the handshake was refused.
    #[must_use]
    pub fn expect_open(self) -> WebSocket {
        match self {
            Self::Yes(socket) => socket,
            Self::No(reply) => panic!("refused with {}: {}", reply.status, reply.text()),
        }
    }

    /// # Panics
    /// Where the WebSocket is open.
    #[must_use]
    pub fn expect_refusal(self) -> Reply {
        match self {
            Self::Yes(socket) => panic!("open: {:?}", socket.reply),
            Self::No(reply) => reply,
        }
    }
}

/// Opens a WebSocket on `inner`, the way its HTTP version does.
///
/// # Errors
/// Where the connection or stream breaks.
pub async fn open(
    mut inner: Inner,
    authority: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Opened, ClientError> {
    if let Some(requests) = inner.http2() {
        promised(requests).await?;
        return by_connect(requests, authority, path, fields).await;
    }
    let mut request = Request::get(path)
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", KEY);
    for (name, value) in fields {
        request = request.field(name, value);
    }
    let reply = timeout(WAIT_MAX, async { inner.start(request).await?.finish().await }).await;
    let reply = reply.unwrap_or(Err(ClientError::Timeout))?;
    if reply.status != 101 {
        return Ok(Opened::No(reply));
    }
    let accepted = crate::origin::websocket::accept(KEY);
    if reply.field("sec-websocket-accept") != Some(accepted.as_str()) {
        return Err(ClientError::Malformed(format!("wrong accept: {:?}", reply.fields)));
    }
    let (stream, buffer) = inner.into_stream().ok_or(ClientError::Timeout)?;
    Ok(Opened::Yes(WebSocket {
        reply,
        stream: Beneath::Connection(stream),
        buffer,
        connection: None,
    }))
}

/// Waits until the server has promised extended CONNECT.
///
/// # Errors
/// [`ClientError::Timeout`] where it never does.
pub async fn promised(requests: &SendRequest<Bytes>) -> Result<(), ClientError> {
    let waiting = async {
        while !requests.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(WAIT_MAX, waiting).await.map_err(|_| ClientError::Timeout)
}

async fn by_connect(
    requests: &SendRequest<Bytes>,
    authority: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Opened, ClientError> {
    let unusable = |error: http::Error| ClientError::Unsupported(error.to_string());
    let mut head = http::Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{authority}{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    let head = head.body(()).map_err(unusable)?;
    let mut ready = requests.clone().ready().await?;
    let (response, sender) = ready.send_request(head, false)?;
    let response = timeout(WAIT_MAX, response).await.map_err(|_| ClientError::Timeout)??;
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    let mut reply = Reply { status, fields: pairs(&head.headers), ..Reply::default() };
    if !(200..300).contains(&status) {
        while let Some(data) = body.data().await {
            reply.take(&data?);
        }
        return Ok(Opened::No(reply));
    }
    let stream = Beneath::Stream(H2Stream::new(sender, body));
    let connection = Some(requests.clone());
    Ok(Opened::Yes(WebSocket { reply, stream, buffer: BytesMut::new(), connection }))
}

impl WebSocket {
    /// Sends one masked frame.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), ClientError> {
        let frame = frame(opcode, payload, Some(MASK));
        match &mut self.stream {
            Beneath::Connection(stream) => {
                stream.write_all(&frame).await?;
                stream.flush().await?;
            }
            Beneath::Stream(stream) => stream.write_all(&frame).await?,
        }
        Ok(())
    }

    /// The next frame: opcode and payload; `None` at the end of the stream.
    ///
    /// # Errors
    /// Where the stream breaks or nothing comes.
    pub async fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>, ClientError> {
        let frame = match &mut self.stream {
            Beneath::Connection(stream) => {
                timeout(WAIT_MAX, read_frame(stream, &mut self.buffer)).await
            }
            Beneath::Stream(stream) => {
                timeout(WAIT_MAX, read_frame(stream, &mut self.buffer)).await
            }
        };
        Ok(frame.map_err(|_| ClientError::Timeout)??)
    }

    /// Ends our side of the stream beneath, in order.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        match &mut self.stream {
            Beneath::Connection(stream) => stream.shutdown().await?,
            Beneath::Stream(stream) => stream.shutdown().await?,
        }
        Ok(())
    }

    /// Ends it without a close: RST_STREAM with `reason`, or the connection's end. Gives the
    /// connection beneath, where it lives on.
    pub fn reset(self, reason: Reason) -> Option<SendRequest<Bytes>> {
        if let Beneath::Stream(stream) = self.stream {
            stream.reset(reason);
        }
        self.connection
    }
}
