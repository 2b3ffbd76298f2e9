//! OCSF 1.6: which class an event is, and its fields there. <https://schema.ocsf.io/1.6.0>

mod common;
mod findings;
mod network;

use serde_json::{Map, Value};

use super::source::Row;
use super::value::Event;

/// The classes that events become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// 4002: a transaction.
    HttpActivity,
    /// 4001: a flow.
    NetworkActivity,
    /// 4014: a session.
    TunnelActivity,
    /// 2004: an alert of a rule or of a threat engine.
    DetectionFinding,
    /// 2006: an alert of a content profile.
    DataSecurityFinding,
}

impl Class {
    const ALL: [Self; 5] = [
        Self::HttpActivity,
        Self::NetworkActivity,
        Self::TunnelActivity,
        Self::DetectionFinding,
        Self::DataSecurityFinding,
    ];

    fn of(event: &Event) -> Self {
        match event.text("type") {
            Some("transaction") => Self::HttpActivity,
            Some("session") => Self::TunnelActivity,
            Some("alert") if event.get("dlp").is_some() => Self::DataSecurityFinding,
            Some("alert") => Self::DetectionFinding,
            _ => Self::NetworkActivity,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::HttpActivity => "OCSF HTTP Activity (4002): `transaction`",
            Self::NetworkActivity => "OCSF Network Activity (4001): `flow`",
            Self::TunnelActivity => "OCSF Tunnel Activity (4014): `session`",
            Self::DetectionFinding => "OCSF Detection Finding (2004): `alert` without `dlp`",
            Self::DataSecurityFinding => "OCSF Data Security Finding (2006): `alert` with `dlp`",
        }
    }

    /// The tables of its fields.
    fn tables(self) -> [&'static [Row]; 4] {
        match self {
            Self::HttpActivity => {
                [common::BASE, common::CONTROL, network::ENDS, network::HTTP_ACTIVITY]
            }
            Self::NetworkActivity => {
                [common::BASE, common::CONTROL, network::ENDS, network::NETWORK_ACTIVITY]
            }
            Self::TunnelActivity => [common::BASE, common::CONTROL, network::TUNNEL_ACTIVITY, &[]],
            Self::DetectionFinding => {
                [common::BASE, common::CONTROL, findings::FINDING, findings::DETECTION]
            }
            Self::DataSecurityFinding => {
                [common::BASE, common::CONTROL, findings::FINDING, findings::DATA_SECURITY]
            }
        }
    }
}

/// The event as OCSF has it.
pub(super) fn map(event: &Event) -> Value {
    let mut object = Map::new();
    for row in Class::of(event).tables().into_iter().flatten() {
        row.put(event, &mut object);
    }
    let number = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
    // By definition of the schema.
    let type_uid = number("class_uid") * 100 + number("activity_id");
    object.insert("type_uid".to_owned(), type_uid.into());
    Value::Object(object)
}

/// Each class's fields, for the documentation.
pub(super) fn tables() -> impl Iterator<Item = (&'static str, Vec<Row>)> {
    Class::ALL.into_iter().map(|class| (class.name(), class.tables().concat()))
}
