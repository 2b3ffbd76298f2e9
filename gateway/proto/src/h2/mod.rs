//! HTTP/2 bytes (RFC 9113) and header compression (RFC 7541): frames in, frames out, no state
//! of streams.

mod code;
pub mod encode;
mod frame;
pub mod hpack;
mod request;
mod settings;

pub use code::{Code, Fault};
pub use frame::{Frame, FrameReader, PREFACE};
pub use request::{HeadBuilder, Malformed, RequestHead, check_trailer};
pub use settings::{FRAME_DEFAULT, Parameters, WINDOW_DEFAULT, WINDOW_MAX};
