//! Frames from the peer, applied (RFC 9113, sections 5, 6 and 8).

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::h2::hpack::{Decoded, Decoder, encode_status};
use gateway_proto::h2::{
    Code, Fault, Frame, HeadBuilder, Parameters, RequestHead, WINDOW_MAX, check_trailer, encode,
};
use tokio::time::Instant;

use super::abuse::{
    EMPTY_DATA_COST, IGNORED_COST, LATE_COST, PING_COST, REQUEST_CREDIT, SETTINGS_COST,
    THIN_DATA_BYTES, THIN_DATA_COST, WINDOW_UPDATE_COST,
};
use super::ending::StreamFault;
use super::request::BodyHint;
use super::state::{Drain, State};

/// What our PINGs carry, to know their answers.
pub(super) const PROBE: [u8; 8] = *b"sl-probe";
pub(super) const KEEPALIVE: [u8; 8] = *b"sl-alive";
pub(super) const DRAIN: [u8; 8] = *b"sl-drain";

/// Streams kept for handlers that have not noticed their end, as a multiple of `streams_max`:
/// a cancelled stream is work until its handler has stopped.
const LINGERING_FACTOR: usize = 2;

impl State {
    /// Applies one frame.
    ///
    /// # Errors
    /// A fault that ends the connection.
    pub(super) fn handle(
        &mut self,
        frame: Frame,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<(), Fault> {
        if !self.greeted && !matches!(frame, Frame::Settings(_)) {
            return Err(Fault::new(Code::PROTOCOL_ERROR, "the first frame is not SETTINGS"));
        }
        match frame {
            Frame::Data { stream, flow, content, part, end } => {
                self.handle_data(stream, flow, content, part, end, now)
            }
            Frame::Headers { stream, block, end, circular } => {
                self.handle_headers(stream, &block, end, circular, decoder, now)
            }
            Frame::Ignored => self.patience.attend(IGNORED_COST, now),
            Frame::Reset { stream, code } => self.handle_reset(stream, code, now),
            Frame::Settings(parameters) => self.handle_settings(&parameters, now),
            Frame::SettingsAck => self.handle_settings_ack(),
            Frame::Ping { ack: false, opaque } => {
                self.patience.attend(PING_COST, now)?;
                encode::ping(true, opaque, &mut self.control);
                Ok(())
            }
            Frame::Ping { ack: true, opaque } => self.handle_pong(opaque, now),
            Frame::GoAway { .. } => {
                self.leaving = true;
                self.patience.attend(PING_COST, now)
            }
            Frame::WindowUpdate { stream, increment } => {
                self.patience.attend(WINDOW_UPDATE_COST, now)?;
                self.handle_window_update(stream, increment, now)
            }
            Frame::Broken { stream, fault } => match self.entries.contains_key(&stream) {
                true => self.refuse(stream, fault, now),
                false => Err(fault),
            },
        }
    }

    /// Resets a stream for its peer's violation, which counts against it.
    fn refuse(&mut self, id: u32, fault: Fault, now: Instant) -> Result<(), Fault> {
        self.patience.reset(now)?;
        self.reset(id, fault.code);
        Ok(())
    }

    fn handle_data(
        &mut self,
        id: u32,
        flow: u32,
        content: Option<u32>,
        part: Bytes,
        end: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        self.recv_window = self.recv_window.saturating_sub(i64::from(flow));
        if self.recv_window < 0 {
            return Err(violation(Code::FLOW_CONTROL_ERROR, "more data than the window"));
        }
        self.refill(flow);
        match content {
            Some(0) if !end => self.patience.attend(EMPTY_DATA_COST, now)?,
            Some(1..=THIN_DATA_BYTES) => self.patience.attend(THIN_DATA_COST, now)?,
            _ => {}
        }
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.closed) else {
            return match content {
                Some(_) => self.handle_late(id, now),
                None => Ok(()),
            };
        };
        let recv = &mut entry.recv;
        if recv.ended {
            let fault = violation(Code::STREAM_CLOSED, "data after the stream's end");
            return self.refuse(id, fault, now);
        }
        if let Err(fault) = recv.window.arrive(flow) {
            return self.refuse(id, fault, now);
        }
        if let (Some(due), Some(content)) = (&mut recv.due, content) {
            let Some(left) = due.checked_sub(u64::from(content)) else {
                return self.refuse(id, mismatch(), now);
            };
            *due = left;
        }
        if end && recv.due.is_some_and(|due| due > 0) {
            return self.refuse(id, mismatch(), now);
        }
        self.bytes_in = self.bytes_in.saturating_add(part.len() as u64);
        if recv.held || !entry.delivered {
            recv.queue.push(part);
        }
        recv.ended = end;
        if end {
            recv.window.close(recv.queue.len(), &mut self.budget);
        } else {
            recv.window.charge(recv.queue.len(), &mut self.budget);
        }
        self.wakes.extend(recv.waker.take());
        if flow > content.unwrap_or(0) && content.is_some() {
            // Padding is read as it comes.
            self.grant(id);
        }
        if end {
            self.settle(id);
        }
        Ok(())
    }

