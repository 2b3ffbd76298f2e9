//! Sinks against peers that fail.
#![expect(clippy::unwrap_used, reason = "tests")]
