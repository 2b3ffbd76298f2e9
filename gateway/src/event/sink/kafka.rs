//! Kafka: one topic, a partition by the tenant, taken when every replica in sync has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::task::JoinSet;

use super::error::SinkError;
use super::gather::{Batch, Item};
use crate::config::{Sink, SinkCompression};

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
/// Most bytes of a broker's answer; the names of all topics are one.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub(super) struct KafkaPeer {
    sink: Sink,
    open: Option<Topic>,
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
        Self { sink, open: None }
    }

    /// Writes to all partitions at once; within one, in the log's order.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
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

    async fn connect(&self) -> Result<Topic, SinkError> {
        let brokers = self.sink.to.trim_start_matches("kafka://").trim_end_matches('/');
        let client = ClientBuilder::new(brokers.split(',').map(str::to_owned).collect())
            .client_id("sluice")
            .max_message_size(ANSWER_BYTES_MAX)
            .backoff_config(BackoffConfig {
                init_backoff: RETRY_FIRST,
                max_backoff: RETRY_LONGEST,
                deadline: Some(RETRY_TIME_MAX),
                ..BackoffConfig::default()
            })
            .build()
            .await
            .map_err(why)?;
        let name = self.sink.topic.as_deref().unwrap_or(TOPIC_DEFAULT).to_owned();
        let topics = client.list_topics().await.map_err(why)?;
        let known = topics.into_iter().find(|topic| topic.name == name);
        let numbers: Vec<i32> = known.into_iter().flat_map(|topic| topic.partitions).collect();
        if numbers.is_empty() {
            return Err(SinkError::Refused(format!("it has no topic `{name}`")));
        }
        Ok(Topic { client, name, numbers, open: BTreeMap::new() })
    }
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

fn why(error: Error) -> SinkError {
    match error {
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge,
            ..
        } => SinkError::TooLarge,
        Error::ServerError { protocol_error, .. } => SinkError::refused(protocol_error),
        other => SinkError::unreachable(other),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::event::marks::Marks;
    use crate::event::sink::Heads;
    use crate::event::sink::gather::Gatherer;
    use crate::event::sink::spec::Spec;
    use crate::event::sink::stats::Counts;
    use crate::event::{EventLog, Options, Reader, RecordType};

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
