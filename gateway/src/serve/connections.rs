//! Which connection to the origin an exchange gets, and what becomes of it afterwards.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use policy::verdict::DialPermit;

use super::destination;
use super::flow::Flow;
use super::reach::{self, Opened, Target, Trust, Unreachable};
use crate::exchange::{Request, Response, Scheme, Version};
use crate::origin::Lease;
use crate::origin::pool::PoolKey;
use crate::snapshot::Tenant;
use crate::tls::{Profile, ProfileKey};

/// Destinations that one client connection may be logged in to: one inside a decrypted flow, some
/// on a proxy connection with absolute-form requests. Beyond it logins fail and say so.
const BOUND_MAX: usize = 16;

/// How an attempt wants to be connected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Not on a connection that had been idle.
    pub(super) fresh: bool,
    /// The origin asked for HTTP/1.1.
    pub(super) http1: bool,
}

/// A connection for this exchange, and whether it had been used before.
pub(super) async fn lease(
    flow: &Flow,
    tenant: &Tenant,
    request: &Request,
    dial: &DialPermit,
    how: How,
) -> Result<(Opened, bool), Unreachable> {
    let by_flow = request.scheme == Scheme::Https && *request.host.text() == *flow.host;
    let mut target = target_of(request);
    if by_flow {
        target.pinned_address = flow.pinned_address;
        target.port = flow.port;
    }
    let tolerate = flow.tenancy.coach.tolerates(&flow.session.who, &target.host);
    let is_current = |opened: &mut Opened| is_current(opened, flow, tenant, &target, tolerate);
    let bound = flow.bound.take(&target, is_current);
    if let Taken::Connection(opened) = bound {
        return Ok((*opened, true));
    }
    let websocket = request.upgrade.is_some();
    if by_flow && !how.http1 {
        let first = flow.first.lock().take();
        let first = first.and_then(|mut opened| is_current(&mut opened).then_some(opened));
        if let Some(opened) = fit(first, websocket).await {
            // The client may have taken its time, so it counts as one that idled.
            return Ok((opened, true));
        }
    }
    let addresses = destination::destinations(flow, tenant, &target).await?;
    // A login must begin on a connection that nobody else used, and stay there.
    let may_http2 = !how.http1 && offers_http2(flow, &target, &addresses, websocket);
    if !how.fresh && matches!(bound, Taken::Nothing) {
        for http2 in [true, false].into_iter().filter(|http2| may_http2 || websocket || !http2) {
            for address in addresses.iter() {
                let key = reach::key(flow, tenant, &target, *address, http2);
                let lease = flow.tenancy.pool.take(flow.worker.index, &key);
                let opened = lease.map(|lease| Opened { lease, key, trust: Trust::Full });
                if let Some(opened) = fit(opened, websocket).await {
                    let mut seen = flow.seen.lock();
                    seen.address = Some(address.to_canonical());
                    seen.egress = opened.lease.egress();
                    drop(seen);
                    return Ok((opened, true));
                }
            }
        }
    }
    let http2 = may_http2;
    let opened = reach::open(flow, tenant, dial, &target, http2, tolerate).await?;
    if !websocket || !http2 {
        return Ok((opened, false));
    }
    match fit(Some(opened), websocket).await {
        Some(opened) => Ok((opened, false)),
        // Its SETTINGS do not allow WebSockets; over HTTP/1.1 it may well have them.
        None => {
            let opened = reach::open(flow, tenant, dial, &target, false, tolerate).await?;
            Ok((opened, false))
        }
    }
}

/// Whether a connection kept since an earlier exchange may carry one more: it is whole, was opened
/// under the settings that are in force, and its fault, where it has one, is still put up with.
fn is_current(
    opened: &mut Opened,
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
    tolerate: bool,
) -> bool {
    let key = &opened.key;
    *key == reach::key(flow, tenant, target, key.address.ip(), key.http2)
        && (opened.trust != Trust::Tolerated || tolerate)
        && opened.lease.is_whole()
}

/// The connection, where the exchange can use it.
async fn fit(opened: Option<Opened>, websocket: bool) -> Option<Opened> {
    let mut opened = opened?;
    let fits = !websocket || opened.lease.allows_websocket().await;
    fits.then_some(opened)
}

/// Whether HTTP/2 is worth offering: not to an origin that refused it, and for a WebSocket only
/// where the origin is not known to lack RFC 8441.
fn offers_http2(
    flow: &Flow,
    target: &Target,
    addresses: &[std::net::IpAddr],
    websocket: bool,
) -> bool {
    let profile = addresses.first().and_then(|address| profile(flow, target, *address));
    match profile {
        Some(profile) if profile.http1_only => false,
        Some(profile) if websocket => profile.connect_protocol != Some(false),
        Some(_) => true,
        None => !websocket,
    }
}

fn profile(flow: &Flow, target: &Target, address: std::net::IpAddr) -> Option<Arc<Profile>> {
    let key = ProfileKey { host: Arc::clone(&target.host), port: target.port, address };
    flow.tenancy.profiles.find(&key, Instant::now())
}

