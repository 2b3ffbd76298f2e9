//! The handshake's messages and keys: a key that both ends have, and no certificates (RFC 4279,
//! RFC 5246 sections 7 and 8, RFC 6347 section 4.2).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA384};
use aws_lc_rs::tls_prf::{P_SHA384, Secret};

use super::record::{KEY_BYTES, Key, SALT_BYTES};

/// `TLS_PSK_WITH_AES_256_GCM_SHA384`.
pub(super) const SUITE: u16 = 0x00a9;
const RENEGOTIATION_INFO: u16 = 0xff01;
/// Stands among the suites for an empty `renegotiation_info` (RFC 5746 section 3.3).
const RENEGOTIATION_SCSV: u16 = 0x00ff;
pub(super) const FINISHED_BYTES: usize = 12;

pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
pub(super) const FINISHED: u8 = 20;

/// One whole handshake message.
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    /// As both ends hash it.
    pub(super) bytes: &'a [u8],
}

/// The first message of a record, and what follows it; `None` where it is none, or a fragment: what a
/// client sends after its hello fits into any datagram.
pub(super) fn first(record: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let (header, rest) = record.split_first_chunk::<12>()?;
    let [kind, l0, l1, l2, _, _, o0, o1, o2, f0, f1, f2] = *header;
    if [l0, l1, l2] != [f0, f1, f2] || [o0, o1, o2] != [0, 0, 0] {
        return None;
    }
    let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
    let (body, after) = rest.split_at_checked(length)?;
    let (bytes, _) = record.split_at_checked(header.len() + length)?;
    Some((Message { kind, body, bytes }, after))
}

/// A whole message with its header.
pub(super) fn message(kind: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let [s0, s1] = sequence.to_be_bytes();
    let mut message = vec![kind, l0, l1, l2, s0, s1, 0, 0, 0, l0, l1, l2];
    message.extend_from_slice(body);
    message
}

/// What counts of a client's hello.
pub(super) struct Hello {
    pub(super) random: [u8; 32],
    suites: Vec<u16>,
    extensions: Vec<u16>,
}

impl Hello {
    /// Reads the body of a ClientHello.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let hello = crate::dtls::DtlsHello::parse(body).ok()?.hello;
        Some(Self {
            random: body.get(2..34)?.try_into().ok()?,
            suites: hello.cipher_suites,
            extensions: hello.extensions,
        })
    }

    pub(super) fn is_ours(&self) -> bool {
        self.suites.contains(&SUITE)
    }

    /// The body of the answer. It gives no session id: there is nothing to resume.
    pub(super) fn answer(&self, random: &[u8; 32]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend_from_slice(random);
        body.push(0);
        body.extend_from_slice(&SUITE.to_be_bytes());
        body.push(0);
        let secure = self.extensions.contains(&RENEGOTIATION_INFO)
            || self.suites.contains(&RENEGOTIATION_SCSV);
        if secure {
            let [high, low] = RENEGOTIATION_INFO.to_be_bytes();
            body.extend_from_slice(&[0, 5, high, low, 0, 1, 0]);
        }
        body
    }
}

/// Whether a ClientKeyExchange is well-formed: an identity, which says nothing here.
pub(super) fn is_key_exchange(body: &[u8]) -> bool {
    body.split_first_chunk::<2>().is_some_and(|(length, identity)| {
        identity.len() == usize::from(u16::from_be_bytes(*length))
    })
}

/// What both ends derive.
pub(super) struct Keys {
    master: Vec<u8>,
    pub(super) client: Key,
    pub(super) server: Key,
}

impl Keys {
    /// From the shared key and both randoms.
    pub(super) fn derive(psk: &[u8; 32], client: &[u8; 32], server: &[u8; 32]) -> Option<Self> {
        // Length and as many zeros, length and key (RFC 4279 section 2).
        let mut premaster = Vec::with_capacity(68);
        premaster.extend_from_slice(&[0, 32]);
        premaster.extend_from_slice(&[0; 32]);
        premaster.extend_from_slice(&[0, 32]);
        premaster.extend_from_slice(psk);
        let master = prf(&premaster, b"master secret", &[*client, *server].concat(), 48)?;
        premaster.fill(0);
        let length = 2 * (KEY_BYTES + SALT_BYTES);
        let block = prf(&master, b"key expansion", &[*server, *client].concat(), length)?;
        let (client_key, rest) = block.split_at_checked(KEY_BYTES)?;
        let (server_key, rest) = rest.split_at_checked(KEY_BYTES)?;
        let (client_salt, server_salt) = rest.split_at_checked(SALT_BYTES)?;
        Some(Self {
            client: Key::new(client_key, client_salt)?,
            server: Key::new(server_key, server_salt)?,
            master,
        })
    }

    /// What one side's Finished says of the messages so far.
    pub(super) fn finished(&self, side: Side, messages: &[u8]) -> Option<Vec<u8>> {
        let mut hash = Context::new(&SHA384);
        hash.update(messages);
        let label: &[u8] = match side {
            Side::Client => b"client finished",
            Side::Server => b"server finished",
        };
        prf(&self.master, label, hash.finish().as_ref(), FINISHED_BYTES)
    }

    pub(super) fn is_finished(&self, side: Side, messages: &[u8], said: &[u8]) -> bool {
        let expected = self.finished(side, messages);
        expected.is_some_and(|expected| verify_slices_are_equal(&expected, said).is_ok())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

fn prf(secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Option<Vec<u8>> {
    let secret = Secret::new(&P_SHA384, secret).ok()?;
    Some(secret.derive(label, seed, length).ok()?.as_ref().to_vec())
}
