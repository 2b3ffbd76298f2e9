//! Inner connections over a bad network: user space's TCP and the kernel's, beside Linux on the same link.
//! Prints; asserts nothing. Needs root.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_RUNS` (5) is how often each is
//! measured; they take turns, so that all meet the same machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::net::sockopt::set_tcp_congestion;
use tests::client::carrier::Carrier;
use tests::client::dtls::DtlsTo;
use tests::client::packet::Addresses;
use tests::gateway::Browser;
use tests::link::Impairment;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::{Gateway, Identity, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const DELAY: Duration = Duration::from_millis(20);
const LOSS: f64 = 0.01;
const SEED: u64 = 5;
/// A slow link, bits a second.
const SLOW: u64 = 20_000_000;
/// Of one download, from its first byte asked for.
const SPAN: Duration = Duration::from_secs(5);
/// The receiving client is not to be what limits.
const BUFFER_BYTES: usize = 4 << 20;
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// What begins no protocol that is looked into.
const HELLO: &[u8] = b"SSH-2.0-bench\r\n";

/// Everything but the link.
struct World {
    namespace: Namespace,
    /// Gateways trust its certificates.
    _origin: Origin,
    user: Gateway,
    kernel: Gateway,
    /// Gives as much as is taken; by congestion control.
    sources: Vec<(&'static str, SocketAddr)>,
}

fn main() {
    // In a network of its own the system's settings may be changed.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    let runs = std::env::var("SLUICE_BENCH_RUNS").ok().and_then(|it| it.parse().ok()).unwrap_or(5);
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    for loss in [LOSS, 0.0] {
        world.namespace.impair(Impairment::none().delay(DELAY).loss(loss));
        println!("\n{DELAY:?} each way, {} % loss", loss * 100.0);
        downloads(&world, runs);
    }
    for queue_ms in [10, 40, 200] {
        let queue_bytes = SLOW as usize / 8 * queue_ms / 1_000;
        world.namespace.impair(Impairment::none().delay(DELAY).rate(SLOW, queue_bytes));
        println!("\nat once on {SLOW} bit/s with a queue of {queue_ms} ms, {DELAY:?} each way");
        beside(&world, runs);
    }
    // Threads of the runtime must not outlive what they use.
    runtime.block_on(async { drop(world) });
}

impl World {
    async fn new() -> Self {
        let impairment = Impairment::none().delay(DELAY).loss(LOSS);
        let namespace = Namespace::behind(impairment, SEED);
        let origin = Origin::build().at(namespace.origin()).start().await;
        let gateway = |backend: &str| {
            let yaml = format!("inner: {{ tcp: {backend} }}");
            Gateway::build(&origin).beyond(namespace.origin()).gateway_yaml(&yaml).start()
        };
        let (user, kernel) = (gateway("user"), gateway("kernel"));
        let mut sources = Vec::new();
        for congestion in ["cubic", "bbr"] {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
            set_tcp_congestion(&listener, congestion).unwrap();
            sources.push((congestion, listener.local_addr().unwrap()));
            tokio::spawn(give(listener));
        }
        Self { namespace, _origin: origin, user, kernel, sources }
    }

    fn gateway(&self, backend: Backend) -> &Gateway {
        match backend {
            Backend::User => &self.user,
            Backend::Kernel => &self.kernel,
        }
    }

    /// Runs something in the client's namespace.
    fn inside<T: Send>(&self, act: impl AsyncFnOnce() -> T + Send) -> T {
        self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(act())
        })
    }
}

#[derive(Clone, Copy)]
enum Backend {
    User,
    Kernel,
}

/// Who carries a download.
#[derive(Clone, Copy)]
enum Way {
    Linux(&'static str),
    Quic,
    Dtls(Backend),
    Openconnect(Backend),
}

const WAYS: [(&str, Way); 7] = [
    ("Linux, cubic", Way::Linux("cubic")),
    ("Linux, BBR", Way::Linux("bbr")),
    ("QUIC", Way::Quic),
    ("DTLS, user", Way::Dtls(Backend::User)),
    ("DTLS, kernel", Way::Dtls(Backend::Kernel)),
    ("openconnect, user", Way::Openconnect(Backend::User)),
    ("openconnect, kernel", Way::Openconnect(Backend::Kernel)),
];

async fn give(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let data = vec![0; 256 << 10];
            stream.read_exact(&mut [0; HELLO.len()]).await.ok();
            while stream.write_all(&data).await.is_ok() {}
        });
    }
}

