//! IP fragments for hostile tests: whole sets, and pieces that overlap, lack a part or never end.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr};

use super::wire;

/// The IPv6 fragment header's protocol number (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// One piece of a packet's payload. `offset` is a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub offset: u16,
    pub more: bool,
    pub bytes: &'a [u8],
}

/// The fragments of `packet` with at most `payload_max` bytes of payload each (cut to a multiple of 8).
///
/// # Panics
/// Where `packet` is no IP packet, or `payload_max` is below 8.
#[must_use]
pub fn fragments(packet: &[u8], payload_max: usize, identification: u32) -> Vec<Vec<u8>> {
    let whole = wire::read(packet).expect("an IP packet");
    let step = payload_max / 8 * 8;
    let pieces: Vec<_> = whole.payload.chunks(step).collect();
    let last = pieces.len() - 1;
    let piece = |(index, bytes): (usize, &&[u8])| {
        let offset = u16::try_from(index * step).expect("a packet of at most 64 KiB");
        let piece = Piece { offset, more: index != last, bytes };
        cut(whole.from, whole.to, whole.protocol, identification, &piece)
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// One fragment as told, true or not.
///
/// # Panics
/// Where the addresses are of two families, or the offset is no multiple of 8.
#[must_use]
pub fn cut(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    identification: u32,
    piece: &Piece<'_>,
) -> Vec<u8> {
    assert!(piece.offset.is_multiple_of(8), "an offset counts 8 bytes");
    match (from, to) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let header = Ipv4Repr {
                src_addr,
                dst_addr,
                next_header: protocol,
                payload_len: piece.bytes.len(),
                hop_limit: 64,
            };
            let mut bytes = vec![0; header.buffer_len()];
            header
                .emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
            bytes.extend_from_slice(piece.bytes);
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
            packet.set_ident((identification & 0xffff) as u16);
            packet.set_dont_frag(false);
            packet.set_more_frags(piece.more);
            packet.set_frag_offset(piece.offset);
            packet.fill_checksum();
            bytes
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            let protocol_of_header = IpProtocol::from(FRAGMENT_HEADER);
            wire::packet(from, to, protocol_of_header, 8 + piece.bytes.len(), |bytes| {
                bytes[0] = protocol.into();
                // The offset counts 8 bytes and stands above 2 reserved bits and the flag.
                bytes[2..4].copy_from_slice(&(piece.offset | u16::from(piece.more)).to_be_bytes());
                bytes[4..8].copy_from_slice(&identification.to_be_bytes());
                bytes[8..].copy_from_slice(piece.bytes);
            })
        }
        _ => panic!("addresses of two families"),
    }
}
