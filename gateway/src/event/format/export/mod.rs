//! The commercial product's records: which of ours is which of theirs, and the names of its fields.
//!
//! The names are those of its published schema, so that what its customers' collectors parse is
//! parsed here too.

mod alert;
mod application;
mod common;
mod network;
mod transaction;
mod words;

use serde_json::{Map, Value};

use super::source::Row;
use super::value::Event;

/// Kinds of their records. One of our events can be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Export {
    /// An HTTP transaction or WebSocket.
    Transaction,
    /// Something done in an app.
    Application,
    /// A page that was looked at.
    Page,
    /// A flow that was not HTTP or not decrypted.
    Network,
    /// An alert of a rule.
    Policy,
    /// An alert of a content profile.
    Dlp,
    /// An alert of a threat engine.
    Malware,
    /// Any alert.
    Alert,
}

impl Export {
    /// The kind of the events path `…/events/<name>`.
    #[must_use]
    pub fn of_events(name: &str) -> Option<Self> {
        match name {
            "transaction" => Some(Self::Transaction),
            "application" => Some(Self::Application),
            "page" => Some(Self::Page),
            "network" => Some(Self::Network),
            "alert" => Some(Self::Alert),
            _ => None,
        }
    }

    /// The kind of the alerts path `…/alerts/<name>`.
    #[must_use]
    pub fn of_alerts(name: &str) -> Option<Self> {
        match name {
            "policy" => Some(Self::Policy),
            "dlp" => Some(Self::Dlp),
            "malware" => Some(Self::Malware),
            _ => None,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Application => "application",
            Self::Page => "page",
            Self::Network => "network",
            Self::Policy => "policy",
            Self::Dlp => "dlp",
            Self::Malware => "malware",
            Self::Alert => "alert",
        }
    }

    /// Whether this event is a record of the kind. What goes on is none yet: `close` lines count.
    #[must_use]
    pub fn takes(self, event: &Event) -> bool {
        if !event.is("state", "close") {
            return false;
        }
        let transaction = event.is("type", "transaction");
        match self {
            Self::Transaction => transaction,
            Self::Application => {
                transaction && event.get("app").is_some() && event.get("activity").is_some()
            }
            Self::Page => transaction && event.is("method", "GET") && is_page(event),
            Self::Network => event.is("type", "flow"),
            Self::Alert => event.is("type", "alert"),
            Self::Policy | Self::Dlp | Self::Malware => {
                event.is("type", "alert") && Self::of_alert(event) == self
            }
        }
    }

    fn of_alert(event: &Event) -> Self {
        if event.get("threat").is_some() {
            Self::Malware
        } else if event.get("dlp").is_some() {
            Self::Dlp
        } else {
            Self::Policy
        }
    }

    /// The kind an event has where only one can be told: for push.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match event.text("type") {
            Some("transaction") => Self::Transaction,
            Some("alert") => Self::of_alert(event),
            _ => Self::Network,
        }
    }

    /// The event under their names.
    #[must_use]
    pub fn map(self, event: &Event) -> Value {
        let kind = if self == Self::Alert { Self::of_alert(event) } else { self };
        let mut object = Map::new();
        for row in kind.rows().into_iter().flatten() {
            row.put(event, &mut object);
        }
        Value::Object(object)
    }

    fn rows(self) -> [&'static [Row]; 3] {
        match self {
            Self::Transaction => [transaction::WHO_AND_WHAT, transaction::HOW, &[]],
            Self::Application => [common::ALL, application::APP, application::APPLICATION],
            Self::Page => [common::ALL, application::PAGE, &[]],
            Self::Network => [common::ALL, network::NETWORK, &[]],
            Self::Policy | Self::Alert => [common::ALL, application::APP, alert::POLICY],
            Self::Dlp => [common::ALL, application::APP, alert::DLP],
            Self::Malware => [common::ALL, application::APP, alert::MALWARE],
        }
    }

    /// Each kind's fields, for the documentation.
    pub(super) fn tables() -> Vec<(&'static str, Vec<Row>)> {
        let kinds = [
            ("Export: transaction", Self::Transaction),
            ("Export: application", Self::Application),
            ("Export: page", Self::Page),
            ("Export: network", Self::Network),
            ("Export: policy alert", Self::Policy),
            ("Export: DLP alert", Self::Dlp),
            ("Export: malware alert", Self::Malware),
        ];
        kinds.into_iter().map(|(name, kind)| (name, kind.rows().concat())).collect()
    }
}

fn is_page(event: &Event) -> bool {
    let content_type = event.text("content_type").unwrap_or_default();
    content_type.starts_with("text/html") || content_type.starts_with("application/xhtml+xml")
}
