//! The record of one exchange, written on every way out by its drop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use smallvec::SmallVec;

use policy::Action;
use policy::verdict::RuleIndex;

use super::association;
use super::flow::{Dialled, Flow};
use super::message_gate::Noted;
use super::pulse::Lines;
use crate::event::{
    Destination, DlpHit, HostSource, OPERATIONS_MAX, Record, RecordType, State, Text,
};
use crate::exchange::{Request, Version};
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::verdict::Ruling;

/// Gathers what is learned of an exchange. Dropped, it writes the closing line, and one alert for
/// each rule that alerted, blocked or coached.
pub(super) struct Transaction {
    flow: Arc<Flow>,
    tenant: Arc<Tenant>,
    pub(super) record: Record,
    pub(super) began: Instant,
    /// Time spent waiting for the origin or the client, which the gateway did not add.
    pub(super) waited: Duration,
    /// What the flow had waited for its origin before there was this exchange.
    before: Dialled,
    /// Where the request itself goes, where that is not where its flow goes.
    named: Option<(Arc<str>, u16)>,
    lines: Lines,
    alerts: SmallVec<[RuleIndex; 4]>,
    deciding: Option<RuleIndex>,
    pub(super) set_headers: SmallVec<[RuleIndex; 4]>,
    /// Handed over to whoever goes on with the exchange; nothing is written here.
    moved: bool,
    /// Bodies or bytes are being moved: dropped now, the exchange was cut.
    pub(super) underway: bool,
}

impl Transaction {
    pub(super) fn begin(flow: &Arc<Flow>, tenant: &Arc<Tenant>, request: &Request) -> Self {
        let mut transaction = Self::unreadable(flow, tenant);
        let http = &mut transaction.record.http;
        http.method = Some(method_text(request.method()));
        http.version = Some(request.version.as_str().into());
        http.user_agent = request.fields.first("user-agent").map(|it| Text::lossy(it));
        http.referer = request.fields.first("referer").map(|it| Text::lossy(it));
        http.content_type = request.fields.first("content-type").map(|it| Text::lossy(it));
        transaction
    }

    /// The request names its own destination: what is known of another one's is not its own.
    pub(super) fn name_destination(&mut self, request: &Request) {
        self.named = Some((request.host.text(), request.port));
        self.flow.forget_destination();
        self.record.destination = self.destination();
    }

    fn destination(&self) -> Destination {
        let of_flow = self.flow.destination();
        let Some((host, port)) = &self.named else { return of_flow };
        let host = Some(Arc::clone(host).into());
        Destination { host, port: Some(*port), host_source: Some(HostSource::HttpHost), ..of_flow }
    }

    /// For what was no request.
    pub(super) fn unreadable(flow: &Arc<Flow>, tenant: &Arc<Tenant>) -> Self {
        let mut record = Record::now(RecordType::Transaction);
        record.client = Some(flow.session.client());
        record.policy_version = Some(Arc::clone(&tenant.policy_version).into());
        record.destination = flow.destination();
        record.tls = flow.tls();
        let mut seen = flow.seen.lock();
        seen.exchanged = true;
        let before = seen.dialled;
        drop(seen);
        Self {
            flow: Arc::clone(flow),
            tenant: Arc::clone(tenant),
            record,
            began: Instant::now(),
            waited: Duration::ZERO,
            before,
            named: None,
            lines: Lines::default(),
            alerts: SmallVec::new(),
            deciding: None,
            set_headers: SmallVec::new(),
            moved: false,
            underway: false,
        }
    }

    /// Whether the client may be told of HTTP/3 here.
    pub(super) fn invites_quic(&self) -> bool {
        association::invites(&self.flow, &self.tenant)
    }

    /// Takes over what a gate said; a later gate replaces an earlier one.
    pub(super) fn ruled(&mut self, ruling: &mut Ruling) {
        self.record.app = std::mem::take(&mut ruling.app);
        self.alerts = std::mem::take(&mut ruling.alerts);
        self.deciding = ruling.rule;
        let verdict = &mut self.record.verdict;
        verdict.action = Some(ruling.ruled.action().into());
        verdict.rule = ruling.rule.and_then(|rule| rule_name(&self.tenant, rule));
        verdict.alerts =
            self.alerts.iter().filter_map(|rule| rule_name(&self.tenant, *rule)).collect();
        self.set_headers = std::mem::take(&mut ruling.set_headers);
    }

