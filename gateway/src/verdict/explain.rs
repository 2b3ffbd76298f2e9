//! Why a request would be decided as it would: the driver's questions, asked without a tunnel.
//!
//! ```text
//! guard → connect gate → decrypt rules → request head → request body, where a rule waits for it
//! ```

mod answer;

pub use answer::{Decryption, Explanation, GateTrace, Lack, NearRule, OperationTrace, SetHeaders};

use std::net::SocketAddr;

use gateway_proto::target::canonical_path;
use policy::catalog::Catalog;
use policy::decrypt::DecryptAction;
use policy::fact::{Gate, KeySet, Unobtainable};
use policy::verdict::{BlockReason, Outcome, RuleIndex};

use super::connect::{ConnectSubject, connect, decrypt};
use super::exchange::{BodyFacts, Ruled, Ruling, Subject, on_exchange};
use super::facts;
use super::held::Held;
use super::question::Question;
use crate::exchange::Scheme;
use crate::flow::guard::Guard;
use crate::ident::AccessMethod;
use crate::snapshot::{Places, Tenant};

/// What the question is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub tenant: &'a Tenant,
    pub catalog: &'a Catalog,
    pub guard: &'a Guard,
    pub places: &'a Places,
}

/// Decides a request that was not made, and says why. Nothing is resolved or dialled.
#[must_use]
pub fn explain(setting: &Setting<'_>, question: &Question) -> Explanation {
    let host = question.request.host.text();
    let address = question.request.host.ip().or(question.address);
    let mut connect = ConnectSubject {
        who: &question.who,
        access: AccessMethod::Tls,
        source: question.source,
        host: &host,
        address,
        port: question.request.port,
        places: Some(setting.places),
        now: question.now,
        labels: &setting.tenant.labels,
        site: setting.catalog.settled_site(&host),
    };
    let site = setting.catalog.site(&host);
    let (action, rule) = decrypt(&setting.tenant.decrypt, &connect, &site);
    let rule = rule.map(|rule| rule.name.clone());
    let tls = question.request.scheme == Scheme::Https;
    let decryption = if tls { Decryption::of(action, rule) } else { Decryption::not_tls() };
    let mut answer = Explanation::of_site(question, &site, decryption);
    let unread = tls && action != DecryptAction::Decrypt;
    if unread {
        connect.site = Some(site);
    }
    let mut asking = Asking { setting, question, answer: &mut answer };
    if asking.guarded(address) || asking.connect(&connect, unread) {
        return answer;
    }
    match action {
        DecryptAction::Block if tls => answer.block_flow("decrypt_rule"),
        DecryptAction::Bypass if tls => {}
        DecryptAction::Decrypt | DecryptAction::Bypass | DecryptAction::Block => {
            asking.exchange(connect);
        }
    }
    answer
}

/// One question on its way through the gates.
struct Asking<'a> {
    setting: &'a Setting<'a>,
    question: &'a Question,
    answer: &'a mut Explanation,
}

