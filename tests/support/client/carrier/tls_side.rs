//! The TLS side of a tunnel: nothing, being dialled, or open.

use std::time::{Duration, Instant};

use gateway_proto::openconnect::frame::{Frame, Kind};
use tokio::task::JoinHandle;

use crate::client::error::ClientError;
use crate::client::openconnect::bootstrap::{Door, Opened};
use crate::client::openconnect::cstp::CstpChannel;
use crate::client::packet::Addresses;
use crate::client::secure::{Liveness, Patience, Pulse};
use crate::client::tunnel::WAIT_MAX;

/// Where the gateway names no interval.
const IDLE: Duration = Duration::from_secs(30);

pub(super) enum TlsSide {
    Closed,
    Dialling(Dialling),
    Open(Box<OpenTls>),
}

/// Aborted when dropped.
pub(super) struct Dialling(JoinHandle<Result<Opened, ClientError>>);

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct OpenTls {
    pub(super) channel: CstpChannel,
    liveness: Liveness,
    keepalive: Option<Duration>,
    sent: Instant,
}

pub(super) enum News {
    Dialled(Box<Opened>),
    DialFailed(ClientError),
    Frame(Frame),
    Lost,
}

impl TlsSide {
    pub(super) fn dial(door: Door, cookie: Option<String>, wished: Option<Addresses>) -> Self {
        Self::Dialling(Dialling(tokio::spawn(async move {
            let opening = tokio::time::timeout(WAIT_MAX, door.open(cookie, wished));
            opening.await.unwrap_or(Err(ClientError::Timeout))
        })))
    }

    /// The next piece of news. Can be cancelled.
    pub(super) async fn news(&mut self) -> News {
        match self {
            Self::Closed => std::future::pending().await,
            Self::Dialling(task) => match (&mut task.0).await {
                Ok(Ok(opened)) => News::Dialled(Box::new(opened)),
                Ok(Err(error)) => News::DialFailed(error),
                Err(_) => News::DialFailed(ClientError::Timeout),
            },
            Self::Open(open) => match open.channel.receive().await {
                Some(frame) => News::Frame(frame),
                None => News::Lost,
            },
        }
    }

    pub(super) fn open(&mut self) -> Option<&mut OpenTls> {
        match self {
            Self::Open(open) => Some(open),
            Self::Closed | Self::Dialling(_) => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

impl OpenTls {
    pub(super) fn new(now: Instant, opened: Opened) -> Self {
        let channel = CstpChannel::new(opened);
        let idle = channel.parameters.tls_patience.unwrap_or(IDLE);
        // TCP takes its time where segments are lost.
        let patience = Patience { idle, answer: Duration::from_secs(3), tries: 3 };
        let keepalive = channel.parameters.keepalive;
        Self { channel, liveness: Liveness::new(now, patience), keepalive, sent: now }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    /// False where the frame is lost.
    pub(super) fn send(&mut self, now: Instant, kind: Kind, payload: &[u8]) -> bool {
        self.sent = now;
        self.channel.send(kind, payload)
    }

    pub(super) fn deadline(&self) -> Instant {
        let asks = self.liveness.deadline();
        self.keepalive.map_or(asks, |interval| asks.min(self.sent + interval))
    }

    /// Whether the peer is dead.
    pub(super) fn handle_time(&mut self, now: Instant) -> bool {
        if self.keepalive.is_some_and(|interval| now >= self.sent + interval) {
            self.send(now, Kind::KeepAlive, &[]);
        }
        match self.liveness.poll(now) {
            Some(Pulse::Probe) => {
                self.send(now, Kind::DpdRequest, &[]);
                false
            }
            Some(Pulse::Dead) => true,
            None => false,
        }
    }
}
