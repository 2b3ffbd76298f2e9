//! `GET /v1/events`: a tenant's events by cursor, filtered, waiting for some where asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use tokio::time::{Instant, timeout_at};

use super::reply;
use super::server::Admin;
use crate::event::{FILTER_KEYS, Filter, FilterError, Page, ReadError, SEEN_MAX};

/// Events of one pull where the caller names no number.
const EVENTS_DEFAULT: usize = 1_000;
/// Most events of one pull; a larger number is clamped, not refused.
const EVENTS_MAX: usize = 100_000;
/// Longest wait for events, in seconds: shorter than what proxies between are patient for. A larger
/// number is clamped.
const WAIT_MAX: u64 = 60;
/// Pulls that wait at once. Half of the endpoint's connections, so that who only waits never keeps
/// a scraper out; further pulls are answered at once.
pub(super) const WAITING_MAX: usize = 128;
/// What else a pull may ask.
const OTHER_KEYS: [&str; 5] = ["tenant", "after", "limit", "since", "wait"];

type Reply = Response<Full<Bytes>>;
type Query = BTreeMap<String, String>;

/// What is asked, made out of the query.
struct Pull {
    tenant: String,
    after: Option<String>,
    limit: usize,
    filter: Filter,
    wait: Duration,
}

/// Answers a pull.
pub(super) async fn answer(admin: Arc<Admin>, query: Query) -> Reply {
    let pull = match Pull::read(&query) {
        Ok(pull) => Arc::new(pull),
        Err(what) => return reply::problem(400, &what),
    };
    match pull.run(&admin).await {
        Ok(page) => {
            let mut response = reply::body(200, "application/x-ndjson", page.lines);
            if let Ok(cursor) = page.cursor.parse() {
                response.headers_mut().insert("sluice-cursor", cursor);
            }
            response
        }
        Err(error @ ReadError::Disk(_)) => reply::problem(503, error.label()),
        Err(error) => reply::problem(400, &error.to_string()),
    }
}

impl Pull {
    fn read(query: &Query) -> Result<Self, String> {
        let known = |key: &&String| {
            !OTHER_KEYS.contains(&key.as_str()) && !FILTER_KEYS.contains(&key.as_str())
        };
        if let Some(unknown) = query.keys().find(known) {
            let all: Vec<_> = OTHER_KEYS.iter().chain(&FILTER_KEYS).copied().collect();
            return Err(format!("`{unknown}` is none of {}", all.join(", ")));
        }
        let Some(tenant) = query.get("tenant") else {
            return Err("`tenant` is missing: name one, as in ?tenant=acme".to_owned());
        };
        let number = |key: &str| match query.get(key).map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(format!("`{key}` is not a number")),
        };
        let limit = number("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Self {
            tenant: tenant.clone(),
            after: query.get("after").filter(|cursor| !cursor.is_empty()).cloned(),
            limit: limit.unwrap_or(EVENTS_DEFAULT).clamp(1, EVENTS_MAX),
            filter: filter(query)?,
            wait: Duration::from_secs(number("wait")?.unwrap_or(0).min(WAIT_MAX)),
        })
    }

    /// Reads until there is something, or the time is over.
    async fn run(self: Arc<Self>, admin: &Admin) -> Result<Page, ReadError> {
        let until = Instant::now() + self.wait;
        let slot = admin.waiting.try_acquire().ok();
        let mut changes = admin.events.changes();
        let mut after = self.after.clone();
        loop {
            let page = self.look(admin, after).await?;
            if page.events > 0 || slot.is_none() || Instant::now() >= until {
                return Ok(page);
            }
            // Where all was read there is nothing to do until something is written.
            if page.seen < SEEN_MAX && timeout_at(until, changes.changed()).await.is_err() {
                return Ok(page);
            }
            after = Some(page.cursor);
        }
    }

    /// One look at the log, on a thread that may wait for the disk.
    async fn look(
        self: &Arc<Self>,
        admin: &Admin,
        after: Option<String>,
    ) -> Result<Page, ReadError> {
        let (reader, pull) = (admin.events.reader(), Arc::clone(self));
        let look = move || reader.find(&pull.tenant, after.as_deref(), pull.limit, &pull.filter);
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|error| Err(ReadError::Disk(std::io::Error::other(error))))
    }
}

/// The filter keys of a query; a comma stands between values.
fn filter(query: &Query) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let said = |key: &str, error: FilterError| format!("`{key}`: {error}");
    for key in FILTER_KEYS {
        let values = query.get(key).map(String::as_str).unwrap_or_default();
        for value in values.split(',').filter(|value| !value.is_empty()) {
            filter.want(key, value).map_err(|error| said(key, error))?;
        }
    }
    if let Some(since) = query.get("since") {
        filter.since(since).map_err(|error| said("since", error))?;
    }
    Ok(filter)
}
