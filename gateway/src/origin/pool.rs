//! One tenant's idle connections to origins. A pool belongs to one tenant, so nothing in it can
//! serve another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::http1::Http1;
use super::http2::Connection;
use super::lease::{Lease, OriginIo};
use crate::exchange::Scheme;

/// Idle HTTP/1.1 connections kept per key and worker: a page's burst of parallel requests.
const IDLE_PER_KEY_MAX: usize = 64;
/// Idle HTTP/1.1 connections kept per tenant and worker: bounds descriptors and memory.
const IDLE_MAX: usize = 2_048;
/// Common servers close an idle connection after 60 to 75 s; leaving first avoids the race.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

/// HTTP/2 connections shared per key and worker: 100 streams each, as common servers allow, hold
/// the WebSockets of 12,800 users on one worker.
const HTTP2_PER_KEY_MAX: usize = 128;

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
    pub generation: Generation,
}

/// Which settings of TLS towards origins a connection was opened under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    pub gateway: u64,
    pub tenant: u64,
}

#[derive(Default)]
struct Shelf {
    http1: Vec<(Box<Http1<OriginIo>>, Instant)>,
    /// Each with when it was last given out. More than one where the origin's limit of streams is
    /// reached: a WebSocket or an event stream holds its place for hours.
    http2: Vec<(Connection, Instant)>,
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
        while let Some(index) = fullest_with_room(&shelf.http2) {
            let Some((connection, used)) = shelf.http2.get_mut(index) else { break };
            if connection.is_open() {
                *used = Instant::now();
                return Some(Lease::Http2 { connection: connection.clone(), stream: None });
            }
            shelf.http2.swap_remove(index);
        }
        let mut taken = 0;
        let mut found = None;
        while let Some((mut connection, since)) = shelf.http1.pop() {
            taken += 1;
            let whole = connection.poll_idle(&mut Context::from_waker(Waker::noop()));
            if whole == Poll::Pending && waits(&connection, since) {
                found = Some(Lease::Http1(connection));
                break;
            }
        }
        shard.idle = shard.idle.saturating_sub(taken);
        found
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
    pub fn share(&self, worker: usize, key: &PoolKey, connection: Connection) {
        let Some(shard) = self.shard(worker) else { return };
        let mut shard = shard.lock();
        let shelf = shelf_of(&mut shard.shelves, key);
        // Beyond the bound it serves the exchange that opened it, and nobody else.
        if shelf.http2.len() < HTTP2_PER_KEY_MAX {
            shelf.http2.push((connection, Instant::now()));
        }
    }

    /// Gives no further exchange the HTTP/2 connections of this key; those on them go on.
    pub fn forget(&self, worker: usize, key: &PoolKey) {
        if let Some(shard) = self.shard(worker)
            && let Some(shelf) = shard.lock().shelves.get_mut(key)
        {
            shelf.http2.clear();
        }
    }

    /// Drops what has idled too long or was opened under another generation of settings.
    pub fn sweep(&self, generation: Generation) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.shelves.retain(|key, shelf| {
                if key.generation != generation {
                    return false;
                }
                shelf.http1.retain(|(connection, since)| waits(connection, *since));
                // Exchanges under way keep their connection; it closes when the last has ended. A
                // burst may have opened several; one without streams is enough.
                let mut spare = 0;
                shelf.http2.retain(|(connection, used)| {
                    let idle = connection.load().0 == 0;
                    spare += usize::from(idle);
                    connection.is_open() && used.elapsed() < IDLE_TIME_MAX && !(idle && spare > 1)
                });
                !shelf.http1.is_empty() || !shelf.http2.is_empty()
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

/// Whether a connection that has been idle since then may still be used.
fn waits(connection: &Http1<OriginIo>, since: Instant) -> bool {
    since.elapsed() < connection.idle_time_max().unwrap_or(IDLE_TIME_MAX).min(IDLE_TIME_MAX)
}

fn shelf_of<'a>(shelves: &'a mut HashMap<PoolKey, Shelf>, key: &PoolKey) -> &'a mut Shelf {
    shelves.entry(key.clone()).or_default()
}

/// The place of the connection with the most streams that takes one more, so that spare ones fall
/// idle. `None` where all are full: then a further one is opened, up to the bound, beyond which
/// exchanges queue on the one with the fewest.
fn fullest_with_room(connections: &[(Connection, Instant)]) -> Option<usize> {
    let (mut fullest, mut emptiest) = (None, None);
    for (index, (connection, _)) in connections.iter().enumerate() {
        let (streams, room) = connection.load();
        if room > 0 && fullest.is_none_or(|(most, _)| streams > most) {
            fullest = Some((streams, index));
        }
        if emptiest.is_none_or(|(fewest, _)| streams < fewest) {
            emptiest = Some((streams, index));
        }
    }
    let queue = emptiest.filter(|_| connections.len() >= HTTP2_PER_KEY_MAX);
    fullest.or(queue).map(|(_, index)| index)
}

#[cfg(test)]
mod tests;