impl Asking<'_> {
    /// Whether the destination may not be dialled whatever the policy says.
    fn guarded(&mut self, address: Option<std::net::IpAddr>) -> bool {
        let request = &self.question.request;
        let guard = self.setting.guard;
        let by_address = address
            .map_or(Ok(()), |address| guard.check_address(SocketAddr::new(address, request.port)));
        match guard.check_name(&request.host, request.port).and(by_address) {
            Ok(()) => false,
            Err(refused) => {
                self.answer.settle("block", None);
                self.answer.block_reason = Some(refused.label().to_owned());
                true
            }
        }
    }

    /// Asks the connect gate; whether that ends it. A flow that is `unread` has only this gate.
    fn connect(&mut self, subject: &ConnectSubject<'_>, unread: bool) -> bool {
        let policy = &self.setting.tenant.policy;
        let verdict = connect(policy, subject);
        let trace = facts::of_flow(subject, |facts| policy.explain(Gate::Connect, facts));
        self.answer.notes(policy, &verdict.alerts, &verdict.set_headers);
        let (action, rule) = match &verdict.outcome {
            Outcome::Pending(_) => ("pending", None),
            Outcome::Allow { rule, .. } => ("allow", *rule),
            Outcome::Block { rule, .. } => ("block", *rule),
            Outcome::Coach(coached) => ("coach", Some(coached.rule)),
            Outcome::Redirect { rule } => ("redirect", Some(*rule)),
        };
        let ends = matches!(action, "pending" | "block" | "redirect");
        self.answer.settle(action, self.name(rule));
        if let Outcome::Block { reason, .. } = &verdict.outcome {
            self.answer.block_reason = Some(reason_text(*reason));
        }
        if let Outcome::Pending(keys) = verdict.outcome {
            self.answer.wait_for(keys);
        }
        self.answer.connect_gate(trace, ends || unread);
        ends
    }

    /// Asks the gates of the exchange as the driver does.
    fn exchange(&mut self, connect: ConnectSubject<'_>) {
        let request = &self.question.request;
        let (path, query) =
            request.target().split_once('?').unwrap_or_else(|| (request.target(), ""));
        let path = canonical_path(path.as_bytes());
        let url = self.answer.url.clone();
        let mut subject = Subject {
            policy: &self.setting.tenant.policy,
            catalog: self.setting.catalog,
            config: &self.setting.tenant.config,
            connect,
            request,
            path: path.as_str(),
            query,
            url: &url,
            body: if request.body.is_none() { BodyFacts::None } else { BodyFacts::Unread },
            account: None,
            response: None,
        };
        let ruling = self.gate(&subject, Gate::RequestHead);
        if request.body.is_none() || !ruling.needs_body() {
            return self.settle(ruling, false);
        }
        let held = match &self.question.body {
            None => return self.settle(ruling, true),
            Some(bytes) => {
                let bound = self.setting.tenant.config.limits.hold_bytes.bytes();
                let content_type = request.fields.first("content-type");
                match u64::try_from(bytes.len()) {
                    Ok(size) if size <= bound => {
                        let held = Held::of(content_type.map_or(b"", |it| it), bytes.clone());
                        held.map(|mut held| {
                            let bound = usize::try_from(bound).unwrap_or(usize::MAX);
                            held.search(&request.fields, &self.setting.tenant.profiles, bound);
                            held
                        })
                    }
                    _ => Err(Unobtainable::Bound),
                }
            }
        };
        subject.body = match &held {
            Ok(held) => BodyFacts::Held(held),
            Err(why) => BodyFacts::Unobtainable(*why),
        };
        let ruling = self.gate(&subject, Gate::RequestBody);
        self.settle(ruling, false);
    }

    /// Asks one gate and keeps what it said of each operation.
    fn gate(&mut self, subject: &Subject<'_>, gate: Gate) -> Ruling {
        let policy = subject.policy;
        let ruling = on_exchange(subject, gate);
        let mut traces = Vec::new();
        facts::of_each_operation(subject, |_, operation, facts| {
            traces.push((operation.clone().into_owned(), policy.explain(gate, facts)));
        });
        self.answer.exchange_gate(&ruling, self.name(ruling.rule).as_deref(), traces);
        ruling
    }

    /// Takes over the last gate's ruling. `unseen` where rules wait for a body nobody has given.
    fn settle(&mut self, ruling: Ruling, unseen: bool) {
        let policy = &self.setting.tenant.policy;
        self.answer.notes(policy, &ruling.alerts, &ruling.set_headers);
        let keys = match &ruling.ruled {
            Ruled::Pending(keys) => *keys,
            _ => KeySet::EMPTY,
        };
        if let Ruled::Block(reason) = &ruling.ruled {
            self.answer.block_reason = Some(reason_text(*reason));
        }
        if unseen || !keys.is_empty() {
            self.answer.settle("pending", None);
            let of_body = ruling.waits_for.at(Gate::RequestBody);
            self.answer.wait_for(if unseen { keys.union(of_body) } else { keys });
        } else {
            self.answer.settle(ruling.ruled.action(), self.name(ruling.rule));
        }
    }

    fn name(&self, rule: Option<RuleIndex>) -> Option<String> {
        rule.and_then(|rule| self.setting.tenant.policy.rule(rule)).map(|rule| rule.name.clone())
    }
}

/// As events say it.
fn reason_text(reason: BlockReason) -> String {
    match reason {
        BlockReason::Rule => "rule".to_owned(),
        BlockReason::Default => "default".to_owned(),
        BlockReason::Unobtainable(key) => format!("unobtainable:{}", key.name()),
    }
}
