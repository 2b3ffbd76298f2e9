//! What `explain` answers, in the form its `--json` has.

use policy::catalog::{Operation, Site};
use policy::decrypt::DecryptAction;
use policy::fact::{Key, KeySet};
use policy::verdict::RuleIndex;
use policy::{Judged, Policy, RuleTrace, Trace};
use serde::Serialize;

use super::super::exchange::Ruling;
use super::super::question::Question;

/// A verdict and its reasons. Holds what the question held, so it is for whoever asked.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub url: String,
    pub method: String,
    pub user: String,
    pub device: Option<String>,
    pub groups: Vec<String>,
    pub app: Option<String>,
    pub category: Option<String>,
    pub risk: Option<u8>,
    pub instance: Option<String>,
    pub instance_kind: Option<&'static str>,
    pub activity: Option<String>,
    pub object: Option<String>,
    pub operations: Vec<OperationTrace>,
    pub decrypt: Decryption,
    /// `allow`, `block`, `coach`, `redirect`, or `pending` where more must be known.
    pub action: &'static str,
    /// The rule that decides; `None` where the default does.
    pub rule: Option<String>,
    /// Of a block: as in events.
    pub block_reason: Option<String>,
    /// The keys that must be known before there is a verdict.
    pub waits_for: Vec<&'static str>,
    /// What to say with the question so that they are: `body` or `dest_ip`.
    pub give: Vec<&'static str>,
    pub alerts: Vec<String>,
    pub set_headers: Vec<SetHeaders>,
    /// The deciding rule, key by key.
    pub why: Option<RuleTrace>,
    /// Rules that came near, those that lack the least first.
    pub near: Vec<NearRule>,
    /// What was said at each gate, in order; of each operation where there are several.
    pub gates: Vec<GateTrace>,
}

/// One thing the request does, and what is said of it.
#[derive(Clone, Debug, Serialize)]
pub struct OperationTrace {
    pub activity: &'static str,
    pub object: Option<String>,
    pub object_type: Option<String>,
    pub from_user: Option<String>,
    pub to_user: Option<String>,
    pub action: &'static str,
    pub rule: Option<String>,
}

/// Whether the flow is taken apart.
#[derive(Clone, Debug, Serialize)]
pub struct Decryption {
    /// `decrypt`, `bypass`, `block`, or `not_tls`.
    pub action: &'static str,
    /// The rule that says so; `None` where the default does.
    pub rule: Option<String>,
}

/// A rule that adds headers. Their values stay in the policy: some are credentials.
#[derive(Clone, Debug, Serialize)]
pub struct SetHeaders {
    pub rule: String,
    pub headers: Vec<String>,
}

/// A rule that does not match, and what keeps it from that.
#[derive(Clone, Debug, Serialize)]
pub struct NearRule {
    pub rule: String,
    pub line: u32,
    pub action: &'static str,
    pub lacked: Vec<Lack>,
}

/// One key that does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Lack {
    pub key: &'static str,
    pub wanted: String,
    pub seen: String,
}

/// One gate.
#[derive(Clone, Debug, Serialize)]
pub struct GateTrace {
    /// Index in `operations`; absent at the connect gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
    #[serde(flatten)]
    pub trace: Trace,
}

impl Decryption {
    pub(super) fn of(action: DecryptAction, rule: Option<String>) -> Self {
        Self { action: action.name(), rule }
    }

    pub(super) fn not_tls() -> Self {
        Self { action: "not_tls", rule: None }
    }
}

impl Explanation {
    /// What the name alone says.
    pub(super) fn of_site(question: &Question, site: &Site<'_>, decrypt: Decryption) -> Self {
        let request = &question.request;
        let url =
            format!("{}://{}{}", request.scheme.as_str(), request.authority(), request.target());
        Self {
            url,
            method: request.method().to_owned(),
            user: question.who.user.to_string(),
            device: question.who.device.as_deref().map(str::to_owned),
            groups: question.who.groups.iter().map(ToString::to_string).collect(),
            app: site.app.map(str::to_owned),
            category: site.categories.first().map(|category| (*category).to_owned()),
            risk: site.risk,
            instance: None,
            instance_kind: None,
            activity: None,
            object: None,
            operations: Vec::new(),
            decrypt,
            action: "allow",
            rule: None,
            block_reason: None,
            waits_for: Vec::new(),
            give: Vec::new(),
            alerts: Vec::new(),
            set_headers: Vec::new(),
            why: None,
            near: Vec::new(),
            gates: Vec::new(),
        }
    }

