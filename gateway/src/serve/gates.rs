//! The gates of one exchange before it is sent: facts, verdict, body held where a rule needs it.

use std::sync::Arc;
use std::time::Duration;

use gateway_proto::target::{Host, canonical_path};
use policy::fact::Gate;
use policy::verdict::{DialPermit, Outcome, SendPermit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{self, Refusal};
use super::client::Client;
use super::connections;
use super::exchange::Way;
use super::flow::Flow;
use super::hold::{self, Hold, Replay};
use super::reach::{self, Target};
use super::transaction::Transaction;
use crate::event::Text;
use crate::exchange::Request;
use crate::snapshot::Tenant;
use crate::verdict::{BodyFacts, Held, Ruled, Ruling, Subject, connect, on_exchange};

/// What came of the gates before sending.
pub(super) enum Cleared {
    Go { send: SendPermit, dial: Option<DialPermit> },
    Answered,
    Gone,
}

/// What the gates of one exchange share.
pub(super) struct Exchange<'a> {
    pub(super) flow: &'a Arc<Flow>,
    pub(super) tenant: &'a Arc<Tenant>,
    pub(super) url: &'a str,
    pub(super) replay: Replay,
}

impl Exchange<'_> {
    /// Takes the exchange through the gates that come before it is sent.
    pub(super) async fn clear<Io>(
        &mut self,
        way: &Way,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
    ) -> Cleared
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let mut dial = None;
        if let Way::Asked = way {
            let target = connections::target_of(request);
            match connect_gate(self.flow, self.tenant, &request.host, &target).await {
                Ok(permit) => dial = Some(permit),
                Err(refusal) => {
                    answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                    return Cleared::Answered;
                }
            }
        }
        let body = if request.body.is_none() { BodyFacts::None } else { BodyFacts::Unread };
        let began = std::time::Instant::now();
        let mut ruling = self.judge(request, body, Gate::RequestHead);
        let mut spent = began.elapsed();
        if !request.body.is_none() && ruling.needs_body() {
            let held = self.hold(client, request).await;
            let Ok(held) = held else {
                transaction.failed("request_truncated", crate::ident::Blame::Client);
                return Cleared::Gone;
            };
            let began = std::time::Instant::now();
            ruling = match &held {
                Hold::Whole(held) => {
                    transaction.held(held);
                    self.judge(request, BodyFacts::Held(held), Gate::RequestBody)
                }
                Hold::Unobtainable(why) => {
                    transaction.not_held(*why);
                    self.judge(request, BodyFacts::Unobtainable(*why), Gate::RequestBody)
                }
            };
            spent += began.elapsed();
        }
        transaction.record.cost.policy = Some(spent);
        transaction.ruled(&mut ruling);
        match ruling.ruled {
            Ruled::Allow(send) => Cleared::Go { send, dial },
            Ruled::Coach(coached) => {
                match answer::coach(self.flow, client, request, transaction, coached).await {
                    Some(send) => Cleared::Go { send, dial },
                    None => Cleared::Answered,
                }
            }
            Ruled::Block(reason) => {
                answer::block(client, request, transaction, reason).await;
                Cleared::Answered
            }
            Ruled::Redirect => {
                answer::redirect(client, request, transaction).await;
                Cleared::Answered
            }
            Ruled::Pending(_) => {
                let refusal = Refusal::guard("undecided");
                answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                Cleared::Answered
            }
        }
    }

    pub(super) fn judge(&self, request: &Request, body: BodyFacts<'_>, gate: Gate) -> Ruling {
        let (path, query) = split(request.target());
        let path = canonical_path(path.as_bytes());
        let host = request.host.text();
        let mut subject = self.flow.subject(self.flow.seen.lock().address);
        subject.host = &host;
        subject.port = request.port;
        // Resolved or not, this exchange has a destination: a policy that goes by address has
        // been asked at the connect gate.
        on_exchange(
            &Subject {
                policy: &self.tenant.policy,
                catalog: &self.flow.worker.pop.catalog,
                config: &self.tenant.config,
                connect: subject,
                request,
                path: path.as_str(),
                query,
                url: self.url,
                body,
            },
            gate,
        )
    }

    async fn hold<Io>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
    ) -> std::io::Result<Hold>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.tenant.config.limits;
        hold::hold(
            client,
            request,
            &mut self.replay,
            &self.flow.worker.pop.holds,
            limits.hold_bytes.bytes(),
            Duration::from_millis(limits.hold_ms),
        )
        .await
    }
}

/// The connect gate of a destination that a request, or an origin's certificate, names.
pub(super) async fn connect_gate(
    flow: &Flow,
    tenant: &Tenant,
    host: &Host,
    target: &Target,
) -> Result<DialPermit, Refusal> {
    let guard = flow.worker.pop.guard.load_full();
    guard.check_name(host, target.port).map_err(|refused| Refusal::guard(refused.label()))?;
    let mut subject = flow.subject(host.ip());
    subject.host = &target.host;
    subject.port = target.port;
    let mut verdict = connect(&tenant.policy, &subject);
    if verdict.resolve_permit().is_some() {
        let resolved = reach::resolve(flow, tenant, target).await;
        subject.address = resolved.map_err(|error| Refusal::unreachable(&error))?.first().copied();
        verdict = connect(&tenant.policy, &subject);
    }
    match verdict.outcome {
        Outcome::Allow { permit, .. } => Ok(permit),
        Outcome::Coach(coached) => Ok(coached.dial()),
        Outcome::Block { rule, .. } => Err(Refusal::rule(tenant, rule)),
        Outcome::Redirect { rule } => Err(Refusal::rule(tenant, Some(rule))),
        Outcome::Pending(_) => Err(Refusal::guard("undecided")),
    }
}

/// Path and query of an origin-form target.
fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// For the record: what a held body showed.
impl Transaction {
    fn held(&mut self, held: &Held) {
        let content = &mut self.record.content;
        content.file_name = held.file_names.first().map(|it| Text::copied(it));
        content.file_type = held.file_type.as_deref().map(Text::copied);
        content.file_size = held.file_size;
    }

    fn not_held(&mut self, why: policy::fact::Unobtainable) {
        self.record.content.inspection = Some(crate::event::Inspection::None);
        self.record.content.inspection_reason = Some(why.label().into());
    }
}
