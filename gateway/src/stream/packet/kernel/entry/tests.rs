#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const CLIENT: u32 = 1_000;
const KERNEL: u32 = 9_000;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A TCP packet, whoever sends it; its checksum is nobody's matter here.
fn packet(sequence: u32, acknowledges: u32, flags: u8, data: usize) -> Vec<u8> {
    let length = u16::try_from(40 + data).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend([10, 0, 0, 2, 192, 0, 2, 1, 0x10, 0, 1, 0xbb]);
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledges.to_be_bytes());
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.resize(40 + data, 7);
    packet
}

struct Talk {
    entry: Entry,
    now: Instant,
}

impl Talk {
    fn new() -> Self {
        let syn = packet(CLIENT, 0, SYN, 0);
        let syn = TcpPacket::read(&syn).unwrap();
        let ends = Ends { source: syn.source, destination: syn.destination };
        let now = Instant::now();
        Self { entry: Entry::new(ends, Size::Large, 1, &syn, now), now }
    }

    fn open() -> Self {
        let mut talk = Self::new();
        assert!(!talk.kernel(KERNEL, CLIENT + 1, SYN | ACK, 0));
        assert!(!talk.client(CLIENT + 1, KERNEL + 1, ACK, 0));
        talk.entry.hold();
        talk
    }

    fn client(&mut self, sequence: u32, acknowledges: u32, flags: u8, data: usize) -> bool {
        let packet = packet(sequence, acknowledges, flags, data);
        self.entry.client_sent(&TcpPacket::read(&packet).unwrap(), self.now)
    }

    fn kernel(&mut self, sequence: u32, acknowledges: u32, flags: u8, data: usize) -> bool {
        let packet = packet(sequence, acknowledges, flags, data);
        self.entry.kernel_sent(&TcpPacket::read(&packet).unwrap())
    }
}

#[test]
fn a_connection_is_over_when_both_ends_are_acknowledged() {
    let mut talk = Talk::open();
    assert!(!talk.client(CLIENT + 1, KERNEL + 1, ACK | FIN, 100));
    assert!(!talk.kernel(KERNEL + 1, CLIENT + 102, ACK, 50));
    assert!(!talk.kernel(KERNEL + 51, CLIENT + 102, ACK | FIN, 0));
    assert!(!talk.client(CLIENT + 102, KERNEL + 51, ACK, 0), "the data, not the end");
    assert!(talk.client(CLIENT + 102, KERNEL + 52, ACK, 0));
}

#[test]
fn a_reset_ends_it_whoever_sends_it() {
    assert!(Talk::open().client(CLIENT + 1, KERNEL + 1, RST, 0));
    assert!(Talk::open().kernel(KERNEL + 1, CLIENT + 1, RST | ACK, 0));
}

#[test]
fn a_reset_has_the_number_that_each_side_expects() {
    let mut talk = Talk::new();
    assert_eq!((talk.entry.reset_number(), talk.entry.client_expects()), (CLIENT + 1, None));
    talk.kernel(KERNEL, CLIENT + 1, SYN | ACK, 0);
    talk.client(CLIENT + 1, KERNEL + 1, ACK, 500);
    assert_eq!(talk.entry.reset_number(), CLIENT + 1, "not acknowledged yet");
    talk.kernel(KERNEL + 1, CLIENT + 501, ACK, 0);
    let expected = (CLIENT + 501, Some(KERNEL + 1));
    assert_eq!((talk.entry.reset_number(), talk.entry.client_expects()), expected);
}

#[test]
fn a_new_connection_follows_one_that_ends_and_no_other() {
    let repeated = packet(CLIENT, 0, SYN, 0);
    let another = packet(CLIENT + 70_000, 0, SYN, 0);
    let (repeated, another) =
        (TcpPacket::read(&repeated).unwrap(), TcpPacket::read(&another).unwrap());
    let mut talk = Talk::open();
    assert!(!talk.entry.is_followed_by(&repeated) && !talk.entry.is_followed_by(&another));
    talk.client(CLIENT + 1, KERNEL + 1, ACK | FIN, 0);
    assert!(talk.entry.is_followed_by(&another));
}

#[test]
fn a_closed_connection_keeps_of_its_budget_what_the_client_has_not_acknowledged() {
    let whole = Size::Large.bytes();
    let mut talk = Talk::open();
    talk.kernel(KERNEL + 1, CLIENT + 1, ACK, 1_400);
    talk.client(CLIENT + 1, KERNEL + 1, ACK | FIN, 0);
    assert_eq!((talk.entry.spare(), talk.entry.is_large()), (0, true), "the flow may still write");
    talk.entry.let_go(talk.now);
    assert_eq!(talk.entry.spare(), 0, "the kernel may still have much to send");
    talk.kernel(KERNEL + 1_401, CLIENT + 2, ACK | FIN, 600);
    assert_eq!((talk.entry.spare(), talk.entry.set_aside()), (whole - 2_001, 2_001));
    assert!(!talk.entry.is_large());
    talk.client(CLIENT + 2, KERNEL + 1_401, ACK, 0);
    assert_eq!((talk.entry.spare(), talk.entry.set_aside()), (1_400, 601));
    // Acknowledgements that overtake each other make nothing of what was given back.
    talk.client(CLIENT + 2, KERNEL + 1, ACK, 0);
    assert_eq!(talk.entry.spare(), 0);
    talk.client(CLIENT + 2, KERNEL + 2_001, ACK, 0);
    assert_eq!((talk.entry.spare(), talk.entry.set_aside()), (600, 1), "all but its end");
}

#[test]
fn only_what_nobody_holds_grows_stale() {
    let mut talk = Talk::new();
    let later = |talk: &Talk, time| talk.now + time;
    assert!(!talk.entry.is_stale(later(&talk, OPENING_TIME_MAX / 2)));
    assert!(talk.entry.is_stale(later(&talk, OPENING_TIME_MAX)));
    talk.entry.hold();
    assert!(!talk.entry.is_stale(later(&talk, Duration::from_secs(86_400))));
    talk.entry.let_go(talk.now);
    assert!(!talk.entry.is_stale(later(&talk, CLOSED_TIME_MAX / 2)));
    assert!(talk.entry.is_stale(later(&talk, CLOSED_TIME_MAX)));
}
