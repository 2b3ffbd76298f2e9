//! NATS JetStream: a subject for each tenant and type, and the event's id as the message's, so that
//! the stream keeps one of those that are sent again.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, Context};

use super::error::SinkError;
use super::gather::{Batch, Item};
use super::{peer, tls};
use crate::config::Sink;

const SUBJECT_DEFAULT: &str = "sluice.events.{tenant}.{type}";
const STREAM_DEFAULT: &str = "SLUICE";
/// How long a stream that this sink makes remembers ids: longer than an outage that is mended at once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// From a message to its acknowledgement.
const ACK_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) struct NatsPeer {
    sink: Sink,
    open: Option<(async_nats::Client, Context)>,
}

impl NatsPeer {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, open: None }
    }

    /// Publishes all, then waits until the stream has said of each that it is kept.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let (client, context) = match &self.open {
            Some(open) => open.clone(),
            None => self.open.insert(self.connect().await?).clone(),
        };
        let bytes_max = client.server_info().max_payload;
        if batch.items.iter().any(|item| batch.text(item).len() + 512 > bytes_max) {
            return Err(SinkError::TooLarge);
        }
        let sent = self.publish(&context, batch).await;
        if sent.is_err() {
            // The library connects again by itself, and with what it has kept sends messages of
            // which nobody waits for the acknowledgement. A connection of our own begins anew.
            self.open = None;
        }
        sent
    }

    async fn publish(&self, context: &Context, batch: &Batch) -> Result<(), SinkError> {
        let mut acks: Vec<PublishAckFuture> = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, item.id.as_str());
            let payload = batch.text(item).to_vec().into();
            let ack = context.publish_with_headers(self.subject(item), headers, payload).await;
            acks.push(ack.map_err(SinkError::unreachable)?);
        }
        for ack in acks {
            ack.await.map_err(SinkError::refused)?;
        }
        Ok(())
    }

    fn subject(&self, item: &Item) -> String {
        let pattern = self.sink.subject.as_deref().unwrap_or(SUBJECT_DEFAULT);
        pattern.replace("{tenant}", &item.tenant).replace("{type}", item.record_type)
    }

    async fn connect(&self) -> Result<(async_nats::Client, Context), SinkError> {
        let secure = self.sink.to.starts_with("tls://");
        // Given for `nats://` too: a server there can ask for TLS, and the library's own settings
        // would know nothing of the sink's.
        let mut options = async_nats::ConnectOptions::new()
            .name("sluice")
            .connection_timeout(CONNECT_TIME_MAX)
            .require_tls(secure)
            .tls_client_config(tls::client_config(&self.sink.tls)?);
        if let Some(secret) = peer::secret(&self.sink)? {
            options = match secret.split_once(':') {
                Some((user, password)) => {
                    options.user_and_password(user.to_owned(), password.to_owned())
                }
                None => options.token(secret.to_string()),
            };
        }
        let client =
            options.connect(self.sink.to.as_str()).await.map_err(SinkError::unreachable)?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK_TIME_MAX);
        let name = self.sink.stream.as_deref().unwrap_or(STREAM_DEFAULT);
        if context.get_stream(name).await.is_err() {
            let config = jetstream::stream::Config {
                name: name.to_owned(),
                subjects: vec![self.all_subjects()],
                duplicate_window: DUPLICATE_WINDOW,
                ..jetstream::stream::Config::default()
            };
            context.create_stream(config).await.map_err(SinkError::refused)?;
        }
        Ok((client, context))
    }

    /// The subject with wildcards where something is filled in.
    fn all_subjects(&self) -> String {
        let pattern = self.sink.subject.as_deref().unwrap_or(SUBJECT_DEFAULT);
        pattern.replace("{tenant}", "*").replace("{type}", "*")
    }
}
