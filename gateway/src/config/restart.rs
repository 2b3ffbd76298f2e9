//! Which keys of gateway.yaml are read at the start only.

use super::GatewayConfig;

impl GatewayConfig {
    /// Keys that say something else than in the configuration that the process started with, and
    /// have no effect until it starts again.
    #[must_use]
    pub fn awaiting_restart(&self, started: &Self) -> Vec<&'static str> {
        let (events, then) = (&self.events, &started.events);
        [
            ("pop", self.pop != started.pop),
            ("listen", self.listen != started.listen),
            ("admin.listen", self.admin.listen != started.admin.listen),
            ("admin.tls", self.admin.tls != started.admin.tls),
            ("workers", self.workers != started.workers),
            ("inner", self.inner != started.inner),
            ("limits.memory", self.limits.memory != started.limits.memory),
            ("events.dir", events.dir != then.dir),
            ("events.flush_ms", events.flush_ms != then.flush_ms),
            ("events.fsync", events.fsync != then.fsync),
            ("events.compress", events.compress != then.compress),
            ("events.max_bytes", events.max_bytes != then.max_bytes),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_wait_for_a_restart_are_named_and_no_others() {
        let started = GatewayConfig::default();
        let mut now = started.clone();
        now.limits.drain_s += 1;
        now.events.when_full = crate::config::WhenFull::RefuseTraffic;
        assert!(now.awaiting_restart(&started).is_empty());
        now.workers += 1;
        now.admin.listen.set_port(1);
        now.events.fsync = !now.events.fsync;
        assert_eq!(now.awaiting_restart(&started), ["admin.listen", "workers", "events.fsync"]);
    }
}
