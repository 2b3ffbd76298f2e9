//! HTTP POST: generic, Splunk's HTTP Event Collector, OTLP.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::error::SinkError;
use super::gather::Batch;
use super::{otlp, peer, tls};
use crate::config::{Sink, SinkCompression, SinkFormat, SinkKind};

/// From the request to the whole answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Most of an answer that is read: it says yes, or why not.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Most of an answer that is shown in the log.
const SHOWN_BYTES_MAX: usize = 200;
/// A level that costs little: the log is repetitive and packs well all the same.
const ZSTD_LEVEL: i32 = 1;

/// A request's header fields.
pub(super) type Fields = Vec<(HeaderName, HeaderValue)>;

pub(super) struct HttpPeer {
    sink: Sink,
    client: Client,
}

impl HttpPeer {
    pub(super) fn new(sink: Sink) -> Self {
        Self { client: Client::new(&sink), sink }
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        let (body, content_type) = match self.sink.kind {
            SinkKind::Splunk => (splunk(batch, self.sink.format), "application/json"),
            SinkKind::Otlp => (otlp::body(batch), "application/json"),
            _ if self.sink.format == SinkFormat::Cef => (batch.lines(&batch.items), "text/plain"),
            _ => (batch.lines(&batch.items), "application/x-ndjson"),
        };
        let (body, coding) = pack(body, self.sink.compression)?;
        let mut fields =
            vec![(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        if let Some(coding) = coding {
            fields.push((hyper::header::CONTENT_ENCODING, HeaderValue::from_static(coding)));
        }
        if let Some(secret) = peer::secret(&self.sink)? {
            let scheme = if self.sink.kind == SinkKind::Splunk { "Splunk" } else { "Bearer" };
            let value = HeaderValue::from_str(&format!("{scheme} {}", *secret));
            let mut value = value.map_err(SinkError::settings)?;
            value.set_sensitive(true);
            fields.push((hyper::header::AUTHORIZATION, value));
        }
        let path = self.client.path.clone();
        let answer = self.client.send("POST", &path, fields, body.into()).await?;
        Ok(if self.sink.kind == SinkKind::Otlp { otlp::rejected(&answer) } else { 0 })
    }
}

/// Splunk's event objects, one after the other.
fn splunk(batch: &Batch, format: SinkFormat) -> Vec<u8> {
    let mut body = Vec::new();
    for item in &batch.items {
        let text = batch.text(item);
        let event = match format {
            SinkFormat::Cef => Value::from(String::from_utf8_lossy(text)),
            _ => serde_json::from_slice(text).unwrap_or(Value::Null),
        };
        let time: Option<jiff::Timestamp> = item.time.parse().ok();
        let object = json!({
            "time": time.map(|time| time.as_millisecond() as f64 / 1000.0),
            "source": "sluice",
            "sourcetype": format!("sluice:{}", item.record_type),
            "fields": { "tenant": &*item.tenant, "id": item.id },
            "event": event,
        });
        // Writing into memory does not fail.
        drop(serde_json::to_writer(&mut body, &object));
        body.push(b'\n');
    }
    body
}

/// The body packed, and the name of how.
pub(super) fn pack(
    body: Vec<u8>,
    compression: SinkCompression,
) -> Result<(Vec<u8>, Option<&'static str>), SinkError> {
    match compression {
        SinkCompression::None => Ok((body, None)),
        SinkCompression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&body)?;
            Ok((encoder.finish()?, Some("gzip")))
        }
        SinkCompression::Zstd => Ok((zstd::bulk::compress(&body, ZSTD_LEVEL)?, Some("zstd"))),
    }
}

/// One kept connection to an HTTP/1.1 server.
pub(super) struct Client {
    settings: crate::config::SinkTls,
    secure: bool,
    authority: String,
    pub(super) path: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(super) fn new(sink: &Sink) -> Self {
        let secure = sink.to.starts_with("https://");
        let rest = sink.to.split_once("://").map_or(&*sink.to, |(_, rest)| rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            settings: sink.tls.clone(),
            secure,
            authority: authority.to_owned(),
            path: format!("/{path}"),
            open: None,
        }
    }

    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }

    /// Sends a request and reads the whole answer; any status but a good one is an error.
    pub(super) async fn send(
        &mut self,
        method: &str,
        target: &str,
        fields: Fields,
        body: Bytes,
    ) -> Result<Bytes, SinkError> {
        let kept = self.open.is_some();
        let first = self.exchange(method, target, &fields, &body).await;
        match first {
            // A kept connection that the server has closed meanwhile says nothing of the server.
            Err(SinkError::Unreachable(_)) if kept => {
                self.exchange(method, target, &fields, &body).await
            }
            other => other,
        }
    }

    async fn exchange(
        &mut self,
        method: &str,
        target: &str,
        fields: &Fields,
        body: &Bytes,
    ) -> Result<Bytes, SinkError> {
        let answered = timeout(ANSWER_TIME_MAX, self.ask(method, target, fields, body)).await;
        answered.unwrap_or(Err(SinkError::Timeout))
    }

    async fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &Fields,
        body: &Bytes,
    ) -> Result<Bytes, SinkError> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(hyper::header::HOST, &self.authority)
            .header(hyper::header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.clone())).map_err(SinkError::settings)?;
        let mut sender = self.sender().await?;
        let answer = sender.send_request(request).await.map_err(SinkError::unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(SinkError::unreachable)?.to_bytes();
        self.open = Some(sender);
        match status {
            status if status.is_success() => Ok(body),
            StatusCode::PAYLOAD_TOO_LARGE => Err(SinkError::TooLarge),
            status => {
                let shown = body.get(..body.len().min(SHOWN_BYTES_MAX)).unwrap_or_default();
                let shown = String::from_utf8_lossy(shown);
                Err(SinkError::Refused(format!("{status} {}", shown.escape_debug())))
            }
        }
    }

    /// The kept connection, or a new one.
    async fn sender(&mut self) -> Result<SendRequest<Full<Bytes>>, SinkError> {
        if let Some(mut open) = self.open.take()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let default = if self.secure { 443 } else { 80 };
        let (host, port) = tls::host_and_port(&self.authority, default)?;
        let config = self.secure.then(|| tls::client_config(&self.settings)).transpose()?;
        let link = tls::connect(&host, port, config.map(Arc::new)).await?;
        let (sender, connection) =
            handshake(TokioIo::new(link)).await.map_err(SinkError::unreachable)?;
        // How it ends is seen by the next request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
