//! The origin's HTTP/1.1 side: a small server by hand, so that it can send what a library would not.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{Answer, End, FILL_BYTES, Piece, fill};
use super::{Seen, Shared, websocket};
use crate::{BoxStream, Sha256};

/// More than any test sends; the origin is not what is tested.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// What of a request's body is kept for `/mirror`.
pub(super) const BODY_KEPT_BYTES: usize = 1024 * 1024;

pub(super) async fn serve(stream: BoxStream, connection: usize, shared: Arc<Shared>) {
    let mut wire = Wire { stream, buffer: BytesMut::with_capacity(FILL_BYTES) };
    // Whatever goes wrong on the wire is the client's to see; the origin just closes.
    while let Ok(true) = exchange(&mut wire, connection, &shared).await {}
}

struct Wire {
    stream: BoxStream,
    buffer: BytesMut,
}

impl Wire {
    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(at).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            self.more().await?;
        }
    }
}

/// Returns whether the connection goes on.
async fn exchange(wire: &mut Wire, connection: usize, shared: &Shared) -> io::Result<bool> {
    let mut seen = head(wire).await?;
    seen.connection = connection;
    if seen.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        wire.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let upgrade = seen.field("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    if upgrade
        && !shared.has_answer(&seen.target)
        && let Some(key) = seen.field("sec-websocket-key")
    {
        let reply = websocket::reply(key);
        shared.requested(seen);
        wire.stream.write_all(reply.as_bytes()).await?;
        let early = wire.buffer.split();
        websocket::echo(&mut wire.stream, early).await?;
        return Ok(false);
    }
    let kept = body(wire, &mut seen).await?;
    let answer = shared.answer(&seen, &kept);
    let no_body = seen.method == "HEAD" || answer.status == 204 || answer.status == 304;
    let last = seen.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    shared.requested(seen);
    Ok(send(wire, &answer, no_body).await? && !last)
}

async fn head(wire: &mut Wire) -> io::Result<Seen> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 512];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&wire.buffer).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let mut seen = Seen {
                version: if request.version == Some(0) { "1.0" } else { "1.1" },
                method: request.method.unwrap_or_default().to_owned(),
                target: request.path.unwrap_or_default().to_owned(),
                ..Seen::default()
            };
            let pair = |f: &httparse::Header<'_>| (f.name.to_owned(), text(f.value));
            seen.fields = request.headers.iter().map(pair).collect();
            seen.authority = seen.field("host").unwrap_or_default().to_owned();
            wire.buffer.advance(length);
            return Ok(seen);
        }
        if wire.buffer.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        wire.more().await?;
    }
}

/// Reads the body, hashing it; returns what was kept.
async fn body(wire: &mut Wire, seen: &mut Seen) -> io::Result<Vec<u8>> {
    let mut taken = Taken { kept: Vec::new(), hash: Sha256::new(), bytes: 0 };
    let chunked = seen.field("transfer-encoding").is_some();
    if chunked {
        loop {
            let line = wire.line().await?;
            let size = String::from_utf8_lossy(&line);
            let size = u64::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
                .map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            take(wire, size, &mut taken).await?;
            wire.line().await?;
        }
        loop {
            let line = wire.line().await?;
            if line.is_empty() {
                break;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            seen.trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    } else if let Some(length) = seen.field("content-length").and_then(|v| v.parse().ok()) {
        take(wire, length, &mut taken).await?;
    }
    seen.body_bytes = taken.bytes;
    seen.body_sha256 = taken.hash.hex();
    Ok(taken.kept)
}

pub(super) struct Taken {
    pub(super) kept: Vec<u8>,
    pub(super) hash: Sha256,
    pub(super) bytes: u64,
}

impl Taken {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.bytes += data.len() as u64;
        let room = BODY_KEPT_BYTES.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&data[..data.len().min(room)]);
    }
}

async fn take(wire: &mut Wire, mut left: u64, taken: &mut Taken) -> io::Result<()> {
    while left > 0 {
        if wire.buffer.is_empty() {
            wire.more().await?;
        }
        let now = wire.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        taken.push(&wire.buffer.split_to(now));
        left -= now as u64;
    }
    Ok(())
}

async fn send(wire: &mut Wire, answer: &Answer, no_body: bool) -> io::Result<bool> {
    tokio::time::sleep(answer.after).await;
    if let Some(raw) = &answer.raw {
        wire.stream.write_all(raw).await?;
        wire.stream.shutdown().await?;
        return Ok(false);
    }
    for (status, fields) in &answer.early {
        wire.stream.write_all(&head_bytes(*status, fields, "")).await?;
    }
    let length = answer.length();
    let framing = match answer.sized {
        _ if answer.status == 204 || answer.status == 304 => String::new(),
        true => format!("content-length: {length}\r\n"),
        false => "transfer-encoding: chunked\r\n".to_owned(),
    };
    wire.stream.write_all(&head_bytes(answer.status, &answer.fields, &framing)).await?;
    if no_body {
        return Ok(true);
    }
    for piece in &answer.body {
        send_piece(&mut wire.stream, piece, !answer.sized).await?;
    }
    match answer.end {
        End::Stall => std::future::pending::<()>().await,
        End::Reset => return Ok(false),
        End::Proper if answer.sized => {}
        End::Proper => {
            let mut last = b"0\r\n".to_vec();
            for (name, value) in &answer.trailers {
                last.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
            last.extend_from_slice(b"\r\n");
            wire.stream.write_all(&last).await?;
        }
    }
    Ok(true)
}

fn head_bytes(status: u16, fields: &[(String, String)], framing: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(framing);
    head.push_str("\r\n");
    head.into_bytes()
}

async fn send_piece(stream: &mut BoxStream, piece: &Piece, chunked: bool) -> io::Result<()> {
    match piece {
        Piece::Wait(span) => {
            stream.flush().await?;
            tokio::time::sleep(*span).await;
        }
        Piece::Bytes(bytes) if bytes.is_empty() => {}
        Piece::Bytes(bytes) => send_data(stream, bytes, chunked).await?,
        Piece::Fill(count) => {
            let (pattern, mut left) = (fill(), *count);
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(FILL_BYTES).min(FILL_BYTES);
                send_data(stream, &pattern[..now], chunked).await?;
                left -= now as u64;
            }
        }
    }
    Ok(())
}

async fn send_data(stream: &mut BoxStream, data: &[u8], chunked: bool) -> io::Result<()> {
    if chunked {
        stream.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
    }
    stream.write_all(data).await?;
    if chunked {
        stream.write_all(b"\r\n").await?;
    }
    stream.flush().await
}
