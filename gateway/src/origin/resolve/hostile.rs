//! Name servers that lie, loop, drown us or say nothing, on a loopback port.
#![expect(clippy::unwrap_used, reason = "tests")]

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::memory::{NAMES_MAX, QUERIES_MAX};
use super::*;

/// What the server answers a question with, each packet in turn.
type Script = fn(&Message) -> Vec<Packet>;

enum Packet {
    /// As it should be sent.
    Here(Vec<u8>),
    /// From another port.
    Elsewhere(Vec<u8>),
}

const HONEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FORGED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);

struct Server {
    address: SocketAddr,
    /// Names in the order they were asked for, of both families.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Answers over UDP by the script, over TCP with the honest answer.
async fn server(script: Script) -> Server {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The same port may be taken for TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
            let query = Message::from_vec(buffer.get(..len).unwrap()).unwrap();
            log.lock().push(question(&query).name().to_ascii());
            for packet in script(&query) {
                match packet {
                    Packet::Here(bytes) => udp.send_to(&bytes, peer).await.unwrap(),
                    Packet::Elsewhere(bytes) => elsewhere.send_to(&bytes, peer).await.unwrap(),
                };
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; length.into()];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let query = Message::from_vec(&bytes).unwrap();
                    let reply = with_address(&query, HONEST).to_vec().unwrap();
                    stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            });
        }
    });
    Server { address, asked }
}

impl Server {
    fn resolver(&self) -> Resolver {
        let servers = NameServers::Addresses(vec![self.address]);
        Resolver::new(ResolverSettings { servers, hosts: BTreeMap::new() }).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

fn question(query: &Message) -> &Query {
    query.queries.first().unwrap()
}

fn reply(query: &Message) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.queries.push(question(query).clone());
    reply
}

/// The answer, where an IPv4 address is asked for; else that there is none.
fn with_address(query: &Message, address: Ipv4Addr) -> Message {
    let mut reply = reply(query);
    if question(query).query_type() == RecordType::A {
        let name = question(query).name().clone();
        reply.answers.push(Record::from_rdata(name, 60, RData::A(A(address))));
    }
    reply
}

fn here(message: &Message) -> Packet {
    Packet::Here(message.to_vec().unwrap())
}

fn honest(query: &Message) -> Vec<Packet> {
    vec![here(&with_address(query, HONEST))]
}

#[tokio::test]
async fn sd_08_chains_of_names_are_followed_a_few_steps_only() {
    // c0 → c1 → c2 …, one step per answer, without end.
    let server = server(|query| {
        let name = question(query).name().clone();
        let text = name.to_ascii();
        let (first, _) = text.split_once('.').unwrap();
        let number: u32 = first.trim_start_matches('c').parse().unwrap();
        let next = Name::from_ascii(format!("c{}.test.", number + 1)).unwrap();
        let mut reply = reply(query);
        reply.answers.push(Record::from_rdata(name, 60, RData::CNAME(CNAME(next))));
        vec![here(&reply)]
    })
    .await;
    let error = server.resolver().resolve("a", "c0.test").await.unwrap_err();
    assert!(!error.label().is_empty());
    let asked = server.asked().len();
    assert!(asked <= 40, "{asked} questions for one name");
}

#[tokio::test]
async fn sd_10_forged_answers_are_not_believed() {
    let server = server(|query| {
        let forged = with_address(query, FORGED);
        let mut other_id = forged.clone();
        other_id.metadata.id = query.metadata.id.wrapping_add(1);
        let mut other_name = forged.clone();
        let name = Name::from_ascii("other.test.").unwrap();
        other_name.queries.clear();
        other_name.queries.push(Query::query(name, question(query).query_type()));
        vec![
            here(&other_id),
            here(&other_name),
            Packet::Elsewhere(forged.to_vec().unwrap()),
            here(&with_address(query, HONEST)),
        ]
    })
    .await;
    // Enough names that a race would show.
    let resolver = server.resolver();
    for number in 0..50 {
        let found = resolver.resolve("a", &format!("www{number}.test")).await;
        // To distrust the whole answer is as good; to believe the forged one is not.
        if let Ok(addresses) = found {
            assert_eq!(addresses.as_ref(), [IpAddr::V4(HONEST)]);
        }
    }
}

#[tokio::test]
async fn sd_10_an_answer_says_nothing_of_other_names() {
    let server = server(|query| {
        let mut reply = with_address(query, HONEST);
        let other = Name::from_ascii("bank.test.").unwrap();
        reply.answers.push(Record::from_rdata(other.clone(), 60, RData::A(A(FORGED))));
        reply.additionals.push(Record::from_rdata(other, 60, RData::A(A(FORGED))));
        match question(query).name().to_ascii().as_str() {
            "bank.test." => honest(query),
            _ => vec![here(&reply)],
        }
    })
    .await;
    let resolver = server.resolver();
    // Whoever answers for evil.test may give it any address, and gives none to bank.test.
    resolver.resolve("a", "evil.test").await.unwrap();
    let bank = resolver.resolve("a", "bank.test").await.unwrap();
    assert_eq!(bank.as_ref(), [IpAddr::V4(HONEST)]);
}

#[tokio::test]
async fn sd_11_a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = server(|query| {
        let mut cut = reply(query);
        cut.metadata.truncation = true;
        vec![here(&cut)]
    })
    .await;
    let found = server.resolver().resolve("a", "large.test").await.unwrap();
    assert_eq!(found.as_ref(), [IpAddr::V4(HONEST)]);
}

