//! The client's HTTP/1.1: writes a request, reads the replies, over any stream.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::ClientError;
use super::message::{Body, Reply, Request, field};
use crate::BoxStream;

/// Far above the gateway's own bound, so that the client is never the one to give up.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
const FILL_BYTES: usize = 64 * 1024;

/// The pattern that generated bodies consist of.
pub(crate) fn fill() -> Bytes {
    (0..FILL_BYTES).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into()
}

/// A stream with what was read ahead of it.
pub(crate) struct Wire {
    pub(crate) stream: BoxStream,
    pub(crate) buffer: BytesMut,
}

/// How a reply's body is delimited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    Length(u64),
    Chunked { left: u64 },
    UntilClose,
    Done,
}

impl Wire {
    pub(crate) fn new(stream: BoxStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// False at the end of the stream.
    pub(crate) async fn more(&mut self) -> Result<bool, ClientError> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await? != 0)
    }

    async fn need(&mut self) -> Result<(), ClientError> {
        if self.more().await? { Ok(()) } else { Err(eof()) }
    }

    async fn line(&mut self) -> Result<Bytes, ClientError> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.split_to(at).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            self.need().await?;
        }
    }

    /// Writes the head of `request`, `target` and `host` being the caller's business.
    pub(crate) async fn write_head(
        &mut self,
        request: &Request,
        target: &str,
        host: &str,
    ) -> Result<(), ClientError> {
        let mut head = format!("{} {target} HTTP/1.1\r\n", request.method);
        if field(&request.fields, "host").is_none() {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &request.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &request.body {
            Body::None if request.trailers.is_empty() => {}
            body @ (Body::Bytes(_) | Body::Fill(_)) if request.trailers.is_empty() => {
                head.push_str(&format!("Content-Length: {}\r\n", body.length()));
            }
            _ => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    pub(crate) async fn write_body(&mut self, request: &Request) -> Result<(), ClientError> {
        let unsized_body = matches!(request.body, Body::FillUnsized(_));
        let chunked = unsized_body || !request.trailers.is_empty();
        match &request.body {
            Body::None => {}
            Body::Bytes(bytes) => self.write_data(bytes, chunked).await?,
            Body::Fill(count) | Body::FillUnsized(count) => {
                let (pattern, mut left) = (fill(), *count);
                while left > 0 {
                    let now = usize::try_from(left).unwrap_or(FILL_BYTES).min(FILL_BYTES);
                    self.write_data(&pattern[..now], chunked).await?;
                    left -= now as u64;
                }
            }
        }
        if chunked {
            let mut last = "0\r\n".to_owned();
            for (name, value) in &request.trailers {
                last.push_str(&format!("{name}: {value}\r\n"));
            }
            last.push_str("\r\n");
            self.stream.write_all(last.as_bytes()).await?;
        }
        Ok(self.stream.flush().await?)
    }

    async fn write_data(&mut self, data: &[u8], chunked: bool) -> Result<(), ClientError> {
        if data.is_empty() {
            return Ok(());
        }
        if chunked {
            self.stream.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        self.stream.write_all(data).await?;
        if chunked {
            self.stream.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    /// Reads informational responses and the head of the final one.
    pub(crate) async fn read_head(
        &mut self,
        method: &str,
    ) -> Result<(Reply, Framing), ClientError> {
        let mut early = Vec::new();
        loop {
            let (status, fields) = self.one_head().await?;
            if (100..200).contains(&status) && status != 101 {
                early.push((status, fields));
                continue;
            }
            let framing = framing(method, status, &fields)?;
            return Ok((Reply { status, fields, early, ..Reply::default() }, framing));
        }
    }

    async fn one_head(&mut self) -> Result<(u16, Vec<(String, String)>), ClientError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 512];
            let mut response = httparse::Response::new(&mut fields);
            let parsed = response.parse(&self.buffer);
            let parsed = parsed.map_err(|error| ClientError::Malformed(error.to_string()))?;
            if let httparse::Status::Complete(length) = parsed {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let status = response.code.unwrap_or_default();
                let pair = |f: &httparse::Header<'_>| (f.name.to_owned(), text(f.value));
                let fields = response.headers.iter().map(pair).collect();
                self.buffer.advance(length);
                return Ok((status, fields));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(ClientError::Malformed("a head of more than 1 MiB".to_owned()));
            }
            self.need().await?;
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn data(
        &mut self,
        framing: &mut Framing,
        trailers: &mut Vec<(String, String)>,
    ) -> Result<Option<Bytes>, ClientError> {
        match *framing {
            Framing::Done | Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                let data = self.some(left).await?;
                *framing = Framing::Length(left - data.len() as u64);
                Ok(Some(data))
            }
            Framing::Chunked { left: 0 } => {
                let line = self.line().await?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let size = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| ClientError::Malformed(format!("chunk size `{line}`")))?;
                if size == 0 {
                    self.trailers(trailers).await?;
                    *framing = Framing::Done;
                    return Ok(None);
                }
                let data = self.chunk(size, framing).await?;
                Ok(Some(data))
            }
            Framing::Chunked { left } => Ok(Some(self.chunk(left, framing).await?)),
            Framing::UntilClose => {
                if self.buffer.is_empty() && !self.more().await? {
                    *framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
        }
    }

    async fn chunk(&mut self, left: u64, framing: &mut Framing) -> Result<Bytes, ClientError> {
        let data = self.some(left).await?;
        let left = left - data.len() as u64;
        if left == 0 {
            self.line().await?;
        }
        *framing = Framing::Chunked { left };
        Ok(data)
    }

    async fn some(&mut self, most: u64) -> Result<Bytes, ClientError> {
        if self.buffer.is_empty() {
            self.need().await?;
        }
        let now = self.buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(self.buffer.split_to(now).freeze())
    }

    async fn trailers(&mut self, into: &mut Vec<(String, String)>) -> Result<(), ClientError> {
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            into.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads the rest of a reply.
    pub(crate) async fn finish(
        &mut self,
        mut reply: Reply,
        mut framing: Framing,
    ) -> Result<Reply, ClientError> {
        let mut trailers = Vec::new();
        while let Some(data) = self.data(&mut framing, &mut trailers).await? {
            reply.take(&data);
        }
        reply.trailers = trailers;
        Ok(reply)
    }
}

fn framing(method: &str, status: u16, fields: &[(String, String)]) -> Result<Framing, ClientError> {
    let none = method == "HEAD" || status == 101 || status == 204 || status == 304;
    if none || (method == "CONNECT" && (200..300).contains(&status)) {
        return Ok(Framing::Done);
    }
    if let Some(coding) = field(fields, "transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(ClientError::Malformed(format!("transfer-encoding `{coding}`")));
        }
        return Ok(Framing::Chunked { left: 0 });
    }
    match field(fields, "content-length") {
        None => Ok(Framing::UntilClose),
        Some(length) => {
            let bad = |_| ClientError::Malformed(format!("content-length `{length}`"));
            Ok(Framing::Length(length.parse().map_err(bad)?))
        }
    }
}

fn eof() -> ClientError {
    ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into())
}
