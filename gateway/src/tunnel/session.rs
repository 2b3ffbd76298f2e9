//! A session: one tunnel of one user and device, from its credential to its end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::event::Client;
use crate::ident::{AccessMethod, SessionId, TenantName, Who};

/// One live tunnel.
pub struct Session {
    pub id: SessionId,
    pub tenant: TenantName,
    pub who: Who,
    pub access: AccessMethod,
    pub since: SystemTime,
    /// The client certificate's serial number, lower-case hexadecimal; revocation looks at it.
    pub serial: Option<Arc<str>>,
    /// The part of every record that is the same for the whole session, but for the address of a
    /// client that moves.
    client: ArcSwap<Client>,
    /// Cancelled when the session must end now: revoked, tenant gone, process stopping.
    pub ended: CancellationToken,
    streams: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Session {
    #[must_use]
    pub fn new(
        tenant: TenantName,
        who: Who,
        access: AccessMethod,
        peer: SocketAddr,
        serial: Option<Arc<str>>,
        mut client: Client,
        ended: CancellationToken,
    ) -> Self {
        let id = SessionId::fresh();
        client.session_id = Some(id);
        client.user = Some(Arc::clone(&who.user).into());
        client.groups = Arc::clone(&who.groups);
        client.device = who.device.clone().map(Into::into);
        client.device_class = who.device_class.clone().map(Into::into);
        client.os = who.os.clone().map(Into::into);
        client.access_method = Some(access);
        set_address(&mut client, peer);
        Self {
            id,
            tenant,
            who,
            access,
            since: SystemTime::now(),
            serial,
            client: ArcSwap::from_pointee(client),
            ended,
            streams: AtomicU32::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// The part of every record that says who.
    #[must_use]
    pub fn client(&self) -> Arc<Client> {
        self.client.load_full()
    }

    /// Where the client is now.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.client.load().ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The client has moved; later records say so. False where it is where it was.
    #[must_use]
    pub fn moved(&self, peer: SocketAddr) -> bool {
        let mut client = Client::clone(&self.client.load());
        let before = (client.ip, client.port);
        set_address(&mut client, peer);
        let moved = before != (client.ip, client.port);
        if moved {
            self.client.store(Arc::new(client));
        }
        moved
    }

    /// Counts a stream for as long as the guard lives.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> StreamGuard {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard(Arc::clone(self))
    }

    pub fn add_bytes(&self, from_client: u64, to_client: u64) {
        self.bytes_in.fetch_add(from_client, Ordering::Relaxed);
        self.bytes_out.fetch_add(to_client, Ordering::Relaxed);
    }

    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Bytes of inner streams, from the client and to it.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }
}

fn set_address(client: &mut Client, peer: SocketAddr) {
    client.ip = Some(peer.ip().to_canonical());
    client.port = Some(peer.port());
}

/// Counts one stream of a session.
pub struct StreamGuard(Arc<Session>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One tenant's live sessions.
#[derive(Default)]
pub struct SessionTable(DashMap<SessionId, Arc<Session>>);

impl SessionTable {
    pub fn insert(&self, session: &Arc<Session>) {
        self.0.insert(session.id, Arc::clone(session));
    }

    pub fn remove(&self, id: SessionId) {
        self.0.remove(&id);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All sessions, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.0.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Ends every session for which `ends` holds.
    pub fn end_where(&self, ends: impl Fn(&Session) -> bool) {
        for entry in &self.0 {
            if ends(entry.value()) {
                entry.value().ended.cancel();
            }
        }
    }
}
