//! Events in the shapes that other systems read: tables of their fields and where each comes from.
//!
//! docs/formats.md is generated from the same tables.

mod cef;
mod export;
mod ocsf;
mod source;
mod value;

pub use export::Export;
pub use source::{Row, Source};
pub use value::Event;

/// How an event is written for somebody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As it stands in the log.
    #[default]
    Native,
    /// The Open Cybersecurity Schema Framework, as JSON.
    Ocsf,
    /// ArcSight's Common Event Format: a line of text.
    Cef,
    /// The field names of the commercial product's pull API, as JSON.
    Export,
}

impl Format {
    /// Appends the event without a newline. `false` where it cannot be read, and nothing is
    /// appended: a damaged line is passed on as it is only in its own format.
    pub fn write(self, line: &[u8], out: &mut Vec<u8>) -> bool {
        if self == Self::Native {
            out.extend_from_slice(line);
            return true;
        }
        let Some(event) = Event::parse(line) else { return false };
        match self {
            Self::Native => {}
            Self::Ocsf => json(&ocsf::map(&event), out),
            Self::Cef => cef::write(&event, out),
            Self::Export => json(&Export::of(&event).map(&event), out),
        }
        true
    }
}

/// The tables, with a heading each, for the documentation.
#[must_use]
pub fn tables() -> Vec<(&'static str, Vec<Row>)> {
    let mut tables = Export::tables();
    tables.push(("CEF extension", cef::EXTENSION.to_vec()));
    tables.extend(ocsf::tables());
    tables
}

#[expect(clippy::let_underscore_must_use, reason = "writing into memory does not fail")]
fn json(value: &serde_json::Value, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}
