//! Kafka: one topic, a partition by the tenant, taken when every replica in sync has it.
//!
//! Over `tls://` all of a broker's connections are ours to describe: the library takes a finished
//! configuration, and with it the provider of cryptography that the rest of the gateway has. SASL
//! (PLAIN, RFC 4616; SCRAM, RFC 5802) is the library's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::SinkError;
use super::gather::{Batch, Item};
use super::{peer, tls};
use crate::config::{SaslMechanism, Sink, SinkCompression, SinkSasl};

const TOPIC_DEFAULT: &str = "sluice.events";
/// Most bytes of one partition's batch before compression. Brokers take 1 MiB unless told otherwise.
const PRODUCE_BYTES_MAX: usize = 900 << 10;
/// Events packed with gzip take a quarter of their size, or less. Where they once do not the broker
/// refuses, and the batch is halved. Few and large batches matter: the library leaves Nagle's
/// algorithm on, so that each may wait for a delayed acknowledgement, 40 ms.
const PACKED_BYTES_MAX: usize = 4 * PRODUCE_BYTES_MAX;
/// What a record costs beside key, value and headers.
const RECORD_OVERHEAD: usize = 64;
/// How long the library tries by itself: a leader that moves is found again in this time, and a
/// longer outage is the sink's to wait out, who counts it.
const RETRY_TIME_MAX: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// Until the topic can be written to; the library waits for a silent broker for ever.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Most bytes of a broker's answer; the names of all topics are one.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub(super) struct KafkaPeer {
    sink: Sink,
    open: Option<Topic>,
    /// When the files were written that `open` was opened with.
    files: Vec<Option<SystemTime>>,
}

/// A topic with the connections to the partitions that were written to.
struct Topic {
    client: Client,
    name: String,
    /// The numbers of the topic's partitions.
    numbers: Vec<i32>,
    /// At most one for each of them.
    open: BTreeMap<i32, Arc<PartitionClient>>,
}

impl KafkaPeer {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, open: None, files: Vec::new() }
    }

    /// Writes to all partitions at once; within one, in the log's order.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // The library connects again by itself, with what it was given: a new password or a new
        // certificate is for a new client.
        let files = self.files();
        if files != self.files {
            self.open = None;
            self.files = files;
        }
        // Put back only after all went well: a request that was given up leaves its connection in
        // an unknown state.
        let mut topic = match self.open.take() {
            Some(topic) => topic,
            None => self.connect().await?,
        };
        let (compression, bytes_max) = match self.sink.compression {
            SinkCompression::None => (Compression::NoCompression, PRODUCE_BYTES_MAX),
            SinkCompression::Gzip | SinkCompression::Zstd => (Compression::Gzip, PACKED_BYTES_MAX),
        };
        let mut shares: BTreeMap<i32, Vec<&Item>> = BTreeMap::new();
        for item in &batch.items {
            let number = topic.partition_of(item.tenant.as_bytes());
            shares.entry(number).or_default().push(item);
        }
        let mut writes = JoinSet::new();
        for (number, items) in shares {
            let partition = topic.partition(number).await?;
            let records = chunks(batch, &items, bytes_max);
            writes.spawn(async move {
                for chunk in records {
                    partition.produce(chunk, compression).await?;
                }
                Ok(())
            });
        }
        while let Some(written) = writes.join_next().await {
            written.map_err(SinkError::unreachable)?.map_err(why)?;
        }
        self.open = Some(topic);
        Ok(())
    }

    /// When each of the sink's files was last written.
    fn files(&self) -> Vec<Option<SystemTime>> {
        let mut sink = self.sink.clone();
        let written = |path: &mut PathBuf| std::fs::metadata(path).ok()?.modified().ok();
        sink.files().map(written).collect()
    }

    async fn connect(&self) -> Result<Topic, SinkError> {
        timeout(CONNECT_TIME_MAX, self.open()).await.unwrap_or(Err(SinkError::Timeout))
    }

    async fn open(&self) -> Result<Topic, SinkError> {
        // First a client that tries once: what a broker refuses now it refuses in a moment too,
        // and some lock a user out after a few wrong passwords.
        let topics = self.client(Duration::ZERO).await?.list_topics().await.map_err(why)?;
        let name = self.sink.topic.as_deref().unwrap_or(TOPIC_DEFAULT).to_owned();
        let known = topics.into_iter().find(|topic| topic.name == name);
        let numbers: Vec<i32> = known.into_iter().flat_map(|topic| topic.partitions).collect();
        if numbers.is_empty() {
            return Err(SinkError::Refused(format!("it has no topic `{name}`")));
        }
        let client = self.client(RETRY_TIME_MAX).await?;
        Ok(Topic { client, name, numbers, open: BTreeMap::new() })
    }

    /// A client that tries by itself for `retry`; certificates and password are read anew.
    async fn client(&self, retry: Duration) -> Result<Client, SinkError> {
        let (scheme, brokers) = self.sink.to.split_once("://").unwrap_or_default();
        let brokers = brokers.trim_end_matches('/').split(',').map(str::to_owned).collect();
        let mut builder = ClientBuilder::new(brokers)
            .client_id("sluice")
            .max_message_size(ANSWER_BYTES_MAX)
            .backoff_config(BackoffConfig {
                init_backoff: RETRY_FIRST,
                max_backoff: RETRY_LONGEST,
                deadline: Some(retry),
                ..BackoffConfig::default()
            });
        if scheme == "tls" {
            builder = builder.tls_config(Arc::new(tls::client_config(&self.sink.tls)?));
        }
        if let Some(sasl) = &self.sink.sasl {
            builder = builder.sasl_config(credentials(sasl)?);
        }
        builder.build().await.map_err(why)
    }
}

