#![expect(clippy::unwrap_used, reason = "tests")]

use tokio::net::TcpListener;

use super::*;
use crate::flow::guard::GuardSettings;

fn open_loopback() -> Guard {
    Guard::new(GuardSettings {
        listening: Vec::new(),
        allow_private: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        connect_ports: vec![1..=65535],
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn connects_and_says_where_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stream, address) = connect(&[ip("127.0.0.1")], port, &open_loopback(), &[]).await.unwrap();
    assert_eq!(address, listener.local_addr().unwrap());
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(&stream).keepalive().unwrap());
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_to_the_next_at_once() {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let addresses = [ip("127.0.0.1"), ip("::1"), ip("127.0.0.2")];
    let (_, address) = connect(&addresses, port, &open_loopback(), &[]).await.unwrap();
    assert_eq!(address.ip(), ip("127.0.0.2"));
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = connect(&[ip("127.0.0.1")], port, &open_loopback(), &[]).await.unwrap_err();
    assert_eq!(error.label(), "connect_refused");
    let both = [ip("127.0.0.1"), ip("127.0.0.2")];
    let error = connect(&both, port, &open_loopback(), &[]).await.unwrap_err();
    assert_eq!(error.label(), "connect_refused");
}

#[tokio::test]
async fn sd_05_sd_06_what_is_checked_is_what_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Guard::new(GuardSettings { connect_ports: vec![1..=65535], ..Default::default() });
    let error = connect(&[ip("127.0.0.1")], port, &closed, &[]).await.unwrap_err();
    assert!(error.is_refusal());
    assert_eq!(error.label(), "private_destination");
}

#[tokio::test]
async fn sd_14_own_listener_is_not_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let guard = Guard::new(GuardSettings {
        listening: vec![own],
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        connect_ports: vec![1..=65535],
    });
    let error = connect(&[own.ip()], own.port(), &guard, &[]).await.unwrap_err();
    assert_eq!(error.label(), "own_address");
}

#[tokio::test]
async fn leaves_from_the_egress_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egress = [ip("::1"), ip("127.0.0.9")];
    let (stream, _) = connect(&[ip("127.0.0.1")], port, &open_loopback(), &egress).await.unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), ip("127.0.0.9"));

    let v6_only = [ip("::1")];
    let error = connect(&[ip("127.0.0.1")], port, &open_loopback(), &v6_only).await.unwrap_err();
    assert_eq!(error, DialError::Egress);
    let foreign = [ip("192.0.2.1")];
    let error = connect(&[ip("127.0.0.1")], port, &open_loopback(), &foreign).await.unwrap_err();
    assert_eq!(error, DialError::Egress);
}

#[tokio::test]
async fn nothing_to_dial_is_an_error_of_its_own() {
    let error = connect(&[], 443, &open_loopback(), &[]).await.unwrap_err();
    assert_eq!(error.label(), "no_address");
}

#[tokio::test]
async fn sd_17_a_silent_address_holds_the_next_back_for_its_head_start_only() {
    // A listener whose queue is full answers no SYN: silence without a network.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let silent = silent.listen(0).unwrap();
    let port = silent.local_addr().unwrap().port();
    let _filling: Vec<_> =
        (0..4).map(|_| tokio::spawn(TcpStream::connect(silent.local_addr().unwrap()))).collect();
    sleep(Duration::from_millis(50)).await;
    let answering = TcpListener::bind(("127.0.0.4", port)).await.unwrap();

    let addresses = [ip("127.0.0.3"), ip("127.0.0.4")];
    let (_, address) = connect(&addresses, port, &open_loopback(), &[]).await.unwrap();
    assert_eq!(address, answering.local_addr().unwrap());
}

/// How one address behaves, in virtual time.
#[derive(Clone, Copy)]
enum Address {
    /// Nothing ever comes back.
    BlackHole,
    AnswersAfter(u64),
    RefusesAfter(u64),
}

/// Races to addresses of these kinds; says which one won, and after how many milliseconds.
async fn raced(addresses: &[(&str, Address)]) -> (Result<usize, DialError>, u128) {
    let began = tokio::time::Instant::now();
    let kinds: Vec<Address> = addresses.iter().map(|(_, kind)| *kind).collect();
    let attempts: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(number, (address, _))| {
            // The port says which one it is.
            (SocketAddr::new(ip(address), u16::try_from(number).unwrap()), None)
        })
        .collect();
    let racing = race(attempts, move |address, _| {
        let number = usize::from(address.port());
        let kind = *kinds.get(number).unwrap();
        async move {
            let after = |millis| sleep(Duration::from_millis(millis));
            match kind {
                Address::BlackHole => std::future::pending().await,
                Address::AnswersAfter(millis) => after(millis).await,
                Address::RefusesAfter(millis) => {
                    after(millis).await;
                    return Err(DialError::ConnectRefused);
                }
            }
            Ok(number)
        }
    });
    let outcome = within_time(racing).await;
    (outcome, began.elapsed().as_millis())
}

const V6: &str = "2001:db8::1";
const V4: &str = "192.0.2.1";

#[tokio::test(start_paused = true)]
async fn sd_17_a_black_holed_family_costs_one_head_start() {
    use Address::{AnswersAfter, BlackHole};
    let (winner, millis) = raced(&[(V6, BlackHole), (V4, AnswersAfter(30))]).await;
    assert_eq!((winner, millis), (Ok(1), 280));
    let (winner, millis) = raced(&[(V4, BlackHole), (V6, AnswersAfter(30))]).await;
    assert_eq!((winner, millis), (Ok(1), 280));
    // A slow first address still wins where it answers before the second.
    let (winner, millis) = raced(&[(V6, AnswersAfter(260)), (V4, AnswersAfter(30))]).await;
    assert_eq!((winner, millis), (Ok(0), 260));
    let (winner, millis) = raced(&[(V6, BlackHole), (V4, BlackHole)]).await;
    assert_eq!((winner, millis), (Err(DialError::Timeout), DIAL_TIMEOUT.as_millis()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_starts_the_next_at_once() {
    use Address::{AnswersAfter, BlackHole, RefusesAfter};
    let (winner, millis) =
        raced(&[(V6, RefusesAfter(10)), (V4, RefusesAfter(10)), (V4, AnswersAfter(5))]).await;
    assert_eq!((winner, millis), (Ok(2), 25));
    let (winner, millis) =
        raced(&[(V6, BlackHole), (V4, RefusesAfter(10)), (V4, AnswersAfter(5))]).await;
    assert_eq!((winner, millis), (Ok(2), 265), "also beside one that hangs");
    let (winner, millis) = raced(&[(V6, RefusesAfter(10)), (V4, RefusesAfter(20))]).await;
    assert_eq!((winner, millis), (Err(DialError::ConnectRefused), 30));
}
