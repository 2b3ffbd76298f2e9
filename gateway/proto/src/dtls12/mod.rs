//! DTLS 1.2 with a pre-shared key and one cipher suite, the server's side: the data channel of
//! OpenConnect's clients (draft-mavrogiannopoulos-openconnect section 2.3). Decision 0010 says why it is
//! ours.
//!
//! The key comes from the TLS connection that authenticated the client, so there are no certificates,
//! no names and nothing to resume. The client drives the handshake: what is lost, it asks for again, and
//! the server needs no timer.

mod handshake;
mod record;
#[cfg(test)]
mod tests;

use handshake::{
    CLIENT_HELLO, CLIENT_KEY_EXCHANGE, FINISHED, Hello, Keys, Message, SERVER_HELLO,
    SERVER_HELLO_DONE, Side, is_key_exchange, message,
};
use record::{Content, Opener, Record, Sealer, put_plain};

/// Bytes that a record takes beyond its text: header, explicit nonce, tag.
pub const OVERHEAD_BYTES: u16 = 13 + 8 + 16;
/// A flight is answered again at most this often, so that who repeats one gets no more from us than a
/// client on a bad path.
const ANSWERS_MAX: u8 = 16;

/// One connection.
pub struct PskServer {
    key: [u8; 32],
    random: [u8; 32],
    state: State,
    /// Handshake messages so far, as both ends hash them.
    transcript: Vec<u8>,
    /// Next number of an outgoing record of epoch 0.
    next: u64,
    answers_left: u8,
}

enum State {
    /// Waits for a hello.
    Begun,
    /// Has answered it.
    Greeted {
        hello: Vec<u8>,
        answer: [Vec<u8>; 2],
        client_random: [u8; 32],
    },
    /// Has the keys; waits for the client's Finished under them.
    Keyed {
        keys: Box<Keys>,
        opener: Box<Opener>,
    },
    Connected {
        sealer: Box<Sealer>,
        opener: Box<Opener>,
        finished: Vec<u8>,
    },
    Closed,
}

/// What came of a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be sent to the client, in order.
    pub datagrams: Vec<Vec<u8>>,
    /// What the client said, one record each.
    pub records: Vec<Vec<u8>>,
    /// The handshake is done.
    pub connected: bool,
    /// The client has ended it.
    pub closed: bool,
}

/// Why a connection cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PskProblem {
    #[error("the client does not offer TLS_PSK_WITH_AES_256_GCM_SHA384")]
    Suite,
    #[error("the handshake makes no sense")]
    Malformed,
    #[error("the client has another key")]
    Key,
    #[error("the connection is closed, or its sequence numbers are used up")]
    Closed,
}

impl PskServer {
    /// A server that waits for its client's hello. `random` is fresh for each connection.
    #[must_use]
    pub fn new(key: [u8; 32], random: [u8; 32]) -> Self {
        Self {
            key,
            random,
            state: State::Begun,
            transcript: Vec::new(),
            next: 0,
            answers_left: ANSWERS_MAX,
        }
    }

    /// Takes a datagram. Records that are forged, damaged or late are passed over.
    ///
    /// # Errors
    /// Where the handshake fails; never once it is done.
    pub fn datagram(&mut self, datagram: &[u8]) -> Result<Outcome, PskProblem> {
        let mut outcome = Outcome::default();
        let mut rest = datagram;
        while let Some((record, after)) = record::first(rest) {
            rest = after;
            self.record(&record, &mut outcome)?;
        }
        Ok(outcome)
    }

    fn record(&mut self, record: &Record<'_>, outcome: &mut Outcome) -> Result<(), PskProblem> {
        match (record.epoch, record.content) {
            // Alerts in the clear are anybody's. A ChangeCipherSpec says what the epoch says too.
            (0, Content::Handshake) => self.plain(record.body, outcome),
            (1, content) => self.sealed(record, content, outcome),
            _ => Ok(()),
        }
    }

