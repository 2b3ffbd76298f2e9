//! Values that the product spells in its own way.

use serde_json::Value;

use crate::event::format::value::Event;

/// Our activities and theirs; one that is not listed is written with a capital.
const ACTIVITIES: &[(&str, &str)] =
    &[("login", "Login Successful"), ("login_failed", "Login Failed"), ("form_post", "FormPost")];

pub(super) fn activity(event: &Event) -> Option<Value> {
    let ours = event.text("activity")?;
    let known = ACTIVITIES.iter().find(|(name, _)| *name == ours);
    Some(known.map_or_else(|| titled(ours), |(_, theirs)| (*theirs).to_owned()).into())
}

pub(super) fn access_method(event: &Event) -> Option<Value> {
    Some(match event.text("access_method")? {
        "explicit" => "Explicit Proxy".into(),
        _ => "Client".into(),
    })
}

/// What the directory says of the device, else what its program says of itself.
pub(super) fn os(event: &Event) -> Option<Value> {
    event.get("os").or_else(|| event.get("agent_os")).cloned()
}

/// `1.3` as `TLSv1.3`.
pub(super) fn tls_version(event: &Event, ours: &str) -> Option<Value> {
    let version = event.text(ours).filter(|text| text.starts_with("1."))?;
    Some(format!("TLSv{version}").into())
}

/// `HTTP/2` as `HTTP2`.
pub(super) fn http_version(event: &Event) -> Option<Value> {
    Some(event.text("http_version")?.replace('/', "").into())
}

/// `coach` is their `useralert`; where the user went on, `proceed`.
pub(super) fn action(event: &Event) -> Option<Value> {
    Some(match event.text("action")? {
        "coach" if event.get("justification").is_some() => "proceed".into(),
        "coach" => "useralert".into(),
        other => other.into(),
    })
}

pub(super) fn traffic_type(event: &Event) -> Option<Value> {
    Some(if event.get("app").is_some() { "CloudApp" } else { "Web" }.into())
}

pub(super) fn category(event: &Event) -> Option<Value> {
    Some(titled(event.text("category")?).into())
}

/// Confidence is what risk is not.
pub(super) fn confidence(event: &Event) -> Option<u64> {
    Some(100_u64.saturating_sub(event.number("risk")?))
}

/// Their levels of confidence.
pub(super) fn confidence_level(event: &Event) -> Option<Value> {
    Some(
        match confidence(event)? {
            90.. => "excellent",
            75..=89 => "high",
            60..=74 => "medium",
            50..=59 => "low",
            _ => "poor",
        }
        .into(),
    )
}

pub(super) fn seconds(event: &Event) -> Option<Value> {
    Some(event.time()?.as_second().into())
}

/// When it began: the end less `total_ms`.
pub(super) fn began(event: &Event) -> Option<Value> {
    let millis = i64::try_from(event.millis("total_ms")?).ok()?;
    Some(((event.time()?.as_millisecond() - millis) / 1000).into())
}

pub(super) fn duration(event: &Event) -> Option<Value> {
    Some((event.millis("total_ms")? / 1000).into())
}

pub(super) fn lower_user(event: &Event) -> Option<Value> {
    Some(event.text("user")?.to_lowercase().into())
}

/// Their URLs have no scheme.
pub(super) fn url(event: &Event) -> Option<Value> {
    Some(event.text("url")?.split_once("://")?.1.into())
}

/// `authority/path`.
pub(super) fn page(event: &Event) -> Option<Value> {
    let url = event.url()?;
    Some(format!("{}{}", url.authority, url.path).into())
}

pub(super) fn justification_type(event: &Event) -> Option<Value> {
    event.get("justification").map(|_| "justification".into())
}

/// `cloud-storage` as `Cloud Storage`.
fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    for (index, word) in text.split(['-', '_']).enumerate() {
        if index > 0 {
            titled.push(' ');
        }
        let mut characters = word.chars();
        titled.extend(characters.next().into_iter().flat_map(char::to_uppercase));
        titled.push_str(characters.as_str());
    }
    titled
}
