#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant as Time;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::*;
use crate::limit::window::ProcessWindow;
use crate::stream::Io;
use crate::stream::packet::{Opened, Settings, Sources};

const CLIENT: [u8; 4] = [10, 0, 0, 2];
const SERVER: [u8; 4] = [192, 0, 2, 1];

/// The client's network card: what came, and what is to be sent.
#[derive(Default)]
struct Card {
    came: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
}

struct Taken(Vec<u8>);
struct Sent<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Taken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let written = write(&mut packet);
        self.0.push_back(packet);
        written
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Taken;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: Time) -> Option<(Taken, Sent<'_>)> {
        let packet = self.came.pop_front()?;
        Some((Taken(packet), Sent(&mut self.leaving)))
    }

    fn transmit(&mut self, _now: Time) -> Option<Sent<'_>> {
        Some(Sent(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_400;
        capabilities
    }
}

/// A client with one connection to a stack.
struct Client {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    stack: Arc<Stack>,
    opened: mpsc::Receiver<Opened>,
    process: ProcessWindow,
}

impl Client {
    fn new() -> Self {
        let process = ProcessWindow::new(64 << 20);
        let settings = Settings {
            flows_max: 8,
            own: Vec::new(),
            sources: Sources::chosen(),
            window: process.tunnel(32 << 20),
            kernel: None,
        };
        let (stack, opened) = Stack::new(Arc::new(Link::new(1_400)), settings);
        let mut card = Card::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut card, Time::ZERO);
        let own = std::net::Ipv4Addr::from(CLIENT);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(std::net::IpAddr::from(own).into(), 32)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(own).unwrap();
        let buffer = || SocketBuffer::new(vec![0; 64 << 10]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        let (remote, local) = (SocketAddr::from((SERVER, 80)), SocketAddr::from((CLIENT, 4_000)));
        socket.connect(interface.context(), remote, local).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { card, interface, sockets, handle, stack, opened, process }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Carries packets both ways until there are none.
    async fn talk(&mut self) {
        let link = Arc::clone(self.stack.link());
        let channel = link.channel();
        link.heard(channel);
        loop {
            self.interface.poll(Time::ZERO, &mut self.card, &mut self.sockets);
            let leaving = std::mem::take(&mut self.card.leaving);
            let is_quiet = leaving.is_empty();
            leaving.iter().for_each(|packet| self.stack.packet(packet).unwrap());
            let mut packets = Vec::new();
            let taking = link.take(channel, 64, &mut packets);
            drop(tokio::time::timeout(Duration::from_millis(50), taking).await);
            if is_quiet && packets.is_empty() {
                return;
            }
            self.card.came.extend(packets);
        }
    }

    /// What waits on the link, which is lost.
    async fn lose(&mut self) -> Vec<Vec<u8>> {
        let link = Arc::clone(self.stack.link());
        let channel = link.channel();
        link.heard(channel);
        let mut packets = Vec::new();
        link.take(channel, 64, &mut packets).await;
        packets
    }

    /// Opens the connection; the gateway's end of it.
    async fn open(&mut self) -> InnerTcp {
        self.talk().await;
        let opened = match self.opened.recv().await {
            Some(Opened::Tcp { stream: Io::Inner(stream), .. }) => Some(stream),
            _ => None,
        };
        opened.unwrap()
    }
}

#[tokio::test]
async fn an_idle_connection_has_no_time_to_be_over() {
    let mut client = Client::new();
    let mut stream = client.open().await;
    let patience = |stream: &InnerTcp| stream.flow.state.lock().with(|socket| socket.timeout());
    assert_eq!(patience(&stream), None);
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.unwrap();
    assert_eq!(patience(&stream), Some(UNACKNOWLEDGED_TIME_MAX.into()), "while it is under way");
    client.talk().await;
    assert_eq!((patience(&stream), client.socket().recv_queue()), (None, 5));
    client.socket().send_slice(b"hello").unwrap();
    client.talk().await;
    stream.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(patience(&stream), None);
}

#[tokio::test]
async fn what_a_way_that_became_smaller_has_lost_is_sent_again_in_packets_that_fit() {
    const BYTES: usize = 10_000;
    let mut client = Client::new();
    let mut stream = client.open().await;
    client.socket().send_slice(b"hello").unwrap();
    client.talk().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[7; BYTES]).await.unwrap();
    let lost = client.lose().await;
    assert_eq!(lost.iter().map(Vec::len).max(), Some(1_400));
    client.stack.link().set_mtu(1_229);
    client.stack.narrow();
    // The client is told, about the number that the gateway expects next.
    let told = client.lose().await;
    let ends = stream.flow.ends;
    let expected = stream.flow.state.lock().device.acknowledged.unwrap();
    let word = narrowed(ends.source, ends.destination, expected, 1_229).unwrap();
    assert!(told.contains(&word), "{told:?}");
    let stack = Arc::clone(&client.stack);
    let arrives = async {
        while client.socket().recv_queue() < BYTES {
            let packets = client.lose().await;
            assert!(packets.iter().all(|packet| packet.len() <= 1_229));
            client.card.came.extend(packets);
            client.talk().await;
        }
    };
    tokio::select! {
        () = arrives => {}
        () = stack.run_timers() => {}
    }
    assert_eq!(client.socket().recv_queue(), BYTES);
    // As large as before where that passes again.
    client.stack.link().set_mtu(1_400);
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[7; BYTES]).await.unwrap();
    assert_eq!(client.lose().await.iter().map(Vec::len).max(), Some(1_400));
}

#[tokio::test]
async fn a_connection_that_both_sides_have_closed_is_forgotten_at_once() {
    for client_first in [true, false] {
        let mut client = Client::new();
        let stream = client.open().await;
        assert_eq!((client.stack.flows(), client.process.used()), (1, 1 << 20));
        if client_first {
            client.socket().close();
            client.talk().await;
            drop(stream);
        } else {
            drop(stream);
            client.talk().await;
            client.socket().close();
        }
        client.talk().await;
        assert_eq!((client.stack.flows(), client.process.used()), (0, 0), "{client_first}");
        let state = client.socket().state();
        assert!(matches!(state, State::Closed | State::TimeWait), "{state}");
    }
}
