//! Acts: packet → tunnel → stream → flow → tls → exchange → verdict → origin → event.
//!
//! The folders below are the pipeline in order. Data moves down the list, imports point up it;
//! only `serve` sees all.

pub mod cli;
pub mod config;
pub mod event;
pub mod flow;
pub mod ident;
pub mod limit;
pub mod origin;
pub mod snapshot;
pub mod tls;
pub mod tunnel;
