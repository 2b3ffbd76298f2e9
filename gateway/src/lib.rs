//! Acts: packet → tunnel → stream → flow → tls → exchange → verdict → origin → event.
//!
//! The folders below are the pipeline in order. Data moves down the list, imports point up it;
//! only `serve` sees all.

pub mod ident;

pub mod limit;

pub mod tunnel;

pub mod tls;

pub mod event;

pub mod snapshot;

pub mod config;

pub mod cli;
