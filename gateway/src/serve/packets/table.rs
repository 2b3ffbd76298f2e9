//! Which packet sessions there are: by the certificate and cookie of whoever comes back, and by what a
//! DTLS client points at.

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use gateway_proto::openconnect::AppId;
use zeroize::Zeroizing;

use super::session::PacketSession;
use crate::ident::TenantName;
use crate::stream::packet::AddressPool;
use crate::stream::packet::kernel::Kernel;
use crate::tunnel::dtls::Peers;

/// The packet tunnels of the process.
pub(in crate::serve) struct PacketTunnels {
    pub(in crate::serve) pool: Arc<AddressPool>,
    /// Where inner connections are the kernel's.
    pub(super) kernel: Option<Arc<Kernel>>,
    pub(super) peers: Peers,
    sessions: DashMap<Device, Vec<Arc<PacketSession>>>,
    /// Live TLS channels that offered a DTLS channel.
    offers: DashMap<AppId, Offer>,
}

/// Whose sessions: one certificate of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub(super) tenant: TenantName,
    /// The certificate's serial number.
    pub(super) serial: Arc<str>,
}

#[derive(Clone)]
pub(super) struct Offer {
    pub(super) session: Weak<PacketSession>,
    pub(super) key: Zeroizing<[u8; 32]>,
}

impl PacketTunnels {
    pub(in crate::serve) fn new(pool: AddressPool, kernel: Option<Arc<Kernel>>) -> Self {
        Self {
            pool: Arc::new(pool),
            kernel,
            peers: Peers::default(),
            sessions: DashMap::new(),
            offers: DashMap::new(),
        }
    }

    /// The session of this device that fits.
    pub(super) fn find(
        &self,
        device: &Device,
        fits: impl Fn(&PacketSession) -> bool,
    ) -> Option<Arc<PacketSession>> {
        self.sessions.get(device)?.iter().find(|session| fits(session)).cloned()
    }

    /// All sessions of this device.
    pub(super) fn of(&self, device: &Device) -> Vec<Arc<PacketSession>> {
        self.sessions.get(device).map(|sessions| sessions.clone()).unwrap_or_default()
    }

    pub(super) fn add(&self, device: Device, session: &Arc<PacketSession>) {
        self.sessions.entry(device).or_default().push(Arc::clone(session));
    }

    pub(super) fn remove(&self, device: &Device, session: &Arc<PacketSession>) {
        if let Some(mut sessions) = self.sessions.get_mut(device) {
            sessions.retain(|known| !Arc::ptr_eq(known, session));
        }
        self.sessions.remove_if(device, |_, sessions| sessions.is_empty());
    }

    /// Offers a DTLS channel; it stands until the guard is dropped.
    pub(super) fn offer(self: &Arc<Self>, id: AppId, offer: Offer) -> OfferGuard {
        self.offers.insert(id, offer);
        OfferGuard { tunnels: Arc::clone(self), id }
    }

    pub(super) fn offered(&self, id: &[u8]) -> Option<Offer> {
        let id: AppId = id.try_into().ok()?;
        self.offers.get(&id).map(|offer| offer.clone())
    }
}

pub(super) struct OfferGuard {
    tunnels: Arc<PacketTunnels>,
    id: AppId,
}

impl Drop for OfferGuard {
    fn drop(&mut self) {
        self.tunnels.offers.remove(&self.id);
    }
}
