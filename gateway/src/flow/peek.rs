//! Reads a flow's first bytes: a whole ClientHello however it is split, HTTP, or something else.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::client_hello::{ClientHello, ClientHelloReader, Progress};
use gateway_proto::sniff::{Sniffed, sniff};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

/// A client that speaks first has spoken by then, unless its way is slow. One that waits for its server (SMTP,
/// FTP) must not wait for much longer.
const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(5);
/// A hello that has begun must be whole by then.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// A post-quantum hello is under 2 KiB; 16 KiB lets odd ones be read at once.
const READ_BYTES: usize = 4 * 1024;

/// What a flow begins with. `raw` is everything that was read, to be read again.
pub enum Peeked {
    Tls {
        hello: Box<ClientHello>,
        raw: Bytes,
    },
    Http {
        raw: Bytes,
    },
    /// Neither; `protocol` is a stable label.
    Other {
        raw: Bytes,
        protocol: &'static str,
    },
    /// The client ended, or stopped inside its first message.
    Broken {
        label: &'static str,
    },
}

/// Reads until it is clear what the flow is; `prefix` was read before. `None` where nothing comes at first,
/// which says nothing of what will.
pub async fn peek<Io: AsyncRead + Unpin>(io: &mut Io, prefix: Bytes) -> Option<Peeked> {
    let mut buffer = BytesMut::from(&*prefix);
    if buffer.is_empty() {
        let deadline = Instant::now() + FIRST_BYTE_TIME_MAX;
        match timeout_at(deadline, more(io, &mut buffer)).await {
            Err(_) => return None,
            Ok(Err(broken)) => return Some(broken),
            Ok(Ok(())) => {}
        }
    }
    let deadline = Instant::now() + HELLO_TIME_MAX;
    let peeked = timeout_at(deadline, begun(io, buffer)).await;
    Some(peeked.unwrap_or(Peeked::Broken { label: "slow_first_bytes" }))
}

/// Goes on where the first bytes are there.
async fn begun<Io: AsyncRead + Unpin>(io: &mut Io, mut buffer: BytesMut) -> Peeked {
    let mut reader = ClientHelloReader::new();
    let mut fed = 0;
    loop {
        match sniff(&buffer) {
            Sniffed::Tls => match reader.push(buffer.get(fed..).unwrap_or_default()) {
                Progress::Done(hello) => return Peeked::Tls { hello, raw: buffer.freeze() },
                // It begins as a ClientHello does. A server might make sense of it where we
                // cannot, so it is no protocol to be carried unread.
                Progress::NotTls(problem) => return Peeked::Broken { label: problem.label() },
                Progress::NeedMore => fed = buffer.len(),
            },
            Sniffed::NeedMore => {}
            Sniffed::Http1 | Sniffed::Http2Preface => {
                return Peeked::Http { raw: buffer.freeze() };
            }
            Sniffed::Ssh => return Peeked::Other { raw: buffer.freeze(), protocol: "ssh" },
            Sniffed::Other => {
                return Peeked::Other { raw: buffer.freeze(), protocol: "unknown_protocol" };
            }
        }
        if let Err(broken) = more(io, &mut buffer).await {
            return broken;
        }
    }
}

async fn more<Io: AsyncRead + Unpin>(io: &mut Io, buffer: &mut BytesMut) -> Result<(), Peeked> {
    buffer.reserve(READ_BYTES);
    match io.read_buf(buffer).await {
        Ok(0) => Err(Peeked::Broken { label: "ended_early" }),
        Ok(_) => Ok(()),
        Err(_) => Err(Peeked::Broken { label: "client_reset" }),
    }
}
