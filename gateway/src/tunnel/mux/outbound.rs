//! What goes to the peer: control frames first, then DATA of the streams in turn.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use gateway_proto::h2::{FRAME_DEFAULT, encode};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::abuse::DATA_CREDIT;
use super::shared::SEND_BUFFER_BYTES;
use super::state::{Phase, State};

/// Bytes gathered for one write: a few TLS records, so that one system call carries them.
const BATCH_BYTES: usize = 64 * 1024;

/// The largest DATA frame of a stream that has the connection to itself, where the peer allows it.
const FRAME_ALONE: u32 = 64 * 1024;

/// Payloads below this are copied beside their heads; above, a slice of its own is cheaper.
const COPY_BELOW: usize = 1024;

/// Slices handed over in one write.
const SLICES_MAX: usize = 48;

/// Capacity the outbox keeps when empty.
const KEEP_BYTES: usize = 4 * 1024;

/// Encoded bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Bytes>,
    /// Behind the segments.
    tail: BytesMut,
    length: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes as slices for a vectored write.
    pub(super) fn slices(&self) -> SmallVec<[IoSlice<'_>; SLICES_MAX]> {
        let segments = self.segments.iter().map(|segment| segment.as_ref());
        let tail = Some(self.tail.as_ref()).filter(|tail| !tail.is_empty());
        segments.chain(tail).take(SLICES_MAX).map(IoSlice::new).collect()
    }

    /// Forgets the first `written` bytes.
    pub(super) fn advance(&mut self, written: usize) {
        let mut left = written.min(self.length);
        self.length = self.length.saturating_sub(left);
        while let Some(front) = self.segments.front_mut() {
            if front.len() > left {
                front.advance(left);
                return;
            }
            left = left.saturating_sub(front.len());
            self.segments.pop_front();
        }
        self.tail.advance(left.min(self.tail.len()));
        if self.length == 0 && self.tail.capacity() < COPY_BELOW {
            self.tail = BytesMut::new();
        }
    }

    /// Lets go of memory that an idle connection has no use for.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Appends encoded frames, leaving `frames` empty.
    pub(super) fn put_frames(&mut self, frames: &mut BytesMut) {
        self.length = self.length.saturating_add(frames.len());
        if self.tail.is_empty() {
            std::mem::swap(&mut self.tail, frames);
        } else {
            self.tail.extend_from_slice(frames);
        }
        frames.clear();
        if frames.capacity() > KEEP_BYTES {
            *frames = BytesMut::new();
        }
    }

    fn put_head(&mut self, stream: u32, length: u32, end: bool) {
        encode::data_head(stream, length, end, &mut self.tail);
        self.length = self.length.saturating_add(encode::HEAD_BYTES);
    }

    fn put_payload(&mut self, payload: Bytes) {
        self.length = self.length.saturating_add(payload.len());
        if payload.len() < COPY_BELOW {
            self.tail.extend_from_slice(&payload);
            return;
        }
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
        self.segments.push_back(payload);
    }
}

impl State {
    /// Whether [`State::fill`] would find something.
    pub(super) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.ready.is_empty()
    }

    /// Moves frames to `out` until it holds a batch.
    pub(super) fn fill(&mut self, out: &mut Outbox, now: Instant) {
        if !self.control.is_empty() {
            out.put_frames(&mut self.control);
        }
        while out.len() < BATCH_BYTES {
            let Some(id) = self.ready.pop_front() else { return };
            self.serve(id, out, now);
            if !self.control.is_empty() {
                out.put_frames(&mut self.control);
            }
        }
    }

    /// Sends one frame of stream `id`, and puts it in line again if it has more.
    fn serve(&mut self, id: u32, out: &mut Outbox, now: Instant) {
        let alone = self.ready.is_empty();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let send = &mut entry.send;
        if send.queue.is_empty() {
            send.lined_up = false;
            if send.phase == Phase::Ending {
                send.phase = Phase::Ended;
                match send.trailers.take() {
                    Some(block) => encode::headers(id, &block, true, &mut self.control),
                    None => out.put_head(id, 0, true),
                }
                self.settle(id);
            }
            return;
        }
        if send.window <= 0 {
            send.lined_up = false;
            send.stalled.get_or_insert(now);
            return;
        }
        if self.send_window <= 0 {
            send.stalled.get_or_insert(now);
            self.blocked.push_back(id);
            return;
        }
        let frame = if alone { self.peer_frame.min(FRAME_ALONE) } else { FRAME_DEFAULT };
        let window = send.window.min(self.send_window).min(i64::from(frame));
        let queued = send.queue.len();
        let length =
            u32::try_from(window).unwrap_or(0).min(u32::try_from(queued).unwrap_or(u32::MAX));
        let last = length as usize == queued;
        let end = last && send.phase == Phase::Ending && send.trailers.is_none();
        out.put_head(id, length, end);
        let mut left = length as usize;
        while left > 0 {
            let Some(piece) = send.queue.take(left) else { break };
            left = left.saturating_sub(piece.len());
            out.put_payload(piece);
        }
        send.stalled = None;
        send.window = send.window.saturating_sub(i64::from(length));
        self.send_window = self.send_window.saturating_sub(i64::from(length));
        self.bytes_out = self.bytes_out.saturating_add(u64::from(length));
        if last || length == frame {
            self.patience.credit(DATA_CREDIT);
        }
        if send.queue.len() <= SEND_BUFFER_BYTES / 2 {
            self.wakes.extend(send.waker.take());
        }
        if end {
            send.phase = Phase::Ended;
            send.lined_up = false;
            self.settle(id);
        } else if !last || send.phase == Phase::Ending {
            self.ready.push_back(id);
        } else {
            send.lined_up = false;
        }
    }
}
