//! Sinks: where gateway.yaml sends events in addition to the log.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Checks;
use super::scalar::ByteSize;
use super::suggest;

/// Sinks of one gateway: each has a thread and a few metrics of its own.
pub(super) const SINKS_MAX: usize = 16;
/// Events of one batch.
const BATCH_EVENTS_MAX: u32 = 100_000;
/// Bytes of one batch, held in memory as often as formatting and packing copy it.
const BATCH_BYTES_MAX: u64 = 64 << 20;
const BATCH_BYTES_MIN: u64 = 64 << 10;
const BATCH_WAIT_MAX: u64 = 600_000;

/// A place events are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// Name of the sink, for logs, metrics and its place in the log: 1 to 40 of `a-z0-9-`.
    pub name: String,
    /// How it is spoken to.
    pub kind: SinkKind,
    /// Where it is: `https://…` (http, splunk, otlp; s3 with bucket and prefix as path), `tls://host:port`
    /// or `tcp://host:port` (syslog), `tls://…` or `nats://…` (nats), `tls://host:port,host:port` or
    /// `kafka://host:port,host:port` (kafka), or a path (file).
    pub to: String,
    /// In which form events are written.
    #[serde(default)]
    pub format: SinkFormat,
    /// Tenants whose events are sent, exact or with `*` at either end; empty is all, `_pop` included.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Which events are sent.
    #[serde(default)]
    pub filter: SinkFilter,
    /// How many events are sent at once; null is 1,000, 4 MiB and 200 ms (kafka 10,000, 8 MiB, 200 ms; s3
    /// 100,000, 64 MiB, 60 s).
    #[serde(default)]
    pub batch: SinkBatch,
    /// File with the secret: a bearer or HEC token, a NATS token or `user:password`, or for s3
    /// `access-key:secret-key`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// How TLS is spoken.
    #[serde(default)]
    pub tls: SinkTls,
    /// How bodies, objects and batches are compressed (http, splunk, otlp, s3, kafka).
    #[serde(default)]
    pub compression: SinkCompression,
    /// Stream of nats; made where it is missing. Default `SLUICE`.
    #[serde(default)]
    pub stream: Option<String>,
    /// Subject of nats; `{tenant}` and `{type}` are filled in. Default `sluice.events.{tenant}.{type}`.
    #[serde(default)]
    pub subject: Option<String>,
    /// Topic of kafka, which must be there. Default `sluice.events`.
    #[serde(default)]
    pub topic: Option<String>,
    /// Who the gateway is to kafka, proved by a password; over TLS only.
    #[serde(default)]
    pub sasl: Option<SinkSasl>,
    /// Region of s3. Default `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
}

/// Kinds of sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Lines appended to a file.
    File,
    /// Lines by HTTP POST.
    Http,
    /// Splunk's HTTP Event Collector.
    Splunk,
    /// Syslog (RFC 5424) over TLS (RFC 5425) or TCP.
    Syslog,
    /// NATS JetStream.
    Nats,
    /// A topic of Apache Kafka, or of what speaks its protocol.
    Kafka,
    /// OpenTelemetry logs over HTTP with JSON.
    Otlp,
    /// Objects in an S3-compatible store.
    S3,
}

/// Forms of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// As in the log.
    #[default]
    Native,
    /// OCSF 1.6.
    Ocsf,
    /// Common Event Format.
    Cef,
    /// The field names of the pull API.
    Export,
}

/// Which events a sink gets; all keys must match, of each any value, exact or with `*` at either end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkFilter {
    /// `session`, `flow`, `transaction`, `alert`.
    #[serde(rename = "type")]
    pub record_type: Vec<String>,
    /// `open`, `update`, `close`.
    pub state: Vec<String>,
    /// What policy did.
    pub action: Vec<String>,
    /// Users.
    pub user: Vec<String>,
    /// Catalog ids.
    pub app: Vec<String>,
}

impl SinkFilter {
    /// Each key with its values.
    #[must_use]
    pub fn by_key(&self) -> [(&'static str, &[String]); 5] {
        [
            ("type", &self.record_type),
            ("state", &self.state),
            ("action", &self.action),
            ("user", &self.user),
            ("app", &self.app),
        ]
    }
}

/// How much is sent at once; null is what suits the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkBatch {
    /// Most events.
    #[schemars(range(min = 1, max = 100_000))]
    pub events: Option<u32>,
    /// Most bytes before compression.
    pub bytes: Option<ByteSize>,
    /// Milliseconds that a batch which is not full waits for more.
    #[schemars(range(min = 0, max = 600_000))]
    pub wait_ms: Option<u64>,
}

