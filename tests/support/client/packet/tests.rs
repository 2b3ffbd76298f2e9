//! The stack against itself: in virtual time over a bad link, and as a client of a stack that listens.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::flow::Readable;
use super::wire::Segment;
use super::*;
use crate::client::error::ClientError;
use crate::link::{Datagram, Impairment, Lane};

const MS: Duration = Duration::from_millis(1);
const CLIENT: &str = "10.99.0.2";
const SERVER: &str = "192.0.2.1";

fn at(address: &str, port: u16) -> SocketAddr {
    (address.parse::<IpAddr>().unwrap(), port).into()
}

/// Two flows, a lane each way, and a clock that only this moves.
struct World {
    now: Instant,
    client: TcpFlow,
    server: TcpFlow,
    lanes: [Lane; 2],
}

impl World {
    fn new(impairment: Impairment, seed: u64) -> Self {
        let now = Instant::now();
        let (own, far) = (at(CLIENT, 40_000), at(SERVER, 443));
        Self {
            now,
            client: TcpFlow::connect(now, own, far, MTU, BUFFER_BYTES, 1).unwrap(),
            server: TcpFlow::listen(now, far, MTU, BUFFER_BYTES, 2).unwrap(),
            lanes: [Lane::new(impairment, seed), Lane::new(impairment, seed + 1)],
        }
    }

    /// Lets everything happen that happens now, then moves the clock to what is next.
    fn turn(&mut self) {
        let [up, down] = &mut self.lanes;
        while let Some(datagram) = up.poll(self.now) {
            self.server.handle_packet(datagram.bytes);
        }
        while let Some(datagram) = down.poll(self.now) {
            self.client.handle_packet(datagram.bytes);
        }
        let due = [self.client.poll(self.now), self.server.poll(self.now)];
        while let Some(bytes) = self.client.poll_transmit() {
            up.send(self.now, Datagram { flow: 0, bytes });
        }
        while let Some(bytes) = self.server.poll_transmit() {
            down.send(self.now, Datagram { flow: 0, bytes });
        }
        let next = due.into_iter().chain([up.poll_timeout(), down.poll_timeout()]).flatten().min();
        let least = self.now + Duration::from_micros(1);
        self.now = next.unwrap_or(least).max(least);
    }

