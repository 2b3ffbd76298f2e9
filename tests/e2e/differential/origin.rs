//! The scripted origin: answers each request as its shape says and keeps what it saw, word for word.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use tests::{BoxStream, Fault, Pki};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::seen::{End, Seen, Told};
use super::shape::{Ends, Framing, Message, Pairs, Piece, Progress, Shape, V, fill, pair};
use super::wire1::{self, Head, Reader, reach};
use super::wire2::{self, Connection, Event};

/// The field by which an origin knows the shape: its index, a dot, the lane.
pub const MARK: &str = "x-shape";
/// How long an origin reads on behind its answer before it calls the request hung. It reads on too where
/// the answer failed because the client has gone: how the request ended has arrived by then.
const READ_ON: Duration = Duration::from_secs(15);

/// What all origins of a run know and keep.
pub struct Book {
    shapes: Arc<Vec<Shape>>,
    entries: Mutex<HashMap<String, Entry>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Entry {
    began: usize,
    seen: Vec<Seen>,
}

impl Book {
    pub fn new(shapes: Arc<Vec<Shape>>) -> Arc<Self> {
        Arc::new(Self { shapes, entries: Mutex::default(), changed: watch::Sender::new(0) })
    }

    fn began(&self, mark: &str) -> Option<&Shape> {
        self.entries.lock().expect("the book").entry(mark.to_owned()).or_default().began += 1;
        self.shapes.get(mark.split('.').next()?.parse::<usize>().ok()?)
    }

    fn ended(&self, mark: &str, seen: Seen) {
        self.entries.lock().expect("the book").entry(mark.to_owned()).or_default().seen.push(seen);
        self.changed.send_modify(|it| *it += 1);
    }

    /// What arrived under `mark`, once all that began has ended.
    pub async fn seen(&self, mark: &str) -> Vec<Seen> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let entries = self.entries.lock().expect("the book");
                let Some(entry) = entries.get(mark) else { return Vec::new() };
                if entry.seen.len() == entry.began {
                    return entry.seen.clone();
                }
            }
            if tokio::time::timeout(READ_ON * 2, changes.changed()).await.is_err() {
                return vec![Seen::nothing(End::Hung)];
            }
        }
    }
}

/// Listens for one version; gives the port.
pub async fn listen(version: V, name: &str, pki: &Pki, book: Arc<Book>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let chain = pki.chain(name, Fault::None);
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain.certificates, chain.key)
        .expect("a certificate");
    config.alpn_protocols = vec![version.alpn().as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, book) = (acceptor.clone(), Arc::clone(&book));
            tokio::spawn(async move {
                // What breaks is the peer's to see.
                serve(version, tcp, acceptor, book).await.ok();
            });
        }
    });
    port
}

async fn serve(
    version: V,
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    book: Arc<Book>,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let stream: BoxStream = Box::new(acceptor.accept(tcp).await?);
    match version {
        V::One => serve1(stream, &book).await,
        V::Two => serve2(stream, book).await,
    }
}

async fn serve1(stream: BoxStream, book: &Book) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::new(read);
    loop {
        let head = reader.head().await?;
        let mark = head.field(MARK).map(|it| String::from_utf8_lossy(it).into_owned());
        let Some(mark) = mark else { return Err(io::ErrorKind::InvalidData.into()) };
        let Some(shape) = book.began(&mark) else { return Ok(()) };
        let mut seen = request1(&head);
        let progress = watch::Sender::new(Progress::Head);
        let mut watching = progress.subscribe();
        let reads = if shape.status == 101 { Told::Close } else { seen.told };
        let answered = {
            let mut reading = std::pin::pin!(reader.body(reads, &mut seen, &progress));
            let mut writing = std::pin::pin!(answer1(&mut write, shape, &mut watching));
            tokio::select! {
                () = &mut reading => writing.await,
                answered = &mut writing => {
                    if answered.is_ok() || shape.response.ends == Ends::Properly {
                        tokio::time::timeout(READ_ON, reading).await.ok();
                    }
                    answered
                }
            }
        };
        let clean = seen.end == End::Clean;
        book.ended(&mark, seen);
        // A cut is no orderly end of TLS.
        answered?;
        let closes = shape.response.framing == Framing::Close
            || shape.response.http10
            || shape.status == 101
            || shape.response.fields.contains(&pair("Connection", "close"));
        if closes || !clean || !head.persists(&head.start[2]) {
            return write.shutdown().await;
        }
    }
}

