//! Page-like loads over a bad network, by what carries them: the TLS tunnel, a QUIC tunnel, packets. Prints;
//! asserts nothing. Needs root.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_RUNS` (5) is how often each is
//! measured; they take turns, so that all meet the same machine. `SLUICE_BENCH_WAYS` chooses some of them
//! by a part of their names (`TLS,QUIC`). The link has `SLUICE_BENCH_LOSS` percent (1) and
//! `SLUICE_BENCH_MBIT` (no bound), `SLUICE_BENCH_LOADS` (32) loads go at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tests::client::carrier::{Carrier, PacketTunnel};
use tests::client::dtls::DtlsTo;
use tests::client::packet::Addresses;
use tests::client::quic::QuicTunnel;
use tests::client::tunnel::Tunnel;
use tests::gateway::{Browser, cpu_of};
use tests::link::Impairment;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::{BoxStream, Gateway, Http, Identity, Origin};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const DELAY: Duration = Duration::from_millis(20);
const SEED: u64 = 5;
/// Queue before a bounded rate: 40 ms of it, a round trip.
const QUEUE: Duration = Duration::from_millis(40);
const SOON: Duration = Duration::from_secs(10);
/// How often each of the loads at once is repeated.
const REPEATED: usize = 3;
/// A page and what it needs, bytes.
const PAGE: usize = 60_000;
const PARTS: [usize; 10] =
    [5_000, 10_000, 10_000, 20_000, 20_000, 30_000, 40_000, 60_000, 80_000, 100_000];
/// What a client that knows its address calls itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The receiving client is not to be what limits.
const BUFFER_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    User,
    Kernel,
}

/// What carries pages, and how the gateway's machine sends TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tls(&'static str),
    Quic,
    Dtls(Backend),
    Openconnect(Backend),
}

const WAYS: [(&str, Way); 7] = [
    ("TLS cubic", Way::Tls("cubic")),
    ("TLS BBR", Way::Tls("bbr")),
    ("QUIC", Way::Quic),
    ("DTLS user", Way::Dtls(Backend::User)),
    ("DTLS kernel", Way::Dtls(Backend::Kernel)),
    ("openconnect user", Way::Openconnect(Backend::User)),
    ("openconnect kernel", Way::Openconnect(Backend::Kernel)),
];

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    // In a network of its own the system's settings may be changed.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    let chosen = std::env::var("SLUICE_BENCH_WAYS").unwrap_or_default();
    let is_chosen = |name: &str| chosen.split(',').any(|part| name.contains(part));
    let mut ways: Vec<_> =
        WAYS.into_iter().filter(|it| is_chosen(it.0)).map(|it| (it, Figures::default())).collect();
    let loads = setting("SLUICE_BENCH_LOADS", 32.0) as usize;
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    println!("{loads} page-like loads at once, {:?}", world.impairment);
    for _ in 0..setting("SLUICE_BENCH_RUNS", 5.0) as usize {
        for ((name, way), figures) in &mut ways {
            figures.add(name, &world, *way, loads);
        }
    }
    for ((name, _), figures) in &mut ways {
        figures.print(name);
    }
    // Threads of the runtime must not outlive what they use.
    runtime.block_on(async { drop(world) });
}

/// Of one way, over all runs.
#[derive(Default)]
struct Figures {
    spans: Vec<Duration>,
    /// p95 of each run.
    worst: Vec<Duration>,
}

impl Figures {
    fn add(&mut self, name: &str, world: &World, way: Way, loads: usize) {
        let cpu = || [world.gateway(way).cpu(), cpu_of(std::process::id())];
        let (before, begun) = (cpu(), Instant::now());
        let (mut first, rest) = world.loads(way, loads);
        let (after, took) = (cpu(), begun.elapsed());
        first.sort();
        let mut run = [first.clone(), rest].concat();
        run.sort();
        println!(
            "{name:20} p50 {:?}, p95 {:?}, of the first {:?}; {took:.1?}, CPU of the gateway {:.1?}, of \
             the rest {:.1?}",
            at(&run, 50),
            at(&run, 95),
            at(&first, 95),
            after[0] - before[0],
            after[1] - before[1]
        );
        self.worst.push(at(&run, 95));
        self.spans.append(&mut run);
    }

    fn print(&mut self, name: &str) {
        self.spans.sort();
        self.worst.sort();
        println!(
            "{name:20} p50 {:?}, p95 {:?}, p99 {:?} of {} loads; p95 of the runs: median {:?} of {:?}",
            at(&self.spans, 50),
            at(&self.spans, 95),
            at(&self.spans, 99),
            self.spans.len(),
            at(&self.worst, 50),
            self.worst,
        );
    }
}

fn at(spans: &[Duration], percent: usize) -> Duration {
    let millis = spans[spans.len() * percent / 100].as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap())
}

/// The link, what is behind it, and the gateways before it.
struct World {
    namespace: Namespace,
    impairment: Impairment,
    origin: Origin,
    user: Gateway,
    kernel: Gateway,
}