#[tokio::test]
async fn sd_11_garbage_is_a_failure_and_soon() {
    let server = server(|query| {
        let mut bytes = query.metadata.id.to_be_bytes().to_vec();
        bytes.extend([0xff; 300]);
        vec![Packet::Here(bytes), Packet::Here(Vec::new())]
    })
    .await;
    let mut resolver = server.resolver();
    resolver.asker.patience = Duration::from_millis(200);
    assert!(resolver.resolve("a", "www.test").await.is_err());
    assert!(server.asked().len() <= 20, "{:?}", server.asked());
}

#[tokio::test]
async fn sd_12_what_does_not_exist_is_remembered_up_to_a_bound() {
    let server = server(|query| {
        let mut reply = reply(query);
        reply.metadata.response_code = ResponseCode::NXDomain;
        vec![here(&reply)]
    })
    .await;
    let resolver = Arc::new(server.resolver());
    for round in 0..=NAMES_MAX / 100 {
        let asking = (0..100).map(|number| {
            let resolver = Arc::clone(&resolver);
            let name = format!("n{round}-{number}.test");
            tokio::spawn(async move { resolver.resolve("a", &name).await })
        });
        for answer in asking.collect::<Vec<_>>() {
            assert_eq!(answer.await.unwrap(), Err(ResolveError::NotFound));
        }
    }
    let kept = resolver.view("a").names.lock().len();
    assert!((1..=NAMES_MAX).contains(&kept), "{kept} names");
}

#[tokio::test]
async fn sd_13_a_flood_of_names_uses_up_its_own_tenants_budget_only() {
    let server = server(|query| match question(query).name().to_ascii().as_str() {
        "www.test." => honest(query),
        _ => Vec::new(),
    })
    .await;
    let mut resolver = server.resolver();
    // Long enough that all questions of the flood are open at once.
    resolver.asker.patience = Duration::from_secs(10);
    let resolver = Arc::new(resolver);
    let flood: Vec<_> = (0..QUERIES_MAX + 100)
        .map(|number| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { resolver.resolve("a", &format!("x{number}.test")).await })
        })
        .collect();
    // Those above the budget are refused at once, in the order they were asked.
    let mut refused = 0;
    for (number, answer) in flood.into_iter().enumerate().skip(QUERIES_MAX) {
        assert_eq!(answer.await.unwrap(), Err(ResolveError::Busy), "{number}");
        refused += 1;
    }
    assert_eq!(refused, 100);
    let busy = resolver.resolve("a", "www.test").await;
    assert_eq!(busy, Err(ResolveError::Busy), "the flood still waits");
    let other = resolver.resolve("b", "www.test").await.unwrap();
    assert_eq!(other.as_ref(), [IpAddr::V4(HONEST)]);
}

#[tokio::test]
async fn sd_21_a_single_label_is_asked_for_as_it_is() {
    let server = server(|query| {
        let mut reply = reply(query);
        reply.metadata.response_code = ResponseCode::NXDomain;
        vec![here(&reply)]
    })
    .await;
    server.resolver().resolve("a", "intranet").await.unwrap_err();
    assert!(server.asked().iter().all(|name| name == "intranet."), "{:?}", server.asked());
    assert!(!server.asked().is_empty());
}