fn request1(head: &Head) -> Seen {
    let told = if head.field("transfer-encoding").is_some() {
        Told::Chunked
    } else if head.field("content-length").is_some() {
        Told::Sized
    } else {
        Told::Nothing
    };
    let [method, target, version] = head.start.clone();
    Seen {
        version,
        what: method,
        text: target,
        fields: head.fields.clone(),
        told,
        ..Seen::nothing(End::Hung)
    }
}

async fn answer1(
    write: &mut WriteHalf<BoxStream>,
    shape: &Shape,
    progress: &mut watch::Receiver<Progress>,
) -> io::Result<()> {
    for interim in &shape.interim {
        let start = format!("HTTP/1.1 {} {}\r\n", interim.status, interim.reason);
        let message = bare(&interim.fields);
        wire1::write(write, start.as_bytes(), &Vec::new(), &message, true, progress).await?;
    }
    if shape.waits && shape.answers_at > Progress::Head {
        write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        write.flush().await?;
    }
    reach(progress, shape.answers_at).await;
    let message = &shape.response;
    if let Some(raw) = &message.raw {
        write.write_all(raw).await?;
        write.flush().await?;
        return match message.ends {
            Ends::Properly => Ok(()),
            Ends::Cut => Err(io::ErrorKind::ConnectionAborted.into()),
        };
    }
    let version = if message.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut start = format!("{version} {} ", shape.status).into_bytes();
    start.extend_from_slice(&shape.reason);
    start.extend_from_slice(b"\r\n");
    let bodiless = shape.method == b"HEAD";
    wire1::write(write, &start, &Vec::new(), message, bodiless, progress).await
}

fn bare(fields: &Pairs) -> Message {
    Message { fields: fields.clone(), ..Message::new(Framing::None) }
}

async fn serve2(stream: BoxStream, book: Arc<Book>) -> io::Result<()> {
    let (sender, mut opened) = mpsc::unbounded_channel();
    let connection = Connection::start(stream, Some(sender)).await?;
    while let Some((id, events)) = opened.recv().await {
        let (connection, book) = (Arc::clone(&connection), Arc::clone(&book));
        tokio::spawn(async move {
            exchange2(&connection, id, events, &book).await.ok();
            connection.forget(id);
        });
    }
    Ok(())
}

async fn exchange2(
    connection: &Connection,
    id: u32,
    mut events: mpsc::UnboundedReceiver<Event>,
    book: &Book,
) -> io::Result<()> {
    let Some(Event::Headers(head, end)) = events.recv().await else { return Ok(()) };
    let mut seen = request2(head, end);
    let Some(mark) = seen.field(MARK) else {
        return connection.frame(wire2::RST_STREAM, 0, id, &1_u32.to_be_bytes()).await;
    };
    let Some(shape) = book.began(&mark) else { return Ok(()) };
    let progress = watch::Sender::new(Progress::Head);
    let mut watching = progress.subscribe();
    if end {
        seen.end = End::Clean;
        progress.send_replace(Progress::End);
    }
    let answered = {
        let mut reading = std::pin::pin!(body2(&mut events, &mut seen, &progress));
        let mut writing = std::pin::pin!(answer2(connection, id, shape, &mut watching));
        tokio::select! {
            () = &mut reading => writing.await,
            answered = &mut writing => {
                if answered.is_ok() || shape.response.ends == Ends::Properly {
                    tokio::time::timeout(READ_ON, reading).await.ok();
                }
                answered
            }
        }
    };
    book.ended(&mark, seen);
    answered
}

