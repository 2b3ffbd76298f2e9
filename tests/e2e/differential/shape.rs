//! A shape: one request, the answer its origin gives to it, and where it is sent. All of it is data.

/// Fields in their order, as bytes.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The HTTP version of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum V {
    One,
    Two,
}

impl V {
    pub fn alpn(self) -> &'static str {
        match self {
            Self::One => "http/1.1",
            Self::Two => "h2",
        }
    }
}

/// What a side has had of the other's message. A script may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    Nothing,
    /// `100 Continue`.
    Continue,
    Head,
    Data,
    End,
}

/// A piece of a body as it is written.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// That many bytes of a pattern.
    Fill(usize),
    /// Goes on only when that much of the other side's message has come.
    Await(Progress),
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It says nothing: there is no body.
    None,
    /// By its length.
    Sized,
    /// By chunks, or in HTTP/2 by the stream's end alone.
    Chunked,
    /// By the connection's end (responses only).
    Close,
}

/// How the sender ends its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Properly,
    /// After its pieces the connection or stream is cut.
    Cut,
}

/// One side's message.
#[derive(Clone, Debug)]
pub struct Message {
    pub fields: Pairs,
    pub framing: Framing,
    pub body: Vec<Piece>,
    pub trailers: Pairs,
    pub ends: Ends,
    /// The length that is announced where it is more than what comes; else 0.
    pub short: usize,
    /// HTTP/1: this version instead of `HTTP/1.1`.
    pub http10: bool,
    /// HTTP/1: these very bytes instead of what the rest would make. `{authority}` and `{mark}`
    /// stand for the origin's authority and the field by which it knows the shape.
    pub raw: Option<Vec<u8>>,
}

impl Message {
    pub fn new(framing: Framing) -> Self {
        Self {
            fields: Vec::new(),
            framing,
            body: Vec::new(),
            trailers: Vec::new(),
            ends: Ends::Properly,
            short: 0,
            http10: false,
            raw: None,
        }
    }

    /// The length that the head announces.
    pub fn length(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Fill(count) => *count,
            Piece::Await(_) => 0,
        };
        self.body.iter().map(of).sum::<usize>().max(self.short)
    }
}

/// An interim response.
#[derive(Clone, Debug)]
pub struct Interim {
    pub status: u16,
    pub reason: &'static str,
    pub fields: Pairs,
}

/// A request shape with its answer.
#[derive(Clone, Debug)]
pub struct Shape {
    pub name: String,
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub request: Message,
    /// The request's body waits for `100 Continue`, and is not sent where a final answer comes.
    pub waits: bool,
    pub interim: Vec<Interim>,
    /// When the origin begins its final answer.
    pub answers_at: Progress,
    pub status: u16,
    pub reason: Vec<u8>,
    pub response: Message,
    /// The versions of the client, and of the origin, that it runs on.
    pub clients: Vec<V>,
    pub origins: Vec<V>,
    /// The gateway answers this itself with that status, by the accepted difference of that name.
    pub refused: Option<(&'static str, u16)>,
}

/// A request of `method` that is answered with `200 OK` and two bytes.
pub fn ask(name: impl Into<String>, method: &str, target: impl AsRef<[u8]>) -> Shape {
    Shape {
        name: name.into(),
        method: method.as_bytes().to_vec(),
        target: target.as_ref().to_vec(),
        request: Message::new(Framing::None),
        waits: false,
        interim: Vec::new(),
        answers_at: Progress::End,
        status: 200,
        reason: b"OK".to_vec(),
        response: Message {
            body: vec![Piece::Bytes(b"ok".to_vec())],
            ..Message::new(Framing::Sized)
        },
        clients: vec![V::One, V::Two],
        origins: vec![V::One, V::Two],
        refused: None,
    }
}

pub fn get(name: impl Into<String>) -> Shape {
    ask(name, "GET", "/")
}

pub fn post(name: impl Into<String>, framing: Framing, body: &str) -> Shape {
    ask(name, "POST", "/").sends(framing, vec![bytes(body)])
}

pub fn bytes(text: impl AsRef<[u8]>) -> Piece {
    Piece::Bytes(text.as_ref().to_vec())
}

pub fn pair(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.as_ref().to_vec(), value.as_ref().to_vec())
}

/// The request's side.
impl Shape {
    pub fn field(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.request.fields.push(pair(name, value));
        self
    }

    pub fn sends(mut self, framing: Framing, body: Vec<Piece>) -> Self {
        (self.request.framing, self.request.body) = (framing, body);
        self
    }

    pub fn sends_trailer(mut self, name: &str, value: &str) -> Self {
        self.request.trailers.push(pair(name, value));
        self
    }

    /// Asks before it sends its body.
    pub fn waits(mut self) -> Self {
        self.waits = true;
        self.field("Expect", "100-continue")
    }

    /// Cuts the request off behind its pieces.
    pub fn gives_up(mut self) -> Self {
        self.request.ends = Ends::Cut;
        self
    }

    pub fn raw_request(mut self, raw: impl AsRef<[u8]>) -> Self {
        self.request.raw = Some(raw.as_ref().to_vec());
        self.from(V::One)
    }

    pub fn http10(mut self) -> Self {
        self.request.http10 = true;
        self.from(V::One)
    }
}

/// The response's side.
impl Shape {
    pub fn status(mut self, status: u16, reason: impl AsRef<[u8]>) -> Self {
        (self.status, self.reason) = (status, reason.as_ref().to_vec());
        self
    }

    /// An answer without a body, and without a word about one.
    pub fn bare(self, status: u16, reason: &str) -> Self {
        self.status(status, reason).gives(Framing::None, vec![])
    }

    pub fn replies(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.response.fields.push(pair(name, value));
        self
    }

    pub fn gives(mut self, framing: Framing, body: Vec<Piece>) -> Self {
        (self.response.framing, self.response.body) = (framing, body);
        self
    }

    pub fn gives_trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.response.trailers.push(pair(name, value));
        self
    }

    pub fn interim(mut self, status: u16, reason: &'static str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| pair(name, value)).collect();
        self.interim.push(Interim { status, reason, fields });
        self
    }

    pub fn answers_at(mut self, progress: Progress) -> Self {
        self.answers_at = progress;
        self
    }

    /// The response is cut off behind its pieces.
    pub fn breaks(mut self) -> Self {
        self.response.ends = Ends::Cut;
        self
    }

    pub fn raw_response(mut self, raw: impl AsRef<[u8]>) -> Self {
        self.response.raw = Some(raw.as_ref().to_vec());
        self
    }

    pub fn answers_http10(mut self) -> Self {
        self.response.http10 = true;
        self.to(V::One)
    }
}

impl Shape {
    /// Whether the request asks before it sends.
    pub fn expects(&self) -> bool {
        self.request.fields.iter().any(|(name, _)| name == b"Expect")
    }
}

/// Where it runs, and what comes of it.
impl Shape {
    pub fn from(mut self, version: V) -> Self {
        self.clients = vec![version];
        self
    }

    pub fn to(mut self, version: V) -> Self {
        self.origins = vec![version];
        self
    }

    pub fn refused(mut self, accepted: &'static str, status: u16) -> Self {
        self.refused = Some((accepted, status));
        self
    }
}

/// The pattern of [`Piece::Fill`]: its period is prime, so that a shifted body is seen.
pub fn fill(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}
