//! A small gateway for tests of the clients alone: both datagram channels on one UDP port, OpenConnect
//! over TLS on one TCP port, and behind all of them one stack that echoes.

mod datagrams;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gateway_proto::openconnect::frame::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::carrier::{GatewayAt, lock};
use super::packet::{self, Addresses, MTU, PacketStack};
use crate::pki::{Chain, Pki};

pub(crate) const NAME: &str = "gateway-acme.pop.test";
pub(crate) const BACKUP: &str = "gateway-backup-acme.pop.test";
/// Who clients are told to be, and who answers them.
pub(crate) const CLIENT: &str = "10.99.0.7";
pub(crate) const SERVER: &str = "192.0.2.1";

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
pub(crate) struct Seen {
    pub(crate) posts: usize,
    /// Heads of CONNECT requests.
    pub(crate) connects: Vec<String>,
    pub(crate) certificates: usize,
    pub(crate) goodbyes: usize,
    /// TLS reads that were not one whole frame.
    pub(crate) torn: usize,
}

/// A running gateway. Dropping it ends it.
pub(crate) struct Peer {
    pub(crate) at: GatewayAt,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(crate) async fn start(pki: &Pki, name: &str) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
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
        tasks.spawn(echo(stack));
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
    pub(crate) fn say_goodbye(&self) {
        self.shared.commands.send(Command::Goodbye).ok();
        lock(&self.shared.cookies).clear();
    }

    pub(crate) fn seen(&self) -> Seen {
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
pub(crate) fn trusted_pem(pki: &Pki) -> String {
    let chain = pki.chain("x.test", crate::Fault::None);
    Chain { certificates: vec![chain.certificates[1].clone()], key: chain.key }.certificates_pem()
}

async fn echo(stack: PacketStack) {
    let mut accepted = stack.listen();
    while let Some((_, stream)) = accepted.recv().await {
        tokio::spawn(async move {
            let (mut reads, mut writes) = tokio::io::split(stream);
            tokio::io::copy(&mut reads, &mut writes).await.ok();
            writes.shutdown().await.ok();
        });
    }
}
