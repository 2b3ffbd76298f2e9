//! Holds a request body back until it has been judged, under a bound of memory and time.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use policy::fact::Unobtainable;
use tokio::io::{AsyncRead, AsyncWrite};

use super::call_gate::CallGate;
use super::client::Client;
use super::message_gate;
use super::peek::Peek;
use super::transaction::Transaction;
use super::watch::Watch;
use crate::exchange::{Frame, Request, Source};
use crate::limit::hold::{HoldBudget, HoldShare};
use crate::verdict::Held;

/// What of a request body is kept until the origin is known to have taken the request, so that
/// it can be sent again where the origin says that it did not: a form or an RPC, not an upload.
const REPEAT_BYTES_MAX: usize = 64 * 1024;

/// Frames that were read before the verdict, to be sent before the rest.
#[derive(Default)]
pub(super) struct Replay {
    frames: VecDeque<Frame>,
    ended: bool,
    /// What was sent; `None` where it is not kept, or no longer.
    sent: Option<VecDeque<Frame>>,
    sent_bytes: usize,
    /// The client was told to send the body.
    asked_for: bool,
    /// Of the process's allowance, for as long as frames are held.
    share: Option<HoldShare>,
    /// What `alert` rules look into once it has gone by.
    watch: Option<Watch>,
    /// What looks whether a form carries a file.
    pub(super) peek: Option<Peek>,
    /// What judges the messages of a gRPC call, where they are read.
    pub(super) call: Option<CallGate>,
}

impl Replay {
    /// Tells a client that waits for it to send its body, once.
    ///
    /// # Errors
    /// Where the client takes no more.
    pub(super) async fn ask_for<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
    ) -> io::Result<()> {
        if !request.expects_continue || std::mem::replace(&mut self.asked_for, true) {
            return Ok(());
        }
        client.tell(super::answer::go_on()).await
    }

    /// Whether the client was told to send the body.
    pub(super) fn was_asked_for(&self) -> bool {
        self.asked_for
    }

    /// Keeps a copy of what goes by.
    pub(super) fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// The copy, once the whole body has gone by, which `rest` gives.
    pub(super) fn watched(&mut self, rest: &mut impl Source) -> Option<Watch> {
        if self.watch.is_some() && self.before(rest).is_ended() { self.watch.take() } else { None }
    }

    /// Begins an attempt whose frames are kept.
    pub(super) fn keep(&mut self) {
        self.sent = Some(VecDeque::new());
        self.sent_bytes = 0;
    }

    /// Nothing will be sent again.
    pub(super) fn settle(&mut self) {
        self.sent = None;
    }

    /// Whether everything that was sent can be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        self.sent.is_some()
    }

    /// Puts what was sent before what is still to come.
    pub(super) fn rewind(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.restart();
        }
        if let Some(peek) = &mut self.peek {
            peek.restart();
        }
        for frame in self.sent.take().into_iter().flatten().rev() {
            self.frames.push_front(frame);
        }
    }

    /// Whether a message was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.call.as_ref().is_some_and(CallGate::is_stopped)
    }

    /// Takes over what messages did so far.
    pub(super) fn tell(&self, transaction: &mut Transaction) {
        if let Some(call) = &self.call {
            transaction.noted(&mut call.noted());
        }
    }

    fn note(&mut self, frame: &Frame) {
        let Some(sent) = &mut self.sent else { return };
        if let Frame::Data(data) = frame {
            self.sent_bytes += data.len();
        }
        if self.sent_bytes > REPEAT_BYTES_MAX {
            self.sent = None;
        } else {
            sent.push_back(frame.clone());
        }
    }

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
        let held = self.replay.frames.pop_front();
        if self.replay.frames.is_empty() {
            self.replay.share = None;
        }
        let frame = match held {
            Some(frame) => Some(frame),
            None if self.replay.ended => None,
            None => match &mut self.replay.call {
                Some(call) => ready!(call.poll_frame(self.rest, context))?,
                None => ready!(self.rest.poll_frame(context))?,
            },
        };
        match &frame {
            Some(frame) => {
                self.replay.note(frame);
                if let Some(watch) = &mut self.replay.watch {
                    watch.note(frame);
                }
                if let Some(peek) = &mut self.replay.peek {
                    peek.note(frame);
                }
            }
            None => self.replay.ended = true,
        }
        if matches!(frame, Some(Frame::Trailers(_))) {
            self.replay.ended = true;
        }
        Poll::Ready(Ok(frame))
    }

    fn is_ended(&self) -> bool {
        let kept_back = self.replay.call.as_ref().is_some_and(|call| !call.is_empty());
        let ended = self.replay.ended || (!kept_back && self.rest.is_ended());
        self.replay.frames.is_empty() && ended
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
    replay.ask_for(client, request).await?;
    let deadline = tokio::time::Instant::now() + time_max;
    let share = replay.share.insert(budget.share());
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

/// A call whose client has said nothing for so long is sent without its first message: the server may
/// be the one that begins. Longer than a slow link needs for what a client sends at once.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads a gRPC call's body up to its first message, its end or a bound. What comes behind is judged
/// message by message.
///
/// # Errors
/// Where the client breaks off.
pub(super) async fn first_message<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<'_, Io>,
    request: &Request,
    replay: &mut Replay,
    mut call: CallGate,
    budget: &HoldBudget,
    time_max: Duration,
) -> io::Result<Hold> {
    replay.ask_for(client, request).await?;
    let began = tokio::time::Instant::now();
    let share = replay.share.insert(budget.share());
    let (mut patience, mut room) = (SILENCE_TIME_MAX.min(time_max), true);
    while !call.has_first() && !replay.ended {
        let next = std::future::poll_fn(|context| call.poll_frame(client, context));
        match tokio::time::timeout_at(began + patience, next).await {
            Ok(frame) => {
                let frame = frame?;
                replay.ended = !matches!(frame, Some(Frame::Data(_)));
                if let Some(Frame::Data(data)) = &frame {
                    room &= share.grow(data.len());
                }
                replay.frames.extend(frame);
            }
            Err(_) if call.is_gathering() && patience < time_max => patience = time_max,
            Err(_) if call.is_gathering() => call.give_up(Unobtainable::Timeout),
            Err(_) => break,
        }
    }
    let first = call.first().map(|first| if room { first } else { Err(Unobtainable::Bound) });
    replay.call = Some(call);
    // Nothing was said yet, or never will be: there is nothing that a rule could find.
    let held = first.map_or_else(|| Ok(Held::default()), message_gate::first_held);
    Ok(held.map_or_else(Hold::Unobtainable, Hold::Whole))
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
