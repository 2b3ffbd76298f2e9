//! A recorded transaction or flow, and the facts it carries for another judgement.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use policy::Policy;
use policy::catalog::Catalog;
use policy::fact::{Fact, Facts, Gate, Key, KeySet, Value};
use policy::verdict::{Outcome, RuleIndex};
use smallvec::SmallVec;

use super::recorded_app;
use super::recorded_line::{RecordedHit, RecordedThreat};
use crate::event::is_cut;
use crate::verdict::file_type;

/// The fields of an event line that say what happened. Others are passed over.
#[derive(Debug, Default)]
pub(super) struct Recorded<'l> {
    pub(super) id: Cow<'l, str>,
    pub(super) record_type: Cow<'l, str>,
    pub(super) state: Cow<'l, str>,
    pub(super) time: Cow<'l, str>,
    pub(super) user: Option<Cow<'l, str>>,
    pub(super) groups: Vec<Cow<'l, str>>,
    pub(super) device: Option<Cow<'l, str>>,
    pub(super) device_class: Option<Cow<'l, str>>,
    pub(super) os: Option<Cow<'l, str>>,
    pub(super) access_method: Option<Cow<'l, str>>,
    pub(super) client_ip: Option<IpAddr>,
    pub(super) source_country: Option<Cow<'l, str>>,
    pub(super) host: Option<Cow<'l, str>>,
    pub(super) dest_ip: Option<IpAddr>,
    pub(super) dest_port: Option<u16>,
    pub(super) dest_country: Option<Cow<'l, str>>,
    pub(super) method: Option<Cow<'l, str>>,
    pub(super) url: Option<Cow<'l, str>>,
    pub(super) content_type: Option<Cow<'l, str>>,
    pub(super) request_bytes: Option<u64>,
    pub(super) app: Option<Cow<'l, str>>,
    pub(super) category: Option<Cow<'l, str>>,
    pub(super) categories: Vec<Cow<'l, str>>,
    pub(super) app_tags: Vec<Cow<'l, str>>,
    pub(super) risk: Option<u64>,
    pub(super) instance: Option<Cow<'l, str>>,
    pub(super) instance_kind: Option<Cow<'l, str>>,
    pub(super) activity: Option<Cow<'l, str>>,
    pub(super) from_user: Option<Cow<'l, str>>,
    pub(super) to_user: Option<Cow<'l, str>>,
    pub(super) operations: Vec<RecordedOperation<'l>>,
    pub(super) file_name: Option<Cow<'l, str>>,
    pub(super) file_type: Option<Cow<'l, str>>,
    pub(super) file_size: Option<u64>,
    pub(super) dlp: Vec<RecordedHit>,
    pub(super) threat: Option<RecordedThreat>,
    pub(super) inspection: Option<Cow<'l, str>>,
    pub(super) action: Option<Cow<'l, str>>,
    pub(super) rule: Option<Cow<'l, str>>,
    pub(super) block_reason: Option<Cow<'l, str>>,
    pub(super) total_ms: Option<f64>,
}

/// One of several operations of an exchange.
#[derive(Debug, Default)]
pub(super) struct RecordedOperation<'l> {
    pub(super) activity: Option<Cow<'l, str>>,
    pub(super) to_user: Option<Cow<'l, str>>,
}

/// What another policy says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejudged {
    Decided {
        action: &'static str,
        rule: Option<RuleIndex>,
    },
    /// The policy asks for facts that were never gathered.
    Undecidable(KeySet),
}

impl Rejudged {
    /// As the gateway itself: block, coach, redirect, not known, allow.
    fn strictness(&self) -> u8 {
        match self {
            Self::Decided { action: "block", .. } => 4,
            Self::Decided { action: "coach", .. } => 3,
            Self::Decided { action: "redirect", .. } => 2,
            Self::Undecidable(_) => 1,
            Self::Decided { .. } => 0,
        }
    }
}

