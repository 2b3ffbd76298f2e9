//! HTTP/2 by hand, for both ends: exact fields out in their order, and what came in word for word.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use gateway_proto::h2::hpack::Decoder;
use tests::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use super::shape::Pairs;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const FRAME_BYTES_MAX: usize = 16_384;
const WINDOW_DEFAULT: i64 = 65_535;
/// More than any shape sends.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

pub const CANCEL: u32 = 8;
pub const INTERNAL_ERROR: u32 = 2;
pub const PROTOCOL_ERROR: u32 = 1;

/// What came on one stream.
#[derive(Debug)]
pub enum Event {
    Headers(Pairs, bool),
    Data(Vec<u8>, bool),
    Reset(u32),
}

/// A stream that the peer opened.
pub type Opened = (u32, mpsc::UnboundedReceiver<Event>);

/// One connection; both roles.
pub struct Connection {
    writer: tokio::sync::Mutex<WriteHalf<BoxStream>>,
    shared: Mutex<Shared>,
    /// Changes whenever a window grows or the connection ends.
    windows: watch::Sender<u64>,
}

#[derive(Default)]
struct Shared {
    streams: HashMap<u32, mpsc::UnboundedSender<Event>>,
    /// What may be sent: of the connection, of new streams, of each stream.
    connection: i64,
    initial: i64,
    windows: HashMap<u32, i64>,
    next: u32,
    over: bool,
}

impl Connection {
    /// Says hello; `None` for `opened` is the client's role. Windows stay at their defaults, so that
    /// bodies meet their edges.
    pub async fn start(
        io: BoxStream,
        opened: Option<mpsc::UnboundedSender<Opened>>,
    ) -> io::Result<Arc<Self>> {
        let (mut read, mut write) = tokio::io::split(io);
        if opened.is_some() {
            let mut preface = [0; PREFACE.len()];
            read.read_exact(&mut preface).await?;
        } else {
            write.write_all(PREFACE).await?;
        }
        let shared = Shared {
            connection: WINDOW_DEFAULT,
            initial: WINDOW_DEFAULT,
            next: 1,
            ..Shared::default()
        };
        let connection = Arc::new(Self {
            writer: tokio::sync::Mutex::new(write),
            shared: Mutex::new(shared),
            windows: watch::Sender::new(0),
        });
        connection.frame(SETTINGS, 0, 0, &[]).await?;
        let reading = Arc::clone(&connection);
        tokio::spawn(async move {
            // However it ended, nothing more comes: every stream learns.
            reading.read(read, opened).await.ok();
            let mut shared = reading.shared.lock().expect("the connection");
            shared.over = true;
            shared.streams.clear();
            drop(shared);
            reading.windows.send_modify(|it| *it += 1);
        });
        Ok(connection)
    }

    /// A new stream of the client's.
    pub fn open(&self) -> Opened {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut shared = self.shared.lock().expect("the connection");
        let id = shared.next;
        shared.next += 2;
        shared.streams.insert(id, sender);
        (id, receiver)
    }

    pub fn is_over(&self) -> bool {
        self.shared.lock().expect("the connection").over
    }

    pub async fn frame(&self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(&frame(kind, flags, id, payload)).await?;
        writer.flush().await
    }