/// TLS of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkTls {
    /// PEM file with the authorities that may have issued the peer's certificate; null is the machine's.
    pub ca: Option<PathBuf>,
    /// PEM file with the gateway's own certificate chain, where the peer asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// A user of kafka's (RFC 4422).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSasl {
    /// How the password is proved.
    pub mechanism: SaslMechanism,
    /// Name of the user.
    pub user: String,
    /// File with the password, read anew whenever the sink connects.
    pub password_file: PathBuf,
}

/// How a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// RFC 4616: it is sent, inside TLS.
    #[serde(rename = "plain")]
    Plain,
    /// RFC 7677: it is not sent, and the broker proves that it knows it too.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// Compression of bodies and objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkCompression {
    /// RFC 1952.
    #[default]
    Gzip,
    /// RFC 8878.
    Zstd,
    /// As it is.
    None,
}

impl Sink {
    /// Files that the sink reads.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = &mut self.tls;
        let password = self.sasl.as_mut().map(|sasl| &mut sasl.password_file);
        let optional = [&mut self.token_file, &mut tls.ca, &mut tls.cert, &mut tls.key];
        optional.into_iter().flatten().chain(password)
    }

    /// The schemes that `to` may have; none for a path.
    fn schemes(&self) -> &'static [&'static str] {
        match self.kind {
            SinkKind::File => &[],
            SinkKind::Http | SinkKind::Splunk | SinkKind::Otlp | SinkKind::S3 => {
                &["https://", "http://"]
            }
            SinkKind::Syslog => &["tls://", "tcp://"],
            SinkKind::Nats => &["tls://", "nats://"],
            SinkKind::Kafka => &["tls://", "kafka://"],
        }
    }
}

/// Checks what one key cannot say alone.
pub(super) fn check(checks: &mut Checks<'_>, sinks: &[Sink]) {
    checks.require(
        sinks.len() <= SINKS_MAX,
        &["events", "sinks"],
        format!("{} sinks", sinks.len()),
        "at most 16",
    );
    let mut names = BTreeSet::new();
    for (index, sink) in sinks.iter().enumerate() {
        let index = index.to_string();
        let mut require = |holds: bool, key: &str, what: &str, expected: &str| {
            checks.require(holds, &["events", "sinks", &index, key], what, expected);
        };
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let named = (1..=40).contains(&sink.name.len()) && sink.name.bytes().all(allowed);
        require(named, "name", "not a name", "1 to 40 of `a-z`, `0-9` and `-`");
        require(
            names.insert(&sink.name),
            "name",
            "another sink has this name",
            "a name of its own",
        );
        one(&mut require, sink);
    }
}

