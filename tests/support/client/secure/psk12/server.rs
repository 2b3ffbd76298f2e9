//! The other side of the handshake, for tests without a gateway. That client and server agree shows little
//! alone; that the client agrees with OpenSSL shows the rest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use gateway_proto::dtls::DtlsHello;

use super::super::Event;
use super::keys::{Keys, Suite};
use super::message::{self, Message, Reader};
use super::record::{self, Content, Sealer};

const RETRANSMIT: Duration = Duration::from_millis(500);
const SUITE: u16 = 0x00a9;

/// One session with a client whose key is known.
pub(crate) struct Psk12Server {
    psk: [u8; 32],
    random: [u8; 32],
    reader: Reader,
    transcript: Vec<u8>,
    plain: Sealer,
    keys: Option<Keys>,
    /// The plain flight that answers the hello, and the one that answers Finished.
    flight: Vec<Vec<u8>>,
    is_connected: bool,
    next_message: u16,
    pub(crate) events: VecDeque<Event>,
    pub(crate) due: Option<Instant>,
}

impl Psk12Server {
    pub(crate) fn new(psk: [u8; 32]) -> Self {
        let mut random = [0; 32];
        rand::fill(&mut random).unwrap();
        Self {
            psk,
            random,
            reader: Reader::default(),
            transcript: Vec::new(),
            plain: Sealer::plain(),
            keys: None,
            flight: Vec::new(),
            is_connected: false,
            next_message: 0,
            events: VecDeque::new(),
            due: None,
        }
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        for record in record::split(datagram) {
            let opened = match (&self.keys, record.epoch) {
                (_, 0) => Some(record.body.to_vec()),
                (Some(keys), 1) => keys.opener.open(&record),
                _ => None,
            };
            let Some(plain) = opened else { continue };
            match record.content {
                Content::Handshake => {
                    for message in self.reader.take(&plain) {
                        self.take(now, &message);
                    }
                }
                Content::Data if self.is_connected => self.events.push_back(Event::Plain(plain)),
                Content::Alert if record.epoch == 1 => self.events.push_back(Event::Closed),
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.transmit(now);
        }
    }

    pub(crate) fn send(&mut self, plain: &[u8]) {
        self.seal(Content::Data, plain);
    }

    pub(crate) fn close(&mut self) {
        self.seal(Content::Alert, &[1, 0]);
    }

    fn seal(&mut self, content: Content, plain: &[u8]) {
        if let (true, Some(keys)) = (self.is_connected, &mut self.keys) {
            self.events.push_back(Event::Transmit(keys.sealer.seal(content, plain)));
        }
    }

    fn take(&mut self, now: Instant, message: &Message) {
        if message.is_repeated {
            if matches!(message.kind, message::CLIENT_HELLO | message::FINISHED) {
                self.transmit(now);
            }
            return;
        }
        match message.kind {
            message::CLIENT_HELLO => {
                let hello = DtlsHello::parse(&message.body).unwrap();
                assert!(hello.hello.cipher_suites.contains(&SUITE));
                let client_random = *message.body[2..].first_chunk().unwrap();
                let suite = Suite::of(SUITE).unwrap();
                self.keys = Keys::derive_for_server(suite, &self.psk, &client_random, &self.random);
                self.transcript.extend(message.whole());
                let mut body = vec![0xfe, 0xfd];
                body.extend(self.random);
                body.push(0);
                body.extend(SUITE.to_be_bytes());
                // No compression; renegotiation_info.
                body.extend([0, 0, 5, 0xff, 0x01, 0, 1, 0]);
                self.queue(message::SERVER_HELLO, &body);
                self.queue(message::SERVER_HELLO_DONE, &[]);
                self.transmit(now);
            }
            message::FINISHED => {
                let Some(keys) = &mut self.keys else { return };
                if message.body != keys.finished("client finished", &self.transcript) {
                    return self.events.push_back(Event::Failed("a wrong Finished".to_owned()));
                }
                self.transcript.extend(message.whole());
                let finished = keys.finished("server finished", &self.transcript);
                self.flight =
                    vec![message::message(message::FINISHED, self.next_message, &finished)];
                self.is_connected = true;
                self.events.push_back(Event::Connected);
                self.transmit(now);
                self.due = None;
            }
            _ => self.transcript.extend(message.whole()),
        }
    }

    fn queue(&mut self, kind: u8, body: &[u8]) {
        let message = message::message(kind, self.next_message, body);
        self.next_message += 1;
        self.transcript.extend_from_slice(&message);
        self.flight.push(message);
    }

    fn transmit(&mut self, now: Instant) {
        let mut datagram = Vec::new();
        match &mut self.keys {
            Some(keys) if self.is_connected => {
                datagram.extend(self.plain.seal(Content::ChangeCipherSpec, &[1]));
                datagram.extend(keys.sealer.seal(Content::Handshake, &self.flight[0]));
            }
            _ => {
                for message in &self.flight {
                    datagram.extend(self.plain.seal(Content::Handshake, message));
                }
                self.due = Some(now + RETRANSMIT);
            }
        }
        self.events.push_back(Event::Transmit(datagram));
    }
}
