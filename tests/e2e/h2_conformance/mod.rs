//! HTTP/2 rule by rule (RFC 9113, RFC 7541), in the manner of h2spec: against intercepted connections
//! and against the tunnel itself.

mod rules;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use gateway_proto::h2::hpack::Decoder;
use tests::client::tls;
use tests::{BoxStream, Gateway, Origin};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::differential::shape::{Pairs, pair};
use crate::differential::wire2::{self, END_HEADERS, END_STREAM, HEADERS, PREFACE, frame};
use rules::{Expect, Rule};

/// What the promise names: at least that many rules.
const RULES_MIN: usize = 90;
/// A gateway that has not reacted by then does not.
const REACTION_MAX: Duration = Duration::from_secs(5);
/// Behind what must be passed over goes a ping with these bytes; its answer shows that it was.
const PROBE: [u8; 8] = *b"survived";

/// Which HTTP/2 is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Inside an intercepted connection.
    Inner,
    /// The tunnel's own.
    Tunnel,
}

/// What a rule needs to speak of: where requests go.
struct Kit {
    scheme: &'static str,
    authority: String,
}

impl Kit {
    /// The fields of a request that is answered.
    fn request(&self, method: &str) -> Pairs {
        vec![
            pair(":method", method),
            pair(":scheme", self.scheme),
            pair(":authority", &self.authority),
            pair(":path", "/hello"),
        ]
    }

    fn block(&self, method: &str) -> Vec<u8> {
        wire2::encode(&self.request(method))
    }

    /// A whole GET on stream `id`.
    fn get(&self, id: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, id, &self.block("GET"))
    }

    /// A POST on stream `id` whose body is to come.
    fn post(&self, id: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, id, &self.block("POST"))
    }

    /// A GET with these fields behind its own.
    fn with(&self, id: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut all = self.request("GET");
        all.extend(fields.iter().map(|(name, value)| pair(name, value)));
        head(id, &all)
    }

    /// A GET without the field `name`, or with another value for it.
    fn but(&self, id: u32, name: &str, value: Option<&str>) -> Vec<u8> {
        let mut all = self.request("GET");
        match value {
            None => all.retain(|(it, _)| it != name.as_bytes()),
            Some(value) => {
                for (it, old) in &mut all {
                    if it == name.as_bytes() {
                        *old = value.as_bytes().to_vec();
                    }
                }
            }
        }
        head(id, &all)
    }
}

/// HEADERS with END_STREAM.
fn head(id: u32, fields: &Pairs) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, id, &wire2::encode(fields))
}

/// What the gateway did.
#[derive(Debug, Default)]
struct Reaction {
    first_frame: Option<u8>,
    goaway: Option<u32>,
    resets: Vec<(u32, u32)>,
    closed: bool,
    statuses: HashMap<u32, u16>,
    ended: Vec<u32>,
    data: HashMap<u32, usize>,
    pongs: Vec<Vec<u8>>,
    settings_acks: usize,
}

impl Reaction {
    fn take(&mut self, incoming: &wire2::Frame, decoder: &mut Decoder) {
        self.first_frame.get_or_insert(incoming.kind);
        let number = |at: usize| {
            let four = incoming.payload.get(at..at + 4).map(|it| it.try_into().expect("four"));
            four.map_or(u32::MAX, u32::from_be_bytes)
        };
        match incoming.kind {
            wire2::GOAWAY => self.goaway = Some(number(4)),
            wire2::RST_STREAM => self.resets.push((incoming.id, number(0))),
            wire2::HEADERS => {
                let sink = |name: bytes::Bytes, value: bytes::Bytes| {
                    if name == ":status" {
                        let status = String::from_utf8_lossy(&value).parse().unwrap_or(0);
                        self.statuses.insert(incoming.id, status);
                    }
                };
                decoder.decode(&incoming.payload, 1 << 20, sink).expect("a header block");
            }
            wire2::DATA => *self.data.entry(incoming.id).or_default() += incoming.payload.len(),
            wire2::PING if incoming.flags & 1 != 0 => self.pongs.push(incoming.payload.clone()),
            wire2::SETTINGS if incoming.flags & 1 != 0 => self.settings_acks += 1,
            _ => {}
        }
        if matches!(incoming.kind, wire2::HEADERS | wire2::DATA) && incoming.flags & END_STREAM != 0
        {
            self.ended.push(incoming.id);
        }
    }