    /// DATA for a stream that is not open: late after our reset, or a violation.
    fn handle_late(&mut self, id: u32, now: Instant) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(violation(Code::PROTOCOL_ERROR, "data on an idle stream"));
        }
        if self.was_reset_by_us(id) {
            return Ok(());
        }
        self.patience.reset(now)?;
        encode::reset(id, Code::STREAM_CLOSED, &mut self.control);
        Ok(())
    }

    fn handle_headers(
        &mut self,
        id: u32,
        block: &[u8],
        end: bool,
        circular: bool,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<(), Fault> {
        if id.is_multiple_of(2) {
            return Err(violation(Code::PROTOCOL_ERROR, "stream id not a client's"));
        }
        let list_max = self.settings.header_list_bytes as usize;
        if id <= self.last_id {
            return self.handle_trailers(id, block, end, list_max, decoder, now);
        }
        self.last_id = id;
        let mut builder = HeadBuilder::default();
        let decoded = decoder.decode(block, list_max, |name, value| builder.field(name, value))?;
        let lingering = LINGERING_FACTOR.saturating_mul(self.settings.streams_max as usize);
        if !self.accepting
            || self.drain == Drain::Final
            || self.open >= self.settings.streams_max
            || self.entries.len() >= lingering
        {
            self.patience.reset(now)?;
            return self.turn_away(id, Code::REFUSED_STREAM);
        }
        if decoded == Decoded::TooLarge {
            self.patience.reset(now)?;
            let mut block = bytes::BytesMut::new();
            encode_status(431, &mut block);
            encode::headers(id, &block, true, &mut self.control);
            return self.turn_away(id, Code::NO_ERROR);
        }
        let head = builder.finish().ok().filter(|head| {
            !(circular || end && head.content_length.is_some_and(|length| length > 0))
        });
        let Some(head) = head else {
            self.patience.reset(now)?;
            return self.turn_away(id, Code::PROTOCOL_ERROR);
        };
        self.patience.credit(REQUEST_CREDIT);
        self.take_request(id, head, end);
        Ok(())
    }

    fn take_request(&mut self, id: u32, head: RequestHead, end: bool) {
        self.open(id, end, head.content_length);
        let body = match (head.method.as_ref(), end, head.content_length) {
            (b"CONNECT", false, _) => BodyHint::Tunnel,
            (_, true, _) => BodyHint::Empty,
            (_, false, Some(length)) => BodyHint::Sized(length),
            (_, false, None) => BodyHint::Unsized,
        };
        self.incoming.push_back((id, Box::new(head), body));
        self.wakes.extend(self.incoming_waker.take());
        self.adjust_start();
    }

    /// Resets a stream that never was opened.
    fn turn_away(&mut self, id: u32, code: Code) -> Result<(), Fault> {
        encode::reset(id, code, &mut self.control);
        self.remember_closed(id, true);
        Ok(())
    }

    fn handle_trailers(
        &mut self,
        id: u32,
        block: &[u8],
        end: bool,
        list_max: usize,
        decoder: &mut Decoder,
        now: Instant,
    ) -> Result<(), Fault> {
        let mut trailers = Fields::new();
        let mut clean = end;
        let decoded = decoder.decode(block, list_max, |name, value| {
            clean &= check_trailer(&name, &value).is_ok();
            trailers.push(name, value);
        })?;
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.closed) else {
            return match self.closed.iter().find(|(closed, _)| *closed == id) {
                Some((_, true)) => Ok(()),
                Some((_, false)) => Err(violation(Code::STREAM_CLOSED, "a closed stream's head")),
                None => Err(violation(Code::PROTOCOL_ERROR, "stream ids must rise")),
            };
        };
        if entry.recv.ended {
            let fault = violation(Code::STREAM_CLOSED, "a head after the stream's end");
            return self.refuse(id, fault, now);
        }
        if !clean || decoded == Decoded::TooLarge || entry.recv.due.is_some_and(|due| due > 0) {
            let fault = violation(Code::PROTOCOL_ERROR, "malformed trailers");
            return self.refuse(id, fault, now);
        }
        entry.recv.ended = true;
        entry.recv.trailers = Some(Box::new(trailers));
        entry.recv.window.close(entry.recv.queue.len(), &mut self.budget);
        self.wakes.extend(entry.recv.waker.take());
        self.settle(id);
        Ok(())
    }

    fn handle_reset(&mut self, id: u32, code: Code, now: Instant) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(violation(Code::PROTOCOL_ERROR, "reset of an idle stream"));
        }
        let Some(entry) = self.entries.get(&id).filter(|entry| !entry.closed) else {
            return self.patience.attend(LATE_COST, now);
        };
        if !entry.answered {
            self.patience.reset(now)?;
        }
        if !entry.delivered {
            self.incoming.retain(|(waiting, ..)| *waiting != id);
        }
        self.break_off(id, StreamFault::ResetByClient(code));
        Ok(())
    }

    fn handle_settings(&mut self, parameters: &Parameters, now: Instant) -> Result<(), Fault> {
        self.greeted = true;
        self.patience.attend(SETTINGS_COST, now)?;
        if let Some(start) = parameters.initial_window_size {
            let delta = i64::from(start).saturating_sub(self.peer_start);
            self.peer_start = i64::from(start);
            let mut unblocked = Vec::new();
            for (id, entry) in &mut self.entries {
                entry.send.window = entry.send.window.saturating_add(delta);
                if entry.send.window > i64::from(WINDOW_MAX) {
                    return Err(violation(Code::FLOW_CONTROL_ERROR, "window overflow"));
                }
                if entry.send.window > 0 && !entry.send.queue.is_empty() {
                    unblocked.push(*id);
                }
            }
            unblocked.into_iter().for_each(|id| self.line_up(id));
        }
        if let Some(frame) = parameters.max_frame_size {
            self.peer_frame = frame;
        }
        encode::settings_ack(&mut self.control);
        Ok(())
    }

    fn handle_settings_ack(&mut self) -> Result<(), Fault> {
        let left = self.unacknowledged.checked_sub(1);
        self.unacknowledged =
            left.ok_or_else(|| violation(Code::PROTOCOL_ERROR, "acknowledgement of nothing"))?;
        if self.unacknowledged == 0
            && let Some(start) = self.start_next.take()
        {
            self.shift_start(start);
        }
        Ok(())
    }

    fn handle_pong(&mut self, opaque: [u8; 8], now: Instant) -> Result<(), Fault> {
        match opaque {
            PROBE => {
                self.grow(now);
                Ok(())
            }
            DRAIN => {
                self.drain_finally();
                Ok(())
            }
            KEEPALIVE => Ok(()),
            _ => self.patience.attend(PING_COST, now),
        }
    }

    fn handle_window_update(&mut self, id: u32, increment: u32, now: Instant) -> Result<(), Fault> {
        let overflow = violation(Code::FLOW_CONTROL_ERROR, "window overflow");
        if id == 0 {
            self.send_window = self.send_window.saturating_add(i64::from(increment));
            if self.send_window > i64::from(WINDOW_MAX) {
                return Err(overflow);
            }
            // Those that waited for the connection come before those that did not.
            let later = std::mem::replace(&mut self.ready, std::mem::take(&mut self.blocked));
            self.ready.extend(later);
            return Ok(());
        }
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.closed) else {
            let idle = violation(Code::PROTOCOL_ERROR, "window update of an idle stream");
            return if self.is_idle(id) { Err(idle) } else { Ok(()) };
        };
        entry.send.window = entry.send.window.saturating_add(i64::from(increment));
        if entry.send.window > i64::from(WINDOW_MAX) {
            return self.refuse(id, overflow, now);
        }
        if entry.send.window > 0 && !entry.send.queue.is_empty() {
            self.line_up(id);
        }
        Ok(())
    }

    fn is_idle(&self, id: u32) -> bool {
        id > self.last_id || id.is_multiple_of(2)
    }

    fn was_reset_by_us(&self, id: u32) -> bool {
        self.closed.iter().any(|(closed, by_us)| *closed == id && *by_us)
    }
}

fn violation(code: Code, why: &'static str) -> Fault {
    Fault::new(code, why)
}

fn mismatch() -> Fault {
    violation(Code::PROTOCOL_ERROR, "body and content-length differ")
}
