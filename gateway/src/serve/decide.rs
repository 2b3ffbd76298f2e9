//! What becomes of one flow: peek, ask the connect gate, then bypass, refuse, intercept or relay.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway_proto::ja4::Transport;
use gateway_proto::target::Host;
use policy::decrypt::DecryptAction;
use policy::verdict::{DialPermit, Outcome};

use super::answer::UNRECORDED;
use super::aside;
use super::bypass::{bypass, unreachable_end};
use super::destination;
use super::flow::{Flow, FlowEnd};
use super::intercept;
use super::notice;
use super::silent;
use crate::config::{BypassAction, FrontingAction};
use crate::event::Text;
use crate::exchange::Scheme;
use crate::flow::peek::{self, Peeked};
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::verdict::decrypt;

/// The session ended first.
const WITHDRAWN: &str = "withdrawn";

/// Serves one inner stream to its end.
pub(super) async fn serve(mut flow: Flow, mut io: Io, prefix: Bytes) {
    let began = Instant::now();
    let Some(tenant) = flow.tenant() else { return };
    let _counted = flow.session.stream();
    if notice::is_notice(&flow) {
        let peeked = first_bytes(&flow, &mut io, prefix).await;
        if let Some(Peeked::Tls { raw, hello }) = peeked {
            flow.learn(&hello, Transport::Tcp);
            let io = Rewind::new(raw, io);
            Box::pin(intercept::notice(Arc::new(flow), tenant, io, began)).await;
        }
        return;
    }
    if let Err(refused) = flow.worker.pop.guard.load().check_name(&flow.asked, flow.port) {
        // What was asked for is never dialled; a page can still say so, once decrypted.
        let label = refused.label();
        let end = FlowEnd::refused(label, Blame::Client);
        return match first_bytes(&flow, &mut io, prefix).await {
            Some(peeked) => Box::pin(refuse(flow, &tenant, io, peeked, began, end)).await,
            None => flow.record(&tenant, began, &end),
        };
    }
    let peeked = match first_bytes(&flow, &mut io, prefix).await {
        Some(peeked) => Some(peeked),
        None => match Box::pin(silent::serve(&flow, &tenant, &mut io, began)).await {
            Some(late) => first_bytes(&flow, &mut io, late).await,
            None => return,
        },
    };
    let Some(peeked) = peeked else { return };
    if let Peeked::Tls { hello, .. } = &peeked {
        flow.learn(hello, Transport::Tcp);
    }
    Box::pin(decide(flow, tenant, io, peeked, began)).await;
}

/// What the client says first, unless its session ends before that.
async fn first_bytes(flow: &Flow, io: &mut Io, prefix: Bytes) -> Option<Peeked> {
    tokio::select! {
        peeked = peek::peek(io, prefix) => peeked,
        () = flow.session.ended.cancelled() => Some(Peeked::Broken { label: WITHDRAWN }),
    }
}

async fn decide(flow: Flow, tenant: Arc<Tenant>, io: Io, peeked: Peeked, began: Instant) {
    let is_tls = matches!(peeked, Peeked::Tls { .. });
    if is_tls && let Some(end) = contradiction(&flow, &tenant) {
        return Box::pin(refuse(flow, &tenant, io, peeked, began, end)).await;
    }
    let page = can_show_page(&flow, &tenant, &peeked);
    let permit = match Box::pin(connect_gate(&flow, &tenant, page)).await {
        Ok(permit) => permit,
        Err(end) => return Box::pin(refuse(flow, &tenant, io, peeked, began, end)).await,
    };
    match peeked {
        Peeked::Tls { raw, .. } => {
            let site = flow.worker.pop.catalog.site(&flow.host);
            let (action, rule) =
                decrypt(&tenant.decrypt, &flow.subject(&tenant, flow.asked.ip()), &site);
            let rule = rule.map(|rule| Text::copied(&rule.name));
            flow.seen.lock().decrypt_reason =
                Some(rule.clone().unwrap_or_else(|| "default".into()));
            match action {
                DecryptAction::Decrypt if flow.foreign_alpn.is_some() => {
                    aside::refuse_foreign(&flow, &tenant, io, began).await;
                }
                DecryptAction::Decrypt => {
                    flow.seen.lock().decrypted = Some(true);
                    let (flow, io) = (Arc::new(flow), Rewind::new(raw, io));
                    Box::pin(intercept::serve(flow, tenant, permit, io, began)).await;
                }
                DecryptAction::Bypass => {
                    Box::pin(bypass(&flow, &tenant, &permit, io, raw, began)).await
                }
                DecryptAction::Block => {
                    let end = FlowEnd { rule, ..FlowEnd::refused("decrypt_rule", Blame::Gateway) };
                    flow.record(&tenant, began, &end);
                }
            }
        }
        Peeked::Http { raw } => intercept::plain(Arc::new(flow), permit, io, raw).await,
        Peeked::Other { raw, protocol } => {
            flow.seen.lock().decrypt_reason = Some(protocol.into());
            if must_be_tls(&flow, &tenant) {
                return flow.record(&tenant, began, &not_tls());
            }
            Box::pin(bypass(&flow, &tenant, &permit, io, raw, began)).await;
        }
        Peeked::Broken { label } => {
            let end = FlowEnd::refused(label, Blame::Client);
            let end = match label {
                WITHDRAWN => FlowEnd::ended(label),
                "client_reset" | "ended_early" => {
                    FlowEnd { action: "allow", block_reason: None, ..end }
                }
                _ => end,
            };
            flow.record(&tenant, began, &end);
        }
    }
}

