//! A tunnel for IP packets: over datagrams where they get through, over TLS where not, at the backup
//! gateway where the first says goodbye; and a stack on top.

mod datagram;
mod driver;
mod moves;
mod record;
mod tls_side;

pub(crate) use driver::{Driver, Plan, Role};
pub use record::{Counts, Happening};

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::ClientError;
use super::openconnect::Parameters;
use super::packet::{self, Addresses, MTU, PacketStack};
use super::secure::Patience;
use super::tunnel::WAIT_MAX;

/// Where one gateway is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAt {
    /// `gateway-<tenant>.<domain>` or `gateway-backup-<tenant>.<domain>`.
    pub name: String,
    pub tcp: SocketAddr,
    /// With port 0: the one the gateway tells over TLS, or TCP's where it tells none.
    pub udp: SocketAddr,
}

/// When a client loses patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// With a datagram channel.
    pub patience: Patience,
    /// A DTLS client without datagrams turns to TLS after so long.
    pub fallback_after: Duration,
    /// A datagram handshake may take so long.
    pub handshake_max: Duration,
    /// What failed is tried again after so long.
    pub retry: Duration,
}

impl Timing {
    pub const USUAL: Self = Self {
        patience: Patience::QUICK,
        fallback_after: Duration::from_secs(1),
        handshake_max: Duration::from_secs(5),
        retry: Duration::from_secs(3),
    };
}

/// What carries packets at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Nothing,
    Datagrams,
    Tls,
}

/// Where a tunnel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub carrier: Carrier,
    /// Which of the gateways: 0 the first, 1 the backup.
    pub gateway: usize,
    /// The tunnel is over for good.
    pub ended: bool,
}

/// An open tunnel with its stack. Dropping it ends it without a goodbye.
pub struct PacketTunnel {
    stack: PacketStack,
    status: watch::Receiver<Status>,
    shared: Arc<Shared>,
    close: mpsc::Sender<()>,
    driver: JoinHandle<()>,
}

/// What the driver tells while it works.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) counts: Mutex<Counts>,
    pub(crate) parameters: Mutex<Option<Parameters>>,
}

impl PacketTunnel {
    /// Starts a driver and waits until something carries packets.
    pub(crate) async fn start(plan: Plan) -> Result<Self, ClientError> {
        let (above, below) = packet::pair();
        let nobody = Addresses { v4: None, v6: None, mtu: MTU };
        let addresses = plan.addresses.unwrap_or(nobody);
        let stack = PacketStack::with_buffers(addresses, above, plan.buffer_bytes);
        let first = Status { carrier: Carrier::Nothing, gateway: 0, ended: false };
        let (publish, status) = watch::channel(first);
        let (close, closing) = mpsc::channel(1);
        let (tell, told) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let driver =
            Driver::new(plan, below, stack.clone(), publish, Arc::clone(&shared), closing, tell);
        let driver = tokio::spawn(driver.run());
        let tunnel = Self { stack, status, shared, close, driver };
        match timeout(WAIT_MAX, told).await {
            Ok(Ok(Ok(()))) => Ok(tunnel),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    #[must_use]
    pub fn stack(&self) -> &PacketStack {
        &self.stack
    }

    #[must_use]
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.status().carrier
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.shared.counts).clone()
    }

    /// What the gateway told over TLS, if it was asked.
    #[must_use]
    pub fn parameters(&self) -> Option<Parameters> {
        lock(&self.shared.parameters).clone()
    }

    /// Waits until `carrier` carries packets.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`.
    pub async fn carried_by(&self, carrier: Carrier, wait: Duration) -> Result<(), ClientError> {
        self.reached(|status| status.carrier == carrier, wait).await
    }

    /// Waits until a status of the tunnel is `wanted`.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after `wait`.
    pub async fn reached(
        &self,
        mut wanted: impl FnMut(&Status) -> bool,
        wait: Duration,
    ) -> Result<(), ClientError> {
        let mut status = self.status.clone();
        match timeout(wait, status.wait_for(|status| wanted(status))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    /// Says goodbye on every channel and ends.
    pub async fn close(mut self) {
        self.close.try_send(()).ok();
        // What a gateway does with a goodbye is its business; it has a few seconds.
        timeout(Duration::from_secs(5), &mut self.driver).await.ok();
    }
}

impl Drop for PacketTunnel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
