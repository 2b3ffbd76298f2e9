//! Acts: packet → tunnel → stream → flow → tls → exchange → verdict → origin → event.
//!
//! The folders below are the pipeline in order. Data moves down the list, imports point up it;
//! only `serve` sees all.

pub mod ident;

pub mod telemetry;

pub mod limit;

pub mod socket;

pub mod tunnel;

pub mod stream;

pub mod flow;

pub mod tls;

pub mod exchange;

pub mod verdict;

pub mod origin;

pub mod event;

pub mod snapshot;

pub mod config;

pub mod admin;

pub mod serve;

pub mod cli;
