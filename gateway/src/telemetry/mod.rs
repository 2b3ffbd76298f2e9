//! Telemetry: metrics and the process log.

pub mod log;
mod metrics;
mod tenants;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;
