//! Each impairment does what it says, and a seed decides all of it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn datagram(number: u32) -> Datagram {
    Datagram { flow: 0, bytes: number.to_be_bytes().to_vec() }
}

fn number(datagram: &Datagram) -> u32 {
    u32::from_be_bytes(datagram.bytes.as_slice().try_into().unwrap())
}

/// Sends `count` datagrams a millisecond apart; numbers and times of those that arrive.
fn pass(lane: &mut Lane, count: u32) -> Vec<(u32, Duration)> {
    let begun = Instant::now();
    for at in 0..count {
        lane.send(begun + MS * at, datagram(at));
    }
    let mut arrived = Vec::new();
    while let Some(due) = lane.poll_timeout() {
        assert_eq!(lane.poll(due - Duration::from_nanos(1)), None);
        let datagram = lane.poll(due).unwrap();
        arrived.push((number(&datagram), due - begun));
    }
    arrived
}

fn numbers(arrived: &[(u32, Duration)]) -> Vec<u32> {
    arrived.iter().map(|(number, _)| *number).collect()
}

#[test]
fn a_delay_is_kept_exactly_and_order_with_it() {
    let mut lane = Lane::new(Impairment::none().delay(20 * MS), 1);
    let arrived = pass(&mut lane, 100);
    let expected: Vec<_> = (0..100).map(|at| (at, MS * (at + 20))).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn jitter_spreads_but_never_reorders() {
    let mut lane = Lane::new(Impairment::none().delay(20 * MS).jitter(10 * MS), 2);
    let arrived = pass(&mut lane, 1_000);
    assert_eq!(numbers(&arrived), (0..1_000).collect::<Vec<_>>());
    let late: Vec<_> = arrived.iter().map(|(at, due)| *due - MS * *at).collect();
    assert!(late.iter().all(|it| (20 * MS..=30 * MS).contains(it)));
    assert!(late.iter().max() > late.iter().min());
}

#[test]
fn a_share_is_lost_and_the_same_one_by_the_same_seed() {
    let lossy = Impairment::none().loss(0.1);
    let pass_with = |seed| numbers(&pass(&mut Lane::new(lossy, seed), 10_000));
    let (first, again, other) = (pass_with(3), pass_with(3), pass_with(4));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!((8_800..9_200).contains(&first.len()), "{}", first.len());
}

#[test]
fn a_share_comes_after_its_successors() {
    let mut lane = Lane::new(Impairment::none().delay(MS).reorder(0.1, 5 * MS), 5);
    let arrived = pass(&mut lane, 1_000);
    assert_eq!(arrived.len(), 1_000);
    let late = arrived.windows(2).filter(|two| two[0].0 > two[1].0).count() as u64;
    assert!((60..140).contains(&late), "{late}");
    assert!(lane.counts().reordered >= late);
}

#[test]
fn a_share_comes_twice() {
    let mut lane = Lane::new(Impairment::none().duplicate(0.2), 6);
    let arrived = pass(&mut lane, 1_000);
    let twice = lane.counts().duplicated;
    assert!((150..250).contains(&twice), "{twice}");
    assert_eq!(arrived.len() as u64, 1_000 + twice);
}

#[test]
fn a_share_has_one_bit_turned() {
    let mut lane = Lane::new(Impairment::none().corrupt(0.3), 7);
    let arrived = pass(&mut lane, 1_000);
    let wrong = arrived.iter().enumerate().filter(|(at, (number, _))| *at as u32 != *number);
    let wrong: Vec<_> = wrong.map(|(at, (number, _))| (at as u32 ^ number).count_ones()).collect();
    assert_eq!(wrong.len() as u64, lane.counts().corrupted);
    assert!(wrong.len() > 200 && wrong.iter().all(|bits| *bits == 1));
}

#[test]
fn a_rate_spaces_datagrams_and_its_queue_is_bounded() {
    // 4 bytes at 3,200 bit/s are 10 ms; 40 bytes of queue are 100 ms, one datagram comes each ms.
    let mut lane = Lane::new(Impairment::none().rate(3_200, 40), 8);
    let arrived = pass(&mut lane, 200);
    assert!(arrived.windows(2).all(|two| two[1].1 - two[0].1 >= Duration::from_micros(9_999)));
    let counts = lane.counts();
    assert_eq!(counts.delivered + counts.overflowed, 200);
    assert!((28..=31).contains(&counts.delivered), "{counts:?}");
    // One larger than the queue still passes where nothing waits.
    let mut lane = Lane::new(Impairment::none().rate(3_200, 1), 8);
    assert_eq!(pass(&mut lane, 1).len(), 1);
}

#[test]
fn a_block_takes_what_is_under_way_too() {
    let begun = Instant::now();
    let mut lane = Lane::new(Impairment::none().delay(10 * MS), 9);
    lane.send(begun, datagram(0));
    lane.set(Impairment::none().blocked());
    lane.send(begun, datagram(1));
    assert_eq!(lane.poll(begun + 20 * MS), None);
    lane.set(Impairment::none());
    lane.send(begun, datagram(2));
    assert_eq!(lane.poll(begun), Some(datagram(2)));
    assert_eq!(lane.counts().blocked, 2);
}

/// Answers every datagram with the port it saw it from.
async fn port_teller() -> std::net::SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 100];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&peer.port().to_be_bytes(), peer).await.unwrap();
        }
    });
    address
}

