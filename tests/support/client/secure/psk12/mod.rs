//! DTLS 1.2 with a pre-shared key as OpenConnect clients speak it, for tests only: no library at hand
//! lets a client choose its session id, and this client is to be independent of the gateway's library.
//!
//! 1. ClientHello with the App-ID as session id; again with a cookie where one is asked for.
//! 2. ServerHello, perhaps a key hint, ServerHelloDone.
//! 3. ClientKeyExchange, ChangeCipherSpec, Finished; again until answered.
//! 4. ChangeCipherSpec, Finished of the server: connected.
//!
//! (RFC 6347, RFC 5246, RFC 4279, RFC 5487.) The flights of a server are expected in few datagrams: what
//! comes out of order is not kept but sent again.

mod keys;
mod message;
mod record;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;

use super::Event;
use crate::client::openconnect::DatagramOffer;
use keys::{Keys, Suite};
use message::{Message, Reader, ServerHello};
use record::{Content, Sealer};

/// The first flight is sent again after so long, then after twice as long, and so on…
const RETRANSMIT: Duration = Duration::from_millis(250);
/// …up to this.
const RETRANSMIT_MAX: Duration = Duration::from_secs(4);
/// The identity is the same for everybody: the session id says who it is.
const IDENTITY: &[u8] = b"psk";

/// One session.
pub struct Psk12 {
    session_id: [u8; 32],
    psk: [u8; 32],
    random: [u8; 32],
    state: State,
    /// Handshake messages so far, as the Finished messages cover them.
    transcript: Vec<u8>,
    reader: Reader,
    next_message: u16,
    /// What is repeated until it is answered.
    flight: Vec<Part>,
    plain: Sealer,
    events: VecDeque<Event>,
    due: Option<Instant>,
    wait: Duration,
}

/// A record of a flight before it is written.
struct Part {
    content: Content,
    sealed: bool,
    bytes: Vec<u8>,
}

enum State {
    AwaitHello,
    AwaitDone(ServerHello),
    /// Own Finished is out; the server's ChangeCipherSpec may have come.
    AwaitFinished {
        keys: Box<Keys>,
        changed: bool,
    },
    Connected(Box<Keys>),
    Over,
}

impl Psk12 {
    /// Begins a handshake for the tunnel that made this offer.
    #[must_use]
    pub fn new(now: Instant, offer: &DatagramOffer) -> Self {
        let mut random = [0; 32];
        // The system's generator does not fail; were it to, the peer's random still makes keys unique.
        rand::fill(&mut random).ok();
        let mut session = Self {
            session_id: offer.app_id,
            psk: offer.key,
            random,
            state: State::AwaitHello,
            transcript: Vec::new(),
            reader: Reader::default(),
            next_message: 0,
            flight: Vec::new(),
            plain: Sealer::plain(),
            events: VecDeque::new(),
            due: None,
            wait: RETRANSMIT,
        };
        session.hello(now, &[]);
        session
    }

    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        for record in record::split(datagram) {
            let opened = match (&mut self.state, record.epoch) {
                (State::Over, _) => return,
                (_, 0) => Some(record.body.to_vec()),
                (State::AwaitFinished { keys, .. } | State::Connected(keys), 1) => {
                    keys.opener.open(&record)
                }
                _ => None,
            };
            // What cannot be opened is not the peer's: dropped without a word.
            if let Some(plain) = opened {
                self.take(now, record.content, record.epoch, &plain);
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.wait = (self.wait * 2).min(RETRANSMIT_MAX);
            self.transmit(now);
        }
    }

    pub fn send(&mut self, plain: &[u8]) {
        if let State::Connected(keys) = &mut self.state {
            let record = keys.sealer.seal(Content::Data, plain);
            self.events.push_back(Event::Transmit(record));
        }
    }

    pub fn close(&mut self) {
        if let State::Connected(keys) = &mut self.state {
            // A warning of close_notify.
            let record = keys.sealer.seal(Content::Alert, &[1, 0]);
            self.events.push_back(Event::Transmit(record));
        }
        self.state = State::Over;
        self.due = None;
    }

    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn take(&mut self, now: Instant, content: Content, epoch: u16, plain: &[u8]) {
        match content {
            Content::Handshake => {
                for message in self.reader.take(plain) {
                    if message.is_repeated {
                        self.take_repeated(now, &message);
                    } else if let Err(why) = self.take_message(now, epoch, &message) {
                        return self.fail(&why);
                    }
                }
            }
            Content::ChangeCipherSpec => {
                if let State::AwaitFinished { changed, .. } = &mut self.state {
                    *changed = true;
                }
            }
            Content::Alert => match (epoch, plain) {
                (1, [_, 0]) => {
                    self.state = State::Over;
                    self.due = None;
                    self.events.push_back(Event::Closed);
                }
                // An alert in clear proves nothing once there are keys.
                (1, [2, code]) => self.fail(&format!("alert {code}")),
                (0, [2, code]) if !matches!(self.state, State::Connected(_)) => {
                    self.fail(&format!("alert {code}"));
                }
                _ => {}
            },
            Content::Data => {
                if epoch == 1 && matches!(self.state, State::Connected(_)) {
                    self.events.push_back(Event::Plain(plain.to_vec()));
                }
            }
        }
    }

