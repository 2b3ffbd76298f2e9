//! Echo requests as IPv4 packets.

use std::net::Ipv4Addr;

/// The gateway's inner address, and whoever asks.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const ICMP: u8 = 1;
const DATA_BYTES: usize = 1_000;

/// The request with this number.
pub fn request(number: u16) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x51, 0x1c];
    message.extend(number.to_be_bytes());
    message.resize(8 + DATA_BYTES, 0xa5);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(20 + message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, ICMP, 0, 0];
    packet.extend(OWN.octets());
    packet.extend(GATEWAY.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(message);
    packet
}

/// Whether a packet is the whole answer to that request.
pub fn answers(packet: &[u8], number: u16) -> bool {
    packet.len() == 28 + DATA_BYTES
        && packet[9] == ICMP
        && packet[12..16] == GATEWAY.octets()
        && packet[16..20] == OWN.octets()
        && packet[20] == 0
        && packet[26..28] == number.to_be_bytes()
        && packet[28..].iter().all(|byte| *byte == 0xa5)
        && checksum(&packet[20..]) == 0
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
