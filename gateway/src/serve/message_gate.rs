//! Asks policy about the messages of one WebSocket or gRPC call, and notes what they did for its record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::target::canonical_path;
use parking_lot::Mutex;
use policy::catalog::MESSAGE;
use policy::content::Hit;
use policy::fact::Gate;
use policy::verdict::RuleIndex;

use super::answer::{self, reason_label};
use super::call_gate::CallGate;
use super::flow::Flow;
use super::judge::{Asking, account_of};
use super::message_hold::{Content, Holding, Judge};
use super::watch;
use crate::event::{OPERATIONS_MAX, Operation, Text};
use crate::exchange::{Length, Request};
use crate::snapshot::Tenant;
use crate::verdict::{BodyFacts, Held, Ruled, Ruling};

/// Largest message of a WebSocket that is read: what the catalog looks into, and far more than a prompt has.
const MESSAGE_BYTES_MAX: usize = policy::catalog::BODY_BYTES_MAX;

/// What the messages since the last look did.
#[derive(Default)]
pub(super) struct Noted {
    /// Each once; they are many alike.
    pub(super) operations: Vec<Operation>,
    /// Rules that alerted, each once.
    pub(super) alerts: Vec<Text>,
    pub(super) stop: Option<Stop>,
    /// What of the tenant's profiles was in them, counted together.
    pub(super) dlp: Vec<Hit>,
    /// The largest message of a call, or the one that ended it: its type, if known, and bytes.
    pub(super) content: Option<(Option<Text>, u64)>,
}

/// The verdict that ended it.
pub(super) struct Stop {
    pub(super) action: &'static str,
    pub(super) rule: Option<Text>,
    pub(super) reason: &'static str,
}

/// Whether the catalog can read the messages of this WebSocket.
pub(super) fn reads(flow: &Flow, request: &Request) -> bool {
    let Some(protocol) = &request.upgrade else { return false };
    let path = request.target().split('?').next().unwrap_or_default();
    let path = canonical_path(path.as_bytes());
    protocol.eq_ignore_ascii_case(b"websocket")
        && flow.worker.pop.catalog.reads_messages(&request.host.text(), path.as_str())
}

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    WebSocket,
    Grpc,
}

/// What judges the messages of a WebSocket, and where it notes what they did.
pub(super) fn gate(
    flow: &Arc<Flow>,
    tenant: &Tenant,
    request: &Request,
    url: &str,
) -> (Judge, Holding, Arc<Mutex<Noted>>) {
    let asked = as_message(request);
    let (judge, noted) = judging(flow, asked, url, Carrier::WebSocket);
    let mut holding = holding(flow, tenant);
    holding.bytes_max = holding.bytes_max.min(MESSAGE_BYTES_MAX);
    (judge, holding, noted)
}

/// What judges the messages of a gRPC call.
pub(super) fn call_gate(
    flow: &Arc<Flow>,
    tenant: &Tenant,
    request: &Request,
    url: &str,
) -> CallGate {
    let (judge, noted) = judging(flow, request.detached(), url, Carrier::Grpc);
    CallGate::new(request, judge, holding(flow, tenant), noted)
}

fn judging(
    flow: &Arc<Flow>,
    asked: Request,
    url: &str,
    carrier: Carrier,
) -> (Judge, Arc<Mutex<Noted>>) {
    let noted = Arc::new(Mutex::new(Noted::default()));
    let (flow, url, notes) = (Arc::clone(flow), url.to_owned(), Arc::clone(&noted));
    let judge = Box::new(move |content| judge(&flow, &asked, &url, carrier, content, &notes));
    (judge, noted)
}

fn holding(flow: &Flow, tenant: &Tenant) -> Holding {
    let limits = &tenant.config.limits;
    Holding {
        budget: flow.worker.pop.holds.clone(),
        bytes_max: usize::try_from(limits.hold_bytes.bytes()).unwrap_or(usize::MAX),
        time_max: Duration::from_millis(limits.hold_ms),
    }
}

/// What a message says of the file it carries.
fn held(carrier: Carrier, content: Content) -> Result<Held, policy::fact::Unobtainable> {
    let content_type: &[u8] = match carrier {
        Carrier::WebSocket => b"application/json",
        // Nothing that has parts.
        Carrier::Grpc => b"",
    };
    content.and_then(|bytes| Held::of(content_type, bytes.into()))
}

