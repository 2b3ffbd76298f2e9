//! A gRPC call whose client's messages are judged one by one. The first is judged before the call is
//! sent; each later one is held back until it may go on.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use gateway_proto::grpc::Messages;
use parking_lot::Mutex;
use policy::fact::Unobtainable;

use super::message_gate::Noted;
use super::message_hold::{Content, Framing, Gate, Holding, Judge, Stopped};
use crate::exchange::Coding;
use crate::exchange::{Frame, Request, Source};

/// Between the call's body and who reads it.
pub(super) struct CallGate {
    gate: Box<Gate>,
    first: Arc<Mutex<First>>,
    noted: Arc<Mutex<Noted>>,
    /// What follows the last message.
    end: Option<Option<Frame>>,
}

/// The message that the call's own verdict is about.
enum First {
    Awaited,
    Come(Content),
    Taken,
}

impl CallGate {
    /// `judge` is asked about every message but the first, if [`Self::first`] was asked for it.
    pub(super) fn new(
        request: &Request,
        mut judge: Judge,
        holding: Holding,
        noted: Arc<Mutex<Noted>>,
    ) -> Self {
        let first = Arc::new(Mutex::new(First::Awaited));
        let awaited = Arc::clone(&first);
        let each: Judge = Box::new(move |content| {
            {
                let mut first = awaited.lock();
                if matches!(*first, First::Awaited) {
                    *first = First::Come(content);
                    return true;
                }
            }
            judge(content)
        });
        let coding = Coding::named(request.fields.text("grpc-encoding"));
        let framing = Framing::Grpc(Messages::new(holding.bytes_max), coding);
        Self { gate: Box::new(Gate::new(framing, each, holding)), first, noted, end: None }
    }

    /// The first message, once: `None` where none has come. What comes from now on is judged here.
    pub(super) fn first(&mut self) -> Option<Content> {
        match std::mem::replace(&mut *self.first.lock(), First::Taken) {
            First::Come(content) => Some(content),
            First::Awaited | First::Taken => None,
        }
    }

    pub(super) fn has_first(&self) -> bool {
        matches!(*self.first.lock(), First::Come(_))
    }

    /// Whether a message is begun and not judged.
    pub(super) fn is_gathering(&self) -> bool {
        self.gate.is_gathering()
    }

    /// Whether nothing is kept back here.
    pub(super) fn is_empty(&self) -> bool {
        self.gate.cleared.is_empty() && !self.is_gathering() && self.end.is_none()
    }

