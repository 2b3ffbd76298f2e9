//! The connection's state: streams from their first frame to the last handle.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::h2::{Code, FRAME_DEFAULT, Parameters, RequestHead, WINDOW_DEFAULT, encode};
use tokio::time::Instant;

use super::abuse::Patience;
use super::ending::{Ending, StreamFault};
use super::grant::{CONNECTION_SLACK, RecvWindow, WINDOW_START, connection_window};
use super::queue::ChunkQueue;
use super::request::BodyHint;
use super::settings::Settings;
use super::windows::Trips;
use crate::limit::window::TunnelWindow;

/// Closed streams remembered, to tell a late frame from a violation.
const CLOSED_KEPT: usize = 128;

/// One stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) recv: Recv,
    pub(super) send: Send,
    /// Why it broke off, if it did.
    pub(super) fault: Option<StreamFault>,
    /// A final response head is on its way.
    pub(super) answered: bool,
    /// A handler holds it.
    pub(super) delivered: bool,
    /// No frame of it can come or go any more.
    pub(super) closed: bool,
}

/// The peer's direction of a stream.
#[derive(Debug)]
pub(super) struct Recv {
    pub(super) queue: ChunkQueue,
    pub(super) window: RecvWindow,
    pub(super) ended: bool,
    /// Bytes still due by content-length.
    pub(super) due: Option<u64>,
    pub(super) trailers: Option<Box<Fields>>,
    pub(super) waker: Option<Waker>,
    /// A reader's handle is alive.
    pub(super) held: bool,
}

/// Our direction of a stream.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) queue: ChunkQueue,
    pub(super) window: i64,
    pub(super) phase: Phase,
    /// The encoded block, to follow the queue.
    pub(super) trailers: Option<Bytes>,
    pub(super) waker: Option<Waker>,
    /// In one of the state's queues of streams to serve.
    pub(super) lined_up: bool,
    /// Since when bytes have waited without any going out.
    pub(super) stalled: Option<Instant>,
    /// A writer's handle is alive.
    pub(super) held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// More may be queued.
    Open,
    /// What is queued is the last.
    Ending,
    /// END_STREAM is on its way.
    Ended,
}

/// Stream ids are odd numbers in sequence, which the peer cannot choose to collide: at most
/// `streams_max` are open, and the multiplication spreads them.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        let mixed = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(super) type Entries = HashMap<u32, Box<Entry>, BuildHasherDefault<IdHasher>>;

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The peer was told, but streams under way are taken (RFC 9113, section 6.8).
    Told,
    /// No stream is taken any more.
    Final,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) budget: TunnelWindow,
    pub(super) entries: Entries,
    /// Streams not closed.
    pub(super) open: u32,
    pub(super) last_id: u32,
    /// Lately closed streams: id, and whether we reset it.
    pub(super) closed: VecDeque<(u32, bool)>,
    /// Requests not yet handed to [`super::Incoming`].
    pub(super) incoming: VecDeque<(u32, Box<RequestHead>, BodyHint)>,
    pub(super) incoming_waker: Option<Waker>,
    pub(super) accepting: bool,
    pub(super) greeted: bool,
    pub(super) patience: Patience,

    /// The connection's receive window, and what arrived since it was refilled.
    pub(super) recv_window: i64,
    pub(super) recv_unfilled: u32,
    /// The starting size that streams have now, and the one on its way.
    pub(super) start: u32,
    pub(super) start_next: Option<u32>,
    /// SETTINGS of ours not acknowledged yet.
    pub(super) unacknowledged: u32,
    /// The measured round trip: its number, whether it lasts, when it began.
    pub(super) epoch: u32,
    pub(super) probing: bool,
    pub(super) probed: Option<Instant>,
    pub(super) trips: Trips,
    /// Streams read in this round trip.
    pub(super) candidates: Vec<u32>,

    /// The connection's send window, and the peer's terms.
    pub(super) send_window: i64,
    pub(super) peer_start: i64,
    pub(super) peer_frame: u32,
    /// Frames other than DATA, encoded.
    pub(super) control: BytesMut,
    /// Streams with something to send, in turn.
    pub(super) ready: VecDeque<u32>,
    /// Streams with something to send that wait for the connection's window.
    pub(super) blocked: VecDeque<u32>,

    pub(super) drain: Drain,
    pub(super) drain_began: Option<Instant>,
    /// The peer said that it leaves.
    pub(super) leaving: bool,
    pub(super) close: bool,
    pub(super) ended: Option<Ending>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,

    /// To be woken when the lock is free again.
    pub(super) wakes: Vec<Waker>,
    pub(super) driver: Option<Waker>,
    pub(super) driver_awake: bool,
}