    fn take_message(&mut self, now: Instant, epoch: u16, message: &Message) -> Result<(), String> {
        match (&mut self.state, message.kind) {
            (State::AwaitHello, message::HELLO_VERIFY_REQUEST) => {
                let cookie = message.cookie().ok_or("a malformed HelloVerifyRequest")?.to_vec();
                // Neither the first hello nor the request is part of the transcript.
                self.transcript.clear();
                self.hello(now, &cookie);
            }
            (State::AwaitHello, message::SERVER_HELLO) => {
                let hello = ServerHello::read(&message.body).ok_or("a malformed ServerHello")?;
                Suite::of(hello.suite).ok_or("a suite that was not offered")?;
                self.transcript.extend(message.whole());
                self.state = State::AwaitDone(hello);
            }
            (State::AwaitDone(_), message::SERVER_KEY_EXCHANGE) => {
                // A hint of which key: there is one.
                self.transcript.extend(message.whole());
            }
            (State::AwaitDone(hello), message::SERVER_HELLO_DONE) => {
                let hello = *hello;
                self.transcript.extend(message.whole());
                self.finish(now, &hello)?;
            }
            (State::AwaitFinished { keys, changed: true }, message::FINISHED) if epoch == 1 => {
                if message.body != keys.finished("server finished", &self.transcript) {
                    return Err("a wrong Finished".to_owned());
                }
                let State::AwaitFinished { keys, .. } =
                    std::mem::replace(&mut self.state, State::Over)
                else {
                    return Ok(());
                };
                self.state = State::Connected(keys);
                self.due = None;
                self.events.push_back(Event::Connected);
            }
            _ => {}
        }
        Ok(())
    }

    /// The server repeats its flight where ours was lost.
    fn take_repeated(&mut self, now: Instant, message: &Message) {
        let is_last = message.kind == message::SERVER_HELLO_DONE;
        if is_last && matches!(self.state, State::AwaitFinished { .. }) {
            self.transmit(now);
        }
    }

    fn hello(&mut self, now: Instant, cookie: &[u8]) {
        let body = message::client_hello(&self.random, &self.session_id, cookie);
        self.flight.clear();
        self.queue(message::CLIENT_HELLO, &body);
        self.wait = RETRANSMIT;
        self.transmit(now);
    }

    /// ClientKeyExchange, ChangeCipherSpec, Finished.
    fn finish(&mut self, now: Instant, hello: &ServerHello) -> Result<(), String> {
        let suite = Suite::of(hello.suite).ok_or("a suite that was not offered")?;
        self.flight.clear();
        let mut identity = (IDENTITY.len() as u16).to_be_bytes().to_vec();
        identity.extend_from_slice(IDENTITY);
        self.queue(message::CLIENT_KEY_EXCHANGE, &identity);
        let keys = Keys::derive(suite, &self.psk, &self.random, &hello.random);
        let keys = keys.ok_or("keys cannot be made")?;
        let finished = keys.finished("client finished", &self.transcript);
        let finished = message::message(message::FINISHED, self.next_message, &finished);
        self.next_message += 1;
        self.transcript.extend_from_slice(&finished);
        self.flight.extend([
            Part { content: Content::ChangeCipherSpec, sealed: false, bytes: vec![1] },
            Part { content: Content::Handshake, sealed: true, bytes: finished },
        ]);
        self.state = State::AwaitFinished { keys: Box::new(keys), changed: false };
        self.wait = RETRANSMIT;
        self.transmit(now);
        Ok(())
    }

    /// Puts a plain handshake message into the flight and the transcript.
    fn queue(&mut self, kind: u8, body: &[u8]) {
        let message = message::message(kind, self.next_message, body);
        self.next_message += 1;
        self.transcript.extend_from_slice(&message);
        self.flight.push(Part { content: Content::Handshake, sealed: false, bytes: message });
    }

    /// Sends the flight in one datagram, each time with new record numbers: the same ones would be
    /// replays to a server that has seen them.
    fn transmit(&mut self, now: Instant) {
        let mut datagram = Vec::new();
        for part in &self.flight {
            let sealer = match &mut self.state {
                State::AwaitFinished { keys, .. } if part.sealed => &mut keys.sealer,
                _ => &mut self.plain,
            };
            datagram.extend(sealer.seal(part.content, &part.bytes));
        }
        self.events.push_back(Event::Transmit(datagram));
        self.due = Some(now + self.wait);
    }

    fn fail(&mut self, why: &str) {
        self.state = State::Over;
        self.due = None;
        self.events.push_back(Event::Failed(why.to_owned()));
    }
}

pub(crate) mod server;
#[cfg(test)]
mod tests;
