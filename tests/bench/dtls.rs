//! What DTLS 1.3 tunnels cost the gateway: packets through one of them, beside a bare echo of the same
//! library; idle ones; and idle connections inside. Prints, with the bounds of docs/performance.md beside;
//! asserts nothing.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_GB` is what goes through each
//! way (default 0.5), `SLUICE_BENCH_TUNNELS` the idle tunnels (default 5,000), `SLUICE_BENCH_FLOWS` the idle
//! connections (default 10,000).
//!
//! Costs are CPU time, from the scheduler's own account in nanoseconds: other work on the machine does not
//! count in it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use tests::client::carrier::PacketTunnel;
use tests::client::dtls::DtlsTo;
use tests::client::packet::{Addresses, PacketStream, wire};
use tests::client::peer::{NAME, trusted_pem};
use tests::client::secure::{Dtls13Config, Proof, RawDtls};
use tests::{Fault, Gateway, Identity, Origin, Pki};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const INNER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 96, 0, 1));
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// What full packets of a tunnel over Ethernet are.
const PACKET_BYTES: usize = 1_400;
/// Packets on their way at once: enough that neither side waits, few enough that no socket overflows.
const WINDOW: usize = 48;
/// A packet that is not back by then is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Connections inside one tunnel.
const FLOWS_PER_TUNNEL: usize = 1_000;

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    let count = (setting("SLUICE_BENCH_GB", 0.5) * 1e9) as usize / PACKET_BYTES;
    for round in 1..=3 {
        let bare = tokio::task::spawn_blocking(move || bare_echo(count)).await.unwrap();
        let ours = through_the_gateway(count).await;
        println!(
            "round {round}: bare echo {bare}; gateway {ours}; {:.0} % of its rate per core (bound 60)",
            100.0 * bare.cpu_per_gb / ours.cpu_per_gb
        );
    }
    idle_tunnels().await;
    idle_flows().await;
}

struct Cost {
    /// Nanoseconds of CPU time for a byte each way are seconds for a gigabyte.
    cpu_per_gb: f64,
    lost: usize,
    elapsed: Duration,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gbit = 8.0 / self.cpu_per_gb;
        let (cpu, lost, elapsed) = (self.cpu_per_gb, self.lost, self.elapsed.as_secs_f64());
        write!(
            f,
            "{cpu:.2} CPU-s per GB each way = {gbit:.2} Gbit/s a core ({lost} lost, {elapsed:.1} s)"
        )
    }
}

/// CPU time of this thread, in nanoseconds.
fn own_cpu() -> u64 {
    let account = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    account.split(' ').next().unwrap().parse().unwrap()
}

/// Sends packets that come back, a window of them at a time; counts those that do not.
fn pump(tunnel: &mut RawDtls, packet: &[u8], count: usize, is_back: fn(&[u8]) -> bool) -> usize {
    let (mut sent, mut back, mut lost) = (0, 0, 0);
    while back + lost < count {
        while sent < count && sent - back - lost < WINDOW {
            tunnel.send(packet).unwrap();
            sent += 1;
        }
        match tunnel.receive(PATIENCE).unwrap() {
            Some(record) if is_back(&record) => back += 1,
            // A question after our path: with the same bytes.
            Some(mut record) if record.first() == Some(&3) => {
                record[0] = 4;
                tunnel.send(&record).unwrap();
            }
            Some(_) => {}
            None => lost = sent - back,
        }
    }
    lost
}

/// dimpl and a socket, and nothing else.
fn bare_echo(count: usize) -> Cost {
    let pki = Pki::new();
    let chain = pki.chain(NAME, Fault::None);
    let certificate = DtlsCertificate {
        certificate: chain.certificates[0].to_vec(),
        private_key: chain.key.secret_der().to_vec(),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).ok();
    let address = socket.local_addr().unwrap();
    let serving = std::thread::spawn(move || serve_bare(&socket, certificate));
    let client = pki.client("alice@acme.test");
    let config = Dtls13Config::new(&trusted_pem(&pki), &client, Proof::Name).unwrap();
    let mut tunnel = RawDtls::connect(address, &config, NAME).unwrap();
    let begun = Instant::now();
    let lost = pump(&mut tunnel, &[9; PACKET_BYTES + 1], count, |record| record[0] == 9);
    let elapsed = begun.elapsed();
    // Its account of itself ends the server.
    tunnel.send(b"end").unwrap();
    let spent = serving.join().unwrap();
    Cost { cpu_per_gb: spent as f64 / (count * PACKET_BYTES) as f64, lost, elapsed }
}

