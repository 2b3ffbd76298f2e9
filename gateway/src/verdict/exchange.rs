//! The exchange gates: what an exchange's operations are, and what policy says of the strictest.

use policy::Policy;
use policy::catalog::{Catalog, Classification, Operation};
use policy::fact::{Gate, KeySet, Unobtainable};
use policy::verdict::{BlockReason, Outcome, RuleIndex, SendPermit, Verdict};
use smallvec::SmallVec;

use super::accounts::Account;
use super::connect::ConnectSubject;
use super::facts;
use super::held::{Held, Settled};
use super::response::ResponseFacts;
use crate::config::TenantConfig;
use crate::event::{self, Text};
use crate::exchange::Request;

/// What is known of the request's body.
#[derive(Clone, Copy, Debug)]
pub enum BodyFacts<'a> {
    /// There is none.
    None,
    /// It has not been read; it can be held.
    Unread,
    Held(&'a Held),
    /// It was held, judged and sent.
    Settled(&'a Settled),
    /// It was sent unread: no rule that could win asked for it.
    Passed,
    /// It cannot be held, or not whole.
    Unobtainable(Unobtainable),
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
    /// The account that the user last signed in to the app with.
    pub account: Option<&'a Account>,
    /// Only at the response gate.
    pub response: Option<ResponseFacts<'a>>,
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
    /// What `alert` rules still need; it is gathered beside the transfer.
    pub alerts_wait_for: KeySet,
    /// The body shows who signs in, which is worth remembering.
    pub shows_account: bool,
    /// What the record says of app, instance, activity and object.
    pub app: event::App,
}

impl Ruling {
    /// Whether a rule that could still win waits for the address of the destination.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        matches!(&self.ruled, Ruled::Pending(keys) if keys.by_address())
    }

    /// Whether an `alert` rule waits for the body, which goes on meanwhile.
    #[must_use]
    pub fn watches_body(&self) -> bool {
        let goes_on = matches!(self.ruled, Ruled::Allow(_) | Ruled::Coach(_));
        goes_on && !self.alerts_wait_for.at(Gate::RequestBody).is_empty()
    }

    /// Whether a rule that could still win waits for the body.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        match &self.ruled {
            Ruled::Pending(_) => true,
            Ruled::Block(_) => false,
            Ruled::Allow(_) | Ruled::Coach(_) | Ruled::Redirect => {
                !self.waits_for.at(Gate::RequestBody).is_empty()
            }
        }
    }
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
    judge_each(subject, gate, |_, _| {})
}

/// Judges all operations of an exchange whose body is held, and tells what of it is kept for the
/// response gate. A body is read once for both.
#[must_use]
pub fn on_held(subject: &Subject<'_>, held: &Held) -> (Ruling, Settled) {
    let mut settled =
        Settled { held: held.without_bytes(), instance: None, operations: SmallVec::new() };
    let ruling = judge_each(subject, Gate::RequestBody, |classification, operation| {
        settled.instance = classification.instance.as_deref().map(ToOwned::to_owned);
        settled.operations.push(operation.clone().into_owned());
    });
    (ruling, settled)
}

fn judge_each(
    subject: &Subject<'_>,
    gate: Gate,
    mut note: impl FnMut(&Classification<'_, '_>, &Operation<'_>),
) -> Ruling {
    let mut judged: Option<Judged> = None;
    let mut operations = Vec::new();
    let mut shows_account = false;
    let mut app = facts::of_each_operation(subject, |classification, operation, facts| {
        note(classification, operation);
        shows_account |= classification.wants_body && operation.activity == "login";
        let next = Judged::of(subject.policy.judge(gate, facts));
        if classification.operations.len() > 1 {
            operations.push(operation_record(subject.policy, operation, &next));
        }
        judged = Some(match judged.take() {
            None => next,
            Some(before) => before.stricter(next),
        });
    });
    app.operations = operations;
    let judged = judged.unwrap_or_else(Judged::nothing);
    Ruling {
        ruled: judged.ruled,
        rule: judged.rule,
        alerts: judged.alerts,
        set_headers: judged.set_headers,
        waits_for: judged.waits_for,
        alerts_wait_for: judged.alerts_wait_for,
        shows_account,
        app,
    }
}

/// What the record says of an exchange that had no verdict of its own.
#[must_use]
pub fn describe(subject: &Subject<'_>) -> event::App {
    facts::of_each_operation(subject, |_, _, _| {})
}

/// One operation's verdict, in a form that can be compared.
struct Judged {
    ruled: Ruled,
    rule: Option<RuleIndex>,
    alerts: SmallVec<[RuleIndex; 4]>,
    set_headers: SmallVec<[RuleIndex; 4]>,
    waits_for: KeySet,
    alerts_wait_for: KeySet,
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
            alerts_wait_for: verdict.alerts_wait_for,
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
            alerts_wait_for: KeySet::EMPTY,
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
        first.alerts_wait_for = first.alerts_wait_for.union(second.alerts_wait_for);
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
