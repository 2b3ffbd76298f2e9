//! One tenant's idle connections to origins. A pool belongs to one tenant, so nothing in it can
//! serve another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::http1::Http1;
use super::lease::{Lease, OriginIo};
use crate::exchange::Scheme;

/// Idle HTTP/1.1 connections kept per key and worker: a page's burst of parallel requests.
const IDLE_PER_KEY_MAX: usize = 64;
/// Idle HTTP/1.1 connections kept per tenant and worker: bounds descriptors and memory.
const IDLE_MAX: usize = 2_048;
/// Common servers close an idle connection after 60 to 75 s; leaving first avoids the race.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

/// What must be equal for a connection to be used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub egress: Option<IpAddr>,
    pub scheme: Scheme,
    /// Canonical host, as verified in the certificate.
    pub host: Arc<str>,
    pub address: SocketAddr,
    /// ALPN was offered with `h2`; an upgrade needs HTTP/1.1 alone.
    pub http2: bool,
    /// Older generations of origin-TLS settings take no new exchange.
    pub generation: u64,
}

#[derive(Default)]
struct Shelf {
    http1: Vec<(Box<Http1<OriginIo>>, Instant)>,
    /// With when it was last given out.
    http2: Option<(SendRequest<Bytes>, Instant)>,
}

#[derive(Default)]
struct Shard {
    shelves: HashMap<PoolKey, Shelf>,
    idle: usize,
}

/// One tenant's pool, one shard per worker.
pub struct Pool {
    shards: Box<[Mutex<Shard>]>,
}

impl Pool {
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, worker: usize) -> Option<&Mutex<Shard>> {
        self.shards.get(worker % self.shards.len())
    }

    /// A connection that is still whole, most recently used first.
    #[must_use]
    pub fn take(&self, worker: usize, key: &PoolKey) -> Option<Lease> {
        let mut shard = self.shard(worker)?.lock();
        let shelf = shard.shelves.get_mut(key)?;
        if let Some((connection, used)) = &mut shelf.http2 {
            if is_open(connection) {
                *used = Instant::now();
                return Some(Lease::Http2 { connection: connection.clone(), stream: None });
            }
            shelf.http2 = None;
        }
        let mut taken = 0;
        let mut found = None;
        while let Some((mut connection, since)) = shelf.http1.pop() {
            taken += 1;
            let whole = connection.poll_idle(&mut Context::from_waker(Waker::noop()));
            if whole == Poll::Pending && since.elapsed() < IDLE_TIME_MAX {
                found = Some(Lease::Http1(connection));
                break;
            }
        }
        shard.idle = shard.idle.saturating_sub(taken);
        found
    }

    /// Whether `take` would find an HTTP/2 connection or any idle one.
    #[must_use]
    pub fn has(&self, worker: usize, key: &PoolKey) -> bool {
        self.shard(worker).is_some_and(|shard| {
            shard.lock().shelves.get(key).is_some_and(|shelf| {
                !shelf.http1.is_empty()
                    || shelf.http2.as_ref().is_some_and(|(connection, _)| is_open(connection))
            })
        })
    }

    /// Keeps a connection after an exchange, if it can serve another.
    pub fn put(&self, worker: usize, key: &PoolKey, lease: Lease) {
        let Some(shard) = self.shard(worker) else { return };
        match lease {
            Lease::Http1(mut connection) => {
                if !connection.is_reusable() {
                    return;
                }
                connection.release_idle_memory();
                let mut shard = shard.lock();
                if shard.idle >= IDLE_MAX {
                    return;
                }
                let shelf = shelf_of(&mut shard.shelves, key);
                if shelf.http1.len() < IDLE_PER_KEY_MAX {
                    shelf.http1.push((connection, Instant::now()));
                    shard.idle += 1;
                }
            }
            // Shared already: it went in when it was opened.
            Lease::Http2 { .. } => {}
        }
    }

    /// Shares a fresh HTTP/2 connection with later exchanges of the same key.
    pub fn share(&self, worker: usize, key: &PoolKey, connection: SendRequest<Bytes>) {
        if let Some(shard) = self.shard(worker) {
            shelf_of(&mut shard.lock().shelves, key).http2 = Some((connection, Instant::now()));
        }
    }

    /// Drops what has idled too long or was opened under another generation of settings.
    pub fn sweep(&self, generation: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.shelves.retain(|key, shelf| {
                if key.generation != generation {
                    return false;
                }
                shelf.http1.retain(|(_, since)| since.elapsed() < IDLE_TIME_MAX);
                // Exchanges under way keep their connection; it closes when the last has ended.
                shelf.http2.take_if(|(connection, used)| {
                    !is_open(connection) || used.elapsed() >= IDLE_TIME_MAX
                });
                !shelf.http1.is_empty() || shelf.http2.is_some()
            });
            shard.idle = shard.shelves.values().map(|shelf| shelf.http1.len()).sum();
        }
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }
}

fn shelf_of<'a>(shelves: &'a mut HashMap<PoolKey, Shelf>, key: &PoolKey) -> &'a mut Shelf {
    shelves.entry(key.clone()).or_default()
}

/// Whether an HTTP/2 connection still takes requests: an error shows at once, and a full one is
/// merely not ready.
fn is_open(connection: &SendRequest<Bytes>) -> bool {
    let mut probe = connection.clone();
    !matches!(probe.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
}

#[cfg(test)]
mod tests;
