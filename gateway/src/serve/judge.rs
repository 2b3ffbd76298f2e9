//! Asks policy about one exchange: at the gates before it is sent, and at its response.

use std::sync::Arc;
use std::time::Instant;

use gateway_proto::target::canonical_path;
use policy::catalog::Catalog;
use policy::fact::{Gate, Key};

use super::answer;
use super::flow::Flow;
use super::transaction::Transaction;
use crate::event::{self, Text};
use crate::exchange::{Request, Response};
use crate::snapshot::Tenant;
use crate::verdict::accounts::Account;
use crate::verdict::file_type;
use crate::verdict::{
    BodyFacts, Held, ResponseFacts, Ruled, Ruling, Settled, Subject, describe, on_exchange,
    on_held, response_keys,
};

/// One request under one tenant's policy.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) flow: &'a Flow,
    pub(super) tenant: &'a Tenant,
    /// `scheme://host/path?query`.
    pub(super) url: &'a str,
    pub(super) request: &'a Request,
    /// Who was last seen signing in, as it was when the exchange began: a verdict does not depend on
    /// what happens beside it.
    pub(super) account: Option<&'a Account>,
}

/// Who was last seen signing in where this request goes.
pub(super) fn account_of(flow: &Flow, request: &Request) -> Option<Arc<Account>> {
    let host = request.host.text();
    let site = flow.worker.pop.catalog.site(&host);
    flow.tenancy.accounts.find(&flow.session.who, &site)
}

impl Asking<'_> {
    /// The verdict at a gate.
    pub(super) fn judge(
        &self,
        body: BodyFacts<'_>,
        gate: Gate,
        response: Option<&Response>,
    ) -> Ruling {
        self.with_subject(body, response, |subject| on_exchange(subject, gate))
    }

    /// What the record says of an exchange that gets no verdict of its own.
    pub(super) fn describe(&self) -> event::App {
        self.with_subject(BodyFacts::Passed, None, describe)
    }

    /// The verdict over a held body, and what is kept of it until the response comes.
    pub(super) fn judge_held(&self, held: &Held) -> (Ruling, Settled) {
        self.with_subject(BodyFacts::Held(held), None, |subject| on_held(subject, held))
    }

    /// Whether knowing who signs in makes a difference to this tenant.
    pub(super) fn minds_accounts(&self) -> bool {
        let keys = self.tenant.policy.keys();
        keys.contains(Key::Instance)
            || keys.contains(Key::FromUser)
            || !self.tenant.config.instances.is_empty()
    }

    fn with_subject<R>(
        &self,
        body: BodyFacts<'_>,
        response: Option<&Response>,
        ask: impl FnOnce(&Subject<'_>) -> R,
    ) -> R {
        let Self { flow, tenant, request, url, account } = *self;
        let (path, query) =
            request.target().split_once('?').unwrap_or_else(|| (request.target(), ""));
        let path = canonical_path(path.as_bytes());
        let host = request.host.text();
        let address = request.host.ip().or_else(|| flow.judged(&host));
        let mut connect = flow.subject(tenant, address);
        connect.host = &host;
        connect.port = request.port;
        let catalog: &Catalog = &flow.worker.pop.catalog;
        ask(&Subject {
            policy: &tenant.policy,
            catalog,
            config: &tenant.config,
            connect,
            request,
            path: path.as_str(),
            query,
            url,
            body,
            account,
            response: response.map(|response| ResponseFacts::of(response, path.as_str())),
        })
    }
}

/// The response gate of one exchange.
pub(super) struct ResponseGate<'a> {
    pub(super) asking: Asking<'a>,
    pub(super) settled: Option<&'a Settled>,
}

impl ResponseGate<'_> {
    /// Judges a response whose head has come. What it says is recorded, whatever the verdict;
    /// `Some` stops it.
    pub(super) fn judge(
        &self,
        response: &Response,
        transaction: &mut Transaction,
    ) -> Option<Ruled> {
        let ruled = self.ask(response, transaction);
        let Asking { flow, request, .. } = self.asking;
        let host = request.host.text();
        let site = flow.worker.pop.catalog.site(&host);
        let app = &transaction.record.app;
        // A login whose answer is stopped gives the user no session.
        if ruled.is_none() {
            flow.tenancy.accounts.note(&flow.session.who, &site, app, response.status);
        }
        ruled
    }

    fn ask(&self, response: &Response, transaction: &mut Transaction) -> Option<Ruled> {
        if !self.says_something(response, transaction) {
            return None;
        }
        let began = Instant::now();
        let body = match self.settled {
            Some(settled) => BodyFacts::Settled(settled),
            None if self.asking.request.body.is_none() => BodyFacts::None,
            None => BodyFacts::Passed,
        };
        let mut ruling = self.asking.judge(body, Gate::Response, Some(response));
        note_download(&ruling, response, transaction);
        let spent = transaction.record.cost.policy.unwrap_or_default();
        transaction.record.cost.policy = Some(spent + began.elapsed());
        transaction.ruled(&mut ruling);
        match ruling.ruled {
            Ruled::Allow(_) => None,
            Ruled::Coach(coached) => {
                let Asking { flow, request, .. } = self.asking;
                let justified = answer::justified(flow, request, transaction, coached.rule);
                (!justified).then_some(Ruled::Coach(coached))
            }
            other => Some(other),
        }
    }

    /// Whether this response could change the verdict or the record.
    fn says_something(&self, response: &Response, transaction: &Transaction) -> bool {
        let Asking { flow, tenant, request, .. } = self.asking;
        let activity = transaction.record.app.activity.as_ref().map_or("", Text::as_str);
        let operations = transaction.record.app.operations.len();
        let facts = ResponseFacts::of(response, request.target());
        let refined = operations == 0
            && flow.worker.pop.catalog.classify_response(activity, &facts.view).is_some();
        let carries = request.body.is_none() || activity == "download";
        let asked = response_keys(carries);
        refined || tenant.policy.keys().iter().any(|key| asked.contains(key))
    }
}

/// For the record: the file that comes down.
fn note_download(ruling: &Ruling, response: &Response, transaction: &mut Transaction) {
    let app = &ruling.app;
    if app.activity.as_ref().is_none_or(|activity| activity.as_str() != "download") {
        return;
    }
    let content = &mut transaction.record.content;
    content.file_name = content.file_name.take().or_else(|| app.object.clone());
    let object = app.object.as_ref().map(event::Text::as_str);
    let content_type = response.fields.text("content-type");
    let told = || file_type::named(object, content_type);
    content.file_type = content.file_type.take().or_else(told);
    content.file_size = content.file_size.or_else(|| ResponseFacts::of(response, "").bytes);
}
