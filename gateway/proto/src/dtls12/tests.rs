//! The server against a client made of the same parts. Other implementations meet it end to end.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::handshake::{CLIENT_HELLO, CLIENT_KEY_EXCHANGE, FINISHED, Keys, Side, first, message};
use super::record::{self, Content, Opener, Sealer, put_plain};
use super::*;

const KEY: [u8; 32] = [7; 32];
const CLIENT_RANDOM: [u8; 32] = [1; 32];
const SERVER_RANDOM: [u8; 32] = [2; 32];

fn server(key: [u8; 32]) -> PskServer {
    PskServer::new(key, SERVER_RANDOM)
}

/// A hello with a session id and these suites.
fn hello(suites: &[u16]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(CLIENT_RANDOM);
    body.push(32);
    body.extend([9; 32]);
    body.push(0);
    body.extend(u16::try_from(2 * suites.len()).unwrap().to_be_bytes());
    suites.iter().for_each(|suite| body.extend(suite.to_be_bytes()));
    body.extend([1, 0, 0, 5, 0xff, 0x01, 0, 1, 0]);
    message(CLIENT_HELLO, 0, &body)
}

fn plain(content: Content, number: u64, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    put_plain(content, number, body, &mut datagram);
    datagram
}

struct Client {
    transcript: Vec<u8>,
    sealer: Sealer,
    opener: Opener,
    keys: Keys,
}

impl Client {
    /// The client's side of the handshake; the last flight is returned, and not yet sent.
    fn shake(server: &mut PskServer) -> (Self, Vec<u8>) {
        let hello = hello(&[0x00a8, 0x00a9]);
        let outcome = server.datagram(&plain(Content::Handshake, 0, &hello)).unwrap();
        let mut transcript = hello;
        let mut rest = outcome.datagrams.first().unwrap().as_slice();
        while let Some((record, after)) = record::first(rest) {
            transcript.extend_from_slice(record.body);
            rest = after;
        }
        let derive = || Keys::derive(&KEY, &CLIENT_RANDOM, &SERVER_RANDOM).unwrap();
        let mut client = Self {
            transcript,
            sealer: Sealer::new(derive().client),
            opener: Opener::new(derive().server),
            keys: derive(),
        };
        let flight = client.last_flight();
        (client, flight)
    }

    fn last_flight(&mut self) -> Vec<u8> {
        let exchange = message(CLIENT_KEY_EXCHANGE, 1, &[0, 3, b'p', b's', b'k']);
        self.transcript.extend_from_slice(&exchange);
        let mut datagram = plain(Content::Handshake, 1, &exchange);
        put_plain(Content::ChangeCipherSpec, 2, &[1], &mut datagram);
        let verified = self.keys.finished(Side::Client, &self.transcript).unwrap();
        let finished = message(FINISHED, 2, &verified);
        self.transcript.extend_from_slice(&finished);
        assert!(self.sealer.seal(Content::Handshake, &finished, &mut datagram));
        datagram
    }

    fn seal(&mut self, content: Content, text: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        assert!(self.sealer.seal(content, text, &mut datagram));
        datagram
    }

    /// The text of the last record of a datagram.
    fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (mut rest, mut text) = (datagram, None);
        while let Some((record, after)) = record::first(rest) {
            if record.epoch == 1 {
                text = self.opener.open(&record);
            }
            rest = after;
        }
        text
    }
}

fn connected() -> (PskServer, Client) {
    let mut server = server(KEY);
    let (mut client, flight) = Client::shake(&mut server);
    let outcome = server.datagram(&flight).unwrap();
    assert!(outcome.connected);
    let finished = client.open(outcome.datagrams.first().unwrap()).unwrap();
    let (said, _) = first(&finished).unwrap();
    assert!(client.keys.is_finished(Side::Server, &client.transcript, said.body));
    (server, client)
}

#[test]
fn a_client_with_the_key_is_served() {
    let (mut server, mut client) = connected();
    let datagram = client.seal(Content::Application, b"up");
    assert_eq!(server.datagram(&datagram).unwrap().records, [b"up"]);
    let datagram = server.seal(b"down").unwrap();
    assert_eq!(datagram.len(), 4 + usize::from(OVERHEAD_BYTES));
    assert_eq!(client.open(&datagram).unwrap(), b"down");
    assert_eq!(client.open(&server.close().unwrap()).unwrap(), [1, 0]);
    assert_eq!(server.seal(b"more"), Err(PskProblem::Closed));
}

#[test]
fn a_client_says_goodbye() {
    let (mut server, mut client) = connected();
    let goodbye = client.seal(Content::Alert, &[1, 0]);
    assert!(server.datagram(&goodbye).unwrap().closed);
    assert_eq!(server.seal(b"more"), Err(PskProblem::Closed));
}

#[test]
fn another_key_never_connects() {
    let mut server = server([8; 32]);
    let (_, flight) = Client::shake(&mut server);
    assert_eq!(server.datagram(&flight), Ok(Outcome::default()));
    assert_eq!(server.seal(b"text"), Err(PskProblem::Closed));
}

#[test]
fn a_client_without_our_suite_is_refused() {
    let offer = plain(Content::Handshake, 0, &hello(&[0x00a8, 0xc0a5]));
    assert_eq!(server(KEY).datagram(&offer), Err(PskProblem::Suite));
}

#[test]
fn what_was_lost_is_said_again_but_not_for_ever() {
    let mut server = server(KEY);
    let again = plain(Content::Handshake, 9, &hello(&[0x00a8, 0x00a9]));
    let (mut client, flight) = Client::shake(&mut server);
    assert_eq!(server.datagram(&again).unwrap().datagrams.len(), 1);
    assert!(server.datagram(&flight).unwrap().connected);
    let mut answers = 0;
    for _ in 0..100 {
        let outcome = server.datagram(&flight).unwrap();
        assert!(!outcome.connected);
        answers += outcome.datagrams.len();
        for datagram in outcome.datagrams {
            assert!(client.open(&datagram).is_some(), "under a new number");
        }
    }
    assert_eq!(answers, usize::from(ANSWERS_MAX) - 1);
}

#[test]
fn forged_damaged_and_repeated_records_change_nothing() {
    let (mut server, mut client) = connected();
    let datagram = client.seal(Content::Application, b"once");
    assert_eq!(server.datagram(&datagram).unwrap().records.len(), 1);
    assert_eq!(server.datagram(&datagram), Ok(Outcome::default()), "a replay");
    let late = client.seal(Content::Application, b"late");
    for place in 0..late.len() {
        let mut damaged = late.clone();
        damaged.get_mut(place).into_iter().for_each(|byte| *byte ^= 0x10);
        assert_eq!(server.datagram(&damaged), Ok(Outcome::default()), "byte {place}");
    }
    // In the clear, from whoever knows the address.
    for forged in [
        plain(Content::Alert, 7, &[2, 40]),
        plain(Content::Alert, 7, &[1, 0]),
        plain(Content::Application, 7, b"text"),
        plain(Content::Handshake, 7, &hello(&[0x00a9])),
    ] {
        assert_eq!(server.datagram(&forged), Ok(Outcome::default()));
    }
    assert_eq!(server.datagram(&late).unwrap().records, [b"late"]);
}
