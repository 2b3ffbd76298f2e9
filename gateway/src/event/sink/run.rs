//! One sink at work: gather, send, keep the place; again after a while where the peer does not take it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Heads;
use super::error::SinkError;
use super::gather::{Batch, Gatherer};
use super::peer::Peer;
use super::spec::Spec;
use super::stats::Counts;
use crate::config::Sink;
use crate::event::cursor::Cursor;
use crate::event::log::Changes;
use crate::event::marks::Marks;
use crate::event::read::Reader;

/// First and longest wait after a failure. Long enough not to hammer a peer that is coming up, short
/// enough that an outage is over soon after it is over.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// A peer that has not taken a batch by then is asked again.
const SEND_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks for tenants that came or went.
const TENANTS_EVERY: Duration = Duration::from_secs(2);
/// How long a gateway that ends waits for its sinks.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// What a sink is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    /// Send what there is, then end.
    Finish,
    /// End now.
    Stop,
}

pub(super) struct Runner {
    name: String,
    spec: Spec,
    peer: Peer,
    reader: Reader,
    marks: Marks,
    heads: Arc<Heads>,
    counts: Arc<Counts>,
    changes: Changes,
    orders: watch::Receiver<Order>,
    /// Most events of the next batch; halved where the peer finds one too large.
    limit: usize,
    backoff: Option<ExponentialBackoff>,
    /// Why the last attempt failed, as the log has it.
    told: String,
    /// The batch that was not taken. It is sent again as it is, so that what a peer knows by its
    /// name (an object, a message) has the same one.
    again: Option<Batch>,
    /// The tenants were looked for once.
    followed: bool,
}

impl Runner {
    pub(super) fn new(
        sink: Sink,
        reader: Reader,
        marks: Marks,
        heads: Arc<Heads>,
        counts: Arc<Counts>,
        changes: Changes,
        orders: watch::Receiver<Order>,
    ) -> Self {
        let spec = Spec::new(&sink);
        let limit = spec.events;
        let name = sink.name.clone();
        let peer = Peer::new(sink);
        Self {
            name,
            spec,
            peer,
            reader,
            marks,
            heads,
            counts,
            changes,
            orders,
            limit,
            backoff: None,
            told: String::new(),
            again: None,
            followed: false,
        }
    }

    /// The thread.
    pub(super) fn run(self) {
        let name = self.name.clone();
        if let Err(error) = on_own_runtime(self.work()) {
            tracing::error!(%error, sink = name, "sink: no runtime");
        }
    }