/// The first message of a call, for the call's own verdict.
pub(super) fn first_held(content: Content) -> Result<Held, policy::fact::Unobtainable> {
    held(Carrier::Grpc, content)
}

/// A message as a request of its own, which is how the catalog describes them.
fn as_message(request: &Request) -> Request {
    let mut asked = request.detached();
    for name in ["content-type", "content-encoding", "content-length"] {
        asked.fields.remove(name);
    }
    asked.fields.push("Content-Type", "application/json");
    Request { method: Bytes::from_static(MESSAGE.as_bytes()), body: Length::Framed, ..asked }
}

/// Whether a message may go on, under the policy of the moment.
fn judge(
    flow: &Arc<Flow>,
    asked: &Request,
    url: &str,
    carrier: Carrier,
    content: Content,
    noted: &Mutex<Noted>,
) -> bool {
    let Some(tenant) = flow.tenant() else { return false };
    let account = account_of(flow, asked);
    let account = account.as_deref();
    let asking = Asking { flow, tenant: &tenant, url, request: asked, account };
    let held = held(carrier, content).map(|mut held| {
        watch::search(&tenant, &asked.fields, &mut held);
        held
    });
    let body = match &held {
        Ok(held) => BodyFacts::Held(held),
        Err(why) => BodyFacts::Unobtainable(*why),
    };
    let gate = match carrier {
        // Nothing of such a message is known later than the message.
        Carrier::WebSocket => Gate::Response,
        Carrier::Grpc => Gate::RequestBody,
    };
    let ruling = asking.judge(body, gate, None);
    let goes_on = match &ruling.ruled {
        Ruled::Allow(_) => true,
        // There is no page to show; who has justified this before goes on.
        Ruled::Coach(coached) => {
            answer::is_remembered(flow, &tenant, asked, ruling.app.id.as_ref(), coached.rule)
        }
        Ruled::Block(_) | Ruled::Redirect | Ruled::Pending(_) => false,
    };
    let mut noted = noted.lock();
    if let Ok(Held { searched: Some(Ok(searched)), .. }) = &held {
        noted.found(&searched.hits);
    }
    if carrier == Carrier::Grpc
        && let Ok(held) = &held
    {
        noted.weigh(held, goes_on);
    }
    noted.note(&tenant, ruling, goes_on);
    goes_on
}

impl Noted {
    fn found(&mut self, hits: &[Hit]) {
        for hit in hits {
            let alike = |it: &&mut Hit| it.profile == hit.profile && it.entity == hit.entity;
            match self.dlp.iter_mut().find(alike) {
                Some(known) => known.count += hit.count,
                None => self.dlp.push(hit.clone()),
            }
        }
    }

    /// Keeps what a record says of content: replay judges by it.
    fn weigh(&mut self, held: &Held, goes_on: bool) {
        let bytes = held.file_size.unwrap_or(0);
        if !goes_on || self.content.as_ref().is_none_or(|(_, most)| bytes > *most) {
            self.content = Some((held.file_type.as_deref().map(Text::copied), bytes));
        }
    }

    fn note(&mut self, tenant: &Tenant, mut ruling: Ruling, goes_on: bool) {
        let name = |rule: RuleIndex| tenant.policy.rule(rule).map(|rule| Text::copied(&rule.name));
        let rule = ruling.rule.and_then(name);
        let action = ruling.ruled.action();
        for alert in ruling.alerts.iter().filter_map(|alert| name(*alert)) {
            if !self.alerts.contains(&alert) {
                self.alerts.push(alert);
            }
        }
        let app = &mut ruling.app;
        let mut done = std::mem::take(&mut app.operations);
        // What says nothing is no operation: a heartbeat, a setting.
        let says = app.activity.as_ref().is_some_and(|activity| activity.as_str() != "browse");
        if done.is_empty() && (says || !goes_on) {
            done.push(Operation {
                activity: app.activity.take(),
                object: app.object.take(),
                to_user: app.to_user.take(),
                action: Some(action.into()),
                rule: rule.clone(),
            });
        }
        for operation in done {
            if self.operations.len() < OPERATIONS_MAX && !self.operations.contains(&operation) {
                self.operations.push(operation);
            }
        }
        if !goes_on {
            let reason = match ruling.ruled {
                Ruled::Block(reason) => reason_label(reason),
                Ruled::Pending(_) => "undecided",
                _ => "rule",
            };
            let action = if action == "allow" { "block" } else { action };
            self.stop = Some(Stop { action, rule, reason });
        }
    }
}
