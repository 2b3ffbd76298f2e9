//! Initial packets made by hand (RFC 9001 section 5.2), for what no client does.

use rustls::Side;
use rustls::quic::{Keys, Version};

/// Bytes of a packet that are not its payload: header, number and tag. With ids of eight bytes.
const AROUND: usize = 7 + 8 + 8 + 1 + 2 + 4 + 16;

/// An Initial packet of QUIC version 1 with a PING and padding, `size` bytes in all.
///
/// # Panics
/// Where it does not fit.
#[must_use]
pub fn ping(destination: [u8; 8], source: [u8; 8], token: &[u8], size: usize) -> Vec<u8> {
    let keys = keys(destination);
    let token_width = if token.len() < 64 { 1 } else { 2 };
    let payload = size - AROUND - (token_width - 1) - token.len();
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend(destination);
    packet.push(8);
    packet.extend(source);
    if token_width == 1 {
        packet.push(u8::try_from(token.len()).expect("short"));
    } else {
        packet.extend((u16::try_from(token.len()).expect("short") | 0x4000).to_be_bytes());
    }
    packet.extend(token);
    packet.extend((u16::try_from(4 + payload + 16).expect("short") | 0x4000).to_be_bytes());
    let number_at = packet.len();
    packet.extend([0, 0, 0, 0]);
    let mut body = vec![0; payload];
    body[0] = 1;
    let tag = keys.local.packet.encrypt_in_place(0, &packet, &mut body).expect("a key");
    packet.extend(body);
    packet.extend(tag.as_ref());
    let sample = packet[number_at + 4..][..keys.local.header.sample_len()].to_vec();
    let (front, rest) = packet.split_at_mut(number_at);
    let header = &keys.local.header;
    header.encrypt_in_place(&sample, &mut front[0], &mut rest[..4]).expect("a key");
    assert_eq!(packet.len(), size);
    packet
}

/// The token of a Retry packet and the id that it wants to be sent to.
#[must_use]
pub fn retried(packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    // Long header, type 3.
    if packet.first()? & 0xf0 != 0xf0 {
        return None;
    }
    let destination = usize::from(*packet.get(5)?);
    let at = 6 + destination;
    let source = usize::from(*packet.get(at)?);
    let id = packet.get(at + 1..at + 1 + source)?.to_vec();
    let token = packet.get(at + 1 + source..packet.len().checked_sub(16)?)?.to_vec();
    Some((token, id))
}

/// The type of the first frame of an Initial packet that answers one sent to `destination`: 2 is an
/// acknowledgement, so a handshake is under way; 28 closes what has not begun.
#[must_use]
pub fn answered(packet: &[u8], destination: [u8; 8]) -> Option<u8> {
    if packet.first()? & 0xf0 != 0xc0 {
        return None;
    }
    let mut packet = packet.to_vec();
    let own = usize::from(*packet.get(5)?);
    let theirs = usize::from(*packet.get(6 + own)?);
    // No token; the length has one byte or two.
    let length_at = 6 + own + 1 + theirs + 1;
    let wide = packet.get(length_at)? >> 6 == 1;
    let (number_at, length) = if wide {
        let length = u16::from_be_bytes([packet[length_at] & 0x3f, *packet.get(length_at + 1)?]);
        (length_at + 2, usize::from(length))
    } else {
        (length_at + 1, usize::from(packet[length_at]))
    };
    packet.truncate(number_at + length);
    let keys = keys(destination).remote;
    let sample = packet.get(number_at + 4..)?.get(..keys.header.sample_len())?.to_vec();
    let (front, rest) = packet.split_at_mut(number_at);
    keys.header.decrypt_in_place(&sample, &mut front[0], rest.get_mut(..4)?).ok()?;
    let width = usize::from(packet[0] & 3) + 1;
    let number =
        packet[number_at..number_at + width].iter().fold(0, |all, it| all << 8 | u64::from(*it));
    let (header, payload) = packet.split_at_mut(number_at + width);
    let plain = keys.packet.decrypt_in_place(number, header, payload).ok()?;
    plain.iter().find(|kind| **kind != 0).copied()
}

fn keys(destination: [u8; 8]) -> Keys {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("a suite of TLS 1.3").quic_suite().expect("QUIC");
    suite.keys(&destination, Side::Client, Version::V1)
}