    /// HEADERS, with CONTINUATION where one frame is too small.
    pub async fn headers(&self, id: u32, fields: &Pairs, end: bool) -> io::Result<()> {
        let block = encode(fields);
        let mut frames = Vec::new();
        let mut pieces = block.chunks(FRAME_BYTES_MAX).peekable();
        let (mut kind, mut flags) = (HEADERS, if end { END_STREAM } else { 0 });
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            frames.extend_from_slice(&frame(kind, flags, id, piece));
            (kind, flags) = (CONTINUATION, 0);
        }
        let mut writer = self.writer.lock().await;
        writer.write_all(&frames).await?;
        writer.flush().await
    }

    /// DATA as the windows allow.
    pub async fn data(&self, id: u32, mut data: &[u8], end: bool) -> io::Result<()> {
        loop {
            let now = self.room(id, data.len()).await?;
            let (piece, rest) = data.split_at(now);
            data = rest;
            let last = data.is_empty();
            self.frame(DATA, if last && end { END_STREAM } else { 0 }, id, piece).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Takes up to `wanted` bytes of window.
    async fn room(&self, id: u32, wanted: usize) -> io::Result<usize> {
        let mut changes = self.windows.subscribe();
        loop {
            changes.borrow_and_update();
            {
                let mut shared = self.shared.lock().expect("the connection");
                if shared.over || !shared.streams.contains_key(&id) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let initial = shared.initial;
                let stream = *shared.windows.entry(id).or_insert(initial);
                let most = shared.connection.min(stream).max(0);
                let room = usize::try_from(most).unwrap_or(0).min(FRAME_BYTES_MAX).min(wanted);
                if room > 0 || wanted == 0 {
                    shared.connection -= room as i64;
                    *shared.windows.entry(id).or_insert(initial) -= room as i64;
                    return Ok(room);
                }
            }
            changes.changed().await.map_err(io::Error::other)?;
        }
    }

    async fn read(
        &self,
        mut io: ReadHalf<BoxStream>,
        opened: Option<mpsc::UnboundedSender<Opened>>,
    ) -> io::Result<()> {
        let mut decoder = Decoder::new();
        loop {
            let mut incoming = read_frame(&mut io).await?;
            if incoming.kind == HEADERS {
                incoming.unwrap();
                while incoming.flags & END_HEADERS == 0 {
                    let next = read_frame(&mut io).await?;
                    incoming.payload.extend_from_slice(&next.payload);
                    incoming.flags |= next.flags & END_HEADERS;
                }
            }
            self.take(incoming, &mut decoder, opened.as_ref()).await?;
        }
    }

    async fn take(
        &self,
        mut incoming: Frame,
        decoder: &mut Decoder,
        opened: Option<&mpsc::UnboundedSender<Opened>>,
    ) -> io::Result<()> {
        let end = incoming.flags & END_STREAM != 0;
        let id = incoming.id;
        match incoming.kind {
            HEADERS => {
                let mut fields = Vec::new();
                let sink = |name: bytes::Bytes, value: bytes::Bytes| {
                    fields.push((name.to_vec(), value.to_vec()));
                };
                let decoded = decoder.decode(&incoming.payload, LIST_BYTES_MAX, sink);
                decoded.map_err(io::Error::other)?;
                if let Some(opened) = opened
                    && let Some(receiver) = self.opened(id)
                {
                    opened.send((id, receiver)).map_err(io::Error::other)?;
                }
                self.tell(id, Event::Headers(fields, end));
            }
            DATA => {
                let length = incoming.payload.len() as u32;
                incoming.unwrap();
                if length > 0 {
                    self.frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes()).await?;
                }
                if length > 0 && !end {
                    self.frame(WINDOW_UPDATE, 0, id, &length.to_be_bytes()).await?;
                }
                self.tell(id, Event::Data(incoming.payload, end));
            }
            RST_STREAM => {
                self.tell(id, Event::Reset(number(&incoming.payload)));
                self.shared.lock().expect("the connection").streams.remove(&id);
                self.windows.send_modify(|it| *it += 1);
            }
            SETTINGS if incoming.flags & ACK == 0 => {
                self.settings(&incoming.payload);
                self.frame(SETTINGS, ACK, 0, &[]).await?;
            }
            PING if incoming.flags & ACK == 0 => {
                self.frame(PING, ACK, 0, &incoming.payload).await?;
            }
            WINDOW_UPDATE => {
                let mut shared = self.shared.lock().expect("the connection");
                let grown = i64::from(number(&incoming.payload));
                if id == 0 {
                    shared.connection += grown;
                } else {
                    let initial = shared.initial;
                    *shared.windows.entry(id).or_insert(initial) += grown;
                }
                drop(shared);
                self.windows.send_modify(|it| *it += 1);
            }
            GOAWAY => self.shared.lock().expect("the connection").over = true,
            _ => {}
        }
        Ok(())
    }

    /// The events of a stream, where the peer has just opened it.
    fn opened(&self, id: u32) -> Option<mpsc::UnboundedReceiver<Event>> {
        let mut shared = self.shared.lock().expect("the connection");
        if id < shared.next {
            return None;
        }
        shared.next = id + 2;
        let (sender, receiver) = mpsc::unbounded_channel();
        shared.streams.insert(id, sender);
        Some(receiver)
    }

    fn settings(&self, payload: &[u8]) {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let mut shared = self.shared.lock().expect("the connection");
        for one in payload.chunks_exact(6) {
            if u16::from_be_bytes([one[0], one[1]]) == INITIAL_WINDOW_SIZE {
                let initial = i64::from(number(&one[2..]));
                let change = initial - shared.initial;
                shared.initial = initial;
                shared.windows.values_mut().for_each(|window| *window += change);
            }
        }
        drop(shared);
        self.windows.send_modify(|it| *it += 1);
    }

    fn tell(&self, id: u32, event: Event) {
        let shared = self.shared.lock().expect("the connection");
        if let Some(stream) = shared.streams.get(&id) {
            // A reader that has gone wants nothing more.
            stream.send(event).ok();
        }
    }

    /// Nobody reads or writes this stream any more.
    pub fn forget(&self, id: u32) {
        let mut shared = self.shared.lock().expect("the connection");
        shared.streams.remove(&id);
        shared.windows.remove(&id);
    }
}

/// A frame as it came.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes padding and priority off.
    fn unwrap(&mut self) {
        if self.flags & PADDED != 0 {
            let pad = usize::from(self.payload.remove(0));
            self.payload.truncate(self.payload.len().saturating_sub(pad));
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            self.payload.drain(..5);
        }
    }
}

pub async fn read_frame(io: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    let id = number(&head[5..]) & 0x7fff_ffff;
    Ok(Frame { kind: head[3], flags: head[4], id, payload })
}

pub fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Literals without indexing and without Huffman: what is written is what is meant.
pub fn encode(fields: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(text.len(), &mut out);
            out.extend_from_slice(text);
        }
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

fn number(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[..4]);
    u32::from_be_bytes(four)
}
