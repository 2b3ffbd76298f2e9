//! The scripted client: sends a shape's request over one connection after another and keeps the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tests::BoxStream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::watch;

use super::origin::{MARK, body2, write2};
use super::seen::{End, Seen, Told};
use super::shape::{Ends, Framing, Message, Piece, Progress, Shape, pair};
use super::wire1::{self, Head, Reader};
use super::wire2::{self, Connection, Event};

/// No shape takes longer; what does has hung.
const EXCHANGE_MAX: Duration = Duration::from_secs(20);

/// A connection on which requests follow each other.
pub enum Line {
    One(Reader, WriteHalf<BoxStream>),
    Two(Arc<Connection>),
}

/// What came of one exchange.
pub struct Outcome {
    pub seen: Seen,
    /// The connection takes another request.
    pub goes_on: bool,
}

impl Line {
    pub async fn new(stream: BoxStream, http2: bool) -> io::Result<Self> {
        if http2 {
            return Ok(Self::Two(Connection::start(stream, None).await?));
        }
        let (read, write) = tokio::io::split(stream);
        Ok(Self::One(Reader::new(read), write))
    }

    pub async fn exchange(&mut self, shape: &Shape, authority: &str, mark: &str) -> Outcome {
        let mut seen = Seen::nothing(End::Hung);
        let message = message(shape, mark);
        let whole = async {
            match self {
                Self::One(reader, write) => {
                    one(reader, write, shape, &message, authority, mark, &mut seen).await
                }
                Self::Two(connection) => {
                    two(connection, shape, &message, authority, &mut seen).await
                }
            }
        };
        let goes_on = tokio::time::timeout(EXCHANGE_MAX, whole).await.unwrap_or(false);
        Outcome { seen, goes_on }
    }
}

/// The request as it is written: marked, and waiting where it has to ask first.
fn message(shape: &Shape, mark: &str) -> Message {
    let mut message = shape.request.clone();
    message.fields.push(pair("X-Shape", mark));
    if shape.waits {
        message.body.insert(0, Piece::Await(Progress::Continue));
    }
    message
}

async fn one(
    reader: &mut Reader,
    write: &mut WriteHalf<BoxStream>,
    shape: &Shape,
    message: &Message,
    authority: &str,
    mark: &str,
    seen: &mut Seen,
) -> bool {
    let progress = watch::Sender::new(Progress::Nothing);
    let mut watching = progress.subscribe();
    let version = if message.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut start = [&shape.method[..], b" ", &shape.target].concat();
    start.extend_from_slice(format!(" {version}\r\n").as_bytes());
    let host = vec![pair("Host", authority)];
    let writing = async {
        let written = match &message.raw {
            Some(raw) => write.write_all(&filled(raw, authority, mark)).await,
            None => wire1::write(write, &start, &host, message, false, &mut watching).await,
        };
        write.flush().await?;
        if shape.status == 101 || (written.is_err() && message.ends == Ends::Cut) {
            write.shutdown().await?;
        }
        written
    };
    let reading = response1(reader, shape, &progress, seen);
    let (written, persists) = tokio::join!(writing, reading);
    let closes = message.fields.contains(&pair("Connection", "close"));
    persists && written.is_ok() && !message.http10 && !closes
}

fn filled(raw: &[u8], authority: &str, mark: &str) -> Vec<u8> {
    // Latin-1 keeps every byte.
    let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("{authority}", authority);
    let text = text.replace("{mark}", &format!("{MARK}: {mark}"));
    text.chars().map(|it| it as u8).collect()
}

async fn response1(
    reader: &mut Reader,
    shape: &Shape,
    progress: &watch::Sender<Progress>,
    seen: &mut Seen,
) -> bool {
    let head = loop {
        let Ok(head) = reader.head().await else {
            seen.end = End::Cut;
            progress.send_replace(Progress::End);
            return false;
        };
        let status = head.start[1].as_str();
        if !status.starts_with('1') || status == "101" {
            break head;
        }
        if status == "100" {
            progress.send_replace(Progress::Continue);
        }
        let status = status.parse().unwrap_or(0);
        seen.interim.push((status, head.start[2].clone(), head.fields.clone()));
    };
    let (told, reads) = framing(&head, shape);
    let [version, status, reason] = head.start.clone();
    (seen.version, seen.what, seen.text, seen.told) = (version, status, reason, told);
    seen.fields.clone_from(&head.fields);
    progress.send_replace(Progress::Head);
    reader.body(reads, seen, progress).await;
    seen.end == End::Clean && reads != Told::Close && head.persists(&seen.version)
}

/// What a response's head says of its body, and how the body is to be read.
fn framing(head: &Head, shape: &Shape) -> (Told, Told) {
    let bodiless = shape.method == b"HEAD" || matches!(head.start[1].as_str(), "204" | "304");
    let told = if head.field("transfer-encoding").is_some() {
        Told::Chunked
    } else if head.field("content-length").is_some() {
        Told::Sized
    } else if bodiless {
        Told::Nothing
    } else {
        Told::Close
    };
    (told, if bodiless { Told::Nothing } else { told })
}

async fn two(
    connection: &Arc<Connection>,
    shape: &Shape,
    message: &Message,
    authority: &str,
    seen: &mut Seen,
) -> bool {
    let (id, mut events) = connection.open();
    let progress = watch::Sender::new(Progress::Nothing);
    let mut watching = progress.subscribe();
    let head = vec![
        pair(":method", &shape.method),
        pair(":scheme", "https"),
        pair(":authority", authority),
        pair(":path", &shape.target),
    ];
    let bodiless = message.framing == Framing::None;
    let writing = write2(connection, id, head, message, bodiless, wire2::CANCEL, &mut watching);
    let reading = async {
        loop {
            match events.recv().await {
                Some(Event::Headers(head, end)) => {
                    if begin(head, end, &progress, seen) {
                        break;
                    }
                }
                Some(Event::Data(..)) => {}
                Some(Event::Reset(code)) => {
                    seen.end = End::Reset(code);
                    break;
                }
                None => {
                    seen.end = End::Cut;
                    break;
                }
            }
        }
        body2(&mut events, seen, &progress).await;
    };
    // A client that resets its stream hears no more of it.
    let both = async {
        tokio::pin!(writing, reading);
        tokio::select! {
            written = &mut writing => match written {
                Err(_) if message.ends == Ends::Cut => {}
                _ => reading.await,
            },
            () = &mut reading => { writing.await.ok(); }
        }
    };
    both.await;
    connection.forget(id);
    !connection.is_over()
}

/// Takes one response head; whether it was the final one.
fn begin(
    head: super::shape::Pairs,
    end: bool,
    progress: &watch::Sender<Progress>,
    seen: &mut Seen,
) -> bool {
    let status = head.iter().find(|(name, _)| name == b":status");
    let status = status.map(|(_, it)| String::from_utf8_lossy(it).into_owned()).unwrap_or_default();
    let fields = head.into_iter().filter(|(name, _)| !name.starts_with(b":")).collect();
    if status.starts_with('1') {
        if status == "100" {
            progress.send_replace(Progress::Continue);
        }
        seen.interim.push((status.parse().unwrap_or(0), String::new(), fields));
        return false;
    }
    seen.what = status;
    seen.fields = fields;
    seen.told = if end { Told::Nothing } else { Told::Open };
    if end {
        seen.end = End::Clean;
    }
    progress.send_replace(Progress::Head);
    true
}