fn request2(head: Pairs, end: bool) -> Seen {
    let pseudo = |name: &[u8]| {
        let hit = head.iter().find(|(it, _)| it == name);
        hit.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    Seen {
        what: pseudo(b":method").unwrap_or_default(),
        text: pseudo(b":path").unwrap_or_default(),
        authority: pseudo(b":authority"),
        scheme: pseudo(b":scheme"),
        fields: head.iter().filter(|(name, _)| !name.starts_with(b":")).cloned().collect(),
        told: if end { Told::Nothing } else { Told::Open },
        ..Seen::nothing(End::Hung)
    }
}

/// Reads the rest of a message off its stream.
pub async fn body2(
    events: &mut mpsc::UnboundedReceiver<Event>,
    seen: &mut Seen,
    progress: &watch::Sender<Progress>,
) {
    while seen.end == End::Hung {
        let end = match events.recv().await {
            None => {
                seen.end = End::Cut;
                break;
            }
            Some(Event::Reset(code)) => {
                seen.end = End::Reset(code);
                break;
            }
            Some(Event::Data(data, end)) => {
                seen.body.extend_from_slice(&data);
                progress.send_if_modified(|it| {
                    let grows = *it < Progress::Data && !data.is_empty();
                    if grows {
                        *it = Progress::Data;
                    }
                    grows
                });
                end
            }
            Some(Event::Headers(trailers, end)) => {
                seen.trailers = trailers;
                end
            }
        };
        if end {
            seen.end = End::Clean;
        }
    }
    progress.send_replace(Progress::End);
}

async fn answer2(
    connection: &Connection,
    id: u32,
    shape: &Shape,
    progress: &mut watch::Receiver<Progress>,
) -> io::Result<()> {
    for interim in &shape.interim {
        let mut head = vec![pair(":status", interim.status.to_string())];
        head.extend(lowered(&interim.fields));
        connection.headers(id, &head, false).await?;
    }
    if shape.waits && shape.answers_at > Progress::Head {
        connection.headers(id, &vec![pair(":status", "100")], false).await?;
    }
    reach(progress, shape.answers_at).await;
    let head = vec![pair(":status", shape.status.to_string())];
    let bodiless = shape.method == b"HEAD" || shape.response.framing == Framing::None;
    write2(connection, id, head, &shape.response, bodiless, wire2::INTERNAL_ERROR, progress).await
}

/// Writes one message on its stream; `code` is that of a cut.
pub async fn write2(
    connection: &Connection,
    id: u32,
    mut head: Pairs,
    message: &Message,
    bodiless: bool,
    code: u32,
    progress: &mut watch::Receiver<Progress>,
) -> io::Result<()> {
    head.extend(lowered(&message.fields));
    if message.framing == Framing::Sized {
        head.push(pair("content-length", message.length().to_string()));
    }
    let cuts = message.ends == Ends::Cut;
    let empty = message.body.is_empty() && message.trailers.is_empty();
    let sized = message.framing == Framing::Sized && message.length() == 0;
    // What HTTP/1.1 ends with its connection, HTTP/2 may end with its head.
    let closes = message.framing == Framing::Close;
    if bodiless || (empty && (sized || closes) && !cuts) {
        return connection.headers(id, &head, true).await;
    }
    connection.headers(id, &head, false).await?;
    for piece in &message.body {
        let data = match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Fill(count) => fill(*count),
            Piece::Await(wanted) => {
                let reached = reach(progress, *wanted).await;
                if *wanted == Progress::Continue && reached > Progress::Continue {
                    // Whoever resets a stream gives up what is still to come on it.
                    reach(progress, Progress::End).await;
                    connection.frame(wire2::RST_STREAM, 0, id, &code.to_be_bytes()).await?;
                    return Err(wire1::refused());
                }
                continue;
            }
        };
        connection.data(id, &data, false).await?;
    }
    if cuts {
        connection.frame(wire2::RST_STREAM, 0, id, &code.to_be_bytes()).await?;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if message.trailers.is_empty() {
        connection.data(id, b"", true).await
    } else {
        connection.headers(id, &lowered(&message.trailers), true).await
    }
}

/// Fields as HTTP/2 has them: lower case, nothing of the connection's (RFC 9113 section 8.2.2).
fn lowered(fields: &Pairs) -> Pairs {
    super::hop::end_to_end(fields)
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| name != b"host")
        .collect()
}
