//! A slow heartbeat of a connection: tells when an exchange has been open for long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Anything open for longer than this is recorded as open (DESIGN part 6).
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// One timer per connection, re-armed only when it has fired: exchanges shorter than a beat cost
/// no timer at all.
#[derive(Default)]
pub(super) struct Pulse {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pulse {
    /// Ready about every [`BEAT`].
    pub(super) fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(BEAT)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        sleep.as_mut().reset(Instant::now() + BEAT);
        Poll::Ready(())
    }
}
