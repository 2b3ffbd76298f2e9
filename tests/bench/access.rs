//! What verdict and exchange cost by access method: the same small exchanges over each, inside one inner
//! HTTP/2 connection; what the records say of deciding, and the gateway's CPU time. Prints; asserts nothing.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_RUNS` (5) is how often each is
//! measured, in turns; `SLUICE_BENCH_EXCHANGES` (4,000) how many exchanges each time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::client::carrier::Carrier;
use tests::client::dtls::DtlsTo;
use tests::client::openconnect::OpenConnectTo;
use tests::client::packet::Addresses;
use tests::{BoxStream, Gateway, Http, Origin};

const METHODS: [&str; 4] = ["tls", "quic", "dtls", "openconnect"];
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PATIENCE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;
/// Rules over what each exchange shows, so that there is something to decide.
const RULES: &str = "  - { name: a, match: { category: [gambling] }, action: block }\n  \
                     - { name: b, match: { app: [dropbox], activity: [upload] }, action: block }\n  \
                     - { name: c, match: { url: [\"*/private/*\"], method: [PUT] }, action: block }";

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Of one run: medians of what records say, microseconds, and CPU time of an exchange.
struct Cost {
    policy: f64,
    gateway: f64,
    cpu: f64,
}

#[tokio::main]
async fn main() {
    let (runs, count) = (setting("SLUICE_BENCH_RUNS", 5), setting("SLUICE_BENCH_EXCHANGES", 4_000));
    let mut costs = METHODS.map(|_| Vec::new());
    for _ in 0..runs {
        for (method, costs) in METHODS.iter().zip(&mut costs) {
            costs.push(run(method, count).await);
        }
    }
    println!("{count} exchanges of 1 KB, {runs} runs in turns: median (lowest to highest)");
    for (method, costs) in METHODS.iter().zip(costs) {
        let of = |pick: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = costs.iter().map(pick).collect();
            all.sort_by(f64::total_cmp);
            format!("{:.1} ({:.1}–{:.1}) µs", all[all.len() / 2], all[0], all[all.len() - 1])
        };
        println!(
            "{method:12} policy {}, in the gateway {}, CPU of an exchange {}",
            of(|it| it.policy),
            of(|it| it.gateway),
            of(|it| it.cpu)
        );
    }
}

async fn run(method: &str, count: usize) -> Cost {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).policy(RULES).start();
    let authority = format!("site.test:{}", origin.port());
    let (stream, _tunnel) = open(method, &gateway, &origin, &authority).await;
    let inner = gateway.browser().http(Http::Two).inner(stream, &authority).await.unwrap();
    exchanges(&inner, "/bytes/1000?warm", 200).await;
    let before = gateway.cpu();
    exchanges(&inner, "/bytes/1000?counted", count).await;
    let cpu = gateway.cpu().saturating_sub(before);
    let counted = |event: &serde_json::Value| {
        event["url"].as_str().is_some_and(|url| url.ends_with("?counted"))
    };
    gateway.await_events("acme", count, counted).await;
    let events = gateway.events("acme").await.unwrap();
    let median = |field: &str| {
        let events = events.iter().filter(|event| counted(event));
        let mut all: Vec<f64> = events.filter_map(|event| event[field].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Cost {
        policy: median("policy_us"),
        gateway: median("gateway_ms") * 1e3,
        cpu: 1e6 * cpu.as_secs_f64() / count as f64,
    }
}

/// A stream to the origin; the tunnel lives as long as the other half.
async fn open(
    method: &str,
    gateway: &Gateway,
    origin: &Origin,
    authority: &str,
) -> (BoxStream, Box<dyn std::any::Any>) {
    let browser = gateway.browser();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.port()));
    let alice = gateway.alice();
    let name = gateway.name(&alice.tenant);
    match method {
        "tls" => {
            let mut tunnel = browser.tunnel().await.unwrap();
            (tunnel.open(authority).await.unwrap(), Box::new(tunnel))
        }
        "quic" => {
            let tunnel = browser.quic().await.unwrap();
            (tunnel.open(authority).await.unwrap(), Box::new(tunnel))
        }
        "dtls" => {
            let address = gateway.address();
            let to = DtlsTo::new(address, address, &name, &alice.tunnel_ca_pem, &alice.chain);
            let to = to.unwrap().addresses(Addresses::of(OWN)).without_fallback();
            let tunnel = to.connect().await.unwrap();
            tunnel.carried_by(Carrier::Datagrams, PATIENCE).await.unwrap();
            (Box::new(tunnel.stack().connect(at).await.unwrap()), Box::new(tunnel))
        }
        _ => {
            let to = OpenConnectTo::new(
                gateway.address(),
                &name,
                &alice.tunnel_ca_pem,
                Some(&alice.chain),
            );
            let tunnel = to.unwrap().connect().await.unwrap();
            tunnel.carried_by(Carrier::Datagrams, PATIENCE).await.unwrap();
            (Box::new(tunnel.stack().connect(at).await.unwrap()), Box::new(tunnel))
        }
    }
}

async fn exchanges(inner: &tests::client::inner::Inner, path: &str, count: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..AT_ONCE {
        let (mut inner, path) = (inner.share().unwrap(), path.to_owned());
        let own = count / AT_ONCE + usize::from(worker < count % AT_ONCE);
        tasks.spawn(async move {
            for _ in 0..own {
                assert_eq!(inner.get(&path).await.unwrap().status, 200);
            }
        });
    }
    tasks.join_all().await;
}
