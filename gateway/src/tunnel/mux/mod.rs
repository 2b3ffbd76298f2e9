//! Many streams in one tunnel: the server side of HTTP/2 (RFC 9113, RFC 8441) with receive
//! windows that grow per stream.

mod abuse;
mod driver;
mod ending;
mod grant;
mod handle;
mod inbound;
mod outbound;
mod queue;
mod request;
mod settings;
mod shared;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod upkeep;
mod windows;

pub(super) use abuse::{RESETS_BURST, RESETS_PER_SECOND};
pub use driver::Driver;
pub use ending::{Ending, StreamFault};
pub use gateway_proto::h2::Code;
pub use handle::{Handle, Incoming};
pub use request::{BodyHint, Request, Responder};
pub use settings::Settings;
pub use stream::{MuxStream, RecvHalf, SendHalf};

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::limit::window::TunnelWindow;

/// Serves HTTP/2 on `io`. Nothing moves unless the [`Driver`] is polled; dropping it ends every
/// stream.
pub fn serve<Io>(io: Io, settings: Settings, budget: TunnelWindow) -> (Driver<Io>, Incoming, Handle)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::new(shared::Shared::new(settings, budget));
    let driver = Driver::new(io, Arc::clone(&shared));
    (driver, Incoming::new(Arc::clone(&shared)), Handle::new(shared))
}
