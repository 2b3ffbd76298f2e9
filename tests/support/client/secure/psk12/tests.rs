//! Against OpenSSL, and over a bad link in virtual time against a server of our own.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Psk12Server;
use super::*;
use crate::link::{Datagram, Impairment, Lane};

const KEY: [u8; 32] = [7; 32];

fn offer(key: [u8; 32]) -> DatagramOffer {
    DatagramOffer { port: 443, app_id: [9; 32], key }
}

/// A server that echoes, a client, a lane each way, and a clock that only this moves.
struct World {
    now: Instant,
    client: Psk12,
    server: Psk12Server,
    lanes: [Lane; 2],
}

impl World {
    fn new(impairment: Impairment, seed: u64, key: [u8; 32]) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: Psk12::new(now, &offer(key)),
            server: Psk12Server::new(KEY),
            lanes: [Lane::new(impairment, seed), Lane::new(impairment, seed + 1)],
        }
    }

    fn turn(&mut self) -> Vec<Event> {
        let [up, down] = &mut self.lanes;
        while let Some(datagram) = up.poll(self.now) {
            self.server.handle_datagram(self.now, &datagram.bytes);
        }
        while let Some(datagram) = down.poll(self.now) {
            self.client.handle_datagram(self.now, &datagram.bytes);
        }
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        let mut events = Vec::new();
        while let Some(event) = self.client.poll() {
            match event {
                Event::Transmit(bytes) => up.send(self.now, Datagram { flow: 0, bytes }),
                other => events.push(other),
            }
        }
        while let Some(event) = self.server.events.pop_front() {
            match event {
                Event::Transmit(bytes) => down.send(self.now, Datagram { flow: 0, bytes }),
                Event::Plain(plain) => self.server.send(&plain),
                _ => {}
            }
        }
        let due = [self.client.poll_timeout(), self.server.due];
        let due = due.into_iter().chain([up.poll_timeout(), down.poll_timeout()]);
        self.now = due.flatten().min().unwrap_or(self.now).max(self.now + Duration::from_micros(1));
        events
    }

    /// Turns until something happens; the first event.
    fn until_event(&mut self) -> Event {
        let last = self.now + Duration::from_secs(120);
        while self.now < last {
            if let Some(event) = self.turn().into_iter().next() {
                return event;
            }
        }
        panic!("nothing happens");
    }
}

#[test]
fn a_session_comes_up_and_carries_records_both_ways() {
    let mut world = World::new(Impairment::none().delay(Duration::from_millis(10)), 1, KEY);
    assert_eq!(world.until_event(), Event::Connected);
    for size in [1, 100, 1_400] {
        world.client.send(&vec![3; size]);
        assert_eq!(world.until_event(), Event::Plain(vec![3; size]));
    }
}

#[test]
fn handshakes_come_through_where_datagrams_are_lost_and_come_out_of_order() {
    let bad = Impairment::none().delay(Duration::from_millis(10)).loss(0.2);
    let bad = bad.reorder(0.2, Duration::from_millis(15)).duplicate(0.1);
    for seed in 0..30 {
        let mut world = World::new(bad, seed, KEY);
        assert_eq!(world.until_event(), Event::Connected, "seed {seed}");
    }
}

#[test]
fn another_key_gets_no_session() {
    let mut world = World::new(Impairment::none(), 1, [8; 32]);
    for _ in 0..1_000 {
        for event in world.turn() {
            assert!(matches!(event, Event::Failed(_)), "{event:?}");
        }
    }
}

#[test]
fn a_goodbye_is_heard_and_records_after_it_are_not_sent() {
    let mut world = World::new(Impairment::none(), 1, KEY);
    assert_eq!(world.until_event(), Event::Connected);
    world.server.close();
    assert_eq!(world.until_event(), Event::Closed);
    world.client.send(b"late");
    assert_eq!(world.client.poll(), None);
}

#[test]
fn the_hello_is_what_the_gateway_looks_for() {
    use gateway_proto::dtls::{HelloReader, Progress, is_first_flight};
    let mut client = Psk12::new(Instant::now(), &offer(KEY));
    let Some(Event::Transmit(hello)) = client.poll() else { panic!("no hello") };
    assert!(is_first_flight(&hello));
    let Progress::Done(read) = HelloReader::new().push(&hello) else { panic!("no hello") };
    assert_eq!((read.hello.session_id, read.has_cookie), (vec![9; 32], false));
    assert_eq!(read.hello.cipher_suites, [0x00a9, 0x00a8]);
}

#[test]
fn bytes_of_any_kind_do_no_harm() {
    let mut random = crate::link::Random::new(5);
    let mut client = Psk12::new(Instant::now(), &offer(KEY));
    let Some(Event::Transmit(mut sample)) = client.poll() else { panic!("no hello") };
    for _ in 0..20_000 {
        let at = random.below(sample.len());
        sample[at] = random.bits() as u8;
        client.handle_datagram(Instant::now(), &sample);
        while client.poll().is_some() {}
        if matches!(client.state, State::Over) {
            client = Psk12::new(Instant::now(), &offer(KEY));
        }
    }
}

/// `openssl s_server` with one suite; killed when dropped.
struct OpensslServer(Child);

impl Drop for OpensslServer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn openssl_agrees_on_both_suites() {
    for (suite, verifies) in [
        ("PSK-AES256-GCM-SHA384", false),
        ("PSK-AES128-GCM-SHA256", false),
        ("PSK-AES256-GCM-SHA384", true),
    ] {
        // The port was free a moment ago; this test is the only one that asks for it by number.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = port.to_string();
        let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut arguments = vec!["s_server", "-dtls1_2", "-nocert", "-quiet"];
        arguments.extend(["-accept", &port, "-psk", &key, "-psk_identity", "psk"]);
        arguments.extend(["-cipher", suite]);
        if verifies {
            arguments.push("-listen");
        }
        let mut command = Command::new("openssl");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = OpensslServer(command.spawn().expect("the openssl command"));
        let mut says = server.0.stdin.take().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(format!("127.0.0.1:{port}")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut client = Psk12::new(Instant::now(), &offer(KEY));
        let (mut buffer, begun) = ([0; 4_096], Instant::now());
        let answer = loop {
            assert!(begun.elapsed() < Duration::from_secs(30), "{suite}");
            let mut answer = None;
            while let Some(event) = client.poll() {
                match event {
                    // Refused until the server listens; the flight is sent again.
                    Event::Transmit(bytes) => drop(socket.send(&bytes)),
                    Event::Connected => {
                        client.send(b"question\n");
                        says.write_all(b"answer\n").unwrap();
                    }
                    Event::Plain(plain) => answer = Some(plain),
                    other => panic!("{suite}: {other:?}"),
                }
            }
            if let Some(answer) = answer {
                break answer;
            }
            if let Ok(length) = socket.recv(&mut buffer) {
                client.handle_datagram(Instant::now(), &buffer[..length]);
            }
            client.handle_timeout(Instant::now());
        };
        let mut heard = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut heard).unwrap();
        assert_eq!(
            (answer.as_slice(), heard.as_str()),
            (&b"answer\n"[..], "question\n"),
            "{suite}"
        );
    }
}
