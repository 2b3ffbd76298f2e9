//! HTTP/1 by hand, for both ends: exact bytes out, and what came in word for word.

use std::io;

use bytes::{Buf, BytesMut};
use tests::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::seen::{End, Seen, Told};
use super::shape::{Ends, Framing, Message, Pairs, Piece, Progress, fill};

/// More than any shape sends.
const HEAD_BYTES_MAX: usize = 2 * 1024 * 1024;

pub struct Reader {
    io: ReadHalf<BoxStream>,
    buffer: BytesMut,
}

/// A head as it came.
pub struct Head {
    /// The first line's three parts.
    pub start: [String; 3],
    pub fields: Pairs,
}

impl Head {
    pub fn has(&self, name: &str, value: &str) -> bool {
        let listed = |it: &Vec<u8>| {
            it.split(|byte| *byte == b',')
                .any(|one| String::from_utf8_lossy(one).trim().eq_ignore_ascii_case(value))
        };
        self.fields.iter().any(|(it, v)| it.eq_ignore_ascii_case(name.as_bytes()) && listed(v))
    }

    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let hit = self.fields.iter().find(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes()));
        hit.map(|(_, value)| value.as_slice())
    }

    /// Whether another message may follow.
    pub fn persists(&self, version: &str) -> bool {
        !self.has("connection", "close")
            && (version == "HTTP/1.1" || self.has("connection", "keep-alive"))
    }
}

impl Reader {
    pub fn new(io: ReadHalf<BoxStream>) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(64 * 1024);
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(from + at).to_vec();
                self.buffer.advance(2);
                return Ok(line);
            }
            from = self.buffer.len().saturating_sub(1);
            if from > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.more().await?;
        }
    }

    pub async fn head(&mut self) -> io::Result<Head> {
        let mut line = self.line().await?;
        if line.is_empty() {
            // One may stand before a request (RFC 9112 section 2.2).
            line = self.line().await?;
        }
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        let mut parts = text.splitn(3, ' ').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let start = [part(), part(), part()];
        Ok(Head { start, fields: self.section().await? })
    }

    async fn section(&mut self) -> io::Result<Pairs> {
        let mut fields: Pairs = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            fields.push((name.to_vec(), value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
        }
    }

    /// Reads a body that is framed as `reads` says into `seen`, which has the head already.
    pub async fn body(&mut self, reads: Told, seen: &mut Seen, progress: &watch::Sender<Progress>) {
        let read = match reads {
            Told::Sized => {
                let length = seen.field("content-length").unwrap_or_default();
                let first = length.split(',').next().unwrap_or_default();
                self.sized(first.parse().unwrap_or(0), seen, progress).await
            }
            Told::Chunked => self.chunked(seen, progress).await,
            Told::Close => self.until_close(seen, progress).await,
            Told::Nothing | Told::Open => Ok(()),
        };
        seen.end = if read.is_ok() { End::Clean } else { End::Cut };
        progress.send_replace(Progress::End);
    }

    async fn sized(
        &mut self,
        mut left: usize,
        seen: &mut Seen,
        progress: &watch::Sender<Progress>,
    ) -> io::Result<()> {
        while left > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let now = self.buffer.len().min(left);
            seen.body.extend_from_slice(&self.buffer.split_to(now));
            progress.send_replace(Progress::Data);
            left -= now;
        }
        Ok(())
    }

    async fn chunked(
        &mut self,
        seen: &mut Seen,
        progress: &watch::Sender<Progress>,
    ) -> io::Result<()> {
        loop {
            let line = String::from_utf8_lossy(&self.line().await?).into_owned();
            let (size, extension) = line.split_at(line.find(';').unwrap_or(line.len()));
            seen.extensions.push_str(extension);
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                seen.trailers = self.section().await?;
                return Ok(());
            }
            self.sized(size, seen, progress).await?;
            self.line().await?;
        }
    }

    async fn until_close(
        &mut self,
        seen: &mut Seen,
        progress: &watch::Sender<Progress>,
    ) -> io::Result<()> {
        loop {
            seen.body.extend_from_slice(&self.buffer.split());
            if !seen.body.is_empty() {
                progress.send_replace(Progress::Data);
            }
            self.buffer.reserve(64 * 1024);
            // A TLS stream that ends without its close_notify is an error here.
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// Writes one message behind its first line, as its script says. `Err` where the peer is gone or the
/// script cuts.
pub async fn write(
    io: &mut WriteHalf<BoxStream>,
    start: &[u8],
    first: &Pairs,
    message: &Message,
    bodiless: bool,
    progress: &mut watch::Receiver<Progress>,
) -> io::Result<()> {
    let mut head = start.to_vec();
    for (name, value) in first.iter().chain(&message.fields) {
        line(&mut head, name, value);
    }
    match message.framing {
        Framing::None | Framing::Close => {}
        Framing::Sized => {
            line(&mut head, b"Content-Length", message.length().to_string().as_bytes());
        }
        Framing::Chunked => line(&mut head, b"Transfer-Encoding", b"chunked"),
    }
    head.extend_from_slice(b"\r\n");
    io.write_all(&head).await?;
    io.flush().await?;
    if bodiless { Ok(()) } else { body(io, message, progress).await }
}

async fn body(
    io: &mut WriteHalf<BoxStream>,
    message: &Message,
    progress: &mut watch::Receiver<Progress>,
) -> io::Result<()> {
    let chunked = message.framing == Framing::Chunked;
    for piece in &message.body {
        let data = match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Fill(count) => fill(*count),
            Piece::Await(wanted) => {
                let reached = reach(progress, *wanted).await;
                if *wanted == Progress::Continue && reached > Progress::Continue {
                    return Err(refused());
                }
                continue;
            }
        };
        if chunked && !data.is_empty() {
            io.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        io.write_all(&data).await?;
        if chunked && !data.is_empty() {
            io.write_all(b"\r\n").await?;
        }
        io.flush().await?;
    }
    if message.ends == Ends::Cut {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if chunked {
        let mut last = b"0\r\n".to_vec();
        for (name, value) in &message.trailers {
            line(&mut last, name, value);
        }
        last.extend_from_slice(b"\r\n");
        io.write_all(&last).await?;
        io.flush().await?;
    }
    Ok(())
}

/// The final answer came where `100 Continue` was waited for: the body is not sent.
pub fn refused() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

fn line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Waits until the other side's message is that far; at once where nothing more can come.
pub async fn reach(progress: &mut watch::Receiver<Progress>, wanted: Progress) -> Progress {
    match progress.wait_for(|now| *now >= wanted).await {
        Ok(now) => *now,
        Err(_) => Progress::End,
    }
}
