//! One association: a client's datagrams to one destination, whatever carries them. What they are
//! shows in the first; policy says what becomes of them.
//!
//! 1. Name queries go to the gateway's resolver: `names`.
//! 2. QUIC is looked into: `opening`; decided as TLS is: `quic`; then decrypted: `inspect`, relayed or
//!    refused.
//! 3. All else is relayed where the connect gate lets it: `relay`.

mod dial;
mod hints;
mod inspect;
mod names;
mod opening;
mod quic;
mod relay;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway_proto::udp::{Datagram, classify};
use policy::decrypt::DecryptAction;

pub(super) use self::dial::reaches;
pub(super) use self::hints::{invites, without_hints};
use self::watch::Watch;
use crate::ident::Blame;
use crate::serve::flow::{Flow, FlowEnd};
use crate::snapshot::Tenant;
use crate::stream::Datagrams;
use crate::verdict::decrypt;

/// What an association came to.
pub(super) struct Served {
    pub(super) flow: Arc<Flow>,
    /// What is to be recorded; `None` where its exchanges have records of their own.
    pub(super) end: Option<FlowEnd>,
    /// The datagram that was refused: whoever carries it says so to the client.
    pub(super) refused: Option<Bytes>,
}

impl Served {
    fn ended(flow: impl Into<Arc<Flow>>, end: FlowEnd) -> Self {
        Self { flow: flow.into(), end: Some(end), refused: None }
    }

    fn refused(flow: impl Into<Arc<Flow>>, end: FlowEnd, datagram: Option<Bytes>) -> Self {
        Self { flow: flow.into(), end: Some(end), refused: datagram }
    }
}

/// The port of name queries.
pub(super) const NAME_QUERIES: u16 = 53;

/// The record's word for QUIC that is refused; why stands in `decrypt_reason`.
const REFUSED: &str = "quic_refused";

/// Serves an association until it is idle, ended or refused.
pub(super) async fn serve(
    flow: Flow,
    tenant: &Arc<Tenant>,
    mut datagrams: Datagrams,
    began: Instant,
) -> Served {
    let first = tokio::select! {
        first = datagrams.inbox.recv() => first,
        () = flow.session.ended.cancelled() => None,
    };
    let Some(first) = first else { return Served::ended(flow, FlowEnd::moved(0, 0)) };
    // Whatever is sent there, no other resolver gets it.
    if flow.port == NAME_QUERIES {
        let end = names::serve(&flow, datagrams, first).await;
        return Served::ended(flow, end);
    }
    match classify(&first, flow.port) {
        Datagram::QuicLong => Box::pin(quic::serve(flow, tenant, datagrams, first, began)).await,
        _ => plain(flow, tenant, datagrams, first).await,
    }
}

/// Relays what is no QUIC.
async fn plain(flow: Flow, tenant: &Tenant, datagrams: Datagrams, first: Bytes) -> Served {
    let opened = match dial::admit(&flow, tenant).await {
        Ok(permit) => dial::open(&flow, tenant, &permit).await,
        Err(end) => Err(end),
    };
    match opened {
        Err(end) => Served::refused(flow, end, Some(first)),
        Ok(socket) => {
            let (end, refused) =
                relay::relay(&flow, datagrams, vec![first], &socket, Watch::Plain).await;
            Served::refused(flow, end, refused)
        }
    }
}

/// What becomes of QUIC to where this flow goes.
fn action(flow: &Flow, tenant: &Tenant) -> DecryptAction {
    let site = flow.worker.pop.catalog.site(&flow.host);
    decrypt(&tenant.decrypt, &flow.subject(tenant, flow.asked.ip()), &site).0
}

/// The end of QUIC that is refused, and why.
fn refusal(flow: &Flow, why: &'static str, blame: Blame) -> FlowEnd {
    let mut seen = flow.seen.lock();
    seen.decrypted = Some(false);
    seen.decrypt_reason = Some(why.into());
    FlowEnd::refused(REFUSED, blame)
}