    /// `Some` once the outcome is certain.
    fn verdict(&self, expect: &Expect) -> Option<bool> {
        let over = self.closed || self.goaway.is_some();
        let connection = |codes: &[u32]| match self.goaway {
            Some(code) => Some(codes.contains(&code)),
            None => self.closed.then_some(true),
        };
        match expect {
            Expect::Connection(codes) => match connection(codes) {
                None if !self.resets.is_empty() => Some(false),
                told => told,
            },
            Expect::Stream(codes) => match self.resets.first() {
                Some((_, code)) => Some(codes.contains(code)),
                None => connection(codes),
            },
            Expect::Malformed => match (self.resets.first(), self.statuses.values().next()) {
                (Some((_, code)), _) => Some(*code == wire2::PROTOCOL_ERROR),
                (None, Some(status)) => Some((400..500).contains(status)),
                (None, None) => connection(&[wire2::PROTOCOL_ERROR]),
            },
            Expect::Ignored | Expect::Pong if self.pongs.iter().any(|it| it == &PROBE) => {
                Some(!over && self.resets.is_empty())
            }
            Expect::Answered(id) if self.ended.contains(id) => {
                Some(!over && self.resets.is_empty())
            }
            Expect::SettingsAcked(count) if self.settings_acks >= *count => Some(!over),
            Expect::Bytes(id, count) if self.data.get(id) == Some(count) => Some(!over),
            Expect::SettingsFirst => self.first_frame.map(|kind| kind == wire2::SETTINGS),
            Expect::Refused(codes) => match self.resets.first() {
                Some((_, code)) => Some(codes.contains(code)),
                None => connection(codes),
            },
            _ if over => Some(false),
            _ => None,
        }
    }
}

/// Opens connections to one target.
struct Opener<'a> {
    gateway: &'a Gateway,
    target: Target,
    authority: String,
}

impl Opener<'_> {
    async fn open(&self) -> BoxStream {
        let browser = self.gateway.browser();
        let to = browser.tunnel_to().expect("a tunnel");
        if self.target == Target::Tunnel {
            let tcp = TcpStream::connect(to.address).await.expect("the gateway");
            tcp.set_nodelay(true).expect("a socket");
            let stream = tls::connect(Box::new(tcp), &to.name, Arc::clone(&to.config)).await;
            return Box::new(stream.expect("a handshake"));
        }
        let stream = browser.open(&self.authority).await.expect("a stream");
        let trusted = self.gateway.alice().intercept_ca_pem;
        let config = tls::config(&trusted, None, &["h2"]).expect("TLS");
        let stream = tls::connect(stream, "site.test", Arc::new(config)).await;
        Box::new(stream.expect("a handshake"))
    }

    /// Whether the gateway keeps `rule`; else what it did.
    async fn check(&self, rule: &Rule, kit: &Kit) -> Result<(), Reaction> {
        let (mut read, mut write) = tokio::io::split(self.open().await);
        let mut reaction = Reaction::default();
        let mut decoder = Decoder::new();
        let mut hello = Vec::new();
        if !rule.bare {
            hello.extend_from_slice(PREFACE);
            hello.extend_from_slice(&frame(wire2::SETTINGS, 0, 0, &[]));
        }
        // A gateway that has closed makes writes fail, which shows when reading.
        write.write_all(&hello).await.ok();
        write.flush().await.ok();
        if rule.after_answer {
            write.write_all(&kit.get(1)).await.ok();
            write.flush().await.ok();
            while !reaction.ended.contains(&1) {
                let incoming = timeout(REACTION_MAX, wire2::read_frame(&mut read)).await;
                let Ok(Ok(incoming)) = incoming else { return Err(reaction) };
                reaction.take(&incoming, &mut decoder);
            }
        }
        let mut bytes = (rule.send)(kit);
        if matches!(rule.expect, Expect::Ignored) {
            bytes.extend_from_slice(&frame(wire2::PING, 0, 0, &PROBE));
        }
        write.write_all(&bytes).await.ok();
        write.flush().await.ok();
        let judging = async {
            loop {
                if let Some(kept) = reaction.verdict(&rule.expect) {
                    return kept;
                }
                match wire2::read_frame(&mut read).await {
                    Ok(incoming) => {
                        // Ours is not to collect what was promised to be acknowledged.
                        if incoming.kind == wire2::SETTINGS && incoming.flags & 1 == 0 {
                            let ack = frame(wire2::SETTINGS, 1, 0, &[]);
                            write.write_all(&ack).await.ok();
                            write.flush().await.ok();
                        }
                        reaction.take(&incoming, &mut decoder);
                    }
                    Err(_) => reaction.closed = true,
                }
            }
        };
        if timeout(REACTION_MAX, judging).await.unwrap_or(false) { Ok(()) } else { Err(reaction) }
    }
}

