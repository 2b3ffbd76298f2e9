//! After `101 Switching Protocols`: raw bytes both ways, one record for the whole of it.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::flow::withdrawn;
use super::relay::{SpliceSide, splice};
use super::transaction::Transaction;
use crate::exchange::http1::Http1;
use crate::exchange::{Request, Response, Sink};
use crate::ident::Blame;
use crate::origin::{Lease, OriginIo, http1};
use crate::stream::Rewind;

/// A WebSocket without a ping or message for this long is dead: common servers ping within a
/// minute.
const IDLE_TIME_MAX: Duration = Duration::from_secs(3600);

/// An exchange that goes on as another protocol.
pub(super) struct Upgrade {
    origin: Box<http1::Http1<OriginIo>>,
    response: Response,
    protocol: Bytes,
    transaction: Transaction,
    recheck: Recheck,
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
    ) -> Option<Self> {
        let protocol = request.upgrade.clone()?;
        match lease {
            Lease::Http1(origin) => Some(Self { origin, response, protocol, transaction, recheck }),
            Lease::Http2 { .. } => None,
        }
    }

    /// Tells the client, then relays until both sides have ended.
    pub(super) async fn splice<Io>(mut self: Box<Self>, mut client: Http1<Io>)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let told = client.start_upgrade(self.response, &self.protocol);
        let flushed = std::future::poll_fn(|context| client.poll_flush(context)).await;
        if told.and(flushed).is_err() {
            return self.transaction.failed("client_write", Blame::Client);
        }
        self.transaction.open();
        let (client_io, from_client) = client.into_upgraded();
        let (origin_io, from_origin) = self.origin.into_upgraded();
        let mut client_io = Rewind::new(from_client, client_io);
        let mut origin_io = Rewind::new(from_origin, origin_io);
        let began = std::time::Instant::now();
        let flow = self.transaction.flow_shared();
        let withdrawn = withdrawn(&flow, &*self.recheck);
        let spliced = splice(&mut client_io, &mut origin_io, IDLE_TIME_MAX, withdrawn).await;
        self.transaction.waited += began.elapsed();
        self.transaction.record.http.request_bytes = Some(spliced.from_client);
        self.transaction.record.http.response_bytes = Some(spliced.to_client);
        match spliced.error {
            None => {}
            Some((SpliceSide::Client, _)) => {
                self.transaction.failed("client_reset", Blame::Client);
            }
            Some((SpliceSide::Origin, _)) => {
                self.transaction.failed("origin_reset", Blame::Origin);
            }
            Some((SpliceSide::Idle, _)) => self.transaction.failed("idle", Blame::Gateway),
            Some((SpliceSide::Withdrawn, _)) => {
                self.transaction.failed("withdrawn", Blame::Gateway);
            }
        }
    }
}