    /// Takes over alerts of rules that looked into a body which went on meanwhile.
    pub(super) fn alerted(&mut self, ruling: &Ruling) {
        for rule in &ruling.alerts {
            if !self.alerts.contains(rule) {
                self.alerts.push(*rule);
                self.record.verdict.alerts.extend(rule_name(&self.tenant, *rule));
            }
        }
    }

    /// Writes the opening line, once: a crash then leaves a trace of what was under way.
    pub(super) fn open(&mut self) {
        if !self.lines.is_begun() {
            self.write_due();
        }
    }

    /// Notes how far the bodies have come, and writes what is due: the opening line, later an
    /// update each minute.
    pub(super) fn progress(&mut self, request_bytes: u64, response_bytes: u64) {
        self.record.http.request_bytes = Some(request_bytes);
        self.record.http.response_bytes = Some(response_bytes);
        self.write_due();
    }

    fn write_due(&mut self) {
        if let Some(state) = self.lines.due(Instant::now()) {
            self.write(state);
        }
    }

    pub(super) fn failed(&mut self, error: &'static str, blame: Blame) {
        self.record.end.error = Some(error);
        self.record.end.error_side = Some(blame);
    }

    pub(super) fn origin_version(&mut self, version: Version) {
        if self.record.tls.origin_alpn.is_none() && self.record.tls.origin_version.is_some() {
            let alpn = if version == Version::Http2 { "h2" } else { "http/1.1" };
            self.record.tls.origin_alpn = Some(alpn.into());
        }
    }

    /// The exchange was stopped, for this reason.
    pub(super) fn block(&mut self, reason: &'static str) {
        self.record.verdict.action = Some("block".into());
        self.record.verdict.block_reason = Some(reason.into());
    }

    /// Takes over what messages did: of a WebSocket or a call the record is one, and its alerts do not
    /// wait for its end.
    pub(super) fn noted(&mut self, noted: &mut Noted) {
        if let Some((file_type, bytes)) = noted.content.take() {
            let content = &mut self.record.content;
            if noted.stop.is_some() || content.file_size.is_none_or(|most| bytes > most) {
                (content.file_type, content.file_size) = (file_type, Some(bytes));
            }
        }
        for hit in noted.dlp.drain(..) {
            let hit = DlpHit::from(&hit);
            let dlp = &mut self.record.content.dlp;
            match dlp.iter_mut().find(|it| (&it.profile, &it.entity) == (&hit.profile, &hit.entity))
            {
                Some(known) => known.count += hit.count,
                None => dlp.push(hit),
            }
        }
        let operations = &mut self.record.app.operations;
        for operation in noted.operations.drain(..) {
            if operations.contains(&operation) {
                continue;
            }
            // Where there is no more room, the one that ended it is not left out.
            if operations.len() >= OPERATIONS_MAX && noted.stop.is_some() {
                operations.pop();
            }
            if operations.len() < OPERATIONS_MAX {
                operations.push(operation);
            }
        }
        for rule in noted.alerts.drain(..) {
            if !self.record.verdict.alerts.contains(&rule) {
                self.record.verdict.alerts.push(rule.clone());
                self.strike(rule, Action::Alert.name());
            }
        }
        if let Some(stop) = noted.stop.take() {
            self.deciding = None;
            let verdict = &mut self.record.verdict;
            verdict.action = Some(stop.action.into());
            verdict.rule.clone_from(&stop.rule);
            verdict.block_reason = Some(stop.reason.into());
            if let Some(rule) = stop.rule {
                self.strike(rule, stop.action);
            }
        }
    }

