//! Follows the frames of a WebSocket (RFC 6455 section 5.2) without holding or changing them, so
//! that a frame of our own can stand between two of them and never amid one.

/// The service restarts: the client may come again, after a random delay of its own (RFC 6455
/// section 7.4.2, the registry's 1012).
pub const SERVICE_RESTART: u16 = 1012;

/// The opcode of a Close frame (RFC 6455 section 5.5.1); no frame follows it.
const CLOSE: u8 = 8;
/// A tenant's rules forbid what was sent (RFC 6455 section 7.4.1).
pub const POLICY_VIOLATION: u16 = 1008;

/// Of a frame's first byte: the last of its message, what extensions use, the kind, and of kinds the bit of
/// those that stand between the frames of a message.
pub(crate) const FIN: u8 = 0x80;
pub(crate) const RESERVED: u8 = 0x70;
pub(crate) const OPCODE: u8 = 0x0f;
pub(crate) const CONTROL: u8 = 0x08;
/// Of its second.
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const LENGTH: u8 = 0x7f;
const KEY_BYTES: u8 = 4;

/// Where one direction of a WebSocket stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameWalk {
    place: Place,
    /// Of the frame's payload: what is known of it in its head, what is left of it behind that.
    length: u64,
    masked: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between frames.
    #[default]
    Between,
    /// After the first byte.
    Length,
    /// This many bytes of the extended length are to come.
    Extended(u8),
    /// This many bytes of the masking key are to come.
    Key(u8),
    Payload,
}

impl FrameWalk {
    /// Walks on over `bytes`, which follow those of the last call.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = rest;
            match self.place {
                Place::Between => {
                    self.closed |= first & OPCODE == CLOSE;
                    self.place = Place::Length;
                }
                Place::Length => {
                    self.masked = first & MASKED != 0;
                    self.length = 0;
                    match first & !MASKED {
                        126 => self.place = Place::Extended(2),
                        127 => self.place = Place::Extended(8),
                        short => {
                            self.length = u64::from(short);
                            self.behind_length();
                        }
                    }
                }
                Place::Extended(left) => {
                    self.length = (self.length << 8) | u64::from(first);
                    self.place = Place::Extended(left.saturating_sub(1));
                    if left <= 1 {
                        self.behind_length();
                    }
                }
                Place::Key(left) => {
                    self.place = Place::Key(left.saturating_sub(1));
                    if left <= 1 {
                        self.behind_head();
                    }
                }
                Place::Payload => {
                    // The first byte is taken already; the others of this frame go at once.
                    let more = usize::try_from(self.length.saturating_sub(1)).unwrap_or(usize::MAX);
                    let more = more.min(bytes.len());
                    bytes = bytes.get(more..).unwrap_or_default();
                    self.length = self.length.saturating_sub(more as u64 + 1);
                    self.behind_head();
                }
            }
        }
    }

    /// Whether a frame may stand here: none is begun, and none was the last.
    #[must_use]
    pub fn is_open_between_frames(&self) -> bool {
        self.place == Place::Between && !self.closed
    }

    /// Whether a whole Close frame has passed.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.place == Place::Between && self.closed
    }

    fn behind_length(&mut self) {
        if self.masked { self.place = Place::Key(KEY_BYTES) } else { self.behind_head() }
    }

    fn behind_head(&mut self) {
        self.place = if self.length == 0 { Place::Between } else { Place::Payload };
    }
}

/// A server's Close frame with a code and no reason.
#[must_use]
pub fn close(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    /// The head of a frame with `length` bytes of payload, the shortest way or longer.
    fn frame(opcode: u8, length: usize, form: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match form {
            0 => frame.push(mask | u8::try_from(length).unwrap()),
            2 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0x88, if masked { 4 } else { 0 } + length));
        frame
    }

    fn walked(bytes: &[u8], piece: usize) -> FrameWalk {
        let mut walk = FrameWalk::default();
        bytes.chunks(piece).for_each(|piece| walk.advance(piece));
        walk
    }

    #[test]
    fn it_is_between_frames_only_where_one_has_ended() {
        for masked in [false, true] {
            for (length, form) in [(0, 0), (1, 0), (125, 0), (126, 2), (300, 2), (70_000, 8)] {
                let one = frame(2, length, form, masked);
                for piece in [1, 3, 4_096, one.len()] {
                    let mut walk = FrameWalk::default();
                    let (last, before) = one.split_last().unwrap();
                    for piece in before.chunks(piece) {
                        walk.advance(piece);
                        assert!(!walk.is_open_between_frames(), "{length} {masked}");
                    }
                    walk.advance(&[*last]);
                    assert!(walk.is_open_between_frames(), "{length} {masked}");
                }
            }
        }
    }

    #[test]
    fn however_the_bytes_are_cut_the_place_is_the_same() {
        let mut bytes = Vec::new();
        for (length, form, masked) in [(5, 0, true), (0, 0, false), (300, 2, true), (9, 8, false)] {
            bytes.extend(frame(1, length, form, masked));
        }
        for end in 0..=bytes.len() {
            let whole = walked(&bytes[..end], bytes.len());
            for piece in [1, 2, 7, 64] {
                assert_eq!(walked(&bytes[..end], piece), whole, "{end} by {piece}");
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let walk = walked(&close(SERVICE_RESTART), 1);
        assert!(!walk.is_open_between_frames() && walk.has_closed());
        assert_eq!(close(SERVICE_RESTART), [0x88, 2, 3, 0xf4]);
        // A length that no memory holds is walked, not believed.
        let mut walk = FrameWalk::default();
        walk.advance(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert!(!walk.is_open_between_frames() && !walk.has_closed());
    }
}
