//! A small gateway for tests of the clients alone: both datagram channels on one UDP port, OpenConnect
//! over TLS on one TCP port, and behind all of them one stack that echoes, or passes streams on to an
//! origin. It serves one client at a time, judges nothing and panics where it meets what it does not know.

mod datagrams;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gateway_proto::openconnect::frame::Kind;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::carrier::{GatewayAt, lock};
use super::packet::{self, Addresses, MTU, PacketStack, PacketStream};
use super::tunnel::WAIT_MAX;
use crate::pki::{Chain, Pki};

pub const NAME: &str = "gateway-acme.pop.test";
pub const BACKUP: &str = "gateway-backup-acme.pop.test";
/// Who clients are told to be, and who answers them.
pub const CLIENT: &str = "10.99.0.7";
pub const SERVER: &str = "192.0.2.1";

/// Where packets for the client go: the channel that last heard from it.
#[derive(Clone)]
enum Way {
    Tls(mpsc::Sender<(Kind, Vec<u8>)>),
    Datagrams(SocketAddr, mpsc::Sender<(SocketAddr, Vec<u8>)>),
}

/// A command to every channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Goodbye,
}

pub(crate) struct Shared {
    way: Mutex<Option<Way>>,
    to_stack: mpsc::Sender<Vec<u8>>,
    /// Keys of the data channel by App-ID.
    keys: Mutex<HashMap<[u8; 32], [u8; 32]>>,
    port: u16,
    commands: broadcast::Sender<Command>,
    /// Cookies that hold.
    cookies: Mutex<Vec<String>>,
    pub(crate) seen: Mutex<Seen>,
}

/// What clients did.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub posts: usize,
    /// Heads of CONNECT requests.
    pub connects: Vec<String>,
    pub certificates: usize,
    pub goodbyes: usize,
    /// TLS reads that were not one whole frame.
    pub torn: usize,
}

/// A running gateway. Dropping it ends it.
pub struct Peer {
    pub at: GatewayAt,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Peer {
    /// One that echoes every TCP stream.
    pub async fn start(pki: &Pki, name: &str) -> Self {
        Self::before(None, pki, name).await
    }

    /// One that passes every TCP stream on to `origin`, whatever address it is for.
    pub async fn before(origin: Option<SocketAddr>, pki: &Pki, name: &str) -> Self {
        let udp = crate::link::socket().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = GatewayAt {
            name: name.to_owned(),
            tcp: listener.local_addr().unwrap(),
            udp: udp.local_addr().unwrap(),
        };
        let (above, mut below) = packet::pair();
        let addresses = Addresses { v4: SERVER.parse().ok(), v6: None, mtu: MTU };
        let stack = PacketStack::start(addresses, above);
        let shared = Arc::new(Shared {
            way: Mutex::new(None),
            to_stack: below.outgoing.clone(),
            keys: Mutex::default(),
            port: at.udp.port(),
            commands: broadcast::channel(4).0,
            cookies: Mutex::default(),
            seen: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let chain = server_chain(pki, name);
        tasks.spawn(answer_names(stack.clone()));
        tasks.spawn(serve_streams(stack, origin));
        tasks.spawn(datagrams::serve(udp, chain.clone(), Arc::clone(&shared)));
        tasks.spawn(tls::serve(listener, pki.root_pem(), chain, Arc::clone(&shared)));
        let down = Arc::clone(&shared);
        tasks.spawn(async move {
            while let Some(packet) = below.incoming.recv().await {
                let way = lock(&down.way).clone();
                match way {
                    Some(Way::Tls(to)) => drop(to.try_send((Kind::Data, packet))),
                    Some(Way::Datagrams(peer, to)) => drop(to.try_send((peer, packet))),
                    None => {}
                }
            }
        });
        Self { at, shared, _tasks: tasks }
    }

    /// Ends every session as a gateway that drains.
    pub fn say_goodbye(&self) {
        self.shared.commands.send(Command::Goodbye).ok();
        lock(&self.shared.cookies).clear();
    }

    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }
}

/// dimpl shows no chain, so clients trust what issued the leaf.
fn server_chain(pki: &Pki, name: &str) -> Chain {
    let mut chain = pki.chain(name, crate::Fault::None);
    chain.certificates.truncate(1);
    chain
}

/// What clients of a [`Peer`] trust.
pub fn trusted_pem(pki: &Pki) -> String {
    let chain = pki.chain("x.test", crate::Fault::None);
    Chain { certificates: vec![chain.certificates[1].clone()], key: chain.key }.certificates_pem()
}

async fn serve_streams(stack: PacketStack, origin: Option<SocketAddr>) {
    let mut accepted = stack.listen();
    while let Some((_, stream)) = accepted.recv().await {
        tokio::spawn(async move {
            match origin {
                None => echo(stream).await,
                Some(origin) => pass_on(stream, origin).await,
            }
        });
    }
}

async fn echo(stream: PacketStream) {
    let (mut reads, mut writes) = tokio::io::split(stream);
    tokio::io::copy(&mut reads, &mut writes).await.ok();
    writes.shutdown().await.ok();
}

async fn pass_on(mut stream: PacketStream, origin: SocketAddr) {
    if let Ok(mut tcp) = TcpStream::connect(origin).await {
        tokio::io::copy_bidirectional(&mut stream, &mut tcp).await.ok();
    }
}

/// Every name has the server's IPv4 address, and no other record.
async fn answer_names(stack: PacketStack) {
    let mut socket = stack.udp_at(53).unwrap();
    loop {
        let Ok((from, bytes)) = socket.receive(WAIT_MAX).await else { continue };
        let query = Message::from_vec(&bytes).unwrap();
        let name = query.queries[0].name().clone();
        let mut answer = query.into_response();
        if answer.queries[0].query_type() == RecordType::A {
            let address: A = SERVER.parse::<std::net::Ipv4Addr>().unwrap().into();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(address)));
        }
        socket.send_to(from, &answer.to_vec().unwrap()).await.ok();
    }
}
