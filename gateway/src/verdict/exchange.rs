//! The exchange gates: what an exchange's operations are, and what policy says of the strictest.

use policy::Policy;
use policy::catalog::{Catalog, Classification, Operation, RequestView};
use policy::fact::{Fact, Facts, Gate, Key, KeySet, Unobtainable, Value};
use policy::verdict::{BlockReason, Outcome, RuleIndex, SendPermit, Verdict};
use smallvec::SmallVec;

use super::connect::{ConnectSubject, groups, set_connect_facts, set_site_facts, text};
use super::instance;
use crate::config::TenantConfig;
use crate::event::{self, InstanceKind, Text};
use crate::exchange::Request;

/// What is known of the request's body.
#[derive(Clone, Copy, Debug)]
pub enum BodyFacts<'a> {
    /// There is none.
    None,
    /// It has not been read; it can be held.
    Unread,
    Held(&'a Held),
    /// It cannot be held, or not whole.
    Unobtainable(Unobtainable),
}

/// A body that is held back, whole, until it has been judged.
#[derive(Debug, Default)]
pub struct Held {
    pub bytes: bytes::Bytes,
    /// Of every file in it, as either spelling gives it.
    pub file_names: Vec<String>,
    pub file_type: Option<String>,
    /// Of the largest file, bytes.
    pub file_size: Option<u64>,
}

/// Everything a verdict on an exchange looks at.
pub struct Subject<'a> {
    pub policy: &'a Policy,
    pub catalog: &'a Catalog,
    pub config: &'a TenantConfig,
    pub connect: ConnectSubject<'a>,
    pub request: &'a Request,
    /// Canonical path, without query.
    pub path: &'a str,
    pub query: &'a str,
    /// `scheme://host/path?query`.
    pub url: &'a str,
    pub body: BodyFacts<'a>,
}

/// What policy says of an exchange at one gate.
pub struct Ruling {
    pub ruled: Ruled,
    /// The rule that decided, if one did.
    pub rule: Option<RuleIndex>,
    pub alerts: SmallVec<[RuleIndex; 4]>,
    pub set_headers: SmallVec<[RuleIndex; 4]>,
    /// Facts that later gates must gather; those of the body mean that it is held.
    pub waits_for: KeySet,
    /// What the record says of app, instance, activity and object.
    pub app: event::App,
}

/// The strictest outcome over all operations.
pub enum Ruled {
    Allow(SendPermit),
    Block(BlockReason),
    Coach(policy::verdict::Coached),
    Redirect,
    /// These facts are needed first.
    Pending(KeySet),
}

impl Ruled {
    /// Block above coach above redirect above what is not known yet above allow: an exchange goes
    /// on only if each of its operations may.
    fn strictness(&self) -> u8 {
        match self {
            Self::Allow(_) => 0,
            Self::Pending(_) => 1,
            Self::Redirect => 2,
            Self::Coach(_) => 3,
            Self::Block(_) => 4,
        }
    }

    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Allow(_) | Self::Pending(_) => "allow",
            Self::Redirect => "redirect",
            Self::Coach(_) => "coach",
            Self::Block(_) => "block",
        }
    }
}

/// Judges all operations of an exchange at `gate`.
#[must_use]
pub fn on_exchange(subject: &Subject<'_>, gate: Gate) -> Ruling {
    let header = |name: &str| subject.request.fields.text(name);
    let classification = subject.catalog.classify(&RequestView {
        method: subject.request.method(),
        host: subject.connect.host,
        path: subject.path,
        query: subject.query,
        header: &header,
        body: match subject.body {
            BodyFacts::Held(held) => Some(&held.bytes),
            _ => None,
        },
    });
    let configured = classification.site.app.and_then(|app| subject.config.instances.get(app));
    let instance_kind = instance::kind(configured, classification.instance.as_deref());

    let groups = groups(subject.connect.session);
    let mut instances: SmallVec<[&str; 2]> = SmallVec::new();
    instances.push(instance_kind.as_str());
    instances.extend(classification.instance.as_deref());

    let file_names: SmallVec<[&str; 4]> = match subject.body {
        BodyFacts::Held(held) => held.file_names.iter().map(String::as_str).collect(),
        _ => SmallVec::new(),
    };
    let mut facts = Facts::new();
    set_connect_facts(&mut facts, &subject.connect, &groups);
    set_site_facts(&mut facts, &classification.site);
    set_request_facts(&mut facts, subject, &classification, &instances, &file_names);

    let mut judged: Option<Judged> = None;
    let several = classification.operations.len() > 1;
    let mut operations = Vec::new();
    for operation in &classification.operations {
        set_operation_facts(&mut facts, subject, &classification, operation);
        let verdict = subject.policy.judge(gate, &facts);
        let next = Judged::of(verdict);
        if several {
            operations.push(operation_record(subject.policy, operation, &next));
        }
        judged = Some(match judged {
            None => next,
            Some(before) => before.stricter(next),
        });
    }
    let mut app = app_record(&classification, instance_kind);
    app.operations = operations;
    let judged = judged.unwrap_or_else(Judged::nothing);
    Ruling {
        ruled: judged.ruled,
        rule: judged.rule,
        alerts: judged.alerts,
        set_headers: judged.set_headers,
        waits_for: judged.waits_for,
        app,
    }
}

