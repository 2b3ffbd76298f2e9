//! Asks policy about the messages of one WebSocket, and notes what they did for its record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::target::canonical_path;
use parking_lot::Mutex;
use policy::catalog::MESSAGE;
use policy::fact::{Gate, Unobtainable};
use policy::verdict::RuleIndex;

use super::answer::{self, reason_label};
use super::flow::Flow;
use super::judge::{Asking, account_of};
use super::messages::{Holding, Judge};
use crate::event::{OPERATIONS_MAX, Operation, Text};
use crate::exchange::{Length, Request};
use crate::snapshot::Tenant;
use crate::verdict::{BodyFacts, Held, Ruled, Ruling};

/// Largest message that is read: what the catalog looks into, and far more than a prompt has.
const MESSAGE_BYTES_MAX: usize = policy::catalog::BODY_BYTES_MAX;

/// What the messages since the last look did.
#[derive(Default)]
pub(super) struct Noted {
    /// Each once; they are many alike.
    pub(super) operations: Vec<Operation>,
    /// Rules that alerted, each once.
    pub(super) alerts: Vec<Text>,
    pub(super) stop: Option<Stop>,
}

/// The verdict that ended the WebSocket.
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

/// What judges the messages of a WebSocket, and where it notes what they did.
pub(super) fn gate(
    flow: &Arc<Flow>,
    tenant: &Tenant,
    request: &Request,
    url: &str,
) -> (Judge, Holding, Arc<Mutex<Noted>>) {
    let limits = &tenant.config.limits;
    let holding = Holding {
        budget: flow.worker.pop.holds.clone(),
        bytes_max: usize::try_from(limits.hold_bytes.bytes())
            .map_or(MESSAGE_BYTES_MAX, |bytes| bytes.min(MESSAGE_BYTES_MAX)),
        time_max: Duration::from_millis(limits.hold_ms),
    };
    let noted = Arc::new(Mutex::new(Noted::default()));
    let (flow, url, notes) = (Arc::clone(flow), url.to_owned(), Arc::clone(&noted));
    let asked = as_message(request);
    let judge = Box::new(move |content| judge(&flow, &asked, &url, content, &notes));
    (judge, holding, noted)
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
    content: Result<Vec<u8>, Unobtainable>,
    noted: &Mutex<Noted>,
) -> bool {
    let Some(tenant) = flow.tenant() else { return false };
    let account = account_of(flow, asked);
    let account = account.as_deref();
    let asking = Asking { flow, tenant: &tenant, url, request: asked, account };
    let held = content.and_then(|bytes| Held::of(b"application/json", bytes.into()));
    let body = match &held {
        Ok(held) => BodyFacts::Held(held),
        Err(why) => BodyFacts::Unobtainable(*why),
    };
    // Nothing of a message is known later than the message.
    let ruling = asking.judge(body, Gate::Response, None);
    let goes_on = match &ruling.ruled {
        Ruled::Allow(_) => true,
        // There is no page to show; who has justified this before goes on.
        Ruled::Coach(coached) => {
            answer::is_remembered(flow, &tenant, asked, ruling.app.id.as_ref(), coached.rule)
        }
        Ruled::Block(_) | Ruled::Redirect | Ruled::Pending(_) => false,
    };
    noted.lock().note(&tenant, ruling, goes_on);
    goes_on
}

impl Noted {
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