/// What becomes of a connection after an exchange that ended well.
pub(super) fn give_back(flow: &Flow, opened: Opened, after: After) {
    match (&opened.lease, after) {
        // Never to anybody else again.
        (Lease::Http1(_), After::Bound) => flow.bound.keep(opened),
        (Lease::Http1(_), After::Spoilt) | (Lease::Http2 { .. }, After::Bound) => {}
        // The origin says that this connection is the wrong one for this name.
        (Lease::Http2 { .. }, After::Spoilt) => {
            flow.tenancy.pool.forget(flow.worker.index, &opened.key);
        }
        (_, After::Pooled) if opened.trust == Trust::Full => {
            flow.tenancy.pool.put(flow.worker.index, &opened.key, opened.lease);
        }
        (_, After::Pooled) => {}
    }
}

/// The origin wants HTTP/1.1: whether or not this exchange can be sent again, none of the
/// following is sent over HTTP/2.
pub(super) fn http1_only(flow: &Flow, key: &PoolKey) {
    flow.tenancy.profiles.note_http1_only(&reach::profile_key(key), Instant::now());
    flow.tenancy.pool.forget(flow.worker.index, key);
}

/// What an exchange made of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Like any other.
    Pooled,
    /// It carries this client's login.
    Bound,
    /// It must not be used again.
    Spoilt,
}

impl After {
    /// From the request and the origin's response to it.
    pub(super) fn of(
        flow: &Flow,
        (key, version): (&PoolKey, Version),
        request: &Request,
        response: &Response,
    ) -> Self {
        if response.status == 421 {
            return Self::Spoilt;
        }
        let login = binds(request.fields.all("authorization"))
            || (response.status == 401 && binds(response.fields.all("www-authenticate")));
        let bound = login || flow.bound.has(key);
        if !bound || version == Version::Http2 {
            return Self::Pooled;
        }
        flow.tenancy.profiles.note_binds_login(&reach::profile_key(key), Instant::now());
        // One HTTP/2 connection of a client carries many exchanges at once, so none of them can
        // own the origin's connection.
        if request.version == Version::Http2 { Self::Spoilt } else { Self::Bound }
    }
}

/// Whether a request takes part in a login that HTTP/2 cannot carry to an HTTP/1.1 origin: several
/// messages on one connection.
pub(super) fn needs_own_connection(request: &Request) -> bool {
    request.fields.all("authorization").any(|value| has_scheme(value, b"ntlm"))
}

/// Whether credentials or challenges are of a scheme that logs a whole connection in.
fn binds<'a>(mut values: impl Iterator<Item = &'a bytes::Bytes>) -> bool {
    values.any(|value| has_scheme(value, b"ntlm") || has_scheme(value, b"negotiate"))
}

/// Challenges may share one field: the scheme stands at its beginning or behind a comma.
fn has_scheme(value: &[u8], scheme: &[u8]) -> bool {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii_start).any(|challenge| {
        let name = challenge.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        name.eq_ignore_ascii_case(scheme)
    })
}

/// Connections to origins that belong to one client connection.
#[derive(Default)]
pub(super) struct Bound(Mutex<Vec<Place>>);

struct Place {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    /// `None` while an exchange has it, or after it has ended.
    opened: Option<Opened>,
}

enum Taken {
    /// No login has been seen.
    Nothing,
    /// One has, and its connection is gone.
    Lost,
    Connection(Box<Opened>),
}

impl Bound {
    fn take(&self, target: &Target, is_current: impl FnOnce(&mut Opened) -> bool) -> Taken {
        let mut places = self.0.lock();
        let place = places.iter_mut().find(|place| {
            place.scheme == target.scheme && place.host == target.host && place.port == target.port
        });
        match place.map(|place| place.opened.take()) {
            None => Taken::Nothing,
            Some(None) => Taken::Lost,
            Some(Some(mut opened)) => match is_current(&mut opened) {
                true => Taken::Connection(Box::new(opened)),
                false => Taken::Lost,
            },
        }
    }

    fn has(&self, key: &PoolKey) -> bool {
        self.0.lock().iter().any(|place| place.is(key))
    }

    fn keep(&self, opened: Opened) {
        let mut places = self.0.lock();
        let reusable = opened.lease.is_reusable();
        let key = opened.key.clone();
        let opened = reusable.then_some(opened);
        if let Some(place) = places.iter_mut().find(|place| place.is(&key)) {
            place.opened = opened;
        } else if places.len() < BOUND_MAX {
            let port = key.address.port();
            places.push(Place { scheme: key.scheme, host: key.host, port, opened });
        }
    }
}

impl Place {
    fn is(&self, key: &PoolKey) -> bool {
        self.scheme == key.scheme && self.host == key.host && self.port == key.address.port()
    }
}

pub(super) fn target_of(request: &Request) -> Target {
    Target {
        scheme: request.scheme,
        host: request.host.text(),
        port: request.port,
        pinned_address: None,
    }
}

#[cfg(test)]
mod tests {
    use super::has_scheme;

    #[test]
    fn schemes_are_found_among_several_and_only_whole() {
        for value in ["NTLM", "ntlm TlRMTVNTUAAB", "Basic realm=\"a\", NTLM", "Negotiate,NTLM"] {
            assert!(has_scheme(value.as_bytes(), b"ntlm"), "{value}");
        }
        for value in ["Basic NTLM", "NTLMv9 x", "Bearer ntlm"] {
            assert!(!has_scheme(value.as_bytes(), b"ntlm"), "{value}");
        }
    }
}
