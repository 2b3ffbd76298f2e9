//! What a browser loses whose QUIC is refused: a page's time in Chromium behind openconnect, when it remembers
//! that the origin speaks HTTP/3 and is refused, beside one that never tries. Prints; asserts nothing. Needs
//! root.
//!
//! `SLUICE_BIN` names the gateway to measure, a release build. `SLUICE_BENCH_RUNS` (9) is how often each page is
//! loaded, in turns.

use std::time::Duration;

use serde_json::Value;
use tests::link::Impairment;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::webdriver::{Chromium, home};
use tests::{Gateway, Identity, Origin};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);
const SEED: u64 = 6;
/// Where the gateway answers name queries inside the tunnel.
const NAME_SERVER: &str = "100.96.0.1";
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &str = "/hello";
/// Where Chromium keeps what it knows of servers.
const STATE: &str = "Network Persistent State";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `--disable-quic`.
    Never,
    /// By the tenant's setting.
    Refused,
    /// It is shown our certificate, which it does not take over QUIC, and goes back to TLS.
    NotTaken,
}

/// What stays the same.
struct World {
    runtime: tokio::runtime::Runtime,
    namespace: Namespace,
    origin: Origin,
    url: String,
}

fn main() {
    let runs = std::env::var("SLUICE_BENCH_RUNS").ok().and_then(|it| it.parse().ok()).unwrap_or(9);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let namespace = Namespace::behind(Impairment::none().delay(DELAY), SEED);
    namespace.name_server(NAME_SERVER);
    let origin = Origin::build().invites_http3().at(namespace.origin());
    let origin = runtime.block_on(origin.start());
    let url = origin.url("site.test", PAGE);
    let world = World { runtime, namespace, origin, url };
    let invited = world.invited();
    let ways = [Way::Never, Way::Refused, Way::NotTaken];
    let mut spans = ways.map(|_| Vec::new());
    for _ in 0..runs {
        for (way, spans) in ways.iter().zip(&mut spans) {
            spans.push(world.once(&invited, *way));
        }
    }
    for (way, mut spans) in ways.into_iter().zip(spans) {
        spans.sort_by(f64::total_cmp);
        let last = spans.len() - 1;
        println!(
            "{way:?}: median {:.0} ms, {:.0} to {:.0} of {runs}",
            spans[last / 2],
            spans[0],
            spans[last]
        );
    }
    let World { runtime, origin, .. } = world;
    runtime.block_on(async { drop(origin) });
}

impl World {
    fn gateway(&self, way: Way) -> (Gateway, Identity, Openconnect) {
        let quic = if way == Way::Refused { "refuse" } else { "inspect" };
        let gateway = Gateway::build(&self.origin)
            .beyond(self.namespace.origin())
            .settings(&format!("decryption: {{ quic: {quic} }}\n"))
            .start();
        let alice = gateway.alice();
        let client = Openconnect::connect(&self.namespace, &gateway, &alice, &[]);
        client.wait_for("Established DTLS connection", PATIENCE);
        (gateway, alice, client)
    }

    /// What a browser keeps that has learned that the origin speaks HTTP/3.
    fn invited(&self) -> Value {
        let (_gateway, alice, _client) = self.gateway(Way::NotTaken);
        let home = home(&alice);
        let mut command = self.namespace.command("timeout");
        let run = command
            .env("HOME", &home)
            .args(["60", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .arg("--disable-component-update")
            .arg(format!("--user-data-dir={}", home.join("profile").display()))
            .args(["--dump-dom", &self.url])
            .output();
        assert!(run.unwrap().status.success());
        let kept = std::fs::read(home.join("profile/Default").join(STATE)).unwrap();
        let mut kept: Value = serde_json::from_slice(&kept).unwrap();
        let properties = kept["net"]["http_server_properties"].as_object_mut().unwrap();
        // It may have tried already.
        properties.remove("broken_alternative_services");
        kept
    }

    /// The time of one page in a browser of its own, milliseconds.
    fn once(&self, invited: &Value, way: Way) -> f64 {
        let (gateway, alice, _client) = self.gateway(way);
        let home = home(&alice);
        let profile = home.join("profile/Default");
        std::fs::create_dir_all(&profile).unwrap();
        std::fs::write(profile.join(STATE), invited.to_string()).unwrap();
        let options: &[&str] = if way == Way::Never { &["--disable-quic"] } else { &[] };
        let browser = Chromium::start_at(&self.namespace, &home, options);
        browser.open(&self.url);
        let script = "return performance.getEntriesByType('navigation')[0].responseEnd;";
        let span = browser.run(script).as_f64().unwrap();
        let events = self.runtime.block_on(gateway.events("acme")).unwrap();
        let refused = events.iter().find(|event| event["block_reason"] == "quic_refused");
        let reason =
            refused.map_or("", |event| event["decrypt_reason"].as_str().unwrap_or_default());
        let meant = match way {
            Way::Never => "",
            Way::Refused => "quic_setting",
            Way::NotTaken => "client_refused_certificate",
        };
        if reason != meant {
            println!("{way:?}: refused for `{reason}`");
        }
        span
    }
}
