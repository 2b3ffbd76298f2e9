//! What the driver and the streams share: one lock, held for moments, and no waking under it.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::h2::hpack::{encode_field, encode_status};
use gateway_proto::h2::{Code, RequestHead, encode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ending::StreamFault;
use super::request::{Request, Responder};
use super::settings::Settings;
use super::state::{Entry, Phase, State};
use super::stream::{RecvHalf, SendHalf};
use crate::limit::window::TunnelWindow;

/// What a stream may have waiting for the peer's window: enough to fill several frames between
/// two turns of its writer. With the heads of its eight frames it is 128 KiB, eight whole TLS records:
/// a few bytes more would leave in a record, a system call and a segment of their own.
pub(super) const SEND_BUFFER_BYTES: usize = 128 * 1024 - 8 * encode::HEAD_BYTES;

/// The largest chunk given to a reader at once.
const READ_MAX: usize = 64 * 1024;

/// Fields that belong to an HTTP/1.1 connection (RFC 9113, section 8.2.2).
const CONNECTION_SPECIFIC: [&str; 5] =
    ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];

pub(super) struct Shared {
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(settings: Settings, budget: TunnelWindow) -> Self {
        Self { state: Mutex::new(State::new(settings, budget, Instant::now())) }
    }

    /// Runs `act` on the state, then wakes whom it named.
    pub(super) fn with<Out>(&self, act: impl FnOnce(&mut State) -> Out) -> Out {
        let (out, wakes) = {
            let mut state = self.state.lock();
            let out = act(&mut state);
            (out, std::mem::take(&mut state.wakes))
        };
        wakes.into_iter().for_each(Waker::wake);
        out
    }

    /// As [`Shared::with`], and sees that the driver runs if that left something to send.
    fn with_output<Out>(&self, act: impl FnOnce(&mut State) -> Out) -> Out {
        self.with(|state| {
            let out = act(state);
            if state.has_output() {
                let driver = state.nudge();
                state.wakes.extend(driver);
            }
            out
        })
    }

    pub(super) fn poll_request(shared: &Arc<Self>, context: &Context<'_>) -> Poll<Option<Request>> {
        let next = shared.with(|state| {
            if let Some(next) = state.incoming.pop_front() {
                if let Some(entry) = state.entries.get_mut(&next.0) {
                    entry.delivered = true;
                    entry.recv.held = true;
                    entry.send.held = true;
                }
                return Poll::Ready(Some(next));
            }
            if state.ended.is_some() {
                return Poll::Ready(None);
            }
            remember(&mut state.incoming_waker, context);
            Poll::Pending
        });
        next.map(|next| {
            let (id, head, body) = next?;
            let recv = RecvHalf::new(Arc::clone(shared), id);
            let responder = Responder::new(recv, SendHalf::new(Arc::clone(shared), id));
            let RequestHead { method, scheme, authority, path, protocol, fields, .. } = *head;
            Some(Request { method, scheme, authority, path, protocol, fields, body, responder })
        })
    }

    pub(super) fn poll_chunk(
        &self,
        id: u32,
        context: &Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        self.with_output(|state| {
            let Some(entry) = state.entries.get_mut(&id) else {
                return Poll::Ready(Err(StreamFault::TunnelEnded.into()));
            };
            if let Some(chunk) = entry.recv.queue.take(READ_MAX) {
                state.took(id, chunk.len());
                return Poll::Ready(Ok(Some(chunk)));
            }
            if entry.recv.ended {
                return Poll::Ready(Ok(None));
            }
            if let Some(fault) = entry.fault {
                return Poll::Ready(Err(fault.into()));
            }
            remember(&mut entry.recv.waker, context);
            Poll::Pending
        })
    }

    pub(super) fn take_trailers(&self, id: u32) -> Option<Fields> {
        let take = |entry: &mut Box<Entry>| entry.recv.trailers.take();
        self.with(|state| state.entries.get_mut(&id).and_then(take)).map(|trailers| *trailers)
    }

    /// Ready with the bytes that may be queued.
    pub(super) fn poll_room(&self, id: u32, context: &Context<'_>) -> Poll<io::Result<usize>> {
        self.with(|state| {
            let entry = match sending(state, id) {
                Ok(entry) => entry,
                Err(fault) => return Poll::Ready(Err(fault)),
            };
            let room = SEND_BUFFER_BYTES.saturating_sub(entry.send.queue.len());
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            remember(&mut entry.send.waker, context);
            Poll::Pending
        })
    }

    pub(super) fn push(&self, id: u32, chunk: Bytes) {
        self.queue(id, |entry| entry.send.queue.push(chunk));
    }

    pub(super) fn push_copy(&self, id: u32, bytes: &[u8]) {
        self.queue(id, |entry| entry.send.queue.push_copy(bytes));
    }