/// CONNECT and ClientHello must agree, as far as the tenant's settings demand it.
pub(super) fn contradiction(flow: &Flow, tenant: &Tenant) -> Option<FlowEnd> {
    let settings = &tenant.config.decryption;
    match (&flow.sni, &flow.asked) {
        (None, Host::Name(_)) => (settings.no_sni == FrontingAction::Block)
            .then(|| FlowEnd::refused("no_sni", Blame::Client)),
        // An address has no name to send (RFC 6066 section 3).
        (None, Host::Ip(_)) => None,
        (Some(sni), Host::Name(_)) => {
            let differs = flow.asked.to_string() != **sni;
            (differs && settings.sni_host_mismatch == FrontingAction::Block)
                .then(|| FlowEnd::refused("sni_host_mismatch", Blame::Client))
        }
        // Whether the name resolves to the address is seen once it is resolved.
        (Some(_), Host::Ip(_)) => None,
    }
}

/// Whether nothing but TLS may pass.
pub(super) fn must_be_tls(flow: &Flow, tenant: &Tenant) -> bool {
    flow.port == 443 && tenant.config.decryption.not_tls_on_443 == BypassAction::Block
}

pub(super) fn not_tls() -> FlowEnd {
    FlowEnd::refused("not_tls_on_443", Blame::Client)
}

/// Whether a page can be shown on this flow: it is plain HTTP, or TLS that is decrypted.
fn can_show_page(flow: &Flow, tenant: &Tenant, peeked: &Peeked) -> bool {
    let site = flow.worker.pop.catalog.site(&flow.host);
    match peeked {
        Peeked::Http { .. } => true,
        Peeked::Tls { .. } => {
            decrypt(&tenant.decrypt, &flow.subject(tenant, flow.asked.ip()), &site).0
                == DecryptAction::Decrypt
        }
        Peeked::Other { .. } | Peeked::Broken { .. } => false,
    }
}

/// Asks the connect gate; resolves the name first where the policy needs its address.
pub(super) async fn connect_gate(
    flow: &Flow,
    tenant: &Tenant,
    page: bool,
) -> Result<DialPermit, FlowEnd> {
    // Where exchanges can be seen, each of them is asked.
    if !page && flow.worker.events.refuses_traffic() {
        return Err(FlowEnd::refused(UNRECORDED, Blame::Gateway));
    }
    let address = flow.asked.ip();
    let mut subject =
        if page { flow.subject(tenant, address) } else { flow.unread(tenant, address) };
    let verdict = destination::ask(flow, tenant, &mut subject, &flow.target(Scheme::Https))
        .await
        .map_err(|error| unreachable_end(&error))?;
    let rule_text = |rule| tenant.policy.rule(rule).map(|it| Text::copied(&it.name));
    match verdict.outcome {
        Outcome::Allow { permit, .. } => Ok(permit),
        // Each exchange is judged again, and answered with the page.
        Outcome::Coach(coached) if page => Ok(coached.dial()),
        // There is nowhere to justify it: refused.
        Outcome::Coach(coached) => Err(FlowEnd {
            rule: rule_text(coached.rule),
            ..FlowEnd::refused("rule", Blame::Gateway)
        }),
        Outcome::Block { rule, .. } => Err(FlowEnd {
            rule: rule.and_then(rule_text),
            error: None,
            blame: None,
            ..FlowEnd::refused(if rule.is_some() { "rule" } else { "default" }, Blame::Gateway)
        }),
        Outcome::Redirect { rule } => {
            Err(FlowEnd { rule: rule_text(rule), ..FlowEnd::refused("rule", Blame::Gateway) })
        }
        Outcome::Pending(_) => Err(FlowEnd::refused("undecided", Blame::Gateway)),
    }
}

/// Refuses a flow: over a page where it can be decrypted, else by ending it.
async fn refuse(
    flow: Flow,
    tenant: &Arc<Tenant>,
    io: Io,
    peeked: Peeked,
    began: Instant,
    end: FlowEnd,
) {
    let site = flow.worker.pop.catalog.site(&flow.host);
    let bypassed = matches!(peeked, Peeked::Tls { .. })
        && decrypt(&tenant.decrypt, &flow.subject(tenant, flow.asked.ip()), &site).0
            != DecryptAction::Decrypt;
    match peeked {
        Peeked::Tls { raw, .. } if !bypassed => {
            flow.seen.lock().decrypted = Some(true);
            let io = Rewind::new(raw, io);
            intercept::refuse(Arc::new(flow), Arc::clone(tenant), io, began, end).await;
        }
        Peeked::Http { raw } => {
            intercept::refuse_plain(Arc::new(flow), Arc::clone(tenant), io, raw, end).await;
        }
        _ => flow.record(tenant, began, &end),
    }
}