/// Mbit/s of a stream whose other end gives what is taken.
async fn take(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, span: Duration) -> f64 {
    stream.write_all(HELLO).await.unwrap();
    let begun = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut got = 0_usize;
    while let Some(left) = span.checked_sub(begun.elapsed()) {
        match tokio::time::timeout(left, stream.read(&mut buffer)).await {
            Ok(Ok(length)) if length > 0 => got += length,
            Ok(other) => panic!("the download ended: {other:?}"),
            Err(_) => break,
        }
    }
    got as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64()
}

fn downloads(world: &World, runs: usize) {
    let mut rates = WAYS.map(|_| Vec::new());
    for _ in 0..runs {
        for (rates, (_, way)) in rates.iter_mut().zip(WAYS) {
            rates.push(download(world, way));
        }
    }
    for ((name, _), rates) in WAYS.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let (median, most) = (rates[rates.len() / 2], rates[rates.len() - 1]);
        let all: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        println!("{name:20} median {median:4.0}, best {most:4.0} Mbit/s of {}", all.join(" "));
    }
}

fn download(world: &World, way: Way) -> f64 {
    let port = world.sources[1].1.port();
    let origin = SocketAddr::from((world.namespace.origin(), port));
    match way {
        Way::Linux(congestion) => {
            let source = world.sources.iter().find(|(name, _)| *name == congestion);
            let direct = (world.namespace.gateway(), source.unwrap().1.port());
            world.inside(async || take(TcpStream::connect(direct).await.unwrap(), SPAN).await)
        }
        Way::Quic => {
            let (browser, authority) = quic(world);
            world.inside(async || {
                let tunnel = browser.quic().await.unwrap();
                take(tunnel.open(&authority).await.unwrap(), SPAN).await
            })
        }
        Way::Dtls(backend) => {
            let to = dtls(world, backend);
            world.inside(async || {
                let tunnel = to.connect().await.unwrap();
                tunnel.carried_by(Carrier::Datagrams, SPAN).await.unwrap();
                take(tunnel.stack().connect(origin).await.unwrap(), SPAN).await
            })
        }
        Way::Openconnect(backend) => {
            let gateway = world.gateway(backend);
            // A device of its own: with alice's it would go on as her DTLS session.
            let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
            let client = Openconnect::connect(&world.namespace, gateway, &bob, &[]);
            client.wait_for("Established DTLS connection", SPAN);
            let stream = async || TcpStream::connect(origin).await.unwrap();
            let rate = world.inside(async || take(stream().await, SPAN).await);
            drop(client);
            rate
        }
    }
}

/// How to reach a source through a QUIC tunnel.
fn quic(world: &World) -> (Browser, String) {
    let browser = world.user.browser().through(outside(world, &world.user));
    (browser, format!("site.test:{}", world.sources[1].1.port()))
}

/// A QUIC tunnel and a TCP connection of Linux on one slow link: what each gets.
fn beside(world: &World, runs: usize) {
    for (congestion, source) in &world.sources {
        let direct = (world.namespace.gateway(), source.port());
        let mut shares = Vec::new();
        for _ in 0..runs {
            let (browser, authority) = quic(world);
            shares.push(world.inside(async || {
                let tunnel = browser.quic().await.unwrap();
                let carried = tunnel.open(&authority).await.unwrap();
                let plain = TcpStream::connect(direct).await.unwrap();
                tokio::join!(take(carried, 3 * SPAN), take(plain, 3 * SPAN))
            }));
        }
        let shares: Vec<_> =
            shares.iter().map(|(quic, tcp)| format!("{quic:.1} and {tcp:.1}")).collect();
        println!("QUIC and {congestion}: {} Mbit/s", shares.join(", "));
    }
}

fn outside(world: &World, gateway: &Gateway) -> SocketAddr {
    SocketAddr::from((world.namespace.gateway(), gateway.address().port()))
}

fn dtls(world: &World, backend: Backend) -> DtlsTo {
    let gateway = world.gateway(backend);
    let Identity { tenant, tunnel_ca_pem, chain, .. } = gateway.alice();
    let address = outside(world, gateway);
    let to = DtlsTo::new(address, address, &gateway.name(&tenant), &tunnel_ca_pem, &chain);
    let mut to = to.unwrap().addresses(Addresses::of(OWN)).without_fallback();
    to.buffer_bytes = BUFFER_BYTES;
    to
}
