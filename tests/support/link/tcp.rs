//! A TCP relay with delay and rate: a long way without loss.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Bytes taken at once; small, so that a rate is smooth.
const CHUNK_BYTES: usize = 8 * 1024;
/// Chunks under way per direction: 16 MiB, so that the relay's room limits nobody before its rate does.
const CHUNKS_MAX: usize = 2_048;

/// How one direction goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    pub delay: Duration,
    /// Bits per second over all connections together; `None` does not limit.
    pub rate: Option<u64>,
}

/// A relay for TCP connections. Dropping it ends them.
pub struct TcpRelay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    up: Mutex<Direction>,
    down: Mutex<Direction>,
    target: SocketAddr,
    /// Counts up when all connections are to be cut.
    cut: watch::Sender<u64>,
}

#[derive(Default)]
struct Direction {
    pace: Pace,
    busy_until: Option<Instant>,
}

impl Direction {
    /// When so many bytes arrive that are sent now.
    fn due(&mut self, now: Instant, length: usize) -> Instant {
        let mut through = now;
        if let Some(rate) = self.pace.rate {
            let begins = self.busy_until.map_or(now, |busy| busy.max(now));
            through = begins + Duration::from_secs_f64(length as f64 * 8.0 / rate as f64);
            self.busy_until = Some(through);
        }
        through + self.pace.delay
    }
}

impl TcpRelay {
    /// A relay to `target` on a port of its own, without delay at first.
    ///
    /// # Panics
    /// Where no port can be had.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (up, down) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { up, down, target, cut: watch::channel(0).0 });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, task }
    }

    /// Paces both directions alike, for bytes that are sent from now on.
    pub fn set(&self, pace: Pace) {
        self.set_up(pace);
        self.set_down(pace);
    }

    /// From clients to the target.
    pub fn set_up(&self, pace: Pace) {
        *lock(&self.shared.up) = Direction { pace, busy_until: None };
    }

    /// From the target to clients.
    pub fn set_down(&self, pace: Pace) {
        *lock(&self.shared.down) = Direction { pace, busy_until: None };
    }

    /// Cuts every connection there is; new ones may come.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Aborting this task drops the set, and that aborts its connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(relay(client, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    cut.mark_unchanged();
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let both = async {
        tokio::join!(
            pump(client_reads, server_writes, &shared.up),
            pump(server_reads, client_writes, &shared.down)
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cut.changed() => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    direction: &Mutex<Direction>,
) {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let reading = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            // An error ends a direction as its end does; an empty chunk tells.
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let due = lock(direction).due(Instant::now(), length);
            let gone = put.send((due, buffer[..length].to_vec())).await.is_err();
            if length == 0 || gone {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = take.recv().await {
            sleep_until(due).await;
            if chunk.is_empty() || to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(reading, writing);
}