impl State {
    pub(super) fn new(settings: Settings, budget: TunnelWindow, now: Instant) -> Self {
        let window = connection_window(settings.streams_max);
        let mut control = BytesMut::new();
        let parameters = Parameters {
            enable_push: Some(0),
            max_concurrent_streams: Some(settings.streams_max),
            initial_window_size: Some(WINDOW_START),
            max_header_list_size: Some(settings.header_list_bytes),
            enable_connect_protocol: Some(1),
            no_rfc7540_priorities: Some(1),
            ..Parameters::default()
        };
        encode::settings(&parameters, &mut control);
        encode::window_update(0, window.saturating_sub(WINDOW_DEFAULT), &mut control);
        Self {
            settings,
            budget,
            entries: Entries::default(),
            open: 0,
            last_id: 0,
            closed: VecDeque::new(),
            incoming: VecDeque::new(),
            incoming_waker: None,
            accepting: true,
            greeted: false,
            patience: Patience::new(now),
            recv_window: i64::from(window),
            recv_unfilled: 0,
            start: WINDOW_START,
            start_next: None,
            unacknowledged: 1,
            epoch: 0,
            probing: false,
            probed: None,
            trips: Trips::default(),
            candidates: Vec::new(),
            send_window: i64::from(WINDOW_DEFAULT),
            peer_start: i64::from(WINDOW_DEFAULT),
            peer_frame: FRAME_DEFAULT,
            control,
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            drain: Drain::No,
            drain_began: None,
            leaving: false,
            close: false,
            ended: None,
            bytes_in: 0,
            bytes_out: 0,
            wakes: Vec::new(),
            driver: None,
            driver_awake: true,
        }
    }

    /// Adds stream `id`, whose head ended it where `ended`.
    pub(super) fn open(&mut self, id: u32, ended: bool, due: Option<u64>) {
        let mut window = RecvWindow::new(self.start, &mut self.budget);
        if ended {
            window.close(0, &mut self.budget);
        }
        let recv = Recv {
            queue: ChunkQueue::default(),
            window,
            ended,
            due,
            trailers: None,
            waker: None,
            held: false,
        };
        let send = Send {
            queue: ChunkQueue::default(),
            window: self.peer_start,
            phase: Phase::Open,
            trailers: None,
            waker: None,
            lined_up: false,
            stalled: None,
            held: false,
        };
        let entry =
            Entry { recv, send, fault: None, answered: false, delivered: false, closed: false };
        self.entries.insert(id, Box::new(entry));
        self.open = self.open.saturating_add(1);
    }

    /// Notes what has become of stream `id`: closed, and gone once nobody holds it.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let answered_in_full = entry.send.phase == Phase::Ended && entry.fault.is_none();
        if answered_in_full && !entry.recv.ended && !entry.recv.held {
            // The rest of the request is not needed (RFC 9113, section 8.1).
            self.break_off(id, StreamFault::ResetByGateway(Code::NO_ERROR));
            encode::reset(id, Code::NO_ERROR, &mut self.control);
            return;
        }
        if !entry.closed && (entry.fault.is_some() || answered_in_full && entry.recv.ended) {
            entry.closed = true;
            let by_us = matches!(entry.fault, Some(StreamFault::ResetByGateway(_)));
            self.open = self.open.saturating_sub(1);
            self.remember_closed(id, by_us);
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.closed && !entry.recv.held && !entry.send.held {
            entry.recv.queue.clear();
            entry.recv.window.close(0, &mut self.budget);
            self.entries.remove(&id);
            if self.entries.is_empty() && self.entries.capacity() > CLOSED_KEPT {
                self.entries = Entries::default();
            }
        }
    }

    /// Marks stream `id` as broken and drops what it held; its handles learn why.
    pub(super) fn break_off(&mut self, id: u32, fault: StreamFault) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.closed {
            return;
        }
        entry.fault = Some(fault);
        entry.send.queue.clear();
        entry.send.trailers = None;
        if fault != StreamFault::TunnelEnded && !entry.recv.ended {
            entry.recv.queue.clear();
        }
        entry.recv.window.close(entry.recv.queue.len(), &mut self.budget);
        self.wakes.extend(entry.recv.waker.take());
        self.wakes.extend(entry.send.waker.take());
        self.settle(id);
    }

    /// Resets stream `id` with `code`.
    pub(super) fn reset(&mut self, id: u32, code: Code) {
        let known = self.entries.get(&id).is_some_and(|entry| !entry.closed);
        if known && self.ended.is_none() {
            encode::reset(id, code, &mut self.control);
            self.break_off(id, StreamFault::ResetByGateway(code));
        }
    }

    pub(super) fn remember_closed(&mut self, id: u32, by_us: bool) {
        if self.closed.len() >= CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back((id, by_us));
    }

    /// Puts stream `id` in line to send.
    pub(super) fn line_up(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !std::mem::replace(&mut entry.send.lined_up, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Counts what arrived against the connection's window, and refills it in large steps.
    pub(super) fn refill(&mut self, flow: u32) {
        self.recv_unfilled = self.recv_unfilled.saturating_add(flow);
        if self.recv_unfilled >= CONNECTION_SLACK {
            self.recv_window = self.recv_window.saturating_add(i64::from(self.recv_unfilled));
            encode::window_update(0, self.recv_unfilled, &mut self.control);
            self.recv_unfilled = 0;
        }
    }

    /// Ends every stream; nothing is taken or queued from now on.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(ending);
        self.incoming.clear();
        self.wakes.extend(self.incoming_waker.take());
        let ids: Vec<u32> = self.entries.keys().copied().collect();
        for id in ids {
            self.break_off(id, StreamFault::TunnelEnded);
        }
        self.ready.clear();
        self.blocked.clear();
    }

    /// The driver's waker, where it sleeps and should not.
    pub(super) fn nudge(&mut self) -> Option<Waker> {
        let sleeps = !std::mem::replace(&mut self.driver_awake, true);
        self.driver.as_ref().filter(|_| sleeps).cloned()
    }
}