    pub(super) fn settle(&mut self, action: &'static str, rule: Option<String>) {
        self.action = action;
        self.rule = rule;
    }

    /// The decrypt rules refuse the flow.
    pub(super) fn block_flow(&mut self, reason: &str) {
        let rule = self.decrypt.rule.clone();
        self.settle("block", rule);
        self.block_reason = Some(reason.to_owned());
        self.why = None;
        self.near.clear();
    }

    pub(super) fn wait_for(&mut self, keys: KeySet) {
        self.waits_for = keys.iter().map(Key::name).collect();
        // The address of the destination is the one fact beside the body that comes later.
        let address = keys.iter().any(|key| key == Key::DestIp);
        let body = keys.iter().any(|key| key != Key::DestIp);
        self.give = [("dest_ip", address), ("body", body)]
            .into_iter()
            .filter_map(|(what, wanted)| wanted.then_some(what))
            .collect();
    }

    /// Alerts and headers of the last gate asked; a later gate replaces an earlier one.
    pub(super) fn notes(&mut self, policy: &Policy, alerts: &[RuleIndex], headers: &[RuleIndex]) {
        let rule = |rule: &RuleIndex| policy.rule(*rule);
        self.alerts = alerts.iter().filter_map(rule).map(|rule| rule.name.clone()).collect();
        self.set_headers = headers
            .iter()
            .filter_map(rule)
            .map(|rule| SetHeaders {
                rule: rule.name.clone(),
                headers: rule.headers.iter().map(|(name, _)| name.clone()).collect(),
            })
            .collect();
    }

    /// Takes over the connect gate's trace; its reasons are the verdict's where it `ends` there.
    pub(super) fn connect_gate(&mut self, trace: Trace, ends: bool) {
        if ends {
            self.reasons(&trace);
        }
        self.gates.push(GateTrace { operation: None, trace });
    }

    /// Takes over a gate of the exchange: app and operations, and the reasons of the operation
    /// whose `rule` decides for all.
    pub(super) fn exchange_gate(
        &mut self,
        ruling: &Ruling,
        rule: Option<&str>,
        traces: Vec<(Operation<'static>, Trace)>,
    ) {
        let text = |text: &Option<crate::event::Text>| text.as_ref().map(ToString::to_string);
        self.app = text(&ruling.app.id);
        self.category = text(&ruling.app.category);
        self.risk = ruling.app.risk;
        self.instance = text(&ruling.app.instance);
        self.instance_kind = ruling.app.instance_kind.map(crate::event::InstanceKind::as_str);
        self.activity = text(&ruling.app.activity);
        self.object = text(&ruling.app.object);
        let by_rule = |trace: &Trace| trace.rule.as_ref().map(|it| it.name.as_str()) == rule;
        let deciding = traces.iter().find(|(_, trace)| by_rule(trace)).or_else(|| traces.first());
        if let Some((_, trace)) = deciding {
            self.reasons(trace);
        }
        self.operations =
            traces.iter().map(|(operation, trace)| operation_trace(operation, trace)).collect();
        let gates = traces.into_iter().enumerate();
        self.gates
            .extend(gates.map(|(index, (_, trace))| GateTrace { operation: Some(index), trace }));
    }

    fn reasons(&mut self, trace: &Trace) {
        self.why = trace.rule.clone();
        self.near = trace.near.iter().map(near).collect();
    }
}

fn operation_trace(operation: &Operation<'_>, trace: &Trace) -> OperationTrace {
    let text = |text: Option<&str>| text.map(str::to_owned);
    OperationTrace {
        activity: operation.activity,
        object: text(operation.object.as_deref()),
        object_type: text(operation.object_type.as_deref()),
        from_user: text(operation.from_user.as_deref()),
        to_user: text(operation.to_user.as_deref()),
        action: match &trace.judged {
            Judged::Pending(_) => "pending",
            Judged::GoOn => "allow",
            Judged::Rule { action, .. } | Judged::Default { action } => action,
        },
        rule: trace.rule.as_ref().map(|rule| rule.name.clone()),
    }
}

fn near(rule: &RuleTrace) -> NearRule {
    NearRule {
        rule: rule.name.clone(),
        line: rule.line,
        action: rule.action,
        lacked: rule
            .keys
            .iter()
            .map(|key| Lack { key: key.key, wanted: key.wants.clone(), seen: key.saw.clone() })
            .collect(),
    }
}
