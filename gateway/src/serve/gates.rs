//! The gates of one exchange before it is sent: facts, verdict, body held where a rule needs it.

use std::sync::Arc;
use std::time::Duration;

use gateway_proto::target::Host;
use policy::fact::Gate;
use policy::verdict::{DialPermit, Outcome, SendPermit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{self, Refusal};
use super::client::Client;
use super::connections;
use super::destination;
use super::exchange::Way;
use super::flow::Flow;
use super::hold::{self, Hold, Replay};
use super::judge::{Asking, account_of};
use super::message_gate;
use super::peek::Peek;
use super::reach::Target;
use super::transaction::Transaction;
use super::watch::{self, Watch};
use crate::exchange::{Request, Version};
use crate::snapshot::Tenant;
use crate::verdict::accounts::Account;
use crate::verdict::{BodyFacts, Ruled, Ruling, Settled, notice};

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
    /// What a held body said, for the response gate.
    pub(super) settled: Option<Settled>,
    /// The response gate's verdict against the response.
    pub(super) stopped: Option<Ruled>,
    pub(super) account: Option<Arc<Account>>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        flow: &'a Arc<Flow>,
        tenant: &'a Arc<Tenant>,
        url: &'a str,
        request: &Request,
    ) -> Self {
        Self {
            flow,
            tenant,
            url,
            replay: Replay::default(),
            settled: None,
            stopped: None,
            account: account_of(flow, request),
        }
    }

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
            match connect_gate(self.flow, self.tenant, &request.host, &target, true).await {
                Ok(permit) => dial = Some(permit),
                Err(refusal) => {
                    answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                    return Cleared::Answered;
                }
            }
        }
        let body = if request.body.is_none() { BodyFacts::None } else { BodyFacts::Unread };
        let began = std::time::Instant::now();
        let mut ruling = self.asking(request).judge(body, Gate::RequestHead, None);
        let mut spent = began.elapsed();
        if ruling.needs_address() {
            if let Err(refusal) = self.find_address(request).await {
                answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                return Cleared::Answered;
            }
            ruling = self.asking(request).judge(body, Gate::RequestHead, None);
        }
        let is_call = notice::is_call(request) && request.version == Version::Http2;
        // A call's body may never end, and none that signs in is known.
        let signs_in = ruling.shows_account && !is_call && self.asking(request).minds_accounts();
        let has_body = !request.body.is_none();
        if has_body && (ruling.needs_body() || signs_in) {
            let held = if is_call {
                self.first_message(client, request).await
            } else {
                self.hold(client, request).await
            };
            let Ok(held) = held else {
                transaction.failed("request_truncated", crate::ident::Blame::Client);
                return Cleared::Gone;
            };
            let began = std::time::Instant::now();
            ruling = self.judge_body(request, held, transaction);
            spent += began.elapsed();
        } else if has_body && !is_call {
            if ruling.watches_body() {
                self.replay.watch(Watch::new(&self.flow.worker.pop.holds, self.tenant));
            }
            self.replay.peek = Peek::of(request, &ruling.app);
        }
        transaction.record.cost.policy = Some(spent);
        transaction.ruled(&mut ruling);
        match self.obey(client, request, transaction, ruling.ruled).await {
            Some(send) => Cleared::Go { send, dial },
            None => Cleared::Answered,
        }
    }

    /// Finds the address that a rule waits for.
    async fn find_address(&self, request: &Request) -> Result<(), Refusal> {
        let target = connections::target_of(request);
        let target = Target { pinned_address: self.flow.pinned_address, ..target };
        let found = destination::destinations(self.flow, self.tenant, &target).await;
        found.map(|_| ()).map_err(|error| Refusal::unreachable(&error))
    }

    /// Judges by what was held of the body.
    fn judge_body(
        &mut self,
        request: &Request,
        held: Hold,
        transaction: &mut Transaction,
    ) -> Ruling {
        match held {
            Hold::Whole(mut held) => {
                watch::search(self.tenant, &request.fields, &mut held);
                let (ruling, settled) = self.asking(request).judge_held(&held);
                transaction.held(&held, &ruling.app, &request.fields);
                self.settled = Some(settled);
                ruling
            }
            Hold::Unobtainable(why) => {
                transaction.not_held(why);
                let body = BodyFacts::Unobtainable(why);
                self.asking(request).judge(body, Gate::RequestBody, None)
            }
        }
    }

    /// Answers what policy does not let go; the permit of what it does.
    pub(super) async fn obey<Io>(
        &self,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
        ruled: Ruled,
    ) -> Option<SendPermit>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        match ruled {
            Ruled::Allow(send) => return Some(send),
            Ruled::Coach(coached) => {
                return answer::coach(self.flow, client, request, transaction, coached).await;
            }
            Ruled::Block(reason) => answer::block(client, request, transaction, reason).await,
            Ruled::Redirect => answer::redirect(client, request, transaction).await,
            Ruled::Pending(_) => {
                let refusal = Refusal::guard("undecided");
                answer::refusal(client, self.tenant, request, transaction, &refusal).await;
            }
        }
        None
    }

    pub(super) fn asking<'r>(&'r self, request: &'r Request) -> Asking<'r> {
        Asking {
            flow: self.flow,
            tenant: self.tenant,
            url: self.url,
            request,
            account: self.account.as_deref(),
        }
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

impl Exchange<'_> {
    async fn first_message<Io>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
    ) -> std::io::Result<Hold>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let call = message_gate::call_gate(self.flow, self.tenant, request, self.url);
        let time_max = Duration::from_millis(self.tenant.config.limits.hold_ms);
        let budget = &self.flow.worker.pop.holds;
        hold::first_message(client, request, &mut self.replay, call, budget, time_max).await
    }
}

/// The connect gate of a destination that a request, or an origin's certificate, names.
pub(super) async fn connect_gate(
    flow: &Flow,
    tenant: &Tenant,
    host: &Host,
    target: &Target,
    judged_again: bool,
) -> Result<DialPermit, Refusal> {
    let guard = flow.worker.pop.guard.load_full();
    guard.check_name(host, target.port).map_err(|refused| Refusal::guard(refused.label()))?;
    let mut subject = flow.subject(tenant, host.ip());
    subject.host = &target.host;
    subject.port = target.port;
    subject.site = flow.worker.pop.catalog.settled_site(&target.host);
    let verdict = destination::ask(flow, tenant, &mut subject, target)
        .await
        .map_err(|error| Refusal::unreachable(&error))?;
    match verdict.outcome {
        Outcome::Allow { permit, .. } => Ok(permit),
        // An exchange is judged again, and answered with the page.
        Outcome::Coach(coached) if judged_again => Ok(coached.dial()),
        Outcome::Coach(coached) => Err(Refusal::rule(tenant, Some(coached.rule))),
        Outcome::Block { rule, .. } => Err(Refusal::rule(tenant, rule)),
        Outcome::Redirect { rule } => Err(Refusal::rule(tenant, Some(rule))),
        Outcome::Pending(_) => Err(Refusal::guard("undecided")),
    }
}

/// For the record: why a body showed nothing.
impl Transaction {
    fn not_held(&mut self, why: policy::fact::Unobtainable) {
        self.record.content.inspection = Some(crate::event::Inspection::None);
        self.record.content.inspection_reason = Some(why.label().into());
    }
}
