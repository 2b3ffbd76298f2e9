//! Against a name server of our own on a loopback port.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, CNAME};
use tokio::net::UdpSocket;

use super::*;

/// Answers by name until the test ends; counts the questions.
async fn name_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(buffer.get(..len).unwrap()).unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = answer(&query) {
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    (address, asked)
}

fn answer(query: &Message) -> Option<Message> {
    let question = query.queries.first().unwrap().clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let name = question.name().clone();
    let a = |last: u8| {
        Record::from_rdata(name.clone(), 60, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
    };
    let is_a = question.query_type() == RecordType::A;
    match name.to_ascii().as_str() {
        "silent.test." => return None,
        "missing.test." => reply.metadata.response_code = ResponseCode::NXDomain,
        "broken.test." => reply.metadata.response_code = ResponseCode::ServFail,
        "refused.test." => reply.metadata.response_code = ResponseCode::Refused,
        "empty.test." => {}
        "many.test." if is_a => reply.answers.extend((0..60).map(a)),
        "loop.test." => {
            let target = RData::CNAME(CNAME(name.clone()));
            reply.answers.push(Record::from_rdata(name.clone(), 60, target));
        }
        _ if is_a => reply.answers.push(a(1)),
        _ => {}
    }
    reply.queries.push(question);
    Some(reply)
}

async fn resolver(hosts: &[(&str, &str)]) -> (Resolver, Arc<AtomicUsize>) {
    let (address, asked) = name_server().await;
    let settings = ResolverSettings {
        servers: NameServers::Addresses(vec![address]),
        hosts: hosts
            .iter()
            .map(|(name, address)| (name.to_string(), address.parse().unwrap()))
            .collect(),
    };
    (Resolver::new(settings).unwrap(), asked)
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_per_tenant() {
    let (resolver, asked) = resolver(&[]).await;
    let resolver = Arc::new(resolver);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { resolver.resolve("a", "www.test").await.unwrap() })
        })
        .collect();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().as_ref(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
    let once = asked.load(Ordering::Relaxed);
    assert_eq!(once, 2, "one question per family");
    resolver.resolve("b", "www.test").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2 * once, "ti_08 another tenant asks for itself");
    resolver.forget("b");
}

#[tokio::test]
async fn sd_08_sd_12_failures_have_names_of_their_own() {
    let (mut resolver, asked) = resolver(&[]).await;
    resolver.patience = Duration::from_millis(100);
    resolver.resolve("a", "missing.test").await.unwrap_err();
    let before = asked.load(Ordering::Relaxed);
    resolver.resolve("a", "missing.test").await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), before, "absence is remembered");
    for (name, label) in [
        ("missing.test", "dns_nxdomain"),
        ("empty.test", "dns_no_address"),
        ("broken.test", "dns_servfail"),
        ("refused.test", "dns_refused"),
        ("silent.test", "dns_timeout"),
    ] {
        assert_eq!(resolver.resolve("a", name).await.unwrap_err().label(), label, "{name}");
    }
    assert!(resolver.resolve("a", "loop.test").await.is_err());
}

#[tokio::test]
async fn sd_09_only_so_many_addresses_are_used() {
    let (resolver, _) = resolver(&[]).await;
    assert_eq!(resolver.resolve("a", "many.test").await.unwrap().len(), ADDRESSES_MAX);
}

#[tokio::test]
async fn the_map_comes_first_and_the_longest_suffix_wins() {
    let map = [("*.test", "10.0.0.1"), ("*.b.test", "10.0.0.2"), ("a.b.test", "10.0.0.3")];
    let (resolver, asked) = resolver(&map).await;
    for (name, address) in [
        ("x.test", "10.0.0.1"),
        ("b.test", "10.0.0.1"),
        ("x.b.test", "10.0.0.2"),
        ("x.y.b.test", "10.0.0.2"),
        ("a.b.test", "10.0.0.3"),
        ("192.0.2.9", "192.0.2.9"),
        ("localhost", "127.0.0.1"),
    ] {
        let found = resolver.resolve("a", name).await.unwrap();
        assert_eq!(found.first().unwrap().to_string(), address, "{name}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn families_take_turns() {
    let v4: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let v6: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap()];
    let ordered = in_order(&v6, &v4);
    assert_eq!(ordered.len(), 3);
    let families: Vec<bool> = ordered.iter().map(IpAddr::is_ipv4).collect();
    assert!(matches!(families.as_slice(), [true, false, true] | [false, true, true]));
}
