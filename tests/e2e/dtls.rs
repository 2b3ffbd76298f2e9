//! DTLS handshakes with strangers, over bad links, and with nobody left: the DT rows of docs/cases.md.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::client::carrier::Timing;
use tests::client::dtls::DtlsTo;
use tests::client::packet::Addresses;
use tests::client::secure::{Dtls13, Event};
use tests::link::{Impairment, UdpRelay};
use tests::{Gateway, Identity, Origin};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Nothing more comes after this, on a busy machine.
const SILENCE: Duration = Duration::from_millis(700);
/// Where a handshake record's message begins: behind its own header and the message's.
const BODY: usize = 13 + 12;

fn to(gateway: &Gateway, identity: &Identity, udp: SocketAddr) -> DtlsTo {
    let name = gateway.name(&identity.tenant);
    let trusted = &identity.tunnel_ca_pem;
    let to = DtlsTo::new(udp, gateway.address(), &name, trusted, &identity.chain).unwrap();
    to.addresses(Addresses::of(OWN)).without_fallback()
}

/// A client that is moved by hand, at an address of its own.
struct ByHand {
    socket: UdpSocket,
    session: Dtls13,
}

impl ByHand {
    fn new(gateway: &Gateway, alice: &Identity) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(gateway.address()).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let config = to(gateway, alice, gateway.address()).secured();
        let session = Dtls13::new(Instant::now(), &config, &gateway.name("acme"));
        Self { socket, session }
    }

    /// The last datagram that the client would send now; before it may stand one that it sends again.
    fn says(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while let Some(event) = self.session.poll() {
            if let Event::Transmit(datagram) = event {
                said.push(datagram);
            }
        }
        said.pop().expect("a datagram")
    }

    /// Sends a datagram; gives all that comes back.
    fn ask(&self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.socket.send(datagram).unwrap();
        let mut buffer = [0; 4096];
        let mut answers = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            answers.push(buffer[..length].to_vec());
        }
        answers
    }

    /// The second hello: with the cookie that the gateway has sent to this address.
    fn second_hello(&mut self) -> Vec<u8> {
        let first = self.says();
        let answers = self.ask(&first);
        assert!(!answers.is_empty() && !is_server_flight(&answers), "it is asked for the cookie");
        self.session.handle_datagram(Instant::now(), &answers[0]);
        self.says()
    }
}

/// Whether a server has taken the client for real: there are encrypted records.
fn is_server_flight(answers: &[Vec<u8>]) -> bool {
    answers.iter().any(|answer| {
        let mut left = answer.as_slice();
        while left.first() == Some(&22) {
            let length = usize::from(u16::from_be_bytes([left[11], left[12]]));
            left = &left[13 + length..];
        }
        left.first().is_some_and(|first| first & 0xe0 == 0x20)
    })
}

fn find(datagram: &[u8], part: &[u8]) -> usize {
    datagram.windows(part.len()).position(|it| it == part).expect("it is there")
}

/// Where the cookie's extension begins: its type, 34 bytes, of which 32 are the cookie.
fn cookie(hello: &[u8]) -> usize {
    find(hello, &[0, 44, 0, 34, 0, 32])
}

/// The same with the last byte of its cookie cut off, and every length around it in order.
fn with_shorter_cookie(hello: &[u8]) -> Vec<u8> {
    let at = cookie(hello);
    let mut cut = hello.to_vec();
    cut.remove(at + 6 + 31);
    // Version, random, session id, legacy cookie, suites, compression.
    let mut extensions = BODY + 34;
    extensions += 1 + usize::from(hello[extensions]);
    extensions += 1 + usize::from(hello[extensions]);
    extensions += 2 + usize::from(u16::from_be_bytes([hello[extensions], hello[extensions + 1]]));
    extensions += 1 + usize::from(hello[extensions]);
    // The low bytes of: record, message, fragment, extensions, extension, cookie.
    for place in [11, 15, 23, extensions, at + 2, at + 4] {
        let length = u16::from_be_bytes([cut[place], cut[place + 1]]) - 1;
        cut[place..place + 2].copy_from_slice(&length.to_be_bytes());
    }
    cut
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_02_a_cookie_of_another_address_of_before_or_cut_opens_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let tried = tokio::task::spawn_blocking(move || {
        let client = || ByHand::new(&gateway, &alice);
        let mut honest = client();
        let hello = honest.second_hello();
        // Seen on the way and sent from elsewhere.
        let elsewhere = client();
        assert_eq!(elsewhere.ask(&hello), Vec::<Vec<u8>>::new(), "from another address");
        // Of another key: the gateway has forgotten who was at this address.
        let mut late = client();
        let mut old = late.second_hello();
        let last = cookie(&old) + 6 + 31;
        old[last] ^= 1;
        assert_eq!(late.ask(&old), Vec::<Vec<u8>>::new(), "one bit is wrong");
        old[last] ^= 1;
        assert_eq!(late.ask(&old), Vec::<Vec<u8>>::new(), "a cookie of before");
        let mut short = client();
        let cut = with_shorter_cookie(&short.second_hello());
        assert_eq!(short.ask(&cut), Vec::<Vec<u8>>::new(), "cut off");
        // Nobody lost anything by that.
        assert!(is_server_flight(&honest.ask(&hello)), "the cookie as it should be");
    });
    tried.await.unwrap();
}

