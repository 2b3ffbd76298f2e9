//! Telemetry: metrics and the process log.

pub mod log;
mod metrics;
mod tenants;

pub use metrics::Metrics;
