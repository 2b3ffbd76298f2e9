//! Name queries in a flow of datagrams of their own, whomever they were sent to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::ident::Blame;
use crate::serve::flow::{Flow, FlowEnd};
use crate::serve::packets::Asker;
use crate::stream::Datagrams;

/// Queries of one flow under way: as for a packet tunnel.
const QUERIES_MAX: usize = 128;
/// A resolver's client asks anew from another port before this.
const IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Answers queries until none comes.
pub(super) async fn serve(flow: &Flow, mut datagrams: Datagrams, first: Bytes) -> FlowEnd {
    flow.seen.lock().decrypt_reason = Some("dns".into());
    let mut answering = JoinSet::new();
    let (mut up, mut down) = (0_u64, 0_u64);
    let mut next = Some(first);
    let (error, blame) = loop {
        if let Some(query) = next.take() {
            up += query.len() as u64;
            // A client asks again where too many are under way.
            if answering.len() < QUERIES_MAX {
                let (worker, session) = (Arc::clone(&flow.worker), Arc::clone(&flow.session));
                let outbox = datagrams.outbox.clone();
                answering.spawn(async move {
                    let asker = Asker { worker: &worker, session: &session, names: None };
                    let answer = asker.answer(&query, true).await?;
                    outbox.send(&answer).ok()?;
                    Some(answer.len() as u64)
                });
            }
        }
        tokio::select! {
            query = datagrams.inbox.recv() => match query {
                Some(query) => next = Some(query),
                None => break (None, None),
            },
            Some(answered) = answering.join_next() => {
                down += answered.ok().flatten().unwrap_or(0);
            }
            () = flow.session.ended.cancelled() => {
                break (Some("session_ended"), Some(Blame::Gateway));
            }
            () = tokio::time::sleep(IDLE_TIME_MAX) => break (Some("idle"), Some(Blame::Gateway)),
        }
    };
    FlowEnd { error, blame, ..FlowEnd::moved(up, down) }
}