    fn plain(&mut self, mut body: &[u8], outcome: &mut Outcome) -> Result<(), PskProblem> {
        while let Some((message, rest)) = handshake::first(body) {
            body = rest;
            match message.kind {
                CLIENT_HELLO => self.hello(&message, outcome)?,
                CLIENT_KEY_EXCHANGE => self.key_exchange(&message, outcome)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hello(&mut self, said: &Message<'_>, outcome: &mut Outcome) -> Result<(), PskProblem> {
        match &self.state {
            State::Begun => {}
            // Our answer was lost.
            State::Greeted { hello, answer, .. } if *hello == said.bytes => {
                let answer = answer.clone();
                self.greet(&answer, outcome);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let hello = Hello::read(said.body).ok_or(PskProblem::Malformed)?;
        if !hello.is_ours() {
            return Err(PskProblem::Suite);
        }
        let answer = [
            message(SERVER_HELLO, 0, &hello.answer(&self.random)),
            message(SERVER_HELLO_DONE, 1, &[]),
        ];
        self.transcript.extend_from_slice(said.bytes);
        answer.iter().for_each(|message| self.transcript.extend_from_slice(message));
        self.greet(&answer, outcome);
        let client_random = hello.random;
        self.state = State::Greeted { hello: said.bytes.to_vec(), answer, client_random };
        Ok(())
    }

    fn greet(&mut self, answer: &[Vec<u8>; 2], outcome: &mut Outcome) {
        if !self.may_answer() {
            return;
        }
        let mut datagram = Vec::new();
        for message in answer {
            put_plain(Content::Handshake, self.number(), message, &mut datagram);
        }
        outcome.datagrams.push(datagram);
    }

    fn key_exchange(
        &mut self,
        said: &Message<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), PskProblem> {
        match &self.state {
            State::Greeted { client_random, .. } => {
                if !is_key_exchange(said.body) {
                    return Err(PskProblem::Malformed);
                }
                let keys = Keys::derive(&self.key, client_random, &self.random);
                let keys = Box::new(keys.ok_or(PskProblem::Malformed)?);
                let reading = Keys::derive(&self.key, client_random, &self.random);
                let opener = Box::new(Opener::new(reading.ok_or(PskProblem::Malformed)?.client));
                self.transcript.extend_from_slice(said.bytes);
                self.state = State::Keyed { keys, opener };
            }
            // The client repeats its last flight: ours was lost.
            State::Connected { .. } => self.finish(outcome),
            _ => {}
        }
        Ok(())
    }

    fn sealed(
        &mut self,
        record: &Record<'_>,
        content: Content,
        outcome: &mut Outcome,
    ) -> Result<(), PskProblem> {
        match &mut self.state {
            State::Keyed { opener, .. } if content == Content::Handshake => {
                // Forged, or under another key: in that case the handshake never ends.
                let Some(text) = opener.open(record) else { return Ok(()) };
                self.finished(&text, outcome)
            }
            State::Connected { opener, .. } => {
                let Some(text) = opener.open(record) else { return Ok(()) };
                match content {
                    Content::Application => outcome.records.push(text),
                    // Every alert ends it: the warnings that do not are TLS 1.0's.
                    Content::Alert => {
                        outcome.closed = true;
                        self.state = State::Closed;
                    }
                    // Nobody is offered to negotiate anew.
                    Content::Handshake | Content::ChangeCipherSpec => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the client's Finished.
    fn finished(&mut self, text: &[u8], outcome: &mut Outcome) -> Result<(), PskProblem> {
        let Some((said, [])) = handshake::first(text) else { return Err(PskProblem::Malformed) };
        let State::Keyed { keys, .. } = &self.state else { return Ok(()) };
        if said.kind != FINISHED || !keys.is_finished(Side::Client, &self.transcript, said.body) {
            return Err(PskProblem::Key);
        }
        self.transcript.extend_from_slice(said.bytes);
        let verified = keys.finished(Side::Server, &self.transcript);
        let verified = verified.ok_or(PskProblem::Malformed)?;
        // Ours have been hello, done, and this.
        let finished = message(FINISHED, 2, &verified);
        let State::Keyed { keys, opener } = std::mem::replace(&mut self.state, State::Closed)
        else {
            return Ok(());
        };
        let sealer = Box::new(Sealer::new(keys.server));
        self.transcript = Vec::new();
        self.answers_left = ANSWERS_MAX;
        self.state = State::Connected { sealer, opener, finished };
        self.finish(outcome);
        outcome.connected = true;
        Ok(())
    }

    /// Sends our last flight.
    fn finish(&mut self, outcome: &mut Outcome) {
        if !self.may_answer() {
            return;
        }
        let number = self.number();
        let State::Connected { sealer, finished, .. } = &mut self.state else { return };
        let mut datagram = Vec::new();
        put_plain(Content::ChangeCipherSpec, number, &[1], &mut datagram);
        if sealer.seal(Content::Handshake, finished, &mut datagram) {
            outcome.datagrams.push(datagram);
        }
    }

    fn may_answer(&mut self) -> bool {
        let may = self.answers_left > 0;
        self.answers_left = self.answers_left.saturating_sub(1);
        may
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The datagram with one record of application data.
    ///
    /// # Errors
    /// Where the connection is not open or cannot send more.
    pub fn seal(&mut self, text: &[u8]) -> Result<Vec<u8>, PskProblem> {
        self.sealed_record(Content::Application, text)
    }

    /// Ends the connection; the datagram says so to the client.
    ///
    /// # Errors
    /// Where the connection is not open.
    pub fn close(&mut self) -> Result<Vec<u8>, PskProblem> {
        // Warning, close_notify (RFC 5246 section 7.2.1).
        let datagram = self.sealed_record(Content::Alert, &[1, 0]);
        self.state = State::Closed;
        datagram
    }

    fn sealed_record(&mut self, content: Content, text: &[u8]) -> Result<Vec<u8>, PskProblem> {
        let State::Connected { sealer, .. } = &mut self.state else {
            return Err(PskProblem::Closed);
        };
        let mut datagram = Vec::with_capacity(text.len() + usize::from(OVERHEAD_BYTES));
        if sealer.seal(content, text, &mut datagram) {
            Ok(datagram)
        } else {
            Err(PskProblem::Closed)
        }
    }
}