    /// Whether a message was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.gate.stopped != Stopped::No
    }

    /// What the messages did since this was last asked.
    pub(super) fn noted(&self) -> parking_lot::MutexGuard<'_, Noted> {
        self.noted.lock()
    }

    pub(super) fn give_up(&mut self, why: Unobtainable) {
        self.gate.give_up(why);
    }

    /// The next of `body` that may go on. Refused at the message that may not.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut impl Source,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame>>> {
        loop {
            if !self.gate.cleared.is_empty() {
                let cleared = self.gate.cleared.split().freeze();
                return Poll::Ready(Ok(Some(Frame::Data(cleared))));
            }
            if self.is_stopped() {
                return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
            }
            if let Some(end) = self.end.take() {
                return Poll::Ready(Ok(end));
            }
            match ready!(body.poll_frame(context))? {
                Some(Frame::Data(data)) => self.gate.take(&data, Instant::now()),
                end => {
                    // What was begun and never ended is no message; some reader may think so.
                    self.gate.give_up(Unobtainable::Unreadable);
                    self.end = Some(end);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::VecDeque;
    use std::time::Duration;

    use gateway_proto::fields::Fields;

    use super::*;
    use crate::limit::hold::HoldBudget;

    struct Body(VecDeque<Option<Frame>>);

    impl Source for Body {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
            self.0.pop_front().map_or(Poll::Pending, |frame| Poll::Ready(Ok(frame)))
        }
    }

    fn message(text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[0][..], &length, text].concat()
    }

    /// A gate that stops messages with an `x` and those that cannot be had.
    fn gate(asked: &Arc<Mutex<Vec<Content>>>) -> CallGate {
        let asked = Arc::clone(asked);
        let judge: Judge = Box::new(move |content| {
            let goes_on = content.as_ref().is_ok_and(|message| !message.contains(&b'x'));
            asked.lock().push(content);
            goes_on
        });
        let budget = HoldBudget::new(1_000);
        let holding = Holding { budget, bytes_max: 64, time_max: Duration::from_secs(60) };
        let authority = gateway_proto::target::Authority::parse(b"rpc.test").unwrap();
        let request = Request {
            version: crate::exchange::Version::Http2,
            method: "POST".into(),
            scheme: crate::exchange::Scheme::Https,
            host: authority.host,
            port: 443,
            target: "/test.Echo/Both".into(),
            fields: Fields::new(),
            body: crate::exchange::Length::Framed,
            upgrade: None,
            expects_continue: false,
        };
        CallGate::new(&request, judge, holding, Arc::default())
    }

    /// All that goes on, and how it ended: `None` where more is waited for.
    fn passed(gate: &mut CallGate, body: &mut Body) -> (Vec<u8>, Option<io::Result<bool>>) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut bytes = Vec::new();
        loop {
            match gate.poll_frame(body, &mut context) {
                Poll::Ready(Ok(Some(Frame::Data(data)))) => bytes.extend_from_slice(&data),
                Poll::Ready(Ok(end)) => return (bytes, Some(Ok(end.is_some()))),
                Poll::Ready(Err(error)) => return (bytes, Some(Err(error))),
                Poll::Pending => return (bytes, None),
            }
        }
    }

    fn body(pieces: &[&[u8]], end: Option<Option<Frame>>) -> Body {
        let data = |piece: &&[u8]| Some(Frame::Data(piece.to_vec().into()));
        Body(pieces.iter().map(data).chain(end).collect())
    }

    #[test]
    fn the_first_message_is_for_the_calls_own_verdict_and_each_other_is_judged() {
        let asked = Arc::default();
        let mut gate = gate(&asked);
        let (one, two, three) = (message(b"one x"), message(b"two"), message(b"three x"));
        let (head, tail) = three.split_at(7);
        let mut sent = body(&[&one, &two, head], None);
        let (bytes, ended) = passed(&mut gate, &mut sent);
        assert!(bytes == [one, two].concat() && ended.is_none());
        assert!(gate.has_first() && gate.is_gathering());
        assert_eq!(gate.first(), Some(Ok(b"one x".to_vec())));
        assert!(gate.first().is_none() && asked.lock().len() == 1);
        let (more, ended) = passed(&mut gate, &mut body(&[tail, &message(b"four")], Some(None)));
        assert!(more.is_empty() && gate.is_stopped());
        assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(*asked.lock(), [Ok(b"two".to_vec()), Ok(b"three x".to_vec())]);
    }

    #[test]
    fn a_call_that_said_nothing_when_it_was_judged_has_its_first_message_judged_later() {
        let asked = Arc::default();
        let mut gate = gate(&asked);
        assert_eq!(gate.first(), None);
        let (bytes, ended) = passed(&mut gate, &mut body(&[&message(b"x")], None));
        assert!(bytes.is_empty() && ended.unwrap().is_err());
        assert_eq!(*asked.lock(), [Ok(b"x".to_vec())]);
    }

    #[test]
    fn trailers_follow_the_last_message_and_half_a_message_is_judged_as_none() {
        for (cut, stops) in [(8, false), (7, true)] {
            let asked = Arc::default();
            let mut gate = gate(&asked);
            assert_eq!(gate.first(), None);
            let whole = message(b"one");
            let piece = whole.get(..cut).unwrap();
            let end = Some(Frame::Trailers(Box::default()));
            let (bytes, ended) = passed(&mut gate, &mut body(&[piece], Some(end)));
            assert_eq!(ended.unwrap().is_err(), stops);
            assert_eq!(bytes.len(), if stops { 0 } else { cut });
            let why = Err(Unobtainable::Unreadable);
            assert_eq!(*asked.lock(), [if stops { why } else { Ok(b"one".to_vec()) }]);
        }
    }
}