    async fn work(mut self) {
        let mut orders = self.orders.clone();
        let ended = async {
            // Without anybody to order there is nothing more to do either.
            let order = orders.wait_for(|order| *order != Order::Run).await.map(|order| *order);
            if matches!(order, Ok(Order::Finish)) {
                sleep(FINISH_TIME_MAX).await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.serve() => {}
        }
    }

    /// Sends batch after batch; ends once it may and everything is sent.
    async fn serve(&mut self) {
        let mut gatherer = Gatherer::new();
        let mut looked: Option<Instant> = None;
        loop {
            let finishing = *self.orders.borrow_and_update() != Order::Run;
            if finishing || looked.is_none_or(|at| at.elapsed() >= TENANTS_EVERY) {
                looked = Some(Instant::now());
                self.follow(&mut gatherer);
            }
            if self.turn(&mut gatherer).await {
                if finishing {
                    return;
                }
                self.pause().await;
            }
        }
    }

    /// Waits until there may be more, then for more to come together.
    async fn pause(&mut self) {
        let wait = self.spec.wait;
        let changes = &mut self.changes;
        let more = async {
            // Without a change there is still the look for new tenants.
            if timeout(TENANTS_EVERY, changes.changed()).await.is_ok() {
                sleep(wait).await;
            }
        };
        tokio::select! {
            () = more => {}
            // What it is, is looked at next.
            _ordered = self.orders.changed() => {}
        }
    }

    /// Looks for tenants that came or went.
    fn follow(&mut self, gatherer: &mut Gatherer) {
        let known = match self.reader.tenants() {
            Ok(known) => known,
            Err(error) => return tracing::warn!(%error, sink = self.name, "sink: no tenants"),
        };
        // A place in a log that is gone would be a wrong one in a log of the same name.
        let gone: Vec<(String, String)> = self
            .marks
            .keys()
            .filter(|name| known.binary_search_by(|one| one.as_str().cmp(name)).is_err())
            .map(|name| (name.to_owned(), String::new()))
            .collect();
        for (name, _) in &gone {
            self.counts.reached.remove(name.as_str());
        }
        self.keep(&gone);
        if let Some(batch) = &mut self.again {
            batch.places.retain(|(name, _, _)| known.binary_search(name).is_ok());
        }
        self.begin(&known);
        for name in known.iter().filter(|name| self.spec.has_tenant(name)) {
            self.counts.reached.entry(name.as_str().into()).or_insert(0);
        }
        gatherer.follow(known, &self.spec);
    }

    /// Puts down where a tenant that is new here begins, so that what is gone by the time the peer
    /// takes anything is missed: at its first event where it came since this sink runs, else at the
    /// oldest kept.
    fn begin(&mut self, known: &[String]) {
        let first = std::mem::replace(&mut self.followed, true).then(|| Cursor::default().print());
        let fresh = |name: &&String| self.spec.has_tenant(name) && self.marks.get(name).is_none();
        let fresh: Vec<&String> = known.iter().filter(fresh).collect();
        let oldest = |name: &String| self.reader.begin(name).ok();
        let begin = |name: &String| Some((name.clone(), first.clone().or_else(|| oldest(name))?));
        let places: Vec<(String, String)> = fresh.into_iter().filter_map(begin).collect();
        self.keep(&places);
    }

    /// One batch. `true` where there is no more for now.
    async fn turn(&mut self, gatherer: &mut Gatherer) -> bool {
        let Self { reader, marks, heads, counts, spec, limit, again, .. } = self;
        let next = again
            .take()
            .map_or_else(|| gatherer.gather(reader, marks, heads, counts, spec, *limit), Ok);
        let batch = match next {
            Ok(batch) => batch,
            Err(error) => {
                self.failed(&SinkError::settings(error)).await;
                return true;
            }
        };
        if !batch.items.is_empty() {
            let sent = timeout(SEND_TIME_MAX, self.peer.send(&batch)).await;
            match sent.unwrap_or(Err(SinkError::Timeout)) {
                Ok(rejected) => self.took(&batch, rejected),
                Err(SinkError::TooLarge) if batch.items.len() > 1 => {
                    self.limit = (batch.items.len() / 2).max(1);
                    return false;
                }
                Err(SinkError::TooLarge) => {
                    tracing::warn!(
                        sink = self.name,
                        "sink: an event is larger than the peer takes"
                    );
                    self.took(&batch, 1);
                }
                Err(error) => {
                    self.again = Some(batch);
                    self.failed(&error).await;
                    return false;
                }
            }
        }
        self.moved(&batch);
        !batch.more
    }

    fn took(&mut self, batch: &Batch, rejected: u64) {
        let sent = (batch.items.len() as u64).saturating_sub(rejected);
        Counts::add(&self.counts.sent, sent);
        Counts::add(&self.counts.rejected, rejected);
        if self.counts.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(sink = self.name, "sink: the peer takes events again");
        }
        self.told.clear();
        self.backoff = None;
        // Back to full batches step by step: what was too large may have been one event.
        self.limit = (self.limit * 2).min(self.spec.events);
    }

    /// Keeps the place after the batch.
    fn moved(&mut self, batch: &Batch) {
        let places: Vec<(String, String)> = batch
            .places
            .iter()
            .map(|(tenant, cursor, _)| (tenant.clone(), cursor.clone()))
            .collect();
        self.keep(&places);
        for (tenant, _, next) in &batch.places {
            self.counts.reached.insert(tenant.as_str().into(), *next);
        }
    }

    fn keep(&mut self, places: &[(String, String)]) {
        if let Err(error) = self.marks.put(places) {
            tracing::warn!(%error, sink = self.name, "sink: its place cannot be kept");
        }
    }

    async fn failed(&mut self, error: &SinkError) {
        self.counts.failed(error);
        self.counts.failing.store(true, Ordering::Relaxed);
        // Once for each reason: a peer that can be reached again may still refuse.
        let why = error.to_string();
        if why != self.told {
            tracing::warn!(%error, sink = self.name, "sink: the peer takes nothing; events wait");
            self.told = why;
        }
        let backoff = self.backoff.get_or_insert_with(|| {
            ExponentialBuilder::new()
                .with_min_delay(RETRY_FIRST)
                .with_max_delay(RETRY_LONGEST)
                .with_jitter()
                .without_max_times()
                .build()
        });
        let wait = backoff.next().unwrap_or(RETRY_LONGEST);
        sleep(wait).await;
    }
}

/// Runs it on a runtime of its own. What it left behind on other threads is not waited for: a name
/// that is looked up can take minutes, and whoever ends the sink waits for its thread.
fn on_own_runtime(work: impl Future<Output = ()>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work);
    runtime.shutdown_background();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_sink_that_ends_waits_for_no_look_up_of_a_name() {
        let (answer, question) = std::sync::mpsc::channel::<()>();
        let (asked, asking) = std::sync::mpsc::channel::<()>();
        on_own_runtime(async move {
            drop(tokio::task::spawn_blocking(move || {
                asked.send(()).unwrap();
                question.recv()
            }));
            asking.recv().unwrap();
        })
        .unwrap();
        // The answer comes only now: to have waited for it would have been for ever.
        drop(answer);
    }
}
