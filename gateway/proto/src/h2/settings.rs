//! The SETTINGS frame's parameters (RFC 9113 section 6.5, RFC 8441 section 3).

use bytes::{BufMut, BytesMut};

use super::code::{Code, Fault};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
const NO_RFC7540_PRIORITIES: u16 = 0x9;

/// Largest flow-control window (RFC 9113, section 6.9.1).
pub const WINDOW_MAX: u32 = 0x7fff_ffff;

/// `SETTINGS_INITIAL_WINDOW_SIZE` and the connection's window before anyone says otherwise.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// The smallest and default `SETTINGS_MAX_FRAME_SIZE`.
pub const FRAME_DEFAULT: u32 = 16_384;

/// The largest `SETTINGS_MAX_FRAME_SIZE`.
const FRAME_MAX: u32 = 0x00ff_ffff;

/// Entries in one SETTINGS frame: the protocol knows nine; more is noise.
const ENTRIES_MAX: usize = 64;

/// What a SETTINGS frame says; `None` where it is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub header_table_size: Option<u32>,
    pub enable_push: Option<u32>,
    pub max_concurrent_streams: Option<u32>,
    pub initial_window_size: Option<u32>,
    pub max_frame_size: Option<u32>,
    pub max_header_list_size: Option<u32>,
    pub enable_connect_protocol: Option<u32>,
    pub no_rfc7540_priorities: Option<u32>,
}

impl Parameters {
    /// Reads a frame's payload; a later value of the same parameter stands, unknown ones pass.
    ///
    /// # Errors
    /// Where the length or a value is out of range.
    pub fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let (entries, []) = payload.as_chunks::<6>() else {
            return Err(Fault::frame_size("SETTINGS length not a multiple of six"));
        };
        if entries.len() > ENTRIES_MAX {
            return Err(Fault::new(Code::ENHANCE_YOUR_CALM, "too many settings in one frame"));
        }
        let mut parameters = Self::default();
        for [id_high, id_low, value @ ..] in entries {
            parameters.set(u16::from_be_bytes([*id_high, *id_low]), u32::from_be_bytes(*value))?;
        }
        Ok(parameters)
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            HEADER_TABLE_SIZE => self.header_table_size = Some(value),
            ENABLE_PUSH => self.enable_push = Some(flag(value)?),
            MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
            INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                return Err(Fault::new(Code::FLOW_CONTROL_ERROR, "initial window too large"));
            }
            INITIAL_WINDOW_SIZE => self.initial_window_size = Some(value),
            MAX_FRAME_SIZE if !(FRAME_DEFAULT..=FRAME_MAX).contains(&value) => {
                return Err(Fault::protocol("frame size setting out of range"));
            }
            MAX_FRAME_SIZE => self.max_frame_size = Some(value),
            MAX_HEADER_LIST_SIZE => self.max_header_list_size = Some(value),
            ENABLE_CONNECT_PROTOCOL => self.enable_connect_protocol = Some(flag(value)?),
            NO_RFC7540_PRIORITIES => self.no_rfc7540_priorities = Some(flag(value)?),
            _ => {}
        }
        Ok(())
    }

    /// Appends the payload.
    pub(super) fn put(&self, out: &mut BytesMut) {
        for (id, value) in [
            (HEADER_TABLE_SIZE, self.header_table_size),
            (ENABLE_PUSH, self.enable_push),
            (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, self.initial_window_size),
            (MAX_FRAME_SIZE, self.max_frame_size),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_size),
            (ENABLE_CONNECT_PROTOCOL, self.enable_connect_protocol),
            (NO_RFC7540_PRIORITIES, self.no_rfc7540_priorities),
        ] {
            if let Some(value) = value {
                out.put_u16(id);
                out.put_u32(value);
            }
        }
    }
}

fn flag(value: u32) -> Result<u32, Fault> {
    if value > 1 { Err(Fault::protocol("a setting must be 0 or 1")) } else { Ok(value) }
}