impl Recorded<'_> {
    /// Whether this line is the one that counts of a transaction or flow.
    pub(super) fn counts(&self) -> bool {
        self.state == "close" && (self.is_flow() || self.record_type == "transaction")
    }

    /// Whether its verdict was the policy's: what the gateway refuses by itself, it would refuse
    /// under any policy.
    pub(super) fn by_policy(&self) -> bool {
        self.action.is_some()
            && self.block_reason.as_deref().is_none_or(|reason| {
                matches!(reason, "rule" | "default" | "undecided")
                    || reason.starts_with("unobtainable")
            })
    }

    fn is_flow(&self) -> bool {
        self.record_type == "flow"
    }

    /// Judges the record by `policy`, gate by gate, as the gateway would have: of several
    /// operations the strictest outcome stands.
    pub(super) fn judge(&self, policy: &Policy, catalog: &Catalog) -> Rejudged {
        let keys = policy.keys();
        let lists = self.lists(catalog, keys);
        let one = [RecordedOperation {
            activity: self.activity.as_deref().map(Cow::Borrowed),
            to_user: self.to_user.as_deref().map(Cow::Borrowed),
        }];
        let operations = if self.operations.is_empty() { one.as_slice() } else { &self.operations };
        let mut strictest = Rejudged::Decided { action: "allow", rule: None };
        for (index, operation) in operations.iter().enumerate() {
            let facts = self.facts(&lists, operation, keys);
            let judged = self.at_all_gates(policy, &facts);
            if index == 0 || judged.strictness() > strictest.strictness() {
                strictest = judged;
            }
        }
        strictest
    }

    fn at_all_gates(&self, policy: &Policy, facts: &Facts<'_>) -> Rejudged {
        let mut known = Known { of: facts, keys: policy.keys(), facts: Facts::new() };
        known.learn(Gate::Connect);
        if self.is_flow() {
            // Of a flow that was not read, its name is all there is of the app.
            for key in [Key::App, Key::AppTag, Key::Category, Key::Risk] {
                known.facts.set(key, facts.fact(key));
            }
        }
        let connect = policy.connect(&known.facts);
        let goes_on = matches!(connect.outcome, Outcome::Allow { .. } | Outcome::Coach(_));
        let mut last = outcome(connect.outcome);
        if !goes_on || self.is_flow() {
            return last;
        }
        for gate in [Gate::RequestHead, Gate::RequestBody, Gate::Response] {
            known.learn(gate);
            if gate == Gate::RequestBody && !self.has_body() {
                continue;
            }
            let verdict = policy.judge(gate, &known.facts);
            let is_final = verdict.waits_for.is_empty()
                || matches!(verdict.outcome, Outcome::Pending(_) | Outcome::Block { .. });
            last = outcome(verdict.outcome);
            if is_final {
                break;
            }
        }
        last
    }

    /// What was blocked was never sent and has no count of bytes: its method tells.
    pub(super) fn has_body(&self) -> bool {
        let bodiless = ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT"];
        self.request_bytes.map_or_else(
            || self.method.as_deref().is_some_and(|method| !bodiless.contains(&method)),
            |bytes| bytes > 0,
        )
    }

    /// What facts point into, as far as the policy asks for it.
    fn lists<'f>(&'f self, catalog: &'f Catalog, keys: KeySet) -> Lists<'f> {
        fn texts<'t>(wanted: bool, list: &'t [Cow<'_, str>]) -> SmallVec<[&'t str; 4]> {
            list.iter().filter(|_| wanted).map(|text| &**text).collect()
        }
        let kind = self.instance_kind.as_deref().unwrap_or("unknown");
        let by_body = [Key::Instance, Key::Activity, Key::FromUser, Key::ToUser];
        let asks_body = by_body.iter().any(|key| keys.contains(*key));
        Lists {
            groups: texts(keys.contains(Key::Group), &self.groups),
            tags: texts(keys.contains(Key::AppTag), &self.app_tags),
            categories: if keys.contains(Key::Category) {
                recorded_app::categories(self, catalog)
            } else {
                SmallVec::new()
            },
            instance: std::iter::once(kind).chain(self.instance.as_deref()).collect(),
            types: if keys.contains(Key::FileType) { self.types() } else { SmallVec::new() },
            dlp: self.dlp.iter().map(|hit| hit.profile.as_str()).collect(),
            body_unread: asks_body && recorded_app::body_unread(self, catalog),
        }
    }

    /// When it was judged, in seconds: a line has the time of its end.
    fn began(&self) -> Option<i64> {
        let written: jiff::Timestamp = self.time.parse().ok()?;
        let took = Duration::try_from_secs_f64(self.total_ms.unwrap_or_default() / 1_000.0).ok()?;
        Some(written.checked_sub(took).ok()?.as_second())
    }

    /// Types of the file, with the kinds they are of.
    fn types(&self) -> SmallVec<[&str; 2]> {
        let down = self.activity.as_deref() == Some("download") || !self.has_body();
        let seen = self.file_type.is_some() || self.file_size.is_some();
        if !seen && !down {
            return SmallVec::new();
        }
        let name = self.file_name.as_deref().filter(|name| !is_cut(name));
        let content_type = self.content_type.as_deref();
        file_type::recorded(self.file_type.as_deref(), name, content_type, down)
    }

    /// What is absent from a record does not exist where the gateway always looks for it, and was
    /// never gathered (here: pending for ever) where it looks only when a rule asks.
    fn facts<'f>(
        &'f self,
        lists: &'f Lists<'_>,
        operation: &'f RecordedOperation<'_>,
        keys: KeySet,
    ) -> Facts<'f> {
        let mut facts = Facts::new();
        let text = |value: Option<&'f str>| value.map_or(Fact::Inapplicable, whole);
        let texts = |list: &'f [&'f str]| Fact::Known(Value::Texts(list));
        // Whether there was a database then, the record does not say.
        let country = |code: Option<&'f str>| code.map_or(Fact::Pending, whole);
        let address = |ip: Option<IpAddr>| {
            ip.map_or(Fact::Pending, |ip| Fact::Known(Value::Address(ip.to_canonical())))
        };
        facts.set(Key::User, text(self.user.as_deref()));
        facts.set(Key::Group, texts(&lists.groups));
        facts.set(Key::Device, text(self.device.as_deref()));
        facts.set(Key::DeviceClass, text(self.device_class.as_deref()));
        facts.set(Key::Os, text(self.os.as_deref()));
        facts.set(Key::AccessMethod, text(self.access_method.as_deref()));
        facts.set(Key::SourceIp, address(self.client_ip));
        facts.set(Key::SourceCountry, country(self.source_country.as_deref()));
        facts.set(Key::Domain, text(self.host.as_deref()));
        facts.set(Key::DestIp, address(self.dest_ip));
        let port = self.dest_port.map_or(Fact::Pending, |port| number(port.into()));
        facts.set(Key::DestPort, port);
        facts.set(Key::DestCountry, country(self.dest_country.as_deref()));
        if keys.contains(Key::Time) {
            let moment = self.began().map(|it| Fact::Known(Value::Moment(it)));
            facts.set(Key::Time, moment.unwrap_or(Fact::Pending));
        }
        facts.set(Key::App, text(self.app.as_deref()));
        facts.set(Key::AppTag, texts(&lists.tags));
        facts.set(Key::Category, texts(&lists.categories));
        facts.set(Key::Risk, self.risk.map_or(Fact::Inapplicable, number));
        if !self.is_flow() {
            facts.set(Key::Url, text(self.url.as_deref()));
            facts.set(Key::Method, text(self.method.as_deref()));
            facts.set(Key::Instance, texts(&lists.instance));
            let activity = operation.activity.as_deref().map(crate::verdict::activity);
            facts.set(Key::Activity, activity.map_or(Fact::Inapplicable, Fact::Known));
            self.set_body_facts(&mut facts, lists, operation);
            self.unset_what_nobody_saw(&mut facts, lists, operation);
        }
        facts
    }

    /// An exchange that was refused before its head was judged has no activity and no app.
    fn unset_what_nobody_saw(
        &self,
        facts: &mut Facts<'_>,
        lists: &Lists<'_>,
        operation: &RecordedOperation<'_>,
    ) {
        let by_head = [Key::App, Key::AppTag, Key::Category, Key::Risk];
        let by_body = [Key::Instance, Key::Activity, Key::FromUser, Key::ToUser];
        let unjudged = operation.activity.is_none();
        let unset = |facts: &mut Facts<'_>, keys: &[Key]| {
            keys.iter().for_each(|key| facts.set(*key, Fact::Pending));
        };
        if unjudged {
            unset(facts, &by_head);
        }
        if unjudged || lists.body_unread {
            unset(facts, &by_body);
        }
    }

    fn set_body_facts<'f>(
        &'f self,
        facts: &mut Facts<'f>,
        lists: &'f Lists<'_>,
        operation: &'f RecordedOperation<'_>,
    ) {
        let by_body = |known: Option<Fact<'f>>| match known {
            Some(known) => known,
            None if self.has_body() => Fact::Pending,
            None => Fact::Inapplicable,
        };
        let text = |value: Option<&'f str>| value.map(whole);
        // A file was looked at, and is of no type that has a name.
        let nothing = self.file_size.map(|_| Fact::Inapplicable);
        facts.set(Key::ContentType, by_body(text(self.content_type.as_deref())));
        let types = (!lists.types.is_empty()).then_some(Fact::Known(Value::Texts(&lists.types)));
        facts.set(Key::FileType, by_body(types.or(nothing)));
        facts.set(Key::FileName, by_body(text(self.file_name.as_deref())));
        facts.set(Key::FileSize, by_body(self.file_size.map(number)));
        facts.set(Key::FromUser, by_body(text(self.from_user.as_deref())));
        facts.set(Key::ToUser, by_body(text(operation.to_user.as_deref())));
        let inspected = matches!(self.inspection.as_deref(), Some("full" | "partial"));
        let hits =
            (inspected || !lists.dlp.is_empty()).then_some(Fact::Known(Value::Texts(&lists.dlp)));
        facts.set(Key::Dlp, by_body(hits));
        let clean = inspected.then_some(Fact::Inapplicable);
        let threat = self.threat.as_ref().map(|threat| threat.name.as_str());
        facts.set(Key::Threat, text(threat).or(clean).unwrap_or(Fact::Pending));
        facts.set(Key::Inspection, text(self.inspection.as_deref()).unwrap_or(Fact::Pending));
    }
}

