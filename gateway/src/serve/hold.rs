//! Holds a request body back until it has been judged, under a bound of memory and time.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use policy::fact::Unobtainable;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use crate::exchange::{Frame, Request, Sink, Source};
use crate::limit::hold::HoldBudget;
use crate::verdict::Held;

/// Frames that were read before the verdict, to be sent before the rest.
#[derive(Default)]
pub(super) struct Replay {
    frames: VecDeque<Frame>,
    ended: bool,
}

impl Replay {
    /// A source that gives the held frames, then what the client still sends.
    pub(super) fn before<'a, S: Source>(&'a mut self, rest: &'a mut S) -> Replaying<'a, S> {
        Replaying { replay: self, rest }
    }
}

/// See [`Replay::before`].
pub(super) struct Replaying<'a, S> {
    replay: &'a mut Replay,
    rest: &'a mut S,
}

impl<S: Source> Source for Replaying<'_, S> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        match self.replay.frames.pop_front() {
            Some(frame) => Poll::Ready(Ok(Some(frame))),
            None if self.replay.ended => Poll::Ready(Ok(None)),
            None => self.rest.poll_frame(context),
        }
    }
}

/// What a hold came to.
pub(super) enum Hold {
    Whole(Held),
    /// A bound was reached; what was read goes on first, if the verdict allows it.
    Unobtainable(Unobtainable),
}

/// Reads the body until its end or a bound.
///
/// # Errors
/// Where the client breaks off.
pub(super) async fn hold<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<'_, Io>,
    request: &Request,
    replay: &mut Replay,
    budget: &HoldBudget,
    bytes_max: u64,
    time_max: Duration,
) -> io::Result<Hold> {
    if request.expects_continue {
        client.interim(super::answer::go_on())?;
        std::future::poll_fn(|context| client.poll_flush(context)).await?;
    }
    let deadline = tokio::time::Instant::now() + time_max;
    let mut share = budget.share();
    let mut size = 0_u64;
    loop {
        let next = std::future::poll_fn(|context| client.poll_frame(context));
        let Ok(frame) = tokio::time::timeout_at(deadline, next).await else {
            return Ok(Hold::Unobtainable(Unobtainable::Timeout));
        };
        match frame? {
            Some(Frame::Data(data)) => {
                size += data.len() as u64;
                let room = share.grow(data.len());
                replay.frames.push_back(Frame::Data(data));
                if size > bytes_max || !room {
                    return Ok(Hold::Unobtainable(Unobtainable::Bound));
                }
            }
            Some(trailers) => {
                replay.frames.push_back(trailers);
                replay.ended = true;
                break;
            }
            None => {
                replay.ended = true;
                break;
            }
        }
    }
    Ok(facts(request, replay, size))
}

/// What a whole body says of the files it carries.
fn facts(request: &Request, replay: &Replay, size: u64) -> Hold {
    let mut whole = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
    for frame in &replay.frames {
        if let Frame::Data(data) = frame {
            whole.extend_from_slice(data);
        }
    }
    let content_type = request.fields.first("content-type").map_or(b"".as_slice(), |it| it);
    Held::of(content_type, whole.freeze()).map_or_else(Hold::Unobtainable, Hold::Whole)
}
