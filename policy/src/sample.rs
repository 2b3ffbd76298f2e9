//! The policy that a new tenant begins with.

/// A commented policy that coaches, blocks and alerts. It checks clean.
pub const SAMPLE: &str = include_str!("sample.yaml");
