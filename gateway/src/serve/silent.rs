//! A client that says nothing at first. Its server may be the one that begins (SMTP, FTP), or the way from the
//! client is slow: what it says later is looked at as if it had come at once.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::bypass::{self, IDLE_TIME_MAX, open_raw, still_bypassed, unreachable_end, withdrawn};
use super::decide::{connect_gate, must_be_tls, not_tls};
use super::flow::{Flow, FlowEnd};
use crate::snapshot::Tenant;
use crate::stream::Io;

/// Where TLS is all that may be spoken its client begins, however slow its way is.
const TLS_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Of a ClientHello; the rest is read after it.
const FIRST_BYTES: usize = 4 << 10;

/// Serves a flow whose client says nothing, unless it begins after all: its first bytes are then still to be
/// looked at.
pub(super) async fn serve(
    flow: &Flow,
    tenant: &Tenant,
    io: &mut Io,
    began: Instant,
) -> Option<Bytes> {
    let heard = if must_be_tls(flow, tenant) {
        by_client(flow, io).await
    } else {
        by_either(flow, tenant, io).await
    };
    let silence = match heard {
        Ok(first) => return Some(first),
        Err(silence) => silence,
    };
    flow.seen.lock().decrypt_reason = Some("server_first".into());
    match silence {
        Silence::Relay(origin) => bypass::relay(flow, tenant, io, origin, began).await,
        Silence::Over(end) => flow.record(tenant, began, &end),
    }
    None
}

/// What is left to do where the client does not begin.
enum Silence {
    /// Its server does, or it has no more to say.
    Relay(TcpStream),
    Over(FlowEnd),
}

async fn by_client(flow: &Flow, io: &mut Io) -> Result<Bytes, Silence> {
    let end = tokio::select! {
        first = first(io) => match first {
            Some(first) => return Ok(first),
            None => not_tls(),
        },
        () = sleep(TLS_SILENCE_MAX) => not_tls(),
        () = flow.session.ended.cancelled() => FlowEnd::ended("withdrawn"),
    };
    Err(Silence::Over(end))
}

async fn by_either(flow: &Flow, tenant: &Tenant, io: &mut Io) -> Result<Bytes, Silence> {
    let permit = Box::pin(connect_gate(flow, tenant, false)).await.map_err(Silence::Over)?;
    let origin = Box::pin(open_raw(flow, tenant, &permit)).await;
    let origin = origin.map_err(|error| Silence::Over(unreachable_end(&error)))?;
    let mut byte = [0];
    let end = tokio::select! {
        // A client that has begun is read, however fast its server was.
        biased;
        first = first(io) => return first.ok_or(Silence::Relay(origin)),
        // An error shows again when the connection is relayed.
        _spoken = origin.peek(&mut byte) => return Err(Silence::Relay(origin)),
        () = withdrawn(flow, || still_bypassed(flow)) => FlowEnd::ended("withdrawn"),
        () = sleep(IDLE_TIME_MAX) => FlowEnd::ended("idle"),
    };
    Err(Silence::Over(end))
}

/// The client's first bytes; `None` where there will be none. Dropped before that, it has taken none.
async fn first(io: &mut Io) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(FIRST_BYTES);
    match io.read_buf(&mut bytes).await {
        Ok(count) if count > 0 => Some(bytes.freeze()),
        _ => None,
    }
}
