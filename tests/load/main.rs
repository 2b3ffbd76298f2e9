//! `sluice-load`: the load generator.

fn main() {}