/// What facts point into.
struct Lists<'r> {
    groups: SmallVec<[&'r str; 4]>,
    tags: SmallVec<[&'r str; 4]>,
    categories: SmallVec<[&'r str; 4]>,
    instance: SmallVec<[&'r str; 2]>,
    dlp: SmallVec<[&'r str; 1]>,
    types: SmallVec<[&'r str; 2]>,
    body_unread: bool,
}

/// A text that was cut is not known.
fn whole(text: &str) -> Fact<'_> {
    if is_cut(text) { Fact::Pending } else { Fact::Known(Value::Text(text)) }
}

fn number<'f>(number: u64) -> Fact<'f> {
    Fact::Known(Value::Number(number))
}

/// The facts of a gate, and of those before it: a record knows the end, a gate must not.
struct Known<'r, 'f> {
    of: &'r Facts<'f>,
    /// What the policy asks for: it looks at no other fact.
    keys: KeySet,
    facts: Facts<'f>,
}

impl Known<'_, '_> {
    fn learn(&mut self, gate: Gate) {
        for key in self.keys.at(gate).iter() {
            self.facts.set(key, self.of.fact(key));
        }
    }
}

fn outcome<P>(outcome: Outcome<P>) -> Rejudged {
    match outcome {
        Outcome::Pending(keys) => Rejudged::Undecidable(keys),
        Outcome::Allow { rule, .. } => Rejudged::Decided { action: "allow", rule },
        Outcome::Block { rule, .. } => Rejudged::Decided { action: "block", rule },
        Outcome::Coach(coached) => Rejudged::Decided { action: "coach", rule: Some(coached.rule) },
        Outcome::Redirect { rule } => Rejudged::Decided { action: "redirect", rule: Some(rule) },
    }
}
