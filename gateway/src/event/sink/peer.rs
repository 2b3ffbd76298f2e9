//! The peer of a sink, whatever it speaks.

use std::path::Path;

use zeroize::Zeroizing;

use super::error::SinkError;
use super::file::FilePeer;
use super::gather::Batch;
use super::http::HttpPeer;
use super::kafka::KafkaPeer;
use super::nats::NatsPeer;
use super::s3::S3Peer;
use super::syslog::SyslogPeer;
use crate::config::{Sink, SinkKind};

/// One of the kinds.
pub(super) enum Peer {
    File(FilePeer),
    Http(Box<HttpPeer>),
    Syslog(Box<SyslogPeer>),
    Nats(Box<NatsPeer>),
    Kafka(Box<KafkaPeer>),
    S3(Box<S3Peer>),
}

impl Peer {
    pub(super) fn new(sink: Sink) -> Self {
        match sink.kind {
            SinkKind::File => Self::File(FilePeer::new(&sink)),
            SinkKind::Http | SinkKind::Splunk | SinkKind::Otlp => {
                Self::Http(Box::new(HttpPeer::new(sink)))
            }
            SinkKind::Syslog => Self::Syslog(Box::new(SyslogPeer::new(sink))),
            SinkKind::Nats => Self::Nats(Box::new(NatsPeer::new(sink))),
            SinkKind::Kafka => Self::Kafka(Box::new(KafkaPeer::new(sink))),
            SinkKind::S3 => Self::S3(Box::new(S3Peer::new(sink))),
        }
    }

    /// Sends the batch. Once this returns well the peer has all of it, but for the events it said
    /// it rejects; their number is returned.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<u64, SinkError> {
        match self {
            Self::File(peer) => peer.send(batch).map(|()| 0),
            Self::Http(peer) => peer.send(batch).await,
            Self::Syslog(peer) => peer.send(batch).await.map(|()| 0),
            Self::Nats(peer) => peer.send(batch).await.map(|()| 0),
            Self::Kafka(peer) => peer.send(batch).await.map(|()| 0),
            Self::S3(peer) => peer.send(batch).await.map(|()| 0),
        }
    }
}

/// The secret of a sink, read anew for each connection so that it can be changed.
pub(super) fn secret(sink: &Sink) -> Result<Option<Zeroizing<String>>, SinkError> {
    sink.token_file.as_deref().map(read_secret).transpose()
}

/// A secret's file, without the white space around it.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, SinkError> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(SinkError::settings)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
