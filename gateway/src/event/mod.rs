//! One record on every way out, kept: write-ahead log, per-tenant segments, cursors.
//!
//! ```text
//! Writer::append → memory → flush (write, fdatasync) → split → <tenant>/<first>.ndjson → Reader → Sinks
//! ```
//!
//! A request never waits for the disk: [`Writer::append`] serialises into a bounded buffer and
//! returns. One thread brings the buffers of all workers to the kernel well within the flush
//! interval, one syncs them, one splits what is written into a file per tenant. A crash loses
//! what was younger than the flush interval, and nothing else.

mod text;

mod record;

mod fields;

mod line;

mod redact;

mod enrich;

mod serialize;

mod frame;

mod progress;

mod disk;

mod stats;

mod wal;

mod flush;

mod segments;

mod store;

mod park;

mod split;

mod pack;

mod scan;

mod filter;

mod format;

mod cursor;

mod recover;

mod read;

mod marks;

mod consume;
mod counted;

mod sink;

mod log;

#[cfg(test)]
mod tests;

pub use consume::{Allowance, ConsumeError, Consumers, Operation as Pull, REQUESTS_MAX, Records};
pub use fields::{FIELDS, FieldDoc, field_of};
pub use filter::{FILTER_KEYS, Filter, FilterError};
pub use format::{Event, Export, Format, Row, Source, tables};
pub use line::{is_cut, printable};
pub use log::{Changes, EventLog, Options, TenantSettings, Writer};
pub use read::{Page, ReadError, Reader, SEEN_MAX};
pub use record::{
    App, Client, Content, Cost, Destination, DlpHit, End, HostSource, Http, Inspection,
    InstanceKind, OPERATIONS_MAX, Operation, Record, RecordType, State, Threat, Tls, Verdict,
};
pub use redact::{Disclosure, Redaction};
pub use sink::SinkStats;
pub use stats::Stats;
pub use text::Text;

/// The tenant of events that belong to none: what was refused before a tenant was known, and what
/// the gateway says about itself. No tenant can have this name.
pub const POP_TENANT: &str = "_pop";