fn one(require: &mut impl FnMut(bool, &str, &str, &str), sink: &Sink) {
    let schemes = sink.schemes();
    let rest = schemes.iter().find_map(|scheme| sink.to.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    require(
        schemes.is_empty() || authority.is_some_and(|authority| !authority.is_empty()),
        "to",
        "not an address of this kind of sink",
        &schemes.join(" or "),
    );
    require(
        !authority.is_some_and(|authority| authority.contains('@')),
        "to",
        "a secret in an address",
        "`token_file`",
    );
    require(!sink.to.is_empty(), "to", "empty", "an address or a path");
    let secret = matches!(sink.kind, SinkKind::Splunk | SinkKind::S3);
    require(
        !secret || sink.token_file.is_some(),
        "kind",
        "no `token_file`",
        "the file with the secret",
    );
    let path = rest.and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    require(
        sink.kind != SinkKind::S3 || !path.trim_matches('/').is_empty(),
        "to",
        "no bucket",
        "`https://endpoint/bucket/prefix`",
    );
    require(
        sink.tls.cert.is_some() == sink.tls.key.is_some(),
        "tls",
        "`cert` and `key` go together",
        "both or none",
    );
    let nats = sink.kind == SinkKind::Nats;
    require(nats || sink.stream.is_none(), "stream", "only nats has a stream", "nothing");
    require(nats || sink.subject.is_none(), "subject", "only nats has a subject", "nothing");
    require(
        sink.kind == SinkKind::S3 || sink.region.is_none(),
        "region",
        "only s3 has a region",
        "nothing",
    );
    kafka(require, sink);
    let pattern = |text: &String| policy::Pattern::parse(text).is_some();
    require(
        sink.tenants.iter().all(pattern),
        "tenants",
        "`*` inside a name",
        "`*` at either end only",
    );
    let values = || sink.filter.by_key().into_iter().flat_map(|(_, values)| values);
    require(values().all(pattern), "filter", "`*` inside a value", "`*` at either end only");
    known(require, &sink.filter);
    let batch = &sink.batch;
    require(
        batch.events.is_none_or(|events| (1..=BATCH_EVENTS_MAX).contains(&events)),
        "batch",
        "`events` out of range",
        "1 to 100000",
    );
    require(
        batch.bytes.is_none_or(|bytes| (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&bytes.0)),
        "batch",
        "`bytes` out of range",
        "`64KiB` to `64MiB`",
    );
    require(
        batch.wait_ms.is_none_or(|wait| wait <= BATCH_WAIT_MAX),
        "batch",
        "`wait_ms` out of range",
        "0 to 600000",
    );
}

/// A filter that no event can pass sends nothing and says nothing: its closed words are checked.
fn known(require: &mut impl FnMut(bool, &str, &str, &str), filter: &SinkFilter) {
    const TYPES: [&str; 4] = ["session", "flow", "transaction", "alert"];
    const STATES: [&str; 3] = ["open", "update", "close"];
    const ACTIONS: [&str; 6] = ["allow", "block", "coach", "alert", "redirect", "bypass"];
    let closed: [(&str, &[String], &[&str]); 3] = [
        ("type", &filter.record_type, &TYPES),
        ("state", &filter.state, &STATES),
        ("action", &filter.action, &ACTIONS),
    ];
    for (key, values, words) in closed {
        for value in values {
            let Some(pattern) = policy::Pattern::parse(value) else { continue };
            let what = format!("no event has the {key} `{}`", suggest::shorten(value));
            let some = words.iter().any(|word| pattern.matches(word));
            require(some, "filter", &what, &suggest::one_of(value, words));
        }
    }
}

/// What kafka alone has, and what the client library cannot do: refused, not left undone in silence.
fn kafka(require: &mut impl FnMut(bool, &str, &str, &str), sink: &Sink) {
    let kafka = sink.kind == SinkKind::Kafka;
    require(kafka || sink.topic.is_none(), "topic", "only kafka has a topic", "nothing");
    require(kafka || sink.sasl.is_none(), "sasl", "only kafka has SASL", "`token_file`");
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let topic = sink.topic.as_deref().unwrap_or("sluice.events");
    require(
        (1..=249).contains(&topic.len()) && topic.bytes().all(named),
        "topic",
        "not a topic's name",
        "1 to 249 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`",
    );
    if !kafka {
        return;
    }
    let secure = sink.to.starts_with("tls://");
    let (_, brokers) = sink.to.split_once("://").unwrap_or_default();
    let mut brokers = brokers.trim_end_matches('/').split(',');
    let address =
        |one: &str| one.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    require(
        brokers.clone().all(address),
        "to",
        "a broker without a port",
        "`host:port,host:port` after `tls://` or `kafka://`",
    );
    require(
        !secure || !brokers.any(|one| one.starts_with('[')),
        "to",
        "an IPv6 address over TLS",
        "the name in the broker's certificate",
    );
    require(
        secure || sink.tls == SinkTls::default(),
        "tls",
        "TLS with an address in the clear",
        "`to: tls://host:port`",
    );
    require(
        secure || sink.sasl.is_none(),
        "sasl",
        "a password with an address in the clear",
        "`to: tls://host:port`",
    );
    let user = sink.sasl.as_ref().map(|sasl| sasl.user.as_str());
    require(user != Some(""), "sasl", "`user` is empty", "a name");
    require(sink.token_file.is_none(), "token_file", "kafka takes no token", "`sasl`");
    require(
        sink.compression != SinkCompression::Zstd,
        "compression",
        "no zstd towards kafka",
        "`gzip` or `none`",
    );
}
