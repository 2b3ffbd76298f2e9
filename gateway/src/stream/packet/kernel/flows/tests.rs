#![expect(clippy::unwrap_used, reason = "tests")]

use gateway_proto::tcp::put_reset;

use super::*;
use crate::limit::window::ProcessWindow;

fn table(port: u16, budget: u64) -> (Table, ProcessWindow) {
    let process = ProcessWindow::new(budget);
    (Table::new(port, process.tunnel(64 << 20)), process)
}

/// Opens a connection from this port of the client's, as `Flows::open` does.
fn open(table: &mut Table, client_port: u16) -> (u16, Size) {
    let source = SocketAddr::from(([10, 0, 0, 2], client_port));
    let destination = SocketAddr::from(([192, 0, 2, 1], 443));
    let mut packet = Vec::new();
    put_reset(source, destination, 7, &mut packet).unwrap();
    let packet = TcpPacket::read(&packet).unwrap();
    let port = table.free_port().unwrap();
    let size = table.afford();
    let ends = Ends { source, destination };
    let entry = Entry::new(ends, size, 1, &packet, Instant::now());
    table.opening += 1;
    table.by_ends.insert(ends, port);
    table.by_port.insert(port, entry);
    (port, size)
}

/// The end of a direction. Only its numbers count here.
fn fin(source: SocketAddr, destination: SocketAddr, sequence: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    put_reset(source, destination, sequence, &mut packet).unwrap();
    // The flags, behind an IPv4 header.
    *packet.get_mut(20 + 13).unwrap() = 1;
    packet
}

#[test]
fn no_port_is_given_again_before_all_others_nor_while_it_is_used() {
    let (mut table, _) = table(u16::MAX - 1, 1 << 30);
    let (kept, _) = open(&mut table, 1);
    assert_eq!(kept, u16::MAX);
    let mut seen = std::collections::HashSet::from([kept]);
    for _ in PORT_MIN..u16::MAX {
        let port = table.free_port().unwrap();
        assert!(port >= PORT_MIN && seen.insert(port), "{port}");
    }
    assert_eq!(table.free_port(), Some(PORT_MIN), "the one in use is left out");
}

#[test]
fn buffers_are_as_large_as_the_budgets_allow_and_go_back_with_the_connection() {
    let (mut table, process) = table(PORT_MIN, 48 << 20);
    let opened: Vec<_> = (1..=22).map(|port| open(&mut table, port)).collect();
    let count = |size| opened.iter().filter(|(_, it)| *it == size).count();
    assert_eq!(
        (count(Size::Large), count(Size::Middle), count(Size::Small)),
        (LARGE_MAX, 16, 2),
        "four of 8 MiB, sixteen of 1 MiB in what is left"
    );
    for (port, _) in opened {
        table.remove(port).unwrap();
    }
    assert_eq!((process.used(), table.opening, table.large), (0, 0, 0));
    assert!(table.by_ends.is_empty() && table.remove(PORT_MIN).is_none());
}

#[test]
fn a_connection_whose_client_never_says_its_last_word_gives_its_buffers_back() {
    let (mut table, process) = table(PORT_MIN, 1 << 30);
    let (port, size) = open(&mut table, 1);
    assert_eq!((size, process.used()), (Size::Large, Size::Large.bytes()));
    let (gateway, client) =
        (SocketAddr::from(([192, 0, 2, 1], 443)), SocketAddr::from(([10, 0, 0, 2], 1)));
    let entry = table.by_port.get_mut(&port).unwrap();
    entry.hold();
    let mut end = fin(gateway, client, 5_000);
    entry.kernel_sent(&TcpPacket::read(&end).unwrap());
    end = fin(client, gateway, 8);
    entry.client_sent(&TcpPacket::read(&end).unwrap(), Instant::now());
    table.settle(port);
    assert_eq!(table.large, 1, "not before the flow has let it go");
    table.by_port.get_mut(&port).unwrap().let_go(Instant::now());
    table.settle(port);
    assert_eq!((process.used(), table.large, table.by_port.len()), (0, 0, 1));
    table.remove(port).unwrap();
    assert_eq!((process.used(), table.large), (0, 0));
}
