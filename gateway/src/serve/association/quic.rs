//! What becomes of a QUIC connection: the same that would become of TLS with that ClientHello.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway_proto::ja4::Transport;
use gateway_proto::quic_initial::InitialReader;
use policy::decrypt::DecryptAction;
use policy::verdict::DialPermit;

use super::opening::{self, Opening};
use super::watch::Watch;
use super::{Served, action, dial, inspect, refusal, relay};
use crate::config::QuicAction;
use crate::event::Text;
use crate::ident::Blame;
use crate::serve::answer::Refusal;
use crate::serve::aside;
use crate::serve::decide::{connect_gate, contradiction};
use crate::serve::exchange::Way;
use crate::serve::flow::{Flow, FlowEnd};
use crate::serve::intercept::{self, Learned};
use crate::serve::notice;
use crate::snapshot::Tenant;
use crate::stream::Datagrams;
use crate::tls::quic;
use crate::verdict::decrypt;
use crate::verdict::pinned::Reason;
use crate::verdict::quic::program_of;

/// A connection whose hello has been read.
struct Opened {
    datagrams: Datagrams,
    raw: Vec<Bytes>,
    reader: Box<InitialReader>,
}

impl Opened {
    fn first(&self) -> Option<Bytes> {
        self.raw.first().cloned()
    }
}

/// Serves a QUIC connection to its end.
pub(super) async fn serve(
    mut flow: Flow,
    tenant: &Arc<Tenant>,
    mut datagrams: Datagrams,
    first: Bytes,
    began: Instant,
) -> Served {
    let (hello, raw, reader) = match opening::read(&flow, &mut datagrams, first).await {
        Opening::Hello { hello, raw, reader } => (hello, raw, reader),
        Opening::Broken { label, last } => {
            let end = refusal(&flow, label, Blame::Client);
            return Served::refused(flow, end, Some(last));
        }
        Opening::Ended => return Served::ended(flow, FlowEnd::moved(0, 0)),
    };
    flow.learn(&hello, Transport::Quic);
    let opened = Opened { datagrams, raw, reader };
    let action = action(&flow, tenant);
    if action == DecryptAction::Decrypt
        && let Some(why) = unreadable(&flow, tenant, hello.offers(quic::ALPN))
    {
        let end = refusal(&flow, why, Blame::Client);
        return Served::refused(flow, end, opened.first());
    }
    if notice::is_notice(&flow) {
        return inspect(flow, tenant, Way::Notice, opened, began).await;
    }
    let guard = flow.worker.pop.guard.load_full();
    if let Err(refused) = guard.check_name(&flow.asked, flow.port) {
        let end = FlowEnd::refused(refused.label(), Blame::Client);
        return page(flow, tenant, opened, end, began).await;
    }
    if let Some(end) = contradiction(&flow, tenant) {
        return page(flow, tenant, opened, end, began).await;
    }
    match Box::pin(connect_gate(&flow, tenant, action == DecryptAction::Decrypt)).await {
        Err(end) => page(flow, tenant, opened, end, began).await,
        Ok(permit) => decided(flow, tenant, permit, opened, began).await,
    }
}

/// Why a connection that is to be decrypted cannot be, as far as is known before.
fn unreadable(flow: &Flow, tenant: &Tenant, offers_http3: bool) -> Option<&'static str> {
    let known = || aside::met(flow, |met| Some(flow.tenancy.quic.knows(&program_of(met)?)));
    if tenant.config.decryption.quic == QuicAction::Refuse {
        Some("quic_setting")
    } else if !offers_http3 {
        Some("alpn_not_http")
    } else if known() == Some(true) {
        Some(inspect::CERTIFICATE)
    } else {
        None
    }
}

async fn decided(
    flow: Flow,
    tenant: &Arc<Tenant>,
    permit: DialPermit,
    opened: Opened,
    began: Instant,
) -> Served {
    let site = flow.worker.pop.catalog.site(&flow.host);
    let (action, rule) = decrypt(&tenant.decrypt, &flow.subject(tenant, flow.asked.ip()), &site);
    let rule = rule.map(|rule| Text::copied(&rule.name));
    flow.seen.lock().decrypt_reason = Some(rule.clone().unwrap_or_else(|| "default".into()));
    match action {
        DecryptAction::Block => {
            let end = FlowEnd { rule, ..FlowEnd::refused("decrypt_rule", Blame::Gateway) };
            Served::refused(flow, end, opened.first())
        }
        DecryptAction::Bypass => pass(flow, tenant, &permit, opened).await,
        DecryptAction::Decrypt => decrypted(flow, tenant, permit, opened, began).await,
    }
}

async fn decrypted(
    flow: Flow,
    tenant: &Arc<Tenant>,
    permit: DialPermit,
    opened: Opened,
    began: Instant,
) -> Served {
    let way = match Box::pin(intercept::learn(&flow, tenant, &permit)).await {
        Learned::Known => Way::Through(permit),
        Learned::Failed(error) => Way::Refused(Refusal::unreachable(&error)),
        // Whoever comes over TLS is let pass; whether the origin speaks QUIC nobody knows.
        Learned::WantsCertificate(_) => {
            let end = refusal(&flow, Reason::ClientCertificate.label(), Blame::Origin);
            return Served::refused(flow, end, opened.first());
        }
    };
    if flow.seen.lock().offer_http1_only {
        let end = refusal(&flow, "http1_only", Blame::Origin);
        return Served::refused(flow, end, opened.first());
    }
    inspect(flow, tenant, way, opened, began).await
}

/// Shows a page for what is refused, where it can be decrypted; else refuses it outright.
async fn page(
    flow: Flow,
    tenant: &Arc<Tenant>,
    opened: Opened,
    end: FlowEnd,
    began: Instant,
) -> Served {
    if action(&flow, tenant) != DecryptAction::Decrypt {
        return Served::refused(flow, end, opened.first());
    }
    let way = Way::Refused(Refusal::of_flow(tenant, &end));
    inspect(flow, tenant, way, opened, began).await
}

async fn inspect(
    flow: Flow,
    tenant: &Arc<Tenant>,
    way: Way,
    opened: Opened,
    began: Instant,
) -> Served {
    flow.seen.lock().decrypted = Some(true);
    let flow = Arc::new(flow);
    let refusable = opened.first();
    let Opened { datagrams, raw, .. } = opened;
    let end = Box::pin(inspect::serve(&flow, tenant, way, datagrams, raw, began)).await;
    let refused = end.as_ref().is_some_and(|end| end.block_reason == Some(super::REFUSED));
    Served { flow, end, refused: refusable.filter(|_| refused) }
}

/// Relays the connection as it is.
async fn pass(flow: Flow, tenant: &Tenant, permit: &DialPermit, opened: Opened) -> Served {
    flow.seen.lock().decrypted = Some(false);
    match dial::open(&flow, tenant, permit).await {
        Err(end) => {
            let first = opened.first();
            Served::refused(flow, end, first)
        }
        Ok(socket) => {
            let Opened { datagrams, raw, reader } = opened;
            let watch = Watch::quic(reader, flow.sni.clone());
            let (end, refused) = relay::relay(&flow, datagrams, raw, &socket, watch).await;
            Served::refused(flow, end, refused)
        }
    }
}