fn serve_bare(socket: &UdpSocket, certificate: DtlsCertificate) -> u64 {
    let config = Arc::new(Config::builder().build().unwrap());
    let mut dtls = Dtls::new_13(config, certificate, Instant::now());
    let (mut datagram, mut out) = (vec![0; 65_536], vec![0; 16_384]);
    let (mut begun, mut echoes) = (0, Vec::new());
    loop {
        let (length, peer) = socket.recv_from(&mut datagram).unwrap();
        dtls.handle_timeout(Instant::now()).unwrap();
        dtls.handle_packet(&datagram[..length]).unwrap();
        loop {
            match dtls.poll_output(&mut out) {
                Output::Packet(packet) => drop(socket.send_to(packet, peer)),
                Output::ApplicationData(b"end") => return own_cpu() - begun,
                Output::ApplicationData(record) => echoes.push(record.to_vec()),
                Output::Connected => begun = own_cpu(),
                Output::BufferTooSmall { needed } => out.resize(needed, 0),
                Output::Timeout(_) if echoes.is_empty() => break,
                Output::Timeout(_) => {
                    for echo in echoes.drain(..) {
                        dtls.send_application_data(&echo).unwrap();
                    }
                }
                _ => {}
            }
        }
    }
}

/// Pings of the gateway's own address: each is decrypted, read as a packet, answered and encrypted.
async fn through_the_gateway(count: usize) -> Cost {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml("workers: 1").start();
    let alice = gateway.alice();
    let (at, config) = (gateway.address(), to(&gateway, &alice).secured());
    let data = [7; PACKET_BYTES - 28];
    let echo = wire::Echo { is_reply: false, identifier: 1, sequence: 1, data: &data };
    let packet = [&[0], wire::echo(OWN, INNER, &echo).as_slice()].concat();
    let send = |count| {
        let (config, packet) = (config.clone(), packet.clone());
        move || {
            let mut tunnel = RawDtls::connect(at, &config, NAME).unwrap();
            // What comes once: questions after the path.
            pump(&mut tunnel, &packet, 1_000, |record| record[0] == 0);
            let begun = Instant::now();
            (pump(&mut tunnel, &packet, count, |record| record[0] == 0), begun.elapsed())
        }
    };
    // A handshake and the first packets are not what is measured.
    tokio::task::spawn_blocking(send(1)).await.unwrap();
    let before = gateway.cpu_ns();
    let (lost, elapsed) = tokio::task::spawn_blocking(send(count)).await.unwrap();
    let spent = gateway.cpu_ns() - before;
    Cost { cpu_per_gb: spent as f64 / (count * PACKET_BYTES) as f64, lost, elapsed }
}

fn to(gateway: &Gateway, identity: &Identity) -> DtlsTo {
    let name = gateway.name(&identity.tenant);
    let (at, trusted) = (gateway.address(), &identity.tunnel_ca_pem);
    let to = DtlsTo::new(at, at, &name, trusted, &identity.chain).unwrap();
    to.addresses(Addresses::of(OWN)).without_fallback()
}

async fn tunnels(gateway: &Gateway, count: usize) -> Vec<PacketTunnel> {
    let to = to(gateway, &gateway.alice());
    let mut opening = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..count {
        let to = to.clone();
        opening.spawn(async move { to.connect().await.unwrap() });
        if opening.len() >= 16 {
            open.push(opening.join_next().await.unwrap().unwrap());
        }
    }
    open.extend(opening.join_all().await);
    open
}

async fn idle_tunnels() {
    let count = setting("SLUICE_BENCH_TUNNELS", 5_000.0) as usize;
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    // The first pay for what all share.
    let first = tunnels(&gateway, 8).await;
    let before = gateway.resident_bytes();
    let open = tunnels(&gateway, count).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = gateway.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle DTLS tunnels: {:.1} KiB each (bound 64)", each as f64 / 1024.0);
    drop((first, open));
}

/// Each has said a few bytes to an origin that keeps it open.
async fn idle_flows() {
    let count = setting("SLUICE_BENCH_FLOWS", 10_000.0) as usize;
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while held.len() < count {
            held.push(listener.accept().await.unwrap());
        }
        held
    });
    let tunnels = tunnels(&gateway, count.div_ceil(FLOWS_PER_TUNNEL)).await;
    let mut flows = vec![flow(&tunnels[0], target).await];
    let before = gateway.resident_bytes();
    for number in 1..count {
        flows.push(flow(&tunnels[number / FLOWS_PER_TUNNEL], target).await);
    }
    let held = holding.await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = gateway.resident_bytes().saturating_sub(before) / (count - 1) as u64;
    println!("{count} idle connections inside DTLS tunnels: {each} bytes each");
    drop((flows, held));
}

async fn flow(tunnel: &PacketTunnel, target: SocketAddr) -> PacketStream {
    let mut stream = tunnel.stack().connect(target).await.unwrap();
    stream.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    stream
}