fn set_request_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    instances: &'f [&'f str],
    file_names: &'f [&'f str],
) {
    let undecided = classification.wants_body && matches!(subject.body, BodyFacts::Unread);
    facts.set(Key::Instance, pending_if(undecided, Fact::Known(Value::Texts(instances))));
    facts.set(Key::Url, Fact::Known(Value::Text(subject.url)));
    facts.set(Key::Method, Fact::Known(Value::Text(subject.request.method())));
    let by_body = |fact: Option<Fact<'f>>| match subject.body {
        BodyFacts::None => Fact::Inapplicable,
        BodyFacts::Unread => fact.unwrap_or(Fact::Deferred),
        BodyFacts::Held(_) => fact.unwrap_or(Fact::Inapplicable),
        BodyFacts::Unobtainable(why) => fact.unwrap_or(Fact::Unobtainable(why)),
    };
    let held = match subject.body {
        BodyFacts::Held(held) => Some(held),
        _ => None,
    };
    let known = |value: Option<&'f str>| value.map(|it| Fact::Known(Value::Text(it)));
    facts.set(Key::ContentType, by_body(known(subject.request.fields.text("content-type"))));
    let names = (!file_names.is_empty()).then_some(Fact::Known(Value::Texts(file_names)));
    facts.set(Key::FileName, by_body(names));
    facts.set(Key::FileType, by_body(known(held.and_then(|it| it.file_type.as_deref()))));
    let size = held.and_then(|it| it.file_size).map(|it| Fact::Known(Value::Number(it)));
    facts.set(Key::FileSize, by_body(size));
    // No engine is part of this gateway yet: there is nothing such rules could match, and `check`
    // says so of each.
    facts.set(Key::Dlp, Fact::Inapplicable);
    facts.set(Key::Threat, Fact::Inapplicable);
    facts.set(Key::Inspection, Fact::Known(Value::Text("none")));
}

fn set_operation_facts<'f>(
    facts: &mut Facts<'f>,
    subject: &'f Subject<'_>,
    classification: &'f Classification<'_, '_>,
    operation: &'f Operation<'_>,
) {
    let undecided = classification.wants_body && matches!(subject.body, BodyFacts::Unread);
    let activity = Fact::Known(Value::Text(operation.activity));
    facts.set(Key::Activity, pending_if(undecided, activity));
    facts.set(Key::FromUser, pending_if(undecided, text(operation.from_user.as_deref())));
    facts.set(Key::ToUser, pending_if(undecided, text(operation.to_user.as_deref())));
}

fn pending_if(undecided: bool, fact: Fact<'_>) -> Fact<'_> {
    if undecided { Fact::Pending } else { fact }
}

/// One operation's verdict, in a form that can be compared.
struct Judged {
    ruled: Ruled,
    rule: Option<RuleIndex>,
    alerts: SmallVec<[RuleIndex; 4]>,
    set_headers: SmallVec<[RuleIndex; 4]>,
    waits_for: KeySet,
}

impl Judged {
    fn of(verdict: Verdict<SendPermit>) -> Self {
        let (ruled, rule) = match verdict.outcome {
            Outcome::Pending(keys) => (Ruled::Pending(keys), None),
            Outcome::Allow { permit, rule } => (Ruled::Allow(permit), rule),
            Outcome::Block { rule, reason } => (Ruled::Block(reason), rule),
            Outcome::Coach(coached) => {
                let rule = coached.rule;
                (Ruled::Coach(coached), Some(rule))
            }
            Outcome::Redirect { rule } => (Ruled::Redirect, Some(rule)),
        };
        Self {
            ruled,
            rule,
            alerts: verdict.alerts,
            set_headers: verdict.set_headers,
            waits_for: verdict.waits_for,
        }
    }

    /// An exchange without operations does not exist; if one did, nothing allowed it.
    fn nothing() -> Self {
        Self {
            ruled: Ruled::Block(BlockReason::Default),
            rule: None,
            alerts: SmallVec::new(),
            set_headers: SmallVec::new(),
            waits_for: KeySet::EMPTY,
        }
    }

    /// The stricter of two operations decides; alerts, headers and waits add up.
    fn stricter(self, other: Self) -> Self {
        let (mut first, second) = if other.ruled.strictness() > self.ruled.strictness() {
            (other, self)
        } else {
            (self, other)
        };
        for alert in second.alerts {
            if !first.alerts.contains(&alert) {
                first.alerts.push(alert);
            }
        }
        for rule in second.set_headers {
            if !first.set_headers.contains(&rule) {
                first.set_headers.push(rule);
            }
        }
        first.waits_for = first.waits_for.union(second.waits_for);
        if let (Ruled::Pending(mine), Ruled::Pending(theirs)) = (&mut first.ruled, &second.ruled) {
            *mine = mine.union(*theirs);
        }
        first
    }
}

fn operation_record(
    policy: &Policy,
    operation: &Operation<'_>,
    judged: &Judged,
) -> event::Operation {
    event::Operation {
        activity: Some(operation.activity.into()),
        object: operation.object.as_deref().map(Text::copied),
        to_user: operation.to_user.as_deref().map(Text::copied),
        action: Some(judged.ruled.action().into()),
        rule: judged.rule.and_then(|rule| policy.rule(rule)).map(|rule| Text::copied(&rule.name)),
    }
}

fn app_record(classification: &Classification<'_, '_>, kind: InstanceKind) -> event::App {
    let first = classification.operations.first();
    let copied = |text: Option<&str>| text.map(Text::copied);
    event::App {
        id: copied(classification.site.app),
        category: classification.site.categories.first().map(|it| Text::copied(it)),
        tags: classification.site.tags.iter().map(|tag| Text::copied(tag)).collect(),
        risk: classification.site.risk,
        instance: copied(classification.instance.as_deref()),
        instance_kind: classification.site.app.map(|_| kind),
        activity: first.map(|operation| operation.activity.into()),
        object: copied(first.and_then(|it| it.object.as_deref())),
        object_type: copied(first.and_then(|it| it.object_type.as_deref())),
        from_user: copied(first.and_then(|it| it.from_user.as_deref())),
        to_user: copied(first.and_then(|it| it.to_user.as_deref())),
        operations: Vec::new(),
    }
}
