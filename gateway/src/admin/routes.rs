//! What each path gives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::reply;
use super::server::Admin;

type Reply = Response<Full<Bytes>>;

/// Answers one request.
pub(super) fn route(admin: &Admin, request: &Request<Incoming>) -> Reply {
    let query = query(request.uri().query().unwrap_or(""));
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::POST, "/v1/drain") => drain(admin),
        (_, "/v1/drain" | "/v1/explain") => wrong_method("POST"),
        (&Method::GET | &Method::HEAD, _) => get(admin, path, &query),
        _ => wrong_method("GET, HEAD"),
    }
}

fn get(admin: &Admin, path: &str, query: &BTreeMap<String, String>) -> Reply {
    match path {
        "/metrics" => metrics(admin),
        "/livez" => reply::text(200, "alive"),
        "/readyz" => ready(admin),
        "/v1/pinned" => by_tenant(query, |tenant| pinned(admin, tenant)),
        "/v1/sessions" => by_tenant(query, |tenant| sessions(admin, tenant)),
        "/v1/pop" => pop(admin),
        _ => match path.strip_prefix("/tenants/").and_then(|rest| rest.strip_suffix("/ca.pem")) {
            Some(tenant) => intercept_ca(admin, tenant),
            None => reply::problem(404, "no such path"),
        },
    }
}

fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = reply::problem(405, "this path takes no such method");
    reply.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static(allowed));
    reply
}

fn metrics(admin: &Admin) -> Reply {
    crate::serve::gauges(&admin.pop, &admin.events);
    let text = admin.pop.metrics.exposition();
    reply::body(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn ready(admin: &Admin) -> Reply {
    if admin.pop.draining.is_cancelled() {
        return reply::text(503, "draining");
    }
    if admin.events.stats().degraded {
        return reply::text(503, "the event log's disk refuses to write");
    }
    reply::text(200, "ready")
}

fn drain(admin: &Admin) -> Reply {
    admin.pop.draining.cancel();
    reply::text(202, "draining")
}

/// Runs a route that needs a tenant.
fn by_tenant(query: &BTreeMap<String, String>, route: impl FnOnce(&str) -> Reply) -> Reply {
    match query.get("tenant") {
        Some(tenant) => route(tenant),
        None => reply::problem(400, "`tenant` is missing: name one, as in ?tenant=acme"),
    }
}

fn pinned(admin: &Admin, tenant: &str) -> Reply {
    if admin.pop.snapshot.tenant(tenant).is_none() {
        return reply::problem(404, "no such tenant");
    }
    let sightings = admin.pop.tenancy_of(tenant).map(|tenancy| tenancy.pinned.all());
    let listed: Vec<_> = sightings
        .unwrap_or_default()
        .iter()
        .map(|seen| {
            json!({
                "host": &*seen.host,
                "port": seen.port,
                "reason": seen.reason.label(),
                "device": seen.device.as_deref(),
                "user": &*seen.user,
                "app": seen.app.as_deref(),
                "ja4": seen.ja4.as_deref(),
                "count": seen.count,
                "passed": seen.passed,
                "first": seconds(seen.first),
                "last": seconds(seen.last),
                "suggested_rule": seen.suggested_rule(),
            })
        })
        .collect();
    reply::json(&json!({ "tenant": tenant, "pinned": listed }))
}

fn sessions(admin: &Admin, tenant: &str) -> Reply {
    if admin.pop.snapshot.tenant(tenant).is_none() {
        return reply::problem(404, "no such tenant");
    }
    let sessions = admin.pop.tenancy_of(tenant).map(|tenancy| tenancy.sessions.all());
    let mut sessions = sessions.unwrap_or_default();
    sessions.sort_by_key(|session| session.since);
    let listed: Vec<_> = sessions
        .iter()
        .map(|session| {
            let (bytes_in, bytes_out) = session.bytes();
            json!({
                "session_id": session.id.0.to_string(),
                "user": &*session.who.user,
                "device": session.who.device.as_deref(),
                "access_method": session.access.as_str(),
                "client_ip": session.source().to_string(),
                "since": seconds(session.since),
                "streams": session.streams(),
                "bytes": bytes_in.saturating_add(bytes_out),
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
            })
        })
        .collect();
    reply::json(&json!({ "tenant": tenant, "sessions": listed }))
}

fn pop(admin: &Admin) -> Reply {
    let gateway = admin.pop.snapshot.gateway();
    let config = &gateway.config;
    // Tenants may leave from addresses of their own: an allow-list needs them all.
    let snapshot = &admin.pop.snapshot;
    let tenants = snapshot.tenants().into_iter().filter_map(|name| snapshot.tenant(name.as_str()));
    let own = tenants.flat_map(|tenant| tenant.config.origin.egress.clone());
    let egress: BTreeSet<_> = config.origin.egress.iter().copied().chain(own).collect();
    let egress: Vec<_> = egress.iter().map(ToString::to_string).collect();
    reply::json(&json!({
        "name": config.pop,
        "pop": config.pop,
        "domain": config.domain.as_str(),
        "since": seconds(admin.since),
        "listen": [
            { "protocol": "tcp", "address": config.listen.tcp.ip().to_string(), "port": config.listen.tcp.port() },
            { "protocol": "udp", "address": config.listen.udp.ip().to_string(), "port": config.listen.udp.port() },
        ],
        "egress": egress,
    }))
}

fn intercept_ca(admin: &Admin, tenant: &str) -> Reply {
    match admin.pop.snapshot.tenant(tenant) {
        Some(tenant) => {
            let pem = tenant.intercept_ca.cert_pem().as_bytes().to_vec();
            reply::body(200, "application/x-pem-file", pem)
        }
        None => reply::problem(404, "no such tenant"),
    }
}

/// RFC 3339.
fn seconds(time: std::time::SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    jiff::Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(0))
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// The pairs of a query; of a repeated key the last.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| {
            let value = value.replace('+', " ");
            (key.to_owned(), percent_decode_str(&value).decode_utf8_lossy().into_owned())
        })
        .collect()
}
