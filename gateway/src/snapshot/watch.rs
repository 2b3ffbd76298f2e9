//! Notices changed files and loads just the units they belong to.

use std::time::Duration;

use super::Snapshot;

/// How often files are looked at. A change is in force within 1 s: this, and the load.
const POLL_EVERY: Duration = Duration::from_millis(400);

/// Keeps a snapshot in step with its directory.
pub struct Watcher {
    snapshot: Snapshot,
}

impl Watcher {
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// Runs until dropped.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let snapshot = self.snapshot.clone();
            let looked = tokio::task::spawn_blocking(move || snapshot.reload_changed()).await;
            if let Err(error) = looked {
                tracing::error!(%error, "configuration watch failed");
            }
        }
    }
}

impl Snapshot {
    /// Loads every unit whose files changed since the last attempt.
    fn reload_changed(&self) {
        self.reload_gateway_if(|_| false);
        let known = self.tenants();
        let found = self.inner.layout.tenant_names().unwrap_or_else(|_| known.clone());
        for name in known.iter().chain(&found) {
            self.reload_tenant_if(name, |_| false);
        }
    }
}
