//! Syslog (RFC 5424) with octet counting, over TLS (RFC 5425) or TCP (RFC 6587).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::error::SinkError;
use super::gather::{Batch, Item};
use super::tls::{self, Link};
use crate::config::Sink;

/// Facility 13, log audit (RFC 5424 section 6.2.1).
const FACILITY: u8 = 13;
const TLS_PORT: u16 = 6514;
const TCP_PORT: u16 = 601;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a peer that has just been written to is listened to for a goodbye.
const GOODBYE_TIME: Duration = Duration::from_millis(5);

pub(super) struct SyslogPeer {
    sink: Sink,
    hostname: String,
    open: Option<Box<dyn Link>>,
}

impl SyslogPeer {
    pub(super) fn new(sink: Sink) -> Self {
        let name = rustix::system::uname();
        let hostname = name.nodename().to_str().unwrap_or("-").to_owned();
        Self { sink, hostname, open: None }
    }

    /// Syslog has no acknowledgement: a batch counts as sent once it is written and the peer has not
    /// hung up.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut link = match self.open.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        gone(&mut link).await?;
        let mut frames = Vec::new();
        for item in &batch.items {
            self.frame(&mut frames, item, batch.text(item));
        }
        link.write_all(&frames).await.map_err(SinkError::unreachable)?;
        link.flush().await.map_err(SinkError::unreachable)?;
        gone(&mut link).await?;
        self.open = Some(link);
        Ok(())
    }

    async fn connect(&self) -> Result<Box<dyn Link>, SinkError> {
        let secure = self.sink.to.starts_with("tls://");
        let authority = self.sink.to.split_once("://").map_or("", |(_, rest)| rest);
        let authority = authority.trim_end_matches('/');
        let (host, port) = tls::host_and_port(authority, if secure { TLS_PORT } else { TCP_PORT })?;
        let config = secure.then(|| tls::client_config(&self.sink.tls)).transpose()?;
        let connecting = tls::connect(&host, port, config.map(Arc::new));
        timeout(CONNECT_TIME_MAX, connecting).await.unwrap_or(Err(SinkError::Timeout))
    }

    /// Appends `length message`.
    fn frame(&self, frames: &mut Vec<u8>, item: &Item, text: &[u8]) {
        let severity = if item.record_type == "alert" { 4 } else { 6 };
        let mut head = Vec::with_capacity(160);
        // Ids and tenants have nothing in them that structured data would escape. Writing into
        // memory does not fail.
        drop(write!(
            head,
            "<{}>1 {} {} sluice - {} [sluice@32473 id=\"{}\" tenant=\"{}\"] ",
            FACILITY * 8 + severity,
            item.time,
            self.hostname,
            item.record_type,
            item.id,
            item.tenant,
        ));
        drop(write!(frames, "{} ", head.len() + text.len()));
        frames.extend_from_slice(&head);
        frames.extend_from_slice(text);
    }
}

/// Whether the peer has hung up. It has nothing to say otherwise.
async fn gone(link: &mut Box<dyn Link>) -> Result<(), SinkError> {
    let mut byte = [0];
    match timeout(GOODBYE_TIME, link.read(&mut byte)).await {
        Ok(Ok(0)) => Err(SinkError::unreachable("it closed the connection")),
        Ok(Err(error)) => Err(SinkError::unreachable(error)),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
