//! `POST /v1/explain`: what `sluice explain` says, of the configuration in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Response;
use hyper::body::{Body, Bytes};
use serde::Deserialize;

use super::reply;
use super::server::Admin;
use crate::verdict::explain::{Setting, explain};
use crate::verdict::question::{self, NOBODY, Question, QuestionError, SOURCE};

/// Largest question: a body that says what is done, not a transfer.
const QUESTION_BYTES_MAX: usize = 1 << 20;

type Reply = Response<Full<Bytes>>;

/// What is asked, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tenant: String,
    user: Option<String>,
    device: Option<String>,
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    source_ip: Option<IpAddr>,
    dest_ip: Option<IpAddr>,
}

/// Reads the question and answers it.
pub(super) async fn answer<B>(admin: Arc<Admin>, body: B) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(body) = Limited::new(body, QUESTION_BYTES_MAX).collect().await else {
        return reply::problem(413, "the question is cut short or longer than 1 MiB");
    };
    let asked: Asked = match serde_json::from_slice(&body.to_bytes()) {
        Ok(asked) => asked,
        Err(error) => return reply::problem(400, &format!("not a question: {error}")),
    };
    // A policy of many rules is gone through one by one: not on a thread that others wait for.
    let told = tokio::task::spawn_blocking(move || tell(&admin, asked)).await;
    told.unwrap_or_else(|_| reply::problem(500, "the question could not be answered"))
}

fn tell(admin: &Admin, asked: Asked) -> Reply {
    let Some(tenant) = admin.pop.snapshot.tenant(&asked.tenant) else {
        return reply::problem(404, "no such tenant");
    };
    let user = asked.user.as_deref().unwrap_or(NOBODY);
    let who = tenant.directory.who(user.into(), asked.device.as_deref().map(Into::into));
    let question = match ask(asked, who) {
        Ok(question) => question,
        Err(error) => return reply::problem(400, &error.to_string()),
    };
    let guard = admin.pop.guard.load();
    let gateway = admin.pop.snapshot.gateway();
    let (catalog, places) = (&admin.pop.catalog, &gateway.places);
    let setting = Setting { tenant: &tenant, catalog, guard: &guard, places };
    match serde_json::to_value(explain(&setting, &question)) {
        Ok(value) => reply::json(&value),
        Err(error) => reply::problem(500, &error.to_string()),
    }
}

fn ask(asked: Asked, who: crate::ident::Who) -> Result<Question, QuestionError> {
    let headers: Vec<_> = asked.headers.into_iter().collect();
    let body = asked.body.map(Bytes::from);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Question {
        who,
        source: asked.source_ip.unwrap_or(SOURCE),
        address: asked.dest_ip,
        now: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        request: question::request(&asked.url, asked.method.as_deref(), &headers, body.as_ref())?,
        body,
    })
}
