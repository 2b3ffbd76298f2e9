//! Handshake messages of DTLS 1.2 as far as a pre-shared key needs them.

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
pub(super) const FINISHED: u8 = 20;

const HEADER_BYTES: usize = 12;
/// The longest message a server may send here; a hello with a few extensions is a tenth of it.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
const VERSION: [u8; 2] = [0xfe, 0xfd];

/// A whole message of the server's.
pub(super) struct Message {
    pub(super) kind: u8,
    sequence: u16,
    pub(super) body: Vec<u8>,
    /// Came before: the peer has not heard our answer.
    pub(super) is_repeated: bool,
}

impl Message {
    /// As the transcript has it: in one fragment.
    pub(super) fn whole(&self) -> Vec<u8> {
        message(self.kind, self.sequence, &self.body)
    }

    /// Of a HelloVerifyRequest.
    pub(super) fn cookie(&self) -> Option<&[u8]> {
        let (length, cookie) = self.body.get(2..)?.split_first()?;
        (cookie.len() == usize::from(*length)).then_some(cookie)
    }
}

/// What is needed of a ServerHello.
#[derive(Clone, Copy)]
pub(super) struct ServerHello {
    pub(super) random: [u8; 32],
    pub(super) suite: u16,
}

impl ServerHello {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (version, rest) = body.split_first_chunk::<2>()?;
        let (random, rest) = rest.split_first_chunk::<32>()?;
        let (session, rest) = rest.split_first()?;
        let suite = rest.get(usize::from(*session)..)?.first_chunk::<2>()?;
        (*version == VERSION).then_some(Self { random: *random, suite: u16::from_be_bytes(*suite) })
    }
}

/// A message in one fragment.
pub(super) fn message(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    // Three bytes of length; none of ours needs the first.
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let mut out = vec![kind];
    out.extend_from_slice(length);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0]);
    out.extend_from_slice(length);
    out.extend_from_slice(body);
    out
}

/// The hello of an OpenConnect client, without extended master secret and SNI.
pub(super) fn client_hello(random: &[u8; 32], session_id: &[u8; 32], cookie: &[u8]) -> Vec<u8> {
    let mut body = VERSION.to_vec();
    body.extend_from_slice(random);
    body.push(32);
    body.extend_from_slice(session_id);
    body.push(cookie.len() as u8);
    body.extend_from_slice(cookie);
    // TLS_PSK_WITH_AES_256_GCM_SHA384, TLS_PSK_WITH_AES_128_GCM_SHA256; no compression.
    body.extend_from_slice(&[0, 4, 0x00, 0xa9, 0x00, 0xa8, 1, 0]);
    // renegotiation_info, empty: this is no renegotiation.
    body.extend_from_slice(&[0, 5, 0xff, 0x01, 0, 1, 0]);
    body
}

/// Puts the server's messages together, in their order.
#[derive(Default)]
pub(super) struct Reader {
    next: u16,
    partial: Vec<u8>,
}

impl Reader {
    /// Takes a record's worth of fragments; gives the messages they complete. Fragments out of order are
    /// dropped: the peer sends them again.
    pub(super) fn take(&mut self, mut record: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((header, rest)) = record.split_first_chunk::<HEADER_BYTES>() {
            let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
            let number = |bytes: [u8; 3]| {
                usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
            };
            let (length, offset) = (number([l0, l1, l2]), number([o0, o1, o2]));
            let Some((fragment, rest)) = rest.split_at_checked(number([f0, f1, f2])) else { break };
            record = rest;
            let sequence = u16::from_be_bytes([s0, s1]);
            let whole = |body, is_repeated| Message { kind, sequence, body, is_repeated };
            if sequence < self.next && fragment.len() == length {
                messages.push(whole(fragment.to_vec(), true));
            }
            if sequence != self.next || offset != self.partial.len() || length > MESSAGE_BYTES_MAX {
                continue;
            }
            self.partial.extend_from_slice(fragment);
            if self.partial.len() >= length {
                self.next += 1;
                messages.push(whole(std::mem::take(&mut self.partial), false));
            }
        }
        messages
    }
}
