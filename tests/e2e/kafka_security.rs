//! A Kafka broker that asks for TLS, a certificate or a password gets every event. Where gateway and
//! broker do not trust each other the log says why, and events wait until they do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::gateway::binary;
use tests::kafka::{Kafka, Rules, User};
use tests::pki::Chain;
use tests::{Fault, Gateway, Origin};

use crate::kafka::{TOPIC, id, marked, read};
use crate::sinks::{ARRIVE_MAX, ask, sinks, until};

/// With what SCRAM writes in another way (`,` and `=`), and a letter outside ASCII.
const ALICE: User =
    User { mechanism: "SCRAM-SHA-512", name: "alice=a,b", password: "s3cret,of=alicë" };

/// A sink named after its mechanism, or `bus`.
fn sink(kafka: &Kafka, user: Option<User>, more: &str) -> String {
    let (name, sasl) = user.map_or_else(
        || ("bus".to_owned(), String::new()),
        |user| {
            let mechanism = user.mechanism.to_lowercase();
            let name = user.name;
            let file = "password_file: $AT/password";
            let sasl = format!(", sasl: {{ mechanism: {mechanism}, user: '{name}', {file} }}");
            (mechanism, sasl)
        },
    );
    let to = kafka.address();
    format!(
        "name: {name}, kind: kafka, to: 'tls://{to}', batch: {{ wait_ms: 10 }}, \
         tls: {{ ca: $AT/ca.pem{more} }}{sasl}"
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn write_chain(folder: &Path, chain: &Chain) {
    write(folder, "own.pem", &chain.certificates_pem());
    write(folder, "own.key", &chain.key_pem());
}

/// cargo compiles a second one for the client library's TLS.
#[test]
fn no_function_of_a_second_cryptography_library_is_in_the_binary() {
    let run = Command::new("nm").arg(binary()).output().expect("the nm command");
    let symbols = String::from_utf8_lossy(&run.stdout);
    assert!(symbols.contains("aws_lc_"), "a binary without symbols says nothing");
    let second: Vec<&str> = symbols.lines().filter(|line| line.contains("ring_core_")).collect();
    assert!(second.is_empty(), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mechanism_proves_the_user_and_no_log_has_the_password() {
    let origin = Origin::start().await;
    let at = tempfile::tempdir().unwrap();
    write(at.path(), "password", &format!("{}\n", ALICE.password));
    let users =
        ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|mechanism| User { mechanism, ..ALICE });
    let brokers = users.map(|user| Kafka::behind(&Rules::tls(origin.pki()).user(user)));
    let mut list = Vec::new();
    for (kafka, user) in brokers.iter().zip(users) {
        kafka.create_topic(TOPIC, 2);
        list.push(sink(kafka, Some(user), ""));
    }
    let yaml = sinks(&origin, at.path(), &list);
    let gateway = Gateway::build(&origin)
        .gateway_yaml(&yaml)
        .launched_by(&["env", "SLUICE_LOG=trace"])
        .start();
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    ask(&mut inner, "kept", 20).await;
    for kafka in &brokers {
        read(kafka, |records| marked(records, "kept") == 20).await;
    }
    let log = gateway.log().concat();
    assert!(log.contains("Using SASL Mechanism"), "the library's own log is on");
    assert!(!log.contains("s3cret"), "a password in the log");
}

/// A broker, and a gateway with one sink to it.
struct Pair<'a> {
    origin: &'a Origin,
    kafka: Kafka,
    gateway: Gateway,
}

impl<'a> Pair<'a> {
    fn start(origin: &'a Origin, kafka: Kafka, at: &Path, sink: String) -> Self {
        kafka.create_topic(TOPIC, 2);
        let yaml = sinks(origin, at, &[sink]);
        let gateway = Gateway::build(origin).gateway_yaml(&yaml).start();
        Self { origin, kafka, gateway }
    }

    async fn ask(&self, mark: &str) {
        let url = self.origin.url("site.test", "/");
        let mut inner = self.gateway.browser().connect(&url).await.unwrap();
        ask(&mut inner, mark, 20).await;
        drop(inner);
        self.gateway.await_transaction("acme", &format!("{mark}=19.")).await;
    }

    /// Waits until the log says why the sink gets nowhere.
    async fn says(&self, why: &str) {
        let told = |line: &String| line.contains("the peer takes nothing") && line.contains(why);
        until(why, || self.gateway.log(), |log| log.iter().any(told)).await;
    }

    /// What happens while the two do not trust each other comes once they do, over a restart of the
    /// gateway too, and once only: nothing was taken before.
    async fn waits(&mut self, reason: &str, why: &str, mend: impl FnOnce(&mut Kafka)) {
        self.ask("early").await;
        self.says(why).await;
        let label = format!("reason=\"{reason}\"");
        let failures = self.gateway.metric("sluice_sink_failures_total", &[&label]).await;
        assert!(failures >= Some(1.0), "{failures:?}");
        assert_eq!(self.gateway.metric("sluice_sink_events_total", &[]).await, Some(0.0));
        self.gateway.kill();
        self.gateway.restart();
        self.says(why).await;
        self.ask("later").await;
        mend(&mut self.kafka);
        let both =
            |records: &[Value]| marked(records, "early") == 20 && marked(records, "later") == 20;
        let records = read(&self.kafka, both).await;
        let ids: BTreeSet<String> = records.iter().map(id).collect();
        assert_eq!(ids.len(), records.len(), "something came twice");
    }

    /// Waits until nothing is under way.
    async fn idle(&self) {
        let begun = Instant::now();
        while self.gateway.metric("sluice_sink_lag_events", &[]).await != Some(0.0) {
            assert!(begun.elapsed() < ARRIVE_MAX, "the sink does not come to an end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_the_right_password_and_a_new_one_is_taken_up() {
    let origin = Origin::start().await;
    let at = tempfile::tempdir().unwrap();
    write(at.path(), "password", "another one");
    let kafka = Kafka::behind(&Rules::tls(origin.pki()).user(ALICE));
    let sink = sink(&kafka, Some(ALICE), "");
    let mut pair = Pair::start(&origin, kafka, at.path(), sink);
    let mend = |_: &mut Kafka| write(at.path(), "password", ALICE.password);
    pair.waits("refused", "SaslAuthenticationFailed", mend).await;
    pair.idle().await;
    // The broker puts everybody out, as one that restarts with another password does.
    let changed = User { password: "the next one", ..ALICE };
    write(at.path(), "password", changed.password);
    pair.kafka.change_rules(&Rules::tls(origin.pki()).user(changed));
    pair.ask("changed").await;
    read(&pair.kafka, |records| marked(records, "changed") == 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_broker_of_the_right_name_and_authority() {
    let origin = Origin::start().await;
    let at = tempfile::tempdir().unwrap();
    let with = |fault| Rules { fault, ..Rules::tls(origin.pki()) };
    let kafka = Kafka::behind(&with(Fault::NameMismatch));
    let sink = sink(&kafka, None, "");
    let mut pair = Pair::start(&origin, kafka, at.path(), sink);
    pair.ask("first").await;
    pair.says("not valid for name").await;
    // Another reason is told too, though the first one never ended.
    pair.kafka.change_rules(&with(Fault::UntrustedRoot));
    let mend = |kafka: &mut Kafka| kafka.change_rules(&with(Fault::None));
    pair.waits("tls", "UnknownIssuer", mend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_certificate_that_the_broker_takes() {
    let origin = Origin::start().await;
    let at = tempfile::tempdir().unwrap();
    let rules = Rules { client_certificate: true, ..Rules::tls(origin.pki()) };
    let kafka = Kafka::behind(&rules);
    write_chain(at.path(), &origin.pki().client_between("gateway", -60, -2));
    let sink = sink(&kafka, None, ", cert: $AT/own.pem, key: $AT/own.key");
    let mut pair = Pair::start(&origin, kafka, at.path(), sink);
    let mend = |_: &mut Kafka| write_chain(at.path(), &origin.pki().client("gateway"));
    pair.waits("tls", "CertificateExpired", mend).await;
}
