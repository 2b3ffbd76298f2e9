//! The connection's driver: bytes in, streams, bytes out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ending::Ending;
use super::shared::Shared;

/// Runs the connection while polled; resolves to why it ended.
#[must_use = "nothing moves unless the driver is polled"]
#[derive(Debug)]
pub struct Driver<Io> {
    io: Io,
    shared: Arc<Shared>,
}

impl<Io> Driver<Io> {
    pub(super) fn new(io: Io, shared: Arc<Shared>) -> Self {
        Self { io, shared }
    }
}

impl<Io: Unpin> Future for Driver<Io> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Ending> {
        let _ = (&self.io, &self.shared);
        Poll::Ready(Ending::Closed)
    }
}