    /// The server sends `length` bytes; the virtual time until the client has them all.
    fn download(&mut self, length: usize) -> Duration {
        let begun = self.now;
        let (mut written, mut got, mut buffer) = (0, Vec::new(), vec![0; 65_536]);
        let byte = |at: usize| (at % 251) as u8;
        while got.len() < length {
            assert!(self.now - begun < Duration::from_secs(600), "{} bytes of {length}", got.len());
            if written < length {
                let end = length.min(written + 65_536);
                let chunk: Vec<u8> = (written..end).map(byte).collect();
                written += self.server.write(&chunk).unwrap();
                if written == length {
                    self.server.close();
                }
            }
            self.turn();
            while let Readable::Bytes(count) = self.client.read(&mut buffer).unwrap() {
                got.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(got.iter().enumerate().all(|(place, it)| *it == byte(place)));
        self.now - begun
    }
}

#[test]
fn a_transfer_fills_a_window_for_each_round_trip() {
    let mut world = World::new(Impairment::none().delay(20 * MS), 1);
    let took = world.download(4_000_000);
    // 16 windows of 256 KiB, a round trip each; no fewer than those, and not many half empty ones more.
    assert!((600 * MS..1_600 * MS).contains(&took), "{took:?}");
}

#[test]
fn a_transfer_survives_everything_a_link_does() {
    let bad = Impairment::none().delay(10 * MS).jitter(5 * MS).loss(0.02);
    let bad = bad.reorder(0.05, 8 * MS).duplicate(0.02).corrupt(0.01);
    for seed in 0..5 {
        let mut world = World::new(bad, seed);
        let took = world.download(300_000);
        let counts = world.lanes[1].counts();
        assert!(counts.lost > 0 && counts.corrupted > 0 && counts.reordered > 0, "{counts:?}");
        assert!(took > 40 * MS);
    }
}

#[test]
fn the_same_seed_takes_the_same_time() {
    let lossy = Impairment::none().delay(10 * MS).loss(0.03);
    let [first, again, other] = [1, 1, 2].map(|seed| {
        let mut world = World::new(lossy, seed);
        (world.download(1_000_000), world.lanes[0].counts(), world.lanes[1].counts())
    });
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// Whether `length` bytes that the client writes come back from a server that echoes, each reading when a
/// seed lets it; the virtual time it takes.
fn echo(seed: u64, length: usize) -> Duration {
    let mut world = World::new(Impairment::none().delay(MS / 100), seed);
    let mut random = crate::link::Random::new(seed);
    let (reads, echoes, writes) = (random.share(), random.share(), random.share());
    let (mut written, mut got, mut held, mut buffer) = (0, 0, Vec::new(), vec![0; 65_536]);
    let begun = world.now;
    while got < length && world.now - begun < Duration::from_secs(60) {
        if written < length && random.happens(writes) {
            let count = (random.below(65_536) + 1).min(length - written);
            written += world.client.write(&buffer[..count]).unwrap();
        }
        for _ in 0..if random.happens(echoes) { random.below(20) } else { 0 } {
            if held.is_empty()
                && let Readable::Bytes(count) = world.server.read(&mut buffer[..8_192]).unwrap()
            {
                held.extend_from_slice(&buffer[..count]);
            }
            if !held.is_empty() {
                let count = world.server.write(&held).unwrap();
                held.drain(..count);
            }
        }
        let before = world.now;
        world.turn();
        // Whoever reads does not wait for packets.
        world.now = world.now.min(before + MS / 10);
        let most = random.below(65_536) + 1;
        if random.happens(reads)
            && let Readable::Bytes(count) = world.client.read(&mut buffer[..most]).unwrap()
        {
            got += count;
        }
    }
    world.now - begun
}

#[test]
fn two_sides_that_fill_both_windows_do_not_wait_for_each_other_forever() {
    // Slow readers take a second or two here; a deaf side waits for as long as one lets it.
    let stuck: Vec<_> = (0..100).filter(|seed| echo(*seed, 2_000_000) > 10_000 * MS).collect();
    assert!(stuck.is_empty(), "{stuck:?}");
}

/// A client and a server that answers as origins and name servers do.
fn stacks() -> (PacketStack, PacketStack) {
    let (above, below) = pair();
    let both =
        |v4: &str, v6: &str| Addresses { v4: v4.parse().ok(), v6: v6.parse().ok(), mtu: MTU };
    let client = PacketStack::start(both(CLIENT, "fd00::2"), above);
    let server = PacketStack::start(both(SERVER, "2001:db8::1"), below);
    let mut accepted = server.listen();
    tokio::spawn(async move {
        while let Some((_, stream)) = accepted.recv().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = tokio::io::split(stream);
                tokio::io::copy(&mut reads, &mut writes).await.ok();
                writes.shutdown().await.ok();
            });
        }
    });
    (client, server)
}

#[tokio::test]
async fn streams_of_both_families_carry_bytes_both_ways_and_end() {
    let (client, _server) = stacks();
    for target in [at(SERVER, 443), at("203.0.113.9", 80), at("2001:db8::77", 443)] {
        let stream = client.connect(target).await.unwrap();
        let (mut reads, mut writes) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 253) as u8).collect();
        let writing = async {
            writes.write_all(&sent).await.unwrap();
            writes.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(writing, reads.read_to_end(&mut got));
        assert_eq!(read.unwrap(), sent.len());
        assert!(got == sent);
    }
}