    /// Writes an alert of this rule.
    fn strike(&self, rule: Text, action: &'static str) {
        let mut alert = self.record.alert();
        alert.verdict.rule = Some(rule);
        alert.verdict.action = Some(action.into());
        self.flow.worker.events.append(self.flow.session.tenant.as_str(), &alert);
    }

    /// A rule refused the whole flow, before this exchange had a verdict of its own.
    pub(super) fn refused_by(&mut self, name: Option<&str>) {
        let rules = self.tenant.policy.rules();
        let place = name.and_then(|name| rules.iter().position(|rule| rule.name == name));
        self.deciding = place.and_then(|place| u32::try_from(place).ok()).map(RuleIndex);
        self.record.verdict.rule = name.map(Text::copied);
    }

    /// Takes over what the flow has learned since: the origin's side of it.
    pub(super) fn refresh(&mut self) {
        self.record.tls = self.flow.tls();
        let dialled = self.flow.dialled();
        self.record.destination = self.destination();
        self.record.cost.dns = dialled.dns;
        self.record.cost.connect = dialled.connect;
        self.record.cost.tls = dialled.tls;
        self.waited += dialled.since(self.before);
    }

    pub(super) fn flow_shared(&self) -> Arc<Flow> {
        Arc::clone(&self.flow)
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn tenant(&self) -> Arc<Tenant> {
        Arc::clone(&self.tenant)
    }

    /// The rule that decided, if one did.
    pub(super) fn deciding_rule(&self) -> Option<policy::Rule> {
        self.deciding.and_then(|rule| self.tenant.policy.rule(rule)).cloned()
    }

    /// Moves the record to whoever goes on with the exchange; this one writes nothing.
    pub(super) fn hand_over(&mut self) -> Self {
        self.moved = true;
        Self {
            flow: Arc::clone(&self.flow),
            tenant: Arc::clone(&self.tenant),
            record: self.record.clone(),
            began: self.began,
            waited: self.waited,
            before: self.before,
            named: self.named.clone(),
            lines: self.lines.clone(),
            alerts: std::mem::take(&mut self.alerts),
            deciding: self.deciding,
            set_headers: SmallVec::new(),
            moved: false,
            underway: false,
        }
    }

    fn write(&mut self, state: State) {
        self.record.state = state;
        self.record.time = Timestamp::now();
        self.flow.worker.events.append(self.flow.session.tenant.as_str(), &self.record);
    }

    /// The reference id that pages show: the record's own.
    pub(super) fn reference(&self) -> uuid::Uuid {
        self.record.id
    }
}

fn rule_name(tenant: &Tenant, rule: RuleIndex) -> Option<Text> {
    tenant.policy.rule(rule).map(|rule| Text::copied(&rule.name))
}

fn method_text(method: &str) -> Text {
    match method {
        "GET" => "GET".into(),
        "POST" => "POST".into(),
        "HEAD" => "HEAD".into(),
        "PUT" => "PUT".into(),
        "DELETE" => "DELETE".into(),
        "OPTIONS" => "OPTIONS".into(),
        "PATCH" => "PATCH".into(),
        other => Text::copied(other),
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        // Dropped before all was said to the client: it went away, or its tunnel did.
        let cut = self.record.http.status.is_none() || self.underway;
        if cut && self.record.end.error.is_none() {
            self.failed("client_gone", Blame::Client);
        }
        let total = self.began.elapsed();
        self.record.cost.total = Some(total);
        self.record.cost.gateway = Some(total.saturating_sub(self.waited));
        self.flow.session.add_bytes(
            self.record.http.request_bytes.unwrap_or(0),
            self.record.http.response_bytes.unwrap_or(0),
        );
        self.write(State::Close);
        for rule in self.alerts.iter().copied().chain(self.deciding) {
            let Some(rule) = self.tenant.policy.rule(rule) else { continue };
            if !matches!(rule.action, Action::Alert | Action::Block | Action::Coach) {
                continue;
            }
            self.strike(Text::copied(&rule.name), rule.action.name());
        }
        self.flow
            .worker
            .pop
            .metrics
            .exchange_ended(self.flow.session.tenant.as_str(), &self.record);
    }
}