    /// Queues up to `room` bytes of `slices`; the number queued.
    pub(super) fn push_slices(&self, id: u32, slices: &[IoSlice<'_>], room: usize) -> usize {
        let mut left = room;
        self.queue(id, |entry| {
            for slice in slices {
                let (now, _) = slice.split_at_checked(left).unwrap_or((slice, &[]));
                entry.send.queue.push_copy(now);
                left = left.saturating_sub(now.len());
            }
        });
        room.saturating_sub(left)
    }

    fn queue(&self, id: u32, push: impl FnOnce(&mut Entry)) {
        self.with_output(|state| {
            if let Ok(entry) = sending(state, id) {
                push(entry);
                if !entry.send.queue.is_empty() {
                    state.line_up(id);
                }
            }
        });
    }

    /// An error where the stream broke off.
    pub(super) fn alive(&self, id: u32) -> io::Result<()> {
        let fault = self.with(|state| match state.entries.get(&id) {
            Some(entry) => entry.fault,
            None => Some(StreamFault::TunnelEnded),
        });
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Ends our direction after what is queued.
    pub(super) fn finish(&self, id: u32, trailers: Option<&Fields>) {
        let block = trailers.map(|fields| {
            let mut block = BytesMut::new();
            put_fields(fields, &mut block);
            block.freeze()
        });
        self.with_output(|state| {
            if let Ok(entry) = sending(state, id) {
                entry.send.phase = Phase::Ending;
                entry.send.trailers = block;
                state.line_up(id);
            }
        });
    }

    pub(super) fn send_head(&self, id: u32, status: u16, fields: &Fields) {
        let block = head_block(status, fields);
        self.with_output(|state| {
            if let Ok(entry) = sending(state, id) {
                entry.answered |= status >= 200;
                encode::headers(id, &block, false, &mut state.control);
            }
        });
    }

    /// A whole response in one step, so that it leaves in one write.
    pub(super) fn send_whole(&self, id: u32, status: u16, fields: &Fields, body: Bytes) {
        let block = head_block(status, fields);
        self.with_output(|state| {
            let Ok(entry) = sending(state, id) else { return };
            let empty = body.is_empty();
            entry.answered = true;
            entry.send.phase = if empty { Phase::Ended } else { Phase::Ending };
            entry.send.queue.push(body);
            encode::headers(id, &block, empty, &mut state.control);
            if empty {
                state.settle(id);
            } else {
                state.line_up(id);
            }
        });
    }

    pub(super) fn reset(&self, id: u32, code: Code) {
        self.with_output(|state| state.reset(id, code));
    }

    pub(super) fn poll_broken(&self, id: u32, context: &Context<'_>) -> Poll<()> {
        self.with(|state| match state.entries.get_mut(&id) {
            Some(entry) if entry.fault.is_none() => {
                remember(&mut entry.send.waker, context);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }

    pub(super) fn drop_reader(&self, id: u32) {
        self.with_output(|state| {
            if let Some(entry) = state.entries.get_mut(&id) {
                entry.recv.held = false;
                entry.recv.waker = None;
                entry.recv.queue.clear();
                state.settle(id);
            }
        });
    }

    pub(super) fn drop_writer(&self, id: u32, finished: bool) {
        self.with_output(|state| {
            if let Some(entry) = state.entries.get_mut(&id) {
                entry.send.held = false;
                entry.send.waker = None;
                if finished || entry.send.phase == Phase::Ended {
                    state.settle(id);
                } else {
                    state.reset(id, Code::CANCEL);
                    state.settle(id);
                }
            }
        });
    }

    pub(super) fn refuse_more(&self) {
        self.with_output(|state| {
            state.accepting = false;
            state.incoming_waker = None;
            for (id, ..) in std::mem::take(&mut state.incoming) {
                state.reset(id, Code::REFUSED_STREAM);
            }
        });
    }

    pub(super) fn drain(&self) {
        self.with_output(|state| state.drain_begin(Instant::now()));
    }

    pub(super) fn close(&self) {
        self.with(|state| {
            state.close = true;
            state.wakes.extend(state.driver.clone());
        });
    }

    pub(super) fn streams(&self) -> u32 {
        self.state.lock().open
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.state.lock().bytes_in
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.state.lock().bytes_out
    }
}

/// The stream, where it may still send.
fn sending(state: &mut State, id: u32) -> io::Result<&mut Entry> {
    let entry = state.entries.get_mut(&id).ok_or(StreamFault::TunnelEnded)?;
    match entry.fault {
        Some(fault) => Err(fault.into()),
        None if entry.send.phase != Phase::Open => Err(io::ErrorKind::BrokenPipe.into()),
        None => Ok(entry),
    }
}

fn remember(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

fn head_block(status: u16, fields: &Fields) -> BytesMut {
    let mut block = BytesMut::new();
    encode_status(status, &mut block);
    put_fields(fields, &mut block);
    block
}

fn put_fields(fields: &Fields, block: &mut BytesMut) {
    for field in fields.iter() {
        if !CONNECTION_SPECIFIC.iter().any(|name| field.is(name)) {
            encode_field(&field.name, &field.value, block);
        }
    }
}
