//! What each fuzz target runs; the tests that replay the corpora run the same.

pub mod policy;
pub mod proto;