/// Rules that the `h2` crate, which speaks inside intercepted connections, does not keep, though
/// nothing comes of it. docs/standards.md says so too.
const LET_PASS: [&str; 2] =
    ["what follows the preface must be SETTINGS", "pseudo-header fields in trailers"];

/// Whether the reaction is one that the `h2` crate is known for.
fn is_known(target: Target, rule: &Rule, did: &Reaction) -> bool {
    let error = matches!(rule.expect, Expect::Connection(_) | Expect::Stream(_));
    // The connection ends as it must; the code is the one for want of a better.
    let unspecific = error && did.goaway == Some(wire2::PROTOCOL_ERROR);
    let harmless = did.goaway.is_none() && did.resets.is_empty();
    target == Target::Inner && (unspecific || (LET_PASS.contains(&rule.says) && harmless))
}

async fn score(target: Target) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let (scheme, port) = match target {
        Target::Inner => ("https", origin.port()),
        Target::Tunnel => ("http", origin.plain_port()),
    };
    let authority = format!("site.test:{port}");
    let kit = Kit { scheme, authority: authority.clone() };
    let opener = Opener { gateway: &gateway, target, authority };
    let rules = rules::all();
    let (mut kept, mut known, mut broken) = (0, Vec::new(), String::new());
    for rule in &rules {
        match opener.check(rule, &kit).await {
            Ok(()) => kept += 1,
            Err(did) if is_known(target, rule, &did) => known.push(rule.says),
            Err(did) => {
                let Rule { section, says, expect, .. } = rule;
                writeln!(broken, "{section}: {says}\n    wanted {expect:?}, got {did:?}")
                    .expect("text");
            }
        }
    }
    let asked = rules.len();
    let loose = known.len();
    println!(
        "HTTP/2 of {target:?}: {kept} of {asked} rules to the letter, {loose} in their effect"
    );
    assert!(asked >= RULES_MIN, "{asked} rules");
    assert!(broken.is_empty(), "{kept} of {asked} rules kept; broken:\n{broken}");
    let passes = LET_PASS.iter().filter(|it| known.contains(it)).count();
    let wanted = if target == Target::Inner { LET_PASS.len() } else { 0 };
    assert_eq!(passes, wanted, "the list of what the `h2` crate lets pass is out of date");
}

#[tokio::test(flavor = "multi_thread")]
async fn intercepted_connections_keep_the_rules_of_http2() {
    score(Target::Inner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_keep_the_rules_of_http2() {
    score(Target::Tunnel).await;
}
