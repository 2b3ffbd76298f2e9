//! Inner connections that the kernel's own TCP carries, in a network of the gateway's own: SACK, RACK and BBR,
//! which user space lacks (decisions/0011).

mod entry;
mod flows;
mod handover;
mod make;
mod network;
mod stream;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use gateway_proto::tcp::{OFFLOAD_BYTES, TcpPacket, put_reset, take_offload};
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(super) use flows::Flows;
pub use make::make;
pub use network::{COMMAND, Network, Unavailable};
pub use stream::KernelTcp;

use super::{AddressPool, Lease, Opened};
use crate::limit::window::TunnelWindow;
use crate::telemetry::Metrics;
use crate::tunnel::link::Link;

/// The largest packet there is, and what stands before it.
const FRAME_BYTES: usize = OFFLOAD_BYTES + 65_535;
/// How often connections are looked at that nothing will come of.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// After a failed read or accept it rests, instead of spinning.
const REST: Duration = Duration::from_millis(50);

/// The network at run time: which session has which address, and the way of packets in and out.
pub struct Kernel {
    device: OwnedFd,
    /// By both addresses of each.
    sessions: DashMap<IpAddr, Weak<Flows>>,
    own: [IpAddr; 2],
    has_ipv6: bool,
    metrics: Arc<Metrics>,
    /// Addresses whose sessions have ended, and since when.
    resting: Mutex<Vec<(Instant, Arc<Lease>)>>,
}

impl Kernel {
    /// Takes a network into service; [`Kernel::start_reading`] moves its packets.
    ///
    /// # Errors
    /// Where the runtime does not take its descriptors.
    pub fn new(
        network: Network,
        pool: &AddressPool,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Arc<Self>, Vec<TcpListener>)> {
        let listeners = network.listeners.into_iter().map(TcpListener::from_std);
        let listeners = listeners.collect::<io::Result<_>>()?;
        let kernel = Self {
            device: network.device,
            sessions: DashMap::new(),
            own: pool.own(),
            has_ipv6: network.has_ipv6,
            metrics,
            resting: Mutex::default(),
        };
        Ok((Arc::new(kernel), listeners))
    }

    /// The connections of a session, to which this lease belongs.
    pub(super) fn session(
        self: &Arc<Self>,
        link: &Arc<Link>,
        lease: Arc<Lease>,
        window: TunnelWindow,
        opened: mpsc::Sender<Opened>,
    ) -> Arc<Flows> {
        let addresses = [lease.ipv4().into(), lease.ipv6().into()];
        let flows = Flows::new(Arc::clone(self), Arc::clone(link), lease, window, opened);
        let flows = Arc::new(flows);
        for address in addresses {
            self.sessions.insert(address, Arc::downgrade(&flows));
        }
        flows
    }

    /// A session has ended. Its address rests before another has it.
    fn leave(&self, flows: &Flows) {
        for address in [flows.lease.ipv4().into(), flows.lease.ipv6().into()] {
            self.sessions.remove(&address);
        }
        self.resting.lock().push((Instant::now(), Arc::clone(&flows.lease)));
    }

    fn of(&self, address: IpAddr) -> Option<Arc<Flows>> {
        self.sessions.get(&address)?.upgrade()
    }

    /// The gateway's own address of a family.
    fn own(&self, family: IpAddr) -> IpAddr {
        let [ipv4, ipv6] = self.own;
        if family.is_ipv4() { ipv4 } else { ipv6 }
    }

    /// Gives the kernel a frame; false where it does not take it.
    fn write(&self, frame: &[u8]) -> bool {
        rustix::io::write(&self.device, frame).is_ok()
    }

    /// Moves packets from the kernel to the sessions, on a thread of its own: it waits in the read, and a
    /// busy session holds up no worker.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn start_reading(self: &Arc<Self>) -> io::Result<()> {
        let kernel = Arc::clone(self);
        let thread = std::thread::Builder::new().name("sluice-inner".to_owned());
        thread.spawn(move || kernel.read()).map(drop)
    }

    fn read(&self) {
        let mut buffer = vec![0; FRAME_BYTES];
        loop {
            match rustix::io::read(&self.device, &mut buffer) {
                Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!("the inner network's device: {error}");
                    std::thread::sleep(REST);
                }
            }
        }
    }

    /// Takes a frame of the kernel's to the session whose address it goes to.
    fn take(&self, frame: &[u8]) {
        let Some((piece_bytes, packet)) = take_offload(frame) else { return };
        // What else a network stack says by itself is for nobody.
        let Some(tcp) = TcpPacket::read(packet) else { return };
        let flows = self.of(tcp.destination.ip());
        if flows.is_some_and(|flows| flows.kernel_sent(&tcp, piece_bytes)) || tcp.rst() {
            return;
        }
        // The connection is over for everybody but the kernel.
        if let Some(number) = tcp.acknowledged() {
            let mut frame = vec![0; OFFLOAD_BYTES];
            if put_reset(tcp.destination, tcp.source, number, &mut frame).is_some() {
                let _written = self.write(&frame);
            }
        }
    }

    /// Looks after old connections for ever.
    pub async fn sweep(self: Arc<Self>) {
        let mut looks = tokio::time::interval(SWEEP_EVERY);
        loop {
            let now = looks.tick().await.into_std();
            // Each once, by one of its addresses; no lock of the map is kept.
            let sessions = self.sessions.iter().filter(|it| it.key().is_ipv4());
            let sessions: Vec<_> = sessions.filter_map(|it| it.value().upgrade()).collect();
            sessions.iter().for_each(|flows| flows.sweep(now));
            let mut resting = self.resting.lock();
            resting.retain(|(since, _)| now.saturating_duration_since(*since) < flows::REST);
        }
    }

    /// Gives each connection that the kernel has opened to its session.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match self.of(peer.ip()) {
                    Some(flows) => flows.accepted(peer.port(), stream),
                    None => drop(KernelTcp::stray(stream)),
                },
                Err(error) => {
                    tracing::warn!("accept of an inner connection: {error}");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}
