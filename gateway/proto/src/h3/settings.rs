//! The SETTINGS frame's parameters (RFC 9114 section 7.2.4, RFC 9204 section 5, RFC 9220, RFC 9297).

use bytes::BytesMut;

use super::code::{Code, Fault};
use crate::capsule::{read_varint, write_varint};

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;

/// Entries in one frame: a handful are registered; more is noise.
const ENTRIES_MAX: usize = 64;

/// What a SETTINGS frame says; what it is silent about has its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub qpack_max_table_capacity: u64,
    pub qpack_blocked_streams: u64,
    /// `None` is no limit.
    pub max_field_section_size: Option<u64>,
    pub enable_connect_protocol: bool,
    pub h3_datagram: bool,
}

impl Settings {
    /// Reads a frame's payload; unknown parameters pass.
    ///
    /// # Errors
    /// Where one is repeated, belongs to HTTP/2 only, or has a value out of range.
    pub fn parse(mut payload: &[u8]) -> Result<Self, Fault> {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let cut = || Fault::new(Code::FRAME_ERROR, "SETTINGS cut off");
            let (id, width) = read_varint(payload).ok_or_else(cut)?;
            payload = payload.get(width..).unwrap_or_default();
            let (value, width) = read_varint(payload).ok_or_else(cut)?;
            payload = payload.get(width..).unwrap_or_default();
            if seen.contains(&id) {
                return Err(Fault::new(Code::SETTINGS_ERROR, "a setting is repeated"));
            }
            if seen.len() == ENTRIES_MAX {
                return Err(Fault::new(Code::EXCESSIVE_LOAD, "too many settings"));
            }
            seen.push(id);
            settings.set(id, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, id: u64, value: u64) -> Result<(), Fault> {
        match id {
            QPACK_MAX_TABLE_CAPACITY => self.qpack_max_table_capacity = value,
            QPACK_BLOCKED_STREAMS => self.qpack_blocked_streams = value,
            MAX_FIELD_SECTION_SIZE => self.max_field_section_size = Some(value),
            ENABLE_CONNECT_PROTOCOL => self.enable_connect_protocol = flag(value)?,
            H3_DATAGRAM => self.h3_datagram = flag(value)?,
            // HTTP/2's, which have no meaning here (RFC 9114 section 7.2.4.1).
            0x00 | 0x02..=0x05 => {
                return Err(Fault::new(Code::SETTINGS_ERROR, "a setting of HTTP/2"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends the payload.
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut entry = |id, value| {
            write_varint(id, out);
            write_varint(value, out);
        };
        entry(QPACK_MAX_TABLE_CAPACITY, self.qpack_max_table_capacity);
        entry(QPACK_BLOCKED_STREAMS, self.qpack_blocked_streams);
        if let Some(size) = self.max_field_section_size {
            entry(MAX_FIELD_SECTION_SIZE, size);
        }
        if self.enable_connect_protocol {
            entry(ENABLE_CONNECT_PROTOCOL, 1);
        }
        if self.h3_datagram {
            entry(H3_DATAGRAM, 1);
        }
    }
}

fn flag(value: u64) -> Result<bool, Fault> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::new(Code::SETTINGS_ERROR, "a setting must be 0 or 1")),
    }
}
