//! Sinks: events sent on to other systems, each sink at its own pace from its own place in the log.
//!
//! ```text
//! <tenant>/*.ndjson → gather (filter, format) → Peer::send → marks (_sinks/<name>)
//! ```
//!
//! A sink has a thread of its own and reads what the splitter wrote, so that one which is slow or
//! dead costs the traffic nothing. Its place moves only after the peer took a batch: delivery is at
//! least once.

mod error;
mod file;
mod gather;
mod http;
mod kafka;
mod nats;
mod otlp;
mod peer;
mod run;
mod s3;
mod spec;
mod stats;
mod syslog;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use stats::SinkStats;

use self::run::{Order, Runner};
use self::stats::Counts;
use super::log::Changes;
use super::marks::Marks;
use super::read::Reader;
use crate::config::Sink;

/// Where sinks' places lie, beside the tenants' directories. No tenant has this name.
const DIRECTORY: &str = "_sinks";

/// Number of the next event of each tenant, as the splitter knows it.
pub(super) type Heads = DashMap<Box<str>, u64>;

/// All sinks of a log.
pub(super) struct Sinks {
    root: PathBuf,
    heads: Arc<Heads>,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    config: Sink,
    counts: Arc<Counts>,
    order: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Sinks {
    pub(super) fn new(root: PathBuf, heads: Arc<Heads>) -> Self {
        Self { root, heads, running: Mutex::default() }
    }

    /// Puts these sinks into force: those that are new or changed begin, those that are gone end.
    pub(super) fn set(&self, configured: &[Sink], changes: &Changes) {
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for config in configured {
            let known = before.remove(&config.name);
            if let Some(same) = known {
                if same.config == *config {
                    running.insert(config.name.clone(), same);
                    continue;
                }
                // The successor takes the place over once this one has put it down.
                running.insert(config.name.clone(), self.start(config, changes, Some(same)));
            } else {
                running.insert(config.name.clone(), self.start(config, changes, None));
            }
        }
        for gone in before.values() {
            gone.order.send_replace(Order::Stop);
        }
    }

    fn start(&self, config: &Sink, changes: &Changes, before: Option<Running>) -> Running {
        let counts = before.as_ref().map_or_else(Arc::default, |before| Arc::clone(&before.counts));
        let (order, orders) = watch::channel(Order::Run);
        let path = self.root.join(DIRECTORY).join(&config.name);
        let reader = Reader::open(&self.root);
        let (heads, changes) = (Arc::clone(&self.heads), changes.clone());
        let (sink, shared) = (config.clone(), Arc::clone(&counts));
        let work = move || {
            if let Some(mut before) = before {
                before.end(Order::Stop);
            }
            match Marks::open(&path) {
                Ok(marks) => Runner::new(sink, reader, marks, heads, shared, changes, orders).run(),
                Err(error) => tracing::error!(%error, "sink: its place cannot be read"),
            }
        };
        let thread = std::thread::Builder::new().name(format!("sink-{}", config.name)).spawn(work);
        if let Err(error) = &thread {
            tracing::error!(%error, sink = config.name, "sink: no thread");
        }
        Running { config: config.clone(), counts, order, thread: thread.ok() }
    }

    /// What each sink has done, by name.
    pub(super) fn stats(&self) -> Vec<(String, SinkStats)> {
        let running = self.running.lock();
        running.iter().map(|(name, one)| (name.clone(), one.counts.stats(&self.heads))).collect()
    }

    /// Lets the sinks send what there is for a moment, then ends them. Blocks.
    pub(super) fn close(&self) {
        let mut running = std::mem::take(&mut *self.running.lock());
        for sink in running.values() {
            sink.order.send_replace(Order::Finish);
        }
        running.values_mut().for_each(|sink| sink.end(Order::Finish));
    }
}

impl Running {
    fn end(&mut self, order: Order) {
        self.order.send_replace(order);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(sink = self.config.name, "sink: its thread panicked");
        }
    }
}
