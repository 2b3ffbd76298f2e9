//! The process log: for operators, on standard error, never with anything private above debug.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The Kafka library tells each of its retries; what became of them the sink says itself.
const DEFAULT: &str = "info,rskafka=off";

/// Starts the log. `SLUICE_LOG` sets the level (default `info`).
pub fn start() {
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    // A second start, in a test, keeps the first.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
    );
}
