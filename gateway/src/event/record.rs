//! One fact about what happened: a session, a flow, a transaction or an alert.
//!
//! The groups are those of `docs/events.md`; `fields.rs` says what each field means.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::text::Text;
use crate::ident::{AccessMethod, Blame, FlowId, SessionId};

/// Operations recorded of one exchange; a batch of more is cut here, and judged whole all the
/// same. Bounds a line that a client could otherwise grow at will.
pub const OPERATIONS_MAX: usize = 64;

/// One event. What is not known stays `None` and is absent from the line.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: Uuid,
    pub record_type: RecordType,
    pub time: Timestamp,
    pub state: State,
    pub policy_version: Option<Text>,
    /// The transaction an alert belongs to.
    pub parent_id: Option<Uuid>,
    /// The same for every record of a session, so it is shared.
    pub client: Option<Arc<Client>>,
    pub destination: Destination,
    pub tls: Tls,
    pub http: Http,
    pub app: App,
    pub content: Content,
    pub verdict: Verdict,
    pub cost: Cost,
    pub end: End,
}

impl Record {
    /// A record of this moment with a fresh id, closed, and otherwise empty.
    #[must_use]
    pub fn now(record_type: RecordType) -> Self {
        Self {
            id: Uuid::now_v7(),
            record_type,
            time: Timestamp::now(),
            state: State::Close,
            policy_version: None,
            parent_id: None,
            client: None,
            destination: Destination::default(),
            tls: Tls::default(),
            http: Http::default(),
            app: App::default(),
            content: Content::default(),
            verdict: Verdict::default(),
            cost: Cost::default(),
            end: End::default(),
        }
    }

    /// An alert about this record: its own id and moment, who, where and what as here.
    #[must_use]
    pub fn alert(&self) -> Self {
        Self {
            id: Uuid::now_v7(),
            record_type: RecordType::Alert,
            time: Timestamp::now(),
            state: State::Close,
            parent_id: Some(self.id),
            ..self.clone()
        }
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// A tunnel: up, down or refused.
    Session,
    /// An inner stream that was not HTTP or not decrypted.
    Flow,
    /// One HTTP exchange, or one WebSocket.
    Transaction,
    /// A rule, a DLP profile or a threat engine struck.
    Alert,
}

impl RecordType {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Flow => "flow",
            Self::Transaction => "transaction",
            Self::Alert => "alert",
        }
    }
}

/// Which line of its subject's life this is. One-line records are `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Update,
    Close,
}

impl State {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Close => "close",
        }
    }
}

/// Who: the session's person, device and tunnel.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub session_id: Option<SessionId>,
    pub user: Option<Text>,
    pub groups: Arc<[Arc<str>]>,
    pub device: Option<Text>,
    pub device_class: Option<Text>,
    pub os: Option<Text>,
    pub access_method: Option<AccessMethod>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub country: Option<Text>,
    pub tunnel_tls: Option<Text>,
    pub tunnel_kx: Option<Text>,
    pub binding: Option<Text>,
}

/// Where: the flow and what it goes to.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    pub flow_id: Option<FlowId>,
    pub host: Option<Text>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub sni: Option<Text>,
    pub host_source: Option<HostSource>,
    pub country: Option<Text>,
    pub egress_ip: Option<IpAddr>,
}

/// Where the host's name was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSource {
    Connect,
    Sni,
    HttpHost,
    Dns,
}

impl HostSource {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Sni => "sni",
            Self::HttpHost => "http_host",
            Self::Dns => "dns",
        }
    }
}

/// Both TLS sides of the flow.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub decrypted: Option<bool>,
    pub decrypt_reason: Option<Text>,
    pub client_version: Option<Text>,
    pub client_alpn: Option<Text>,
    pub client_ja4: Option<Text>,
    pub origin_version: Option<Text>,
    pub origin_kx: Option<Text>,
    pub origin_alpn: Option<Text>,
    pub origin_issuer: Option<Text>,
    pub origin_cert_fault: Option<Text>,
}

/// The HTTP exchange. A flow and a session use the two byte counts too.
#[derive(Clone, Debug, Default)]
pub struct Http {
    pub method: Option<Text>,
    /// Absolute; the writer redacts it.
    pub url: Option<Text>,
    pub version: Option<Text>,
    pub status: Option<u16>,
    pub content_type: Option<Text>,
    pub user_agent: Option<Text>,
    /// The writer redacts it.
    pub referer: Option<Text>,
    /// Body bytes from the client.
    pub request_bytes: Option<u64>,
    /// Body bytes to the client.
    pub response_bytes: Option<u64>,
}

/// Which app, instance and activity.
#[derive(Clone, Debug, Default)]
pub struct App {
    pub id: Option<Text>,
    /// The first of them.
    pub category: Option<Text>,
    /// All that rules saw, where there are several: those of the app, then the tenant's own.
    pub categories: Vec<Text>,
    pub tags: Vec<Text>,
    /// 0 (none) to 100.
    pub risk: Option<u8>,
    pub instance: Option<Text>,
    pub instance_kind: Option<InstanceKind>,
    pub activity: Option<Text>,
    pub object: Option<Text>,
    pub object_type: Option<Text>,
    pub from_user: Option<Text>,
    pub to_user: Option<Text>,
    /// Only where one exchange carries several; at most [`OPERATIONS_MAX`] are written.
    pub operations: Vec<Operation>,
}

/// Whose instance of an app it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceKind {
    Corporate,
    Personal,
    Unknown,
}

impl InstanceKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corporate => "corporate",
            Self::Personal => "personal",
            Self::Unknown => "unknown",
        }
    }
}

/// One of several things an exchange does, and what became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operation {
    pub activity: Option<Text>,
    pub object: Option<Text>,
    pub to_user: Option<Text>,
    pub action: Option<Text>,
    pub rule: Option<Text>,
}

/// What was carried, as far as it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub file_name: Option<Text>,
    pub file_type: Option<Text>,
    /// Bytes.
    pub file_size: Option<u64>,
    pub sha256: Option<Text>,
    pub dlp: Vec<DlpHit>,
    pub threat: Option<Threat>,
    pub inspection: Option<Inspection>,
    pub inspection_reason: Option<Text>,
}

/// How often one entity of a DLP profile was found. Never the match itself.
#[derive(Clone, Debug)]
pub struct DlpHit {
    pub profile: Text,
    pub entity: Text,
    pub count: u64,
}

impl From<&policy::content::Hit> for DlpHit {
    fn from(hit: &policy::content::Hit) -> Self {
        let (profile, entity) = (Text::copied(&hit.profile), Text::copied(&hit.entity));
        Self { profile, entity, count: hit.count }
    }
}

/// What an engine called it.
#[derive(Clone, Debug)]
pub struct Threat {
    pub name: Text,
    pub engine: Text,
}

/// How much of the content the engines saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    Full,
    Partial,
    None,
}

impl Inspection {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// What policy said.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub action: Option<Text>,
    pub rule: Option<Text>,
    pub alerts: Vec<Text>,
    /// What the user wrote on the coach page.
    pub justification: Option<Text>,
    pub block_reason: Option<Text>,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// From the request sent to the response's first byte.
    pub first_byte: Option<Duration>,
    pub total: Option<Duration>,
    pub policy: Option<Duration>,
    /// What the gateway itself added.
    pub gateway: Option<Duration>,
}

/// Why it ended badly, where it did.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// A stable label.
    pub error: Option<&'static str>,
    pub error_side: Option<Blame>,
}