fn credentials(sasl: &SinkSasl) -> Result<SaslConfig, SinkError> {
    let password = peer::read_secret(&sasl.password_file)?;
    let credentials = Credentials::new(sasl.user.clone(), password.to_string());
    Ok(match sasl.mechanism {
        SaslMechanism::Plain => SaslConfig::Plain(credentials),
        SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
        SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
    })
}

impl Topic {
    /// By the checksum of the key, as librdkafka's `consistent` partitioner does.
    fn partition_of(&self, key: &[u8]) -> i32 {
        let index = crc32fast::hash(key) as usize % self.numbers.len().max(1);
        self.numbers.get(index).copied().unwrap_or(0)
    }

    async fn partition(&mut self, number: i32) -> Result<Arc<PartitionClient>, SinkError> {
        if let Some(open) = self.open.get(&number) {
            return Ok(Arc::clone(open));
        }
        let name = self.name.clone();
        let client = self.client.partition_client(name, number, UnknownTopicHandling::Error);
        let client = Arc::new(client.await.map_err(why)?);
        self.open.insert(number, Arc::clone(&client));
        Ok(client)
    }
}

/// The records of a partition, in batches that a broker takes.
fn chunks(batch: &Batch, items: &[&Item], bytes_max: usize) -> Vec<Vec<Record>> {
    let mut chunks: Vec<Vec<Record>> = Vec::new();
    let mut bytes = bytes_max;
    for item in items {
        let record = record(batch, item);
        let size = record.approximate_size() + RECORD_OVERHEAD;
        bytes += size;
        match chunks.last_mut() {
            Some(chunk) if bytes <= bytes_max => chunk.push(record),
            _ => {
                bytes = size;
                chunks.push(vec![record]);
            }
        }
    }
    chunks
}

fn record(batch: &Batch, item: &Item) -> Record {
    let time: Option<jiff::Timestamp> = item.time.parse().ok();
    let milliseconds = time.map_or(0, jiff::Timestamp::as_millisecond);
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    Record {
        key: Some(item.tenant.as_bytes().to_vec()),
        value: Some(batch.text(item).to_vec()),
        headers: BTreeMap::from([header("id", &item.id), header("type", item.record_type)]),
        timestamp: DateTime::from_timestamp_millis(milliseconds).unwrap_or_default(),
    }
}