/// Whose address nobody has proven must not be made to get more than was sent in his name.
#[tokio::test(flavor = "multi_thread")]
async fn before_its_cookie_comes_back_an_address_gets_no_more_than_it_sends() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let tried = tokio::task::spawn_blocking(move || {
        let mut client = ByHand::new(&gateway, &alice);
        let hello = client.says();
        // As long as any answer is sent once more.
        client.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let got: usize = client.ask(&hello).iter().map(Vec::len).sum();
        assert!(got > 0 && got <= hello.len(), "{got} bytes for {}", hello.len());
    });
    tried.await.unwrap();
}

/// A link that does what links do, at its worst.
fn bad(loss: f64) -> Impairment {
    let link = Impairment::none().delay(Duration::from_millis(2)).loss(loss).duplicate(0.1);
    link.reorder(0.3, Duration::from_millis(15))
}

/// Connects over such a link; how long that takes.
async fn connect_over(gateway: &Gateway, link: Impairment, seed: u64, mtu: usize) -> Duration {
    let relay = UdpRelay::start(gateway.address(), seed).await;
    relay.set(link);
    let timing = Timing { handshake_max: Duration::from_secs(15), ..Timing::USUAL };
    let to = to(gateway, &gateway.alice(), relay.address).timing(timing).handshake_mtu(mtu);
    let begun = Instant::now();
    loop {
        match to.connect().await {
            Ok(tunnel) => {
                let took = begun.elapsed();
                relay.set(Impairment::none());
                let inner = "100.96.0.1".parse().unwrap();
                tunnel.stack().ping(inner, &[1; 100], Duration::from_secs(10)).await.unwrap();
                return took;
            }
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_06_with_a_third_of_all_datagrams_lost_a_handshake_is_through_within_a_minute() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let lossy = Impairment::none().delay(Duration::from_millis(5)).loss(0.3);
    for seed in 1..=4 {
        let took = connect_over(&gateway, lossy, seed, 1_232).await;
        assert!(took < Duration::from_secs(60), "seed {seed}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_pieces_comes_through_a_link_that_loses_doubles_and_reorders() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for seed in 1..=6 {
        connect_over(&gateway, bad(0.1), seed, 256).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dt_12_nobody_but_dtls_1_3_gets_a_word() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 1).await;
    for version in ["-dtls1", "-dtls1_2"] {
        let (sent, at) = (relay.counts_up().sent, relay.address.to_string());
        let run = tokio::task::spawn_blocking(move || {
            let mut command = Command::new("timeout");
            command.args(["3", "openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0"]);
            command.args(["-connect", &at]).stdin(std::process::Stdio::null()).output()
        });
        run.await.unwrap().expect("the openssl command");
        assert!(relay.counts_up().sent > sent, "{version}: no hello was sent");
        assert_eq!(relay.counts_down().sent, 0, "{version}");
    }
    let alice = gateway.alice();
    let tried = tokio::task::spawn_blocking(move || {
        let mut client = ByHand::new(&gateway, &alice);
        let hello = client.says();
        // Somebody on the way takes the newer version off the list, or says an older one.
        let mut without = hello.clone();
        let at = find(&hello, &[0, 43, 0]);
        without[at..at + 2].copy_from_slice(&[0x7a, 0x7a]);
        let mut older = hello.clone();
        older[BODY + 1] = 0xff;
        for changed in [&without, &older] {
            let other = ByHand::new(&gateway, &alice);
            assert_eq!(other.ask(changed), Vec::<Vec<u8>>::new());
        }
        assert!(!client.ask(&hello).is_empty(), "as it was sent");
    });
    tried.await.unwrap();
}

/// Takes as long as a client may stay away.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes six minutes: tests/run --long"]
async fn dt_15_a_client_that_went_without_a_word_is_reaped() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let relay = UdpRelay::start(gateway.address(), 1).await;
    let tunnel = to(&gateway, &gateway.alice(), relay.address).connect().await.unwrap();
    relay.block(true);
    drop(tunnel);
    // The channel is dead after three questions, the session when nobody has come back for it.
    let begun = Instant::now();
    let closed = loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let events = gateway.events("acme").await.unwrap();
        let closed =
            events.into_iter().find(|it| it["type"] == "session" && it["state"] == "close");
        if let Some(closed) = closed {
            break closed;
        }
        assert!(begun.elapsed() < Duration::from_secs(400), "still there");
    };
    assert!(begun.elapsed() > Duration::from_secs(300), "{:?}", begun.elapsed());
    assert_eq!(closed["error"], "client_away", "{closed}");
    assert_eq!(closed["error_side"], "client", "{closed}");
}