impl World {
    async fn new() -> Self {
        let mut impairment = Impairment::none().delay(DELAY);
        impairment = impairment.loss(setting("SLUICE_BENCH_LOSS", 1.0) / 100.0);
        let rate = setting("SLUICE_BENCH_MBIT", 0.0) * 1e6;
        if rate > 0.0 {
            impairment = impairment.rate(rate as u64, (rate / 8.0 * QUEUE.as_secs_f64()) as usize);
        }
        let namespace = Namespace::behind(impairment, SEED);
        let origin = Origin::build().at(namespace.origin()).start().await;
        let gateway = |backend: &str| {
            let yaml = format!("inner: {{ tcp: {backend} }}");
            Gateway::build(&origin).beyond(namespace.origin()).gateway_yaml(&yaml).start()
        };
        let (user, kernel) = (gateway("user"), gateway("kernel"));
        Self { namespace, impairment, origin, user, kernel }
    }

    fn gateway(&self, way: Way) -> &Gateway {
        match way {
            Way::Dtls(Backend::Kernel) | Way::Openconnect(Backend::Kernel) => &self.kernel,
            _ => &self.user,
        }
    }

    /// All loads over one new tunnel, how long each took: those that find it new, and the rest.
    fn loads(&self, way: Way, loads: usize) -> (Vec<Duration>, Vec<Duration>) {
        let gateway = self.gateway(way);
        let outside = SocketAddr::from((self.namespace.gateway(), gateway.address().port()));
        let browser = gateway.browser().http(Http::Two).through(outside);
        self.namespace.congestion(match way {
            Way::Tls(congestion) => congestion,
            // The usual default; only the client's own TLS goes by it.
            _ => "cubic",
        });
        let openconnect = matches!(way, Way::Openconnect(_)).then(|| {
            // A device of its own: with alice's it would go on as her DTLS session.
            let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
            let client = Openconnect::connect(&self.namespace, gateway, &bob, &[]);
            client.wait_for("Established DTLS connection", SOON);
            client
        });
        let target = Target {
            origin: SocketAddr::from((self.namespace.origin(), self.origin.port())),
            authority: format!("site.test:{}", self.origin.port()),
        };
        let dtls = self.dtls(gateway, outside);
        let spans = inside(&self.namespace, async || {
            let carriage = Carriage::begin(way, &browser, &dtls).await;
            let carriage = Arc::new((carriage, browser, target));
            let mut tasks = JoinSet::new();
            for _ in 0..loads {
                let carriage = Arc::clone(&carriage);
                tasks.spawn(async move {
                    let (carriage, browser, target) = &*carriage;
                    let mut spans = Vec::new();
                    for _ in 0..REPEATED {
                        let begun = Instant::now();
                        load(carriage, browser, target).await;
                        spans.push(begun.elapsed());
                    }
                    spans
                });
            }
            tasks.join_all().await
        });
        drop(openconnect);
        let first = spans.iter().filter_map(|it| it.first().copied()).collect();
        (first, spans.iter().flat_map(|it| it.iter().skip(1).copied()).collect())
    }

    fn dtls(&self, gateway: &Gateway, outside: SocketAddr) -> DtlsTo {
        let Identity { tenant, tunnel_ca_pem, chain, .. } = gateway.alice();
        let to = DtlsTo::new(outside, outside, &gateway.name(&tenant), &tunnel_ca_pem, &chain);
        let mut to = to.unwrap().addresses(Addresses::of(OWN)).without_fallback();
        to.buffer_bytes = BUFFER_BYTES;
        to
    }
}

/// Runs something in the client's namespace.
fn inside<T: Send>(namespace: &Namespace, act: impl AsyncFnOnce() -> T + Send) -> T {
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(act())
    })
}

struct Target {
    origin: SocketAddr,
    authority: String,
}

/// What carries the connections of pages.
enum Carriage {
    Tls(Tunnel),
    Quic(QuicTunnel),
    Dtls(PacketTunnel),
    /// The machine's own routes.
    Machine,
}

impl Carriage {
    async fn begin(way: Way, browser: &Browser, dtls: &DtlsTo) -> Self {
        match way {
            Way::Tls(_) => Self::Tls(browser.tunnel().await.unwrap()),
            Way::Quic => Self::Quic(browser.quic().await.unwrap()),
            Way::Dtls(_) => {
                let tunnel = dtls.connect().await.unwrap();
                tunnel.carried_by(Carrier::Datagrams, SOON).await.unwrap();
                Self::Dtls(tunnel)
            }
            Way::Openconnect(_) => Self::Machine,
        }
    }

    async fn open(&self, target: &Target) -> BoxStream {
        match self {
            Self::Tls(tunnel) => tunnel.share().unwrap().open(&target.authority).await.unwrap(),
            Self::Quic(tunnel) => tunnel.open(&target.authority).await.unwrap(),
            Self::Dtls(tunnel) => Box::new(tunnel.stack().connect(target.origin).await.unwrap()),
            Self::Machine => {
                let stream = TcpStream::connect(target.origin).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
        }
    }
}

/// One page on a connection of its own, and then all its parts at once.
async fn load(carriage: &Carriage, browser: &Browser, target: &Target) {
    let stream = carriage.open(target).await;
    let mut inner = browser.inner(stream, &target.authority).await.unwrap();
    let page = inner.get(&format!("/bytes/{PAGE}")).await.unwrap();
    assert_eq!(page.body.len(), PAGE);
    let mut parts = JoinSet::new();
    for bytes in PARTS {
        let mut inner = inner.share().unwrap();
        parts.spawn(async move {
            let part = inner.get(&format!("/bytes/{bytes}")).await.unwrap();
            assert_eq!(part.body.len(), bytes);
        });
    }
    parts.join_all().await;
}
