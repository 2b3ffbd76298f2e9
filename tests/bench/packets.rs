//! Inner connections over a bad network: user space's TCP and the kernel's, beside Linux on the same link,
//! and pages over DTLS beside the TLS tunnel. Prints; asserts nothing. Needs root.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_RUNS` (5) is how often each is
//! measured; they take turns, so that all meet the same machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::net::sockopt::set_tcp_congestion;
use tests::client::carrier::{Carrier, PacketTunnel};
use tests::client::dtls::DtlsTo;
use tests::client::packet::Addresses;
use tests::client::tunnel::Tunnel;
use tests::gateway::Browser;
use tests::link::Impairment;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::{BoxStream, Gateway, Http, Identity, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const DELAY: Duration = Duration::from_millis(20);
const LOSS: f64 = 0.01;
const SEED: u64 = 5;
/// Of one download, from its first byte asked for.
const SPAN: Duration = Duration::from_secs(5);
/// The receiving client is not to be what limits.
const BUFFER_BYTES: usize = 4 << 20;
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Page-like loads at once, and how often each is repeated.
const LOADS: usize = 32;
const REPEATED: usize = 3;
/// A page and what it needs, bytes.
const PAGE: usize = 60_000;
const PARTS: [usize; 10] =
    [5_000, 10_000, 10_000, 20_000, 20_000, 30_000, 40_000, 60_000, 80_000, 100_000];
/// What begins no protocol that is looked into.
const HELLO: &[u8] = b"SSH-2.0-bench\r\n";

/// Everything but the link.
struct World {
    namespace: Namespace,
    origin: Origin,
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
    world.namespace.impair(Impairment::none().delay(DELAY).loss(LOSS));
    println!("\n{LOADS} page-like loads at once, {DELAY:?} each way, {} % loss", LOSS * 100.0);
    pages(&world, runs);
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
        Self { namespace, origin, user, kernel, sources }
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
    Dtls(Backend),
    Openconnect(Backend),
}

const WAYS: [(&str, Way); 6] = [
    ("Linux, cubic", Way::Linux("cubic")),
    ("Linux, BBR", Way::Linux("bbr")),
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
async fn take(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> f64 {
    stream.write_all(HELLO).await.unwrap();
    let begun = Instant::now();
    let mut buffer = vec![0; 256 << 10];
    let mut got = 0_usize;
    while let Some(left) = SPAN.checked_sub(begun.elapsed()) {
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
            world.inside(async || take(TcpStream::connect(direct).await.unwrap()).await)
        }
        Way::Dtls(backend) => {
            let to = dtls(world, backend);
            world.inside(async || {
                let tunnel = to.connect().await.unwrap();
                tunnel.carried_by(Carrier::Datagrams, SPAN).await.unwrap();
                take(tunnel.stack().connect(origin).await.unwrap()).await
            })
        }
        Way::Openconnect(backend) => {
            let gateway = world.gateway(backend);
            // A device of its own: with alice's it would go on as her DTLS session.
            let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
            let client = Openconnect::connect(&world.namespace, gateway, &bob, &[]);
            client.wait_for("Established DTLS connection", SPAN);
            let rate = world.inside(async || take(TcpStream::connect(origin).await.unwrap()).await);
            drop(client);
            rate
        }
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

/// What carries pages.
enum Carriage {
    Dtls(PacketTunnel),
    Tls(tokio::sync::Mutex<Tunnel>),
}

impl Carriage {
    async fn open(&self, origin: SocketAddr, authority: &str) -> BoxStream {
        match self {
            Self::Dtls(tunnel) => Box::new(tunnel.stack().connect(origin).await.unwrap()),
            Self::Tls(tunnel) => {
                // A clone opens while others do.
                let mut tunnel = match &*tunnel.lock().await {
                    Tunnel::Http2(requests, end) => Tunnel::Http2(requests.clone(), end.clone()),
                    Tunnel::Http1(_) => panic!("one stream only"),
                };
                tunnel.open(authority).await.unwrap()
            }
        }
    }
}

fn pages(world: &World, runs: usize) {
    let ways = ["TLS, cubic", "TLS, BBR", "DTLS, user", "DTLS, kernel"];
    let mut spans = ways.map(|_| Vec::new());
    let mut worst = ways.map(|_| Vec::new());
    for _ in 0..runs {
        for (number, way) in ways.iter().enumerate() {
            let mut run = page_loads(world, way);
            run.sort();
            worst[number].push(at(&run, 95));
            spans[number].append(&mut run);
        }
    }
    for ((name, spans), worst) in ways.iter().zip(&mut spans).zip(&mut worst) {
        spans.sort();
        worst.sort();
        println!(
            "{name:12} p50 {:?}, p95 {:?}, p99 {:?} of {} loads; p95 of the runs {worst:?}",
            at(spans, 50),
            at(spans, 95),
            at(spans, 99),
            spans.len()
        );
    }
}

fn at(spans: &[Duration], percent: usize) -> Duration {
    let micros = spans[spans.len() * percent / 100].as_micros();
    Duration::from_millis(u64::try_from(micros / 1_000).unwrap())
}

fn page_loads(world: &World, way: &str) -> Vec<Duration> {
    let backend = if way == "DTLS, kernel" { Backend::Kernel } else { Backend::User };
    let gateway = world.gateway(backend);
    let browser = gateway.browser().http(Http::Two).through(outside(world, gateway));
    let to = dtls(world, backend);
    let congestion = if way == "TLS, cubic" { "cubic" } else { "bbr" };
    world.namespace.congestion(congestion);
    let origin = SocketAddr::from((world.namespace.origin(), world.origin.port()));
    let authority = format!("site.test:{}", world.origin.port());
    let is_tls = way.starts_with("TLS");
    world.inside(async || {
        let carriage = if is_tls {
            Carriage::Tls(browser.tunnel().await.unwrap().into())
        } else {
            let tunnel = to.connect().await.unwrap();
            tunnel.carried_by(Carrier::Datagrams, SPAN).await.unwrap();
            Carriage::Dtls(tunnel)
        };
        let carriage = std::sync::Arc::new(carriage);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..LOADS {
            let (carriage, browser) = (std::sync::Arc::clone(&carriage), browser.clone());
            let authority = authority.clone();
            tasks.spawn(async move {
                let mut spans = Vec::new();
                for _ in 0..REPEATED {
                    let begun = Instant::now();
                    load(&carriage, &browser, origin, &authority).await;
                    spans.push(begun.elapsed());
                }
                spans
            });
        }
        tasks.join_all().await.concat()
    })
}

/// One page on a connection of its own, and then all its parts at once.
async fn load(carriage: &Carriage, browser: &Browser, origin: SocketAddr, authority: &str) {
    let stream = carriage.open(origin, authority).await;
    let mut inner = browser.inner(stream, authority).await.unwrap();
    let page = inner.get(&format!("/bytes/{PAGE}")).await.unwrap();
    assert_eq!(page.body.len(), PAGE);
    let mut parts = tokio::task::JoinSet::new();
    for bytes in PARTS {
        let mut inner = inner.share().unwrap();
        parts.spawn(async move {
            let part = inner.get(&format!("/bytes/{bytes}")).await.unwrap();
            assert_eq!(part.body.len(), bytes);
        });
    }
    parts.join_all().await;
}
