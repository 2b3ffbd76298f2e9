//! A link between UDP sockets on loopback: clients send to the relay, the relay to the server.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::{Counts, Datagram, Impairment, Lane};

/// Client addresses a relay knows; a flood of forged ones must not open sockets without end. Beyond it
/// the oldest goes.
const FLOWS_MAX: usize = 4_096;
/// Datagrams that wait between a socket and the lanes: one burst.
const ARRIVED_MAX: usize = 1_024;
/// Asked of the system for each socket.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// A relay with an impairment each way. Dropping it ends it.
pub struct UdpRelay {
    /// Where clients send to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    lanes: Mutex<Lanes>,
    changed: Notify,
}

struct Lanes {
    up: Lane,
    down: Lane,
    /// New upstream sockets are asked for.
    rebind: bool,
    server: SocketAddr,
}

impl UdpRelay {
    /// A relay to `server` on a port of its own that lets everything through at first.
    ///
    /// # Panics
    /// Where no port can be had.
    pub async fn start(server: SocketAddr, seed: u64) -> Self {
        let front = socket().await.expect("a port");
        let address = front.local_addr().expect("an address");
        let lanes = Lanes {
            up: Lane::new(Impairment::none(), seed),
            down: Lane::new(Impairment::none(), seed ^ u64::MAX),
            rebind: false,
            server,
        };
        let shared = Arc::new(Shared { lanes: Mutex::new(lanes), changed: Notify::new() });
        let task = tokio::spawn(run(front, Arc::clone(&shared))).abort_handle();
        Self { address, shared, task }
    }

    /// Impairs both ways alike.
    pub fn set(&self, impairment: Impairment) {
        self.set_up(impairment);
        self.set_down(impairment);
    }

    /// From clients to the server.
    pub fn set_up(&self, impairment: Impairment) {
        self.shared.lanes().up.set(impairment);
        self.shared.changed.notify_one();
    }

    /// From the server to clients.
    pub fn set_down(&self, impairment: Impairment) {
        self.shared.lanes().down.set(impairment);
        self.shared.changed.notify_one();
    }

    /// Blocks both ways, or opens them again as they were otherwise.
    pub fn block(&self, blocked: bool) {
        let mut lanes = self.shared.lanes();
        let Lanes { up, down, .. } = &mut *lanes;
        for lane in [up, down] {
            let mut impairment = lane.impairment();
            impairment.blocked = blocked;
            lane.set(impairment);
        }
    }

    /// Every client is seen from a new port by the server, as behind a NAT that forgot them. What the
    /// server sends to the old ports is lost.
    pub fn rebind(&self) {
        self.shared.lanes().rebind = true;
        self.shared.changed.notify_one();
    }

    /// Sends to another server from now on.
    pub fn retarget(&self, server: SocketAddr) {
        self.shared.lanes().server = server;
    }

    #[must_use]
    pub fn counts_up(&self) -> Counts {
        self.shared.lanes().up.counts()
    }

    #[must_use]
    pub fn counts_down(&self) -> Counts {
        self.shared.lanes().down.counts()
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket with room for bursts, so that only the lanes lose datagrams.
pub(crate) async fn socket() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    // What the system does not grant, it says by doing less.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES).ok();
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES).ok();
    Ok(socket)
}

/// One client's way to the server.
struct Flow {
    client: SocketAddr,
    upstream: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The flows by number and by client. The sender is what their readers deliver to.
struct Flows {
    by_number: HashMap<usize, Flow>,
    by_client: HashMap<SocketAddr, usize>,
    next: usize,
    arrived: mpsc::Sender<Datagram>,
}

async fn run(front: UdpSocket, shared: Arc<Shared>) {
    let (arrived, mut from_server) = mpsc::channel(ARRIVED_MAX);
    let mut flows =
        Flows { by_number: HashMap::new(), by_client: HashMap::new(), next: 0, arrived };
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let due = deliver(&front, &shared, &flows).await;
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = front.recv_from(&mut buffer) => {
                // An ICMP error for an earlier answer is no reason to stop.
                let Ok((length, client)) = received else { continue };
                let Some(flow) = flows.of(client).await else { continue };
                let datagram = Datagram { flow, bytes: buffer[..length].to_vec() };
                shared.lanes().up.send(Instant::now().into_std(), datagram);
            }
            Some(datagram) = from_server.recv() => {
                shared.lanes().down.send(Instant::now().into_std(), datagram);
            }
            () = shared.changed.notified() => {
                let rebind = std::mem::take(&mut shared.lanes().rebind);
                if rebind {
                    flows.rebind().await;
                }
            }
            () = wait => {}
        }
    }
}

/// Sends what has arrived; says when the next does.
async fn deliver(front: &UdpSocket, shared: &Shared, flows: &Flows) -> Option<Instant> {
    loop {
        let now = Instant::now().into_std();
        let (up, down, server, due) = {
            let mut lanes = shared.lanes();
            let (up, down) = (lanes.up.poll(now), lanes.down.poll(now));
            let due = [lanes.up.poll_timeout(), lanes.down.poll_timeout()].into_iter().flatten();
            (up, down, lanes.server, due.min())
        };
        if up.is_none() && down.is_none() {
            return due.map(Instant::from_std);
        }
        // A socket without room loses datagrams, as networks do.
        if let Some((datagram, flow)) =
            up.and_then(|it| Some((it.bytes, flows.by_number.get(&it.flow)?)))
        {
            flow.upstream.send_to(&datagram, server).await.ok();
        }
        if let Some((datagram, flow)) =
            down.and_then(|it| Some((it.bytes, flows.by_number.get(&it.flow)?)))
        {
            front.send_to(&datagram, flow.client).await.ok();
        }
    }
}

impl Flows {
    async fn of(&mut self, client: SocketAddr) -> Option<usize> {
        if let Some(number) = self.by_client.get(&client) {
            return Some(*number);
        }
        let number = self.next;
        self.next += 1;
        let flow = self.open(client, number).await?;
        if let Some(oldest) = number.checked_sub(FLOWS_MAX)
            && let Some(flow) = self.by_number.remove(&oldest)
        {
            self.by_client.remove(&flow.client);
        }
        self.by_number.insert(number, flow);
        self.by_client.insert(client, number);
        Some(number)
    }

    async fn open(&self, client: SocketAddr, number: usize) -> Option<Flow> {
        let upstream = Arc::new(socket().await.ok()?);
        let reading = read(Arc::clone(&upstream), number, self.arrived.clone());
        Some(Flow { client, upstream, reader: tokio::spawn(reading).abort_handle() })
    }

    async fn rebind(&mut self) {
        let clients: Vec<_> = self.by_client.iter().map(|(client, at)| (*client, *at)).collect();
        for (client, number) in clients {
            if let Some(flow) = self.open(client, number).await {
                self.by_number.insert(number, flow);
            }
        }
    }
}

async fn read(upstream: Arc<UdpSocket>, flow: usize, arrived: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // A refused port is told once and then forgotten.
        let Ok((length, _)) = upstream.recv_from(&mut buffer).await else { continue };
        let datagram = Datagram { flow, bytes: buffer[..length].to_vec() };
        if arrived.send(datagram).await.is_err() {
            return;
        }
    }
}
