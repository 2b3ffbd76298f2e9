//! An S3-compatible object store: one packed object for each tenant and hour of a batch.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use super::error::SinkError;
use super::gather::{Batch, Item};
use super::http::{Client, pack};
use super::peer;
use crate::config::{Sink, SinkCompression};

/// A signature is used at once; clocks may differ by some minutes.
const SIGNED_FOR: Duration = Duration::from_secs(900);
/// Where no region is configured; stores of one's own rarely look at it.
const REGION_DEFAULT: &str = "us-east-1";

pub(super) struct S3Peer {
    client: Client,
    sink: Sink,
}

impl S3Peer {
    pub(super) fn new(sink: Sink) -> Self {
        Self { client: Client::new(&sink), sink }
    }

    /// Puts each object under a name made of its first and last event, so that a batch sent twice
    /// is there once.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut rest = batch.items.as_slice();
        while let Some(first) = rest.first() {
            let same = |item: &&Item| item.tenant == first.tenant && hour(item) == hour(first);
            let length = rest.iter().take_while(same).count();
            let (object, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.put(batch, object).await?;
            rest = after;
        }
        Ok(())
    }

    async fn put(&mut self, batch: &Batch, items: &[Item]) -> Result<(), SinkError> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(()) };
        let compression = self.sink.compression;
        let (body, _) = pack(batch.lines(items), compression)?;
        let suffix = match compression {
            SinkCompression::Gzip => ".gz",
            SinkCompression::Zstd => ".zst",
            SinkCompression::None => "",
        };
        let path = self.client.path.trim_matches('/').to_owned();
        let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
        let prefix = prefix.trim_end_matches('/');
        let (day, hour) = hour(first);
        let (begin, end) = (safe(&first.id), safe(&last.id));
        let slash = if prefix.is_empty() { "" } else { "/" };
        let key = format!(
            "{prefix}{slash}tenant={}/date={day}/hour={hour}/{begin}_{end}_{}.ndjson{suffix}",
            first.tenant,
            items.len(),
        );
        let target = self.signed(bucket, &key)?;
        let fields = vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
        self.client.send("PUT", &target, fields, body.into()).await.map(drop)
    }

    /// Path and query of the signed request.
    fn signed(&self, bucket: &str, key: &str) -> Result<String, SinkError> {
        let secret = peer::secret(&self.sink)?;
        let pair = secret.as_deref().and_then(|text| text.split_once(':'));
        let (access, secret) =
            pair.ok_or_else(|| SinkError::settings("`token_file` is not `access-key:secret-key`"))?;
        let endpoint = self.client.origin().parse().map_err(SinkError::settings)?;
        let region = self.sink.region.as_deref().unwrap_or(REGION_DEFAULT).to_owned();
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region);
        let bucket = bucket.map_err(SinkError::settings)?;
        let credentials = Credentials::new(access, secret);
        let url = bucket.put_object(Some(&credentials), key).sign(SIGNED_FOR);
        Ok(match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        })
    }
}

/// Day and hour of an event.
fn hour(item: &Item) -> (&str, &str) {
    let day = item.time.get(..10).unwrap_or("unknown");
    (day, item.time.get(11..13).unwrap_or("00"))
}

/// An id as part of a name.
fn safe(id: &str) -> String {
    id.chars().map(|it| if it.is_ascii_alphanumeric() || it == '-' { it } else { '.' }).collect()
}
