//! HTTP/3 bytes (RFC 9114) and field compression without a dynamic table (RFC 9204): frames in,
//! frames out, no state of connections.

mod code;
mod frame;
pub mod qpack;
mod settings;
mod stream_type;
#[cfg(test)]
mod tests;

pub use code::{Code, Fault};
pub use frame::{Event, FrameReader, put_data_header, put_goaway, put_headers, put_settings};
pub use settings::Settings;
pub use stream_type::{StreamType, StreamTypeReader};

pub use crate::h2::{HeadBuilder, Malformed, RequestHead, check_trailer};
