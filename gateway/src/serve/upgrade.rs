//! After the protocol was switched: raw bytes both ways, one record for the whole of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::websocket::{POLICY_VIOLATION, SERVICE_RESTART};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::bypass::withdrawn;
use super::farewell::Framed;
use super::flow::Flow;
use super::message_gate::Noted;
use super::message_hold::{Holding, Judge};
use super::messages::Judged;
use super::pulse::at_least_each_minute;
use super::relay::{SpliceSide, Spliced, splice_noting};
use super::transaction::Transaction;
use super::websocket;
use crate::exchange::http1::Http1;
use crate::exchange::http2::Http2;
use crate::exchange::{Request, Response, Sink};
use crate::ident::Blame;
use crate::origin::{Lease, UpgradedIo};
use crate::stream::Rewind;

/// A WebSocket without a ping or message for this long is dead: common servers ping within a
/// minute.
const IDLE_TIME_MAX: Duration = Duration::from_secs(3600);

/// How long a client has to answer the Close after a message that was stopped: some round trips of a bad
/// link.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(5);

/// An exchange that goes on as another protocol. Each side may have asked for it, or been asked,
/// by Upgrade or by extended CONNECT.
pub(super) struct Upgrade {
    origin: Rewind<UpgradedIo>,
    opening: Option<Opening>,
    transaction: Transaction,
    recheck: Recheck,
    /// Of a WebSocket whose messages are read.
    messages: Option<(Judge, Holding, Arc<Mutex<Noted>>)>,
}

/// What is needed until the client has been told. Its fields share the buffers that the heads were
/// read into.
struct Opening {
    request: Request,
    response: Response,
    protocol: Bytes,
}

impl Opening {
    /// Whether frames follow whose borders are known.
    fn is_websocket(&self) -> bool {
        self.protocol.eq_ignore_ascii_case(b"websocket")
    }
}

/// Asks again whether this exchange may go on, after a swap of the tenant's configuration.
pub(super) type Recheck = Box<dyn Fn() -> bool + Send + Sync>;

impl Upgrade {
    /// `None` where the origin's connection cannot be handed over.
    pub(super) fn new(
        lease: Lease,
        request: &Request,
        response: Response,
        transaction: Transaction,
        recheck: Recheck,
        messages: Option<(Judge, Holding, Arc<Mutex<Noted>>)>,
    ) -> Option<Self> {
        let protocol = request.upgrade.clone()?;
        let (io, rest) = lease.into_upgraded()?;
        let opening = Some(Opening { request: request.clone(), response, protocol });
        Some(Self { origin: Rewind::new(rest, io), opening, transaction, recheck, messages })
    }

    /// Tells a client that asked by Upgrade, then relays until both sides have ended.
    pub(super) async fn splice_http1<Io>(mut self: Box<Self>, mut client: Http1<Io>)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(opening) = self.opening.take() else { return };
        let frames = opening.is_websocket();
        let response = websocket::for_http1(&opening.request, opening.response);
        let told = client.start_upgrade(response, &opening.protocol);
        drop((opening.request, opening.protocol));
        let flushed = std::future::poll_fn(|context| client.poll_flush(context)).await;
        if told.and(flushed).is_err() {
            return self.transaction.failed("client_write", Blame::Client);
        }
        self.transaction.record.http.status = Some(101);
        let (io, early) = client.into_upgraded();
        Box::pin(self.relay(Rewind::new(early, io), frames)).await;
    }

    /// Tells a client that asked by extended CONNECT, then relays.
    pub(super) async fn splice_http2(mut self: Box<Self>, client: Http2) {
        let Some(opening) = self.opening.take() else { return };
        let frames = opening.is_websocket();
        match client.start_upgrade(&websocket::for_http2(opening.response)) {
            Ok(io) => {
                self.transaction.record.http.status = Some(200);
                drop((opening.request, opening.protocol));
                Box::pin(self.relay(io, frames)).await;
            }
            Err(_) => self.transaction.failed("client_write", Blame::Client),
        }
    }

    /// Everything stays where it is, in one box: WebSockets are many and live long.
    async fn relay<Io: AsyncRead + AsyncWrite + Unpin>(
        mut self: Box<Self>,
        client: Io,
        frames: bool,
    ) {
        let Self { origin, transaction, recheck, messages, .. } = &mut *self;
        transaction.open();
        transaction.underway = true;
        let began = std::time::Instant::now();
        let flow = transaction.flow_shared();
        let pop = &flow.worker.pop;
        let _counted = pop.sockets.token();
        let (judge, noted) =
            messages.take().map(|(judge, holding, noted)| ((judge, holding), noted)).unzip();
        let note = |transaction: &mut Transaction| {
            if let Some(noted) = &noted {
                transaction.noted(&mut noted.lock());
            }
        };
        let mut client = Framed::new(Judged::new(client, judge));
        let stopped = async {
            tokio::select! {
                () = withdrawn(&flow, &**recheck) => {}
                () = pop.leaving.cancelled() => {}
            }
        };
        // Noted as it goes: the session may end amid it.
        let progress = |up, down| {
            note(transaction);
            transaction.progress(up, down);
        };
        let relayed = splice_noting(&mut client, origin, IDLE_TIME_MAX, stopped, progress);
        let spliced = at_least_each_minute(relayed).await;
        let leaving = pop.leaving.is_cancelled();
        let asked = matches!(spliced.error, Some((SpliceSide::Withdrawn, _)));
        transaction.waited += began.elapsed();
        transaction.underway = false;
        note(transaction);
        if client.inner().is_stopped() {
            // Kept only as long as a client needs to answer; one that is gone needs no word.
            let said = client.say_farewell(POLICY_VIOLATION);
            drop(tokio::time::timeout(FAREWELL_TIME_MAX, said).await);
            return;
        }
        if let Some((label, blame)) = failure(&spliced, &flow) {
            transaction.failed(label, blame);
        }
        if asked && leaving && frames {
            // Cut short by the drain where the client keeps silent; one that is gone needs no word.
            drop(client.say_farewell(SERVICE_RESTART).await);
        }
    }
}

/// Why the relay ended, where that was no orderly end.
fn failure(spliced: &Spliced, flow: &Flow) -> Option<(&'static str, Blame)> {
    let (side, _) = spliced.error?;
    Some(match side {
        SpliceSide::Client => ("client_reset", Blame::Client),
        SpliceSide::Origin => ("origin_reset", Blame::Origin),
        SpliceSide::Idle => ("idle", Blame::Gateway),
        SpliceSide::Withdrawn if flow.worker.pop.leaving.is_cancelled() => {
            ("drained", Blame::Gateway)
        }
        SpliceSide::Withdrawn if flow.session.ended.is_cancelled() => {
            ("client_gone", Blame::Client)
        }
        SpliceSide::Withdrawn => ("withdrawn", Blame::Gateway),
    })
}
