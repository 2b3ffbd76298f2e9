//! Against a name server of our own on a loopback port.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use super::ask::in_order;
use super::*;

/// Patience where no answer comes.
const SOON: Duration = Duration::from_millis(100);

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
    resolver.resolve("a", "missing.test").await.unwrap_err();
    let before = asked.load(Ordering::Relaxed);
    resolver.resolve("a", "missing.test").await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), before, "absence is remembered");
    for (name, label) in [
        ("missing.test", "dns_nxdomain"),
        ("empty.test", "dns_no_address"),
        ("broken.test", "dns_servfail"),
        ("refused.test", "dns_refused"),
    ] {
        assert_eq!(resolver.resolve("a", name).await.unwrap_err().label(), label, "{name}");
    }
    resolver.asker.patience = SOON;
    assert_eq!(resolver.resolve("a", "silent.test").await.unwrap_err().label(), "dns_timeout");
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
        ("[2001:db8::9]", "2001:db8::9"),
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

/// What a scripted server says of every name, until it is told otherwise.
#[derive(Clone, Copy)]
enum Says {
    /// The last number of an address, kept for a minute.
    Address(u8),
    Code(ResponseCode),
    Nothing,
}

/// A name server under a script, and a resolver that asks it.
struct Scripted {
    resolver: Resolver,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    begun: Instant,
}

impl Scripted {
    async fn saying(first: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(first)), Arc::new(AtomicUsize::new(0)));
        let (script, counter) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(buffer.get(..len).unwrap()).unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let says = *script.lock();
                if let Some(reply) = scripted(&query, says) {
                    socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
                }
            }
        });
        let servers = NameServers::Addresses(vec![address]);
        let resolver = Resolver::new(ResolverSettings { servers, ..Default::default() }).unwrap();
        Self { resolver, says, asked, begun: Instant::now() }
    }

    /// The last number of the address a tenant gets that much later.
    async fn after(&self, later: Duration) -> Result<u8, ResolveError> {
        let found = self.resolver.remembered("a", "www.test", self.begun + later).await?;
        match found.first() {
            Some(IpAddr::V4(address)) => Ok(address.octets()[3]),
            _ => Ok(0),
        }
    }

    /// Waits until nothing is being asked.
    async fn settle(&self, later: Duration) {
        let view = self.resolver.view("a");
        let now = self.begun + later;
        let place = view.place("www.test", now);
        place.cell.get_or_init(|| self.resolver.asker.ask(&view.queries, "www.test", now)).await;
    }

    fn say(&self, says: Says) -> usize {
        *self.says.lock() = says;
        self.asked.load(Ordering::Relaxed)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn scripted(query: &Message, says: Says) -> Option<Message> {
    let question = query.queries.first().unwrap().clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    match says {
        Says::Nothing => return None,
        Says::Code(code) => reply.metadata.response_code = code,
        Says::Address(last) if question.query_type() == RecordType::A => {
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
            reply.answers.push(Record::from_rdata(question.name().clone(), 60, address));
        }
        Says::Address(_) => {}
    }
    reply.queries.push(question);
    Some(reply)
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_then_used_while_the_name_is_asked_for_again() {
    let dns = Scripted::saying(Says::Address(1)).await;
    assert_eq!(dns.after(Duration::ZERO).await, Ok(1));
    let once = dns.say(Says::Address(2));
    assert_eq!(dns.after(58 * SECOND).await, Ok(1));
    assert_eq!(dns.asked(), once, "within its time nobody asks");
    assert_eq!(dns.after(62 * SECOND).await, Ok(1), "at once");
    dns.settle(62 * SECOND).await;
    assert_eq!(dns.asked(), 2 * once, "it was asked for once");
    assert_eq!(dns.after(62 * SECOND).await, Ok(2), "the next one has the new address");
}

#[tokio::test]
async fn long_past_its_time_an_answer_is_asked_for_first() {
    let dns = Scripted::saying(Says::Address(1)).await;
    assert_eq!(dns.after(Duration::ZERO).await, Ok(1));
    dns.say(Says::Address(2));
    assert_eq!(dns.after(HOUR).await, Ok(2));
}

#[tokio::test]
async fn sd_12_a_name_outlives_its_servers_by_a_day_and_no_longer() {
    for outage in [Says::Code(ResponseCode::ServFail), Says::Nothing] {
        let mut dns = Scripted::saying(Says::Address(1)).await;
        assert_eq!(dns.after(Duration::ZERO).await, Ok(1));
        dns.say(outage);
        let patience = std::mem::replace(&mut dns.resolver.asker.patience, SOON);
        assert_eq!(dns.after(HOUR).await, Ok(1));
        let asked = dns.asked();
        assert_eq!(dns.after(HOUR + 20 * SECOND).await, Ok(1));
        assert_eq!(dns.asked(), asked, "servers that failed are left alone");
        assert_eq!(dns.after(23 * HOUR).await, Ok(1));
        let error = dns.after(25 * HOUR).await.unwrap_err();
        assert!(matches!(error, ResolveError::ServerFailure | ResolveError::Timeout), "{error}");
        dns.say(Says::Address(3));
        dns.resolver.asker.patience = patience;
        assert_eq!(dns.after(26 * HOUR).await, Ok(3));
    }
}

#[tokio::test]
async fn a_name_that_is_gone_is_gone() {
    let dns = Scripted::saying(Says::Address(1)).await;
    assert_eq!(dns.after(Duration::ZERO).await, Ok(1));
    dns.say(Says::Code(ResponseCode::NXDomain));
    assert_eq!(dns.after(HOUR).await, Err(ResolveError::NotFound));
    dns.say(Says::Code(ResponseCode::ServFail));
    assert!(dns.after(2 * HOUR).await.is_err(), "and nothing stale is left of it");
}
