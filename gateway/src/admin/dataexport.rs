//! `/api/v2/events/dataexport/…`: the pull iterator that collectors for the commercial product speak.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use serde_json::{Value, json};

use super::server::Admin;
use super::{reply, routes};
use crate::event::{Allowance, ConsumeError, Export, Pull, REQUESTS_MAX, Records};
use crate::ident::TenantName;

const PREFIX: &str = "/api/v2/events/dataexport/";
/// Seconds until it is worth asking again where all was read.
const WAIT_S: u64 = 10;
/// Longest token looked at.
const TOKEN_BYTES_MAX: usize = 1024;
/// Smaller bodies are not worth compressing.
const GZIP_BYTES_MIN: usize = 1024;

type Reply = Response<Full<Bytes>>;

/// Whether the path is the iterator's.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers one request. The token says whose records they are; the admin endpoint's own token opens
/// nothing here.
pub(super) async fn answer(admin: Arc<Admin>, request: &Request<Incoming>) -> Reply {
    let Some(tenant) = token(request.headers()).and_then(|token| tenant_of(&admin, token)) else {
        return refuse(401, "no tenant has this token");
    };
    if request.method() != hyper::Method::GET {
        return refuse(405, "the iterator is read with GET");
    }
    let Some(kind) = kind(request.uri().path()) else {
        return refuse(404, "there are no records of this kind");
    };
    let query = routes::query(request.uri().query().unwrap_or(""));
    let Some(index) = query.get("index").cloned() else {
        return refuse(400, "`index` is missing: any name, one for each consumer");
    };
    let Some(pull) = query.get("operation").and_then(|text| Pull::parse(text)) else {
        return refuse(
            400,
            "`operation` is one of next, resend, head, tail, or seconds since 1970",
        );
    };
    let allowance = admin.events.consumers().ask(tenant.as_str(), kind, Instant::now());
    let mut response = if allowance.granted {
        page(&admin, tenant, kind, index, pull).await
    } else {
        refuse(429, "too many requests for this kind of records")
    };
    limits(response.headers_mut(), allowance);
    if takes_gzip(request.headers()) { gzip(response).await } else { response }
}

/// The token shown, in either of the two ways.
fn token(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get("netskope-api-token").and_then(|value| value.to_str().ok());
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    own.or(bearer).map(str::trim).filter(|token| (1..=TOKEN_BYTES_MAX).contains(&token.len()))
}

/// The tenant that keeps this token's hash in `events.tokens`.
fn tenant_of(admin: &Admin, token: &str) -> Option<TenantName> {
    use aws_lc_rs::{constant_time, digest};
    let shown = digest::digest(&digest::SHA256, token.as_bytes());
    let snapshot = &admin.pop.snapshot;
    snapshot.tenants().into_iter().find(|name| {
        let Some(tenant) = snapshot.tenant(name.as_str()) else { return false };
        let kept = &tenant.config.events.tokens;
        kept.iter().any(|one| {
            constant_time::verify_slices_are_equal(&one.sha256.0, shown.as_ref()).is_ok()
        })
    })
}

fn kind(path: &str) -> Option<Export> {
    let (family, name) = path.strip_prefix(PREFIX)?.split_once('/')?;
    match family {
        "events" => Export::of_events(name),
        "alerts" => Export::of_alerts(name),
        _ => None,
    }
}

async fn page(
    admin: &Arc<Admin>,
    tenant: TenantName,
    kind: Export,
    index: String,
    pull: Pull,
) -> Reply {
    let log = Arc::clone(&admin.events);
    // Thousands of records are read and written out there, and not on a worker.
    let read = move || {
        let reader = log.reader();
        let page = log.consumers().page(&reader, tenant.as_str(), kind, &index, pull);
        page.map(|records| told(&records))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            let status = match &error {
                ConsumeError::Busy | ConsumeError::Many => 409,
                ConsumeError::Index => 400,
                ConsumeError::Read(_) => 503,
            };
            refuse(status, &error.to_string())
        }
        Err(_) => refuse(500, "the records could not be read"),
    }
}

fn told(records: &Records) -> Reply {
    let mut body = Vec::new();
    let value = json!({
        "ok": 1,
        "result": records.records,
        "wait_time": if records.more { 0 } else { WAIT_S },
        "timestamp_hwm": records.newest,
    });
    match serde_json::to_writer(&mut body, &value) {
        Ok(()) => reply::body(200, "application/json", body),
        Err(error) => refuse(500, &error.to_string()),
    }
}

/// An error in the product's form.
fn refuse(status: u16, what: &str) -> Reply {
    let value: Value = json!({ "ok": 0, "status": status, "message": what, "result": [] });
    let mut response = reply::json(&value);
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn limits(headers: &mut HeaderMap, allowance: Allowance) {
    headers.insert("ratelimit-limit", HeaderValue::from(REQUESTS_MAX));
    headers.insert("ratelimit-remaining", HeaderValue::from(allowance.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(allowance.reset_s));
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get("accept-encoding").and_then(|value| value.to_str().ok());
    accepted.is_some_and(|value| {
        value.split(',').any(|coding| matches!(coding.trim(), "gzip" | "gzip;q=1.0"))
    })
}

/// The reply with its body compressed, on a thread that may take its time.
async fn gzip(response: Reply) -> Reply {
    let (mut head, body) = response.into_parts();
    // A whole body is there at once; collecting it waits for nothing.
    let Ok(body) = body.collect().await.map(Collected::to_bytes);
    if body.len() < GZIP_BYTES_MIN {
        return Response::from_parts(head, Full::new(body));
    }
    let packed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).and_then(|()| encoder.finish())
    });
    let Ok(Ok(packed)) = packed.await else { return refuse(500, "the reply could not be made") };
    head.headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    Response::from_parts(head, Full::new(packed.into()))
}
