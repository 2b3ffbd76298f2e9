//! Events as the admin endpoint gives them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Gateway;
use crate::client::error::ClientError;

/// From the fact to its event: flush interval, split and poll, on a busy machine.
const EVENT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(25);

impl Gateway {
    /// All events of a tenant so far, oldest first.
    ///
    /// # Errors
    /// Where the admin endpoint does not answer with NDJSON.
    pub async fn events(&self, tenant: &str) -> Result<Vec<Value>, ClientError> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let after = if cursor.is_empty() { String::new() } else { format!("&after={cursor}") };
            let path = format!("/v1/events?tenant={tenant}&limit=1000{after}");
            let reply = self.admin_get(&path).await?;
            if reply.status != 200 {
                return Err(ClientError::Malformed(format!("{}: {}", reply.status, reply.text())));
            }
            let before = all.len();
            for line in reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event = serde_json::from_slice(line);
                all.push(event.map_err(|error| ClientError::Malformed(error.to_string()))?);
            }
            let next = reply.field("sluice-cursor").unwrap_or_default().to_owned();
            if all.len() == before || next.is_empty() || next == cursor {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// The first event that fits, as soon as it is there.
    ///
    /// # Panics
    /// After 10 s without one, with what there was.
    pub async fn await_event(&self, tenant: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.await_events(tenant, 1, fits).await.swap_remove(0)
    }

    /// The events that fit, as soon as there are so many.
    ///
    /// # Panics
    /// After 10 s without them, with what there was.
    pub async fn await_events(
        &self,
        tenant: &str,
        count: usize,
        fits: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let begun = Instant::now();
        let mut seen = Vec::new();
        while begun.elapsed() < EVENT_MAX {
            // A tenant's folder may not exist before its first event.
            seen = self.events(tenant).await.unwrap_or_default();
            let found: Vec<_> = seen.iter().filter(|event| fits(event)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
        let seen: Vec<_> = seen.iter().map(ToString::to_string).collect();
        panic!("no such event for {tenant}; there were {}:\n{}", seen.len(), seen.join("\n"));
    }

    /// The `close` record of the transaction whose URL contains `part`.
    pub async fn await_transaction(&self, tenant: &str, part: &str) -> Value {
        let fits = |event: &Value| {
            event["type"] == "transaction"
                && event["state"] == "close"
                && event["url"].as_str().is_some_and(|url| url.contains(part))
        };
        self.await_event(tenant, fits).await
    }

    /// The refused session with that `error`, under the tenant or under `_pop`.
    pub async fn await_refusal(&self, tenant: &str, error: &str) -> Value {
        let fits = |event: &Value| event["type"] == "session" && event["error"] == error;
        self.await_event(tenant, fits).await
    }
}