async fn ask(socket: &UdpSocket) -> u16 {
    socket.send(b"?").await.unwrap();
    let mut answer = [0; 2];
    assert_eq!(socket.recv(&mut answer).await.unwrap(), 2);
    u16::from_be_bytes(answer)
}

#[tokio::test]
async fn each_client_has_a_port_upstream_until_it_is_rebound() {
    let relay = UdpRelay::start(port_teller().await, 1).await;
    let (one, two) = (UdpSocket::bind("127.0.0.1:0").await, UdpSocket::bind("127.0.0.1:0").await);
    let (one, two) = (one.unwrap(), two.unwrap());
    for socket in [&one, &two] {
        socket.connect(relay.address).await.unwrap();
    }
    let (first, second) = (ask(&one).await, ask(&two).await);
    assert_ne!(first, second);
    assert_eq!((ask(&one).await, ask(&two).await), (first, second));
    relay.rebind();
    // The wish is fulfilled before or after the next datagram: ask until it is.
    while ask(&one).await == first {}
    assert_ne!(ask(&two).await, second);
}

#[tokio::test]
async fn a_relay_that_blocks_lets_nothing_through_until_it_opens() {
    let relay = UdpRelay::start(port_teller().await, 1).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(relay.address).await.unwrap();
    ask(&socket).await;
    relay.block(true);
    socket.send(b"?").await.unwrap();
    while relay.counts_up().blocked == 0 {
        tokio::task::yield_now().await;
    }
    relay.block(false);
    ask(&socket).await;
    let up = relay.counts_up();
    assert_eq!((up.sent, up.delivered, relay.counts_down().delivered), (3, 2, 2));
}

async fn tcp_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await.ok();
                writes.shutdown().await.ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn a_tcp_relay_delays_and_paces_and_passes_the_end_on() {
    let relay = TcpRelay::start(tcp_echo().await).await;
    // 100,000 bytes at 8 Mbit/s are 100 ms; twice 30 ms on the way: no less can it take.
    relay.set_up(Pace { delay: 30 * MS, rate: Some(8_000_000) });
    relay.set_down(Pace { delay: 30 * MS, rate: None });
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let begun = Instant::now();
    let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reads, mut writes) = stream.split();
    let writing = async {
        writes.write_all(&sent).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(writing, reads.read_to_end(&mut got));
    assert_eq!((read.unwrap(), got == sent), (sent.len(), true));
    assert!(begun.elapsed() >= 160 * MS, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_tcp_relay_cuts_what_there_is_and_takes_new_connections() {
    let relay = TcpRelay::start(tcp_echo().await).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    relay.cut();
    assert!(
        matches!(stream.read_u8().await, Err(error) if error.kind() != std::io::ErrorKind::TimedOut)
    );
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(b"y").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'y');
}
