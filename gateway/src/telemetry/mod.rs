//! Telemetry: metrics and the process log.

mod limits;
pub mod log;
mod metrics;
mod tenants;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;