/// The library tells of each try that failed; why the last one did comes last.
fn why(error: Error) -> SinkError {
    match error {
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge,
            ..
        } => SinkError::TooLarge,
        Error::ServerError { protocol_error, .. } => SinkError::refused(protocol_error),
        other => {
            let text = other.to_string();
            let reason = text.rsplit("Source: ").next().unwrap_or(&text);
            if reason.contains("Sasl handshake failed") {
                SinkError::refused(reason)
            } else if reason.contains("certificate") || reason.contains("fatal alert") {
                SinkError::Tls(reason.to_owned())
            } else {
                SinkError::unreachable(reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use gateway_proto::client_hello::{ClientHelloReader, Progress};
    use rustls::NamedGroup;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::event::marks::Marks;
    use crate::event::sink::Heads;
    use crate::event::sink::gather::Gatherer;
    use crate::event::sink::spec::Spec;
    use crate::event::sink::stats::Counts;
    use crate::event::{EventLog, Options, Reader, RecordType};

    fn peer(to: &str) -> KafkaPeer {
        let sink = serde_json::json!({"name": "a", "kind": "kafka", "to": to});
        KafkaPeer::new(serde_json::from_value(sink).unwrap())
    }

    /// A second provider of cryptography is compiled with the library's TLS. It knows no post-quantum
    /// key exchange, so an offer of one shows that ours is at work.
    #[tokio::test]
    async fn the_hello_to_a_broker_is_that_of_the_gateways_own_provider() {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("tls://localhost:{}", broker.local_addr().unwrap().port());
        let hello = async {
            let (mut link, _) = broker.accept().await.unwrap();
            let mut reader = ClientHelloReader::new();
            loop {
                let mut bytes = Vec::with_capacity(4096);
                let count = link.read_buf(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "it hung up before its hello was whole");
                if let Progress::Done(hello) = reader.push(&bytes) {
                    return hello;
                }
            }
        };
        let peer = peer(&to);
        let (hello, gone) = tokio::join!(hello, peer.open());
        assert!(gone.is_err(), "there is no broker");
        assert_eq!(hello.server_name(), Some("localhost"));
        let x25519_mlkem768 = u16::from(NamedGroup::X25519MLKEM768);
        assert_eq!(hello.key_share_groups.first(), Some(&x25519_mlkem768), "{hello:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_says_nothing_is_given_up() {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("tls://localhost:{}", broker.local_addr().unwrap().port());
        let peer = peer(&to);
        let given_up = peer.connect().await.err().unwrap();
        assert_eq!(given_up.label(), "timeout", "{given_up}");
    }

    #[test]
    fn why_a_broker_is_not_reached_is_short_and_sorted() {
        let text = "connecting: all retries failed: Retry exceeded deadline. Source: ";
        for (end, label) in [
            ("Sasl handshake failed: API error: SaslAuthenticationFailed", "refused"),
            ("IO Error: invalid peer certificate: UnknownIssuer", "tls"),
            ("Cannot read data: received fatal alert: CertificateExpired", "tls"),
            ("IO Error: Connection refused (os error 111)", "unreachable"),
        ] {
            let error = why(Error::InvalidResponse(format!("{text}{end}")));
            assert_eq!(error.label(), label);
            assert!(error.to_string().ends_with(&format!(": {end}")), "{error}");
            assert!(!error.to_string().contains("deadline"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_more_than_a_broker_takes_goes_in_several_batches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open(folder.path(), Options::default()).unwrap();
        let mut record = crate::event::Record::now(RecordType::Transaction);
        record.http.user_agent = Some("a".repeat(1000).into());
        (0..3000).for_each(|_| log.writer(0).append("acme", &record));
        log.settle().await;
        drop(log);
        let sink = serde_json::json!({"name": "a", "kind": "kafka", "to": "kafka://k.test:9092"});
        let spec = Spec::new(&serde_json::from_value(sink).unwrap());
        let mut gatherer = Gatherer::new();
        gatherer.follow(vec!["acme".to_owned()], &spec);
        let marks = Marks::open(&folder.path().join("marks")).unwrap();
        let (reader, heads, counts) =
            (Reader::open(folder.path()), Heads::default(), Counts::default());
        let batch = gatherer.gather(&reader, &marks, &heads, &counts, &spec, spec.events).unwrap();
        assert_eq!(batch.items.len(), 3000);
        let items: Vec<&Item> = batch.items.iter().collect();
        let chunks = chunks(&batch, &items, PRODUCE_BYTES_MAX);
        assert!(chunks.len() > 3, "{}", chunks.len());
        for chunk in &chunks {
            let bytes: usize = chunk.iter().map(Record::approximate_size).sum();
            assert!(bytes <= PRODUCE_BYTES_MAX, "{bytes}");
        }
        let values: Vec<_> = chunks.into_iter().flatten().map(|it| it.value.unwrap()).collect();
        let wanted: Vec<_> = batch.items.iter().map(|it| batch.text(it).to_vec()).collect();
        assert_eq!(values, wanted);
    }
}
