//! Ends the gateway in order: first no more readiness, then no more work, then the rest is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::pop::Pop;

/// After the deadline, clients of WebSockets get this long to answer Close: a few round trips.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// After that, tasks get this long to write their closing records.
const CUT_TIME: Duration = Duration::from_secs(2);

/// The signals that are minded. Until these are caught each ends the process at once, so they are before
/// anybody is told that it is ready.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn caught() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Returns when the process shall end: a signal, or a drain asked for by the admin endpoint.
pub(super) async fn until_stopped(pop: &Arc<Pop>, mut signals: Signals) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hangup.recv() => {
                let snapshot = pop.snapshot.clone();
                // Reads files, so not on a worker.
                drop(tokio::task::spawn_blocking(move || snapshot.reload()).await);
            }
            () = pop.draining.cancelled() => return,
        }
    }
}

/// Lets what is under way end, up to the deadline; a second signal ends it at once.
pub(super) async fn drain(pop: &Arc<Pop>) {
    let deadline = Duration::from_secs(pop.snapshot.gateway().config.limits.drain_s);
    tracing::info!(seconds = deadline.as_secs(), "draining");
    pop.metrics.draining.set(1);
    pop.draining.cancel();
    pop.tasks.close();
    let idle = async {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = pop.tasks.wait() => {}
                }
            }
            _ => pop.tasks.wait().await,
        }
    };
    if timeout(deadline, idle).await.is_err() {
        let cut: usize = pop
            .tenancies()
            .iter()
            .flat_map(|tenancy| tenancy.sessions.all())
            .map(|session| session.streams() as usize)
            .sum();
        pop.metrics.drain_cut_total.inc_by(cut as u64);
        tracing::warn!(cut, "drain deadline passed");
    }
    pop.leaving.cancel();
    pop.sockets.close();
    drop(timeout(FAREWELL_TIME, pop.sockets.wait()).await);
    pop.stopping.cancel();
    drop(timeout(CUT_TIME, pop.tasks.wait()).await);
}
