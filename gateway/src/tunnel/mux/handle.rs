//! The tunnel's own ends: requests as they come, and control over the whole connection.

use std::future::poll_fn;
use std::sync::Arc;

use super::request::Request;
use super::shared::Shared;

/// Requests in the order they came. Dropped, further ones are refused.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next request, or `None` once no more can come.
    pub async fn next(&mut self) -> Option<Request> {
        poll_fn(|context| Shared::poll_request(&self.shared, context)).await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.refuse_more();
    }
}

/// Control over one connection, from anywhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Asks the peer to go elsewhere (GOAWAY), lets open streams finish, then ends.
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// Ends the connection and every stream now.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Streams open now.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.shared.streams()
    }

    /// Stream bytes received from the peer so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.shared.bytes_in()
    }

    /// Stream bytes sent to the peer so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.shared.bytes_out()
    }
}
