//! What a client does first on its decrypted connection: speak HTTP, speak something else, wait
//! for the server, or leave because it does not accept our certificate after all.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::sniff::{SNIFF_BYTES_MAX, Sniffed, sniff};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::accept::refused_certificate;

/// A client that checks a pin only after the handshake closes within a round trip. A browser
/// gives up a spare connection after some seconds at the earliest.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A client that agreed on no protocol has spoken by then, or it waits for its server, as mail
/// does. Common servers give a first request no more than 20 s.
const SPEECH_TIME_MAX: Duration = Duration::from_secs(10);

/// How a connection opens.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// HTTP, or what its parser is to judge. `raw` was read and is to be read again.
    Http { raw: Bytes },
    /// Something else; `protocol` is a stable label.
    Other { protocol: &'static str },
    /// It refused our certificate after the handshake was done on our side.
    Refused { alert: &'static str },
    /// It ended without a byte.
    Closed { at_once: bool },
    /// It agreed on HTTP and asked for nothing in time.
    Idle,
}

/// Reads the first bytes of a connection whose handshake is just done. Where HTTP was agreed on
/// by ALPN the client has `idle` to ask for something; else it is asked what it speaks.
pub async fn opening<Io>(io: &mut Io, http_agreed: bool, idle: Duration) -> Opening
where
    Io: AsyncRead + Unpin,
{
    let began = Instant::now();
    let deadline = began + if http_agreed { idle } else { SPEECH_TIME_MAX };
    let mut bytes = [0; SNIFF_BYTES_MAX];
    let mut filled = 0;
    loop {
        let free = bytes.get_mut(filled..).unwrap_or_default();
        let read = match timeout_at(deadline, io.read(free)).await {
            Ok(read) => read,
            Err(_) if filled > 0 => Ok(0),
            Err(_) if http_agreed => return Opening::Idle,
            Err(_) => return Opening::Other { protocol: "server_first" },
        };
        match read {
            // What a line that breaks off is, the HTTP parser says.
            Ok(0) if filled > 0 => break,
            Ok(0) => return Opening::Closed { at_once: began.elapsed() < AT_ONCE },
            Err(error) => return failed(&error, began),
            Ok(count) => filled += count,
        }
        if http_agreed {
            break;
        }
        match sniff(bytes.get(..filled).unwrap_or_default()) {
            Sniffed::NeedMore if filled < SNIFF_BYTES_MAX => {}
            Sniffed::Http1 | Sniffed::Http2Preface | Sniffed::NeedMore => break,
            Sniffed::Ssh => return Opening::Other { protocol: "ssh" },
            Sniffed::Tls => return Opening::Other { protocol: "tls_in_tls" },
            Sniffed::Other => return Opening::Other { protocol: "unknown_protocol" },
        }
    }
    Opening::Http { raw: Bytes::copy_from_slice(bytes.get(..filled).unwrap_or_default()) }
}

fn failed(error: &io::Error, began: Instant) -> Opening {
    match refused_certificate(error) {
        Some(alert) => Opening::Refused { alert },
        None => Opening::Closed { at_once: began.elapsed() < AT_ONCE },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn first(bytes: &'static [u8], http_agreed: bool) -> Opening {
        let (mut near, mut far) = duplex(64 * 1024);
        let writing = tokio::spawn(async move {
            for byte in bytes {
                near.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_millis(10)).await;
            }
            sleep(10 * MINUTE).await;
        });
        let opening = opening(&mut far, http_agreed, MINUTE).await;
        writing.abort();
        opening
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_speaks_is_told_from_its_first_bytes() {
        let http = |raw: &'static [u8]| Opening::Http { raw: Bytes::from_static(raw) };
        let other = |protocol| Opening::Other { protocol };
        for (bytes, agreed, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], false, http(b"GET /")),
            (b"GET / HTTP/1.1\r\n\r\n", true, http(b"G")),
            (b"\x00", true, http(b"\x00")),
            (b"GE", false, http(b"GE")),
            (b"a1 LOGIN alice\r\n", false, other("unknown_protocol")),
            (b"EHLO mail.example.test\r\n", false, other("unknown_protocol")),
            (b"SSH-2.0-x\r\n", false, other("ssh")),
            (b"\x16\x03\x01\x02\x00\x01", false, other("tls_in_tls")),
            (b"", false, other("server_first")),
            (b"", true, Opening::Idle),
        ] {
            assert_eq!(first(bytes, agreed).await, expected, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_at_once_is_told_from_closing_an_idle_connection() {
        for (after, at_once) in [(Duration::ZERO, true), (3 * AT_ONCE, false)] {
            let (near, mut far) = duplex(1024);
            let closing = tokio::spawn(async move {
                sleep(after).await;
                drop(near);
            });
            assert_eq!(opening(&mut far, true, MINUTE).await, Opening::Closed { at_once });
            closing.await.unwrap();
        }
    }
}