#[tokio::test]
async fn many_streams_share_a_stack() {
    let (client, _server) = stacks();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        let client = client.clone();
        tasks.spawn(async move {
            let mut stream = client.connect(at(SERVER, 443)).await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            assert_eq!(stream.read_u32().await.unwrap(), number);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Carries packets between two stacks until it is aborted.
async fn carry(mut one: PacketChannel, mut two: PacketChannel) {
    loop {
        let sent = tokio::select! {
            Some(packet) = one.incoming.recv() => two.outgoing.send(packet).await,
            Some(packet) = two.incoming.recv() => one.outgoing.send(packet).await,
            else => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_end_of_the_channel_ends_its_streams() {
    let ((above, below), (far_above, far_below)) = (pair(), pair());
    let client = PacketStack::start(Addresses::of(at(CLIENT, 0).ip()), above);
    let server = PacketStack::start(Addresses::of(at(SERVER, 0).ip()), far_above);
    let between = tokio::spawn(carry(below, far_below));
    let mut accepted = server.listen();
    let mut stream = client.connect(at(SERVER, 443)).await.unwrap();
    let (_, _far) = accepted.recv().await.unwrap();
    between.abort();
    let ended = stream.read_u8().await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(matches!(client.connect(at(SERVER, 443)).await, Err(ClientError::Connect(_))));
    let missing = client.connect(at("2001:db8::1", 443)).await;
    assert!(matches!(missing, Err(ClientError::Unsupported(_))));
}

#[tokio::test]
async fn pings_and_datagrams_come_back() {
    let (client, server) = stacks();
    for target in [SERVER, "2001:db8::1"] {
        client.ping(target.parse().unwrap(), &[7; 900], 5_000 * MS).await.unwrap();
    }
    let mut far = server.udp_at(5_000).unwrap();
    assert!(server.udp_at(5_000).is_err());
    let mut near = client.udp().unwrap();
    for target in [at(SERVER, 5_000), at("2001:db8::1", 5_000)] {
        near.send_to(target, b"question").await.unwrap();
        let (from, payload) = far.receive(5_000 * MS).await.unwrap();
        assert_eq!((from.port(), payload.as_slice()), (near.port(), &b"question"[..]));
        far.send_to(from, b"answer").await.unwrap();
        assert_eq!(near.receive(5_000 * MS).await.unwrap(), (target, b"answer".to_vec()));
    }
    let too_long = near.send_to(at(SERVER, 5_000), &[0; MTU]).await;
    assert!(matches!(too_long, Err(ClientError::Unsupported(_))));
}

#[tokio::test]
async fn a_name_is_looked_up_again_where_the_first_question_is_lost() {
    let (client, server) = stacks();
    let mut socket = server.udp_at(53).unwrap();
    tokio::spawn(async move {
        // The first question goes unanswered, the second by somebody else first.
        socket.receive(60_000 * MS).await.unwrap();
        while let Ok((from, bytes)) = socket.receive(60_000 * MS).await {
            let query = Message::from_vec(&bytes).unwrap();
            let name = query.queries[0].name().clone();
            let mut answer = query.into_response();
            if answer.queries[0].query_type() == RecordType::A {
                answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7))));
            }
            let bytes = answer.to_vec().unwrap();
            socket.send_from("192.0.2.66".parse().unwrap(), from, &bytes).await.unwrap();
            socket.send_to(from, &bytes).await.unwrap();
        }
    });
    let server = at(SERVER, 53);
    let found = client.resolve(server, "site.test").await.unwrap();
    assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    let answer = client.lookup(server, "site.test", RecordType::HTTPS).await.unwrap();
    assert_eq!((answer.answers.len(), answer.metadata.response_code), (0, ResponseCode::NoError));
}

#[tokio::test]
async fn packets_of_ones_own_go_out_as_they_are_and_strays_are_observed() {
    let (above, mut below) = pair();
    let client = PacketStack::start(Addresses::of(at(CLIENT, 0).ip()), above);
    let mut observed = client.observe();
    let forged = wire::tcp(at("10.99.0.77", 1), at(SERVER, 443), &Segment::syn(9));
    client.inject(forged.clone()).await.unwrap();
    let sent = below.incoming.recv().await.unwrap();
    let read = wire::read(&sent).unwrap();
    assert_eq!(read.endpoints().unwrap(), (at("10.99.0.77", 1), at(SERVER, 443)));
    assert!(read.tcp().unwrap().syn() && read.tcp().unwrap().seq_number().0 == 9);
    below.outgoing.send(forged.clone()).await.unwrap();
    assert_eq!(observed.recv().await.unwrap(), forged);
    below.outgoing.send(b"no packet".to_vec()).await.unwrap();
    assert_eq!(observed.recv().await.unwrap(), b"no packet");
}

#[test]
fn fragments_cover_the_packet_and_say_where_they_belong() {
    for (from, to) in [(CLIENT, SERVER), ("fd00::2", "2001:db8::1")] {
        let whole = wire::udp(at(from, 1), at(to, 2), &[9; 1_000]);
        let (mut covered, pieces) = (0, fragments(&whole, 300, 0xabcd));
        assert_eq!(pieces.len(), 4);
        for (index, piece) in pieces.iter().enumerate() {
            let read = wire::read(piece).unwrap();
            let (offset, more, length) = match read.from {
                IpAddr::V4(_) => {
                    let header = smoltcp::wire::Ipv4Packet::new_checked(piece).unwrap();
                    assert!(header.verify_checksum() && header.ident() == 0xabcd);
                    (header.frag_offset(), header.more_frags(), read.payload.len())
                }
                IpAddr::V6(_) => {
                    let field = u16::from_be_bytes([read.payload[2], read.payload[3]]);
                    assert_eq!(read.payload[0], 17);
                    (field & !7, field & 1 == 1, read.payload.len() - 8)
                }
            };
            assert_eq!((usize::from(offset), more), (covered, index != 3));
            covered += length;
        }
        assert_eq!(covered, 1_008);
    }
}
