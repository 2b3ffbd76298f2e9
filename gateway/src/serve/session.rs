//! Opens and closes sessions: credential → person and device → live tunnel, with its records.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::pop::Worker;
use super::refused;
use crate::event::{Client, Record, RecordType, State};
use crate::ident::{
    AccessMethod, Blame, Channel, ClientIdentity, TokenError, TokenIdentity, TokenUser, Who,
};
use crate::snapshot::Tenant;
use crate::tunnel::Session;
use crate::tunnel::accept::{Refusal, RefusalReason, TunnelTls};

/// What a client has shown.
#[derive(Clone)]
pub(super) enum Credential {
    Certificate(ClientIdentity),
    Token(Box<TokenIdentity>),
    Basic(TokenUser),
}

/// The tunnel's own value that tokens can be bound to (RFC 9266).
pub(super) fn channel(tls: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let (_, connection) = tls.get_ref();
    connection.export_keying_material(vec![0_u8; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// Checks a bearer token of a tunnel.
pub(super) fn token(
    tenant: &Tenant,
    shown: Option<&str>,
    channel: Option<&[u8]>,
) -> Result<Credential, RefusalReason> {
    let token = shown.and_then(|it| scheme(it, "bearer")).ok_or(RefusalReason::NoToken)?;
    let jwks = tenant.jwks.as_ref().ok_or(RefusalReason::BadToken("token_not_configured"))?;
    let expect = tenant.expectations().ok_or(RefusalReason::BadToken("token_not_configured"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    jwks.verify(token, &expect, Channel { tls_exporter: channel }, now.as_secs())
        .map(|identity| Credential::Token(Box::new(identity)))
        .map_err(|error| match error {
            // Somebody else ends the tunnel this token is bound to.
            TokenError::BoundElsewhere => RefusalReason::TunnelIntercepted,
            error => RefusalReason::BadToken(error.label()),
        })
}

/// Checks the credentials of an explicit listener: `Basic user:token`, or a bearer token.
pub(super) fn explicit(tenant: &Tenant, shown: Option<&str>) -> Result<Credential, RefusalReason> {
    let shown = shown.ok_or(RefusalReason::NoToken)?;
    match scheme(shown, "basic") {
        Some(credentials) => tenant
            .tokens
            .check_basic(credentials)
            .map(Credential::Basic)
            .ok_or(RefusalReason::BadToken("token_unknown")),
        None => token(tenant, Some(shown), None),
    }
}

fn scheme<'a>(shown: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, value) = shown.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| value.trim())
}

/// Makes the session and writes its opening record. `None` where the tenant's own limit of
/// tunnels is reached, or the device was revoked meanwhile.
pub(super) fn open(
    worker: &Arc<Worker>,
    tenant: &Arc<Tenant>,
    credential: Credential,
    facts: Option<&TunnelTls>,
    peer: SocketAddr,
    access: AccessMethod,
) -> Option<Arc<Session>> {
    let tenancy = worker.pop.tenancy(tenant);
    let refuse = |reason| {
        let refusal = Refusal { tenant: Some(tenant.name.clone()), reason };
        refused::record(worker, peer, access, &refusal);
        None
    };
    if tenant.config.limits.tunnels.is_some_and(|max| tenancy.sessions.len() >= max as usize) {
        return refuse(RefusalReason::TooManyTunnels);
    }
    let until = match &credential {
        Credential::Token(token) => {
            Some(token.expires.saturating_add(tenant.config.identity.leeway_s))
        }
        Credential::Certificate(identity) => Some(identity.expires),
        Credential::Basic(_) => None,
    };
    let (who, serial, binding) = who(tenant, credential);
    let client = Client {
        tunnel_tls: facts.map(|it| it.version.into()),
        tunnel_kx: facts.and_then(|it| it.kx.clone()).map(Into::into),
        binding: Some(binding.into()),
        ..Client::default()
    };
    let ended: CancellationToken = tenancy.ended.child_token();
    let session = Session::new(tenant.name.clone(), who, access, peer, serial, client, ended);
    let session = Arc::new(session);
    tenancy.sessions.insert(&session);
    // Revocation ends what is in the table; what was revoked a moment before must not slip in.
    let current = worker.pop.snapshot.tenant(tenant.name.as_str());
    if current.is_none_or(|tenant| is_revoked(&tenant, &session)) {
        tenancy.sessions.remove(session.id);
        return refuse(RefusalReason::Revoked);
    }
    if let Some(until) = until {
        worker.pop.tasks.spawn(end_at(session.ended.clone(), until));
    }
    write(worker, &session, State::Open, None);
    worker.pop.metrics.session_opened(access);
    Some(session)
}

/// Ends a session with the credential that opened it; `until` is in seconds since the Unix epoch.
async fn end_at(ended: CancellationToken, until: u64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(until).saturating_sub(now)) => ended.cancel(),
        () = ended.cancelled() => {}
    }
}

/// Whether a session's credential has been withdrawn.
pub(super) fn is_revoked(tenant: &Tenant, session: &Session) -> bool {
    tenant.revoked.revokes(session.serial.as_deref(), session.who.device.as_deref())
}

fn who(tenant: &Tenant, credential: Credential) -> (Who, Option<Arc<str>>, &'static str) {
    match credential {
        Credential::Certificate(identity) => {
            let serial = identity.serial.clone();
            let who = tenant.directory.who(identity.user, identity.device);
            (who, Some(serial), "certificate")
        }
        Credential::Basic(user) => (tenant.directory.who(user.user, user.device), None, "none"),
        Credential::Token(token) => {
            let binding = token.binding.as_str();
            let mut who = tenant.directory.who(token.user, token.device);
            if who.groups.is_empty() {
                who.groups = token.groups;
            }
            who.device_class = who.device_class.or(token.device_class);
            who.os = who.os.or(token.os);
            (who, None, binding)
        }
    }
}

/// Takes a session out of the table and writes its closing record.
pub(super) fn close(
    worker: &Arc<Worker>,
    session: &Arc<Session>,
    ending: Option<(&'static str, Blame)>,
) {
    if let Some(tenancy) = worker.pop.tenancy_of(session.tenant.as_str()) {
        tenancy.sessions.remove(session.id);
    }
    session.ended.cancel();
    write(worker, session, State::Close, ending);
    if let Some((label, _)) = ending {
        worker.pop.metrics.limit_reached(label);
    }
    worker.pop.metrics.session_closed(session.access);
}

/// The client has another address: records say so from now on, this one first.
pub(super) fn moved(worker: &Worker, session: &Session, peer: SocketAddr) {
    if session.moved(peer) {
        write(worker, session, State::Update, None);
    }
}

fn write(worker: &Worker, session: &Session, state: State, ending: Option<(&'static str, Blame)>) {
    let mut record = Record::now(RecordType::Session);
    record.id = session.id.0;
    record.state = state;
    record.client = Some(session.client());
    let tenant = worker.pop.snapshot.tenant(session.tenant.as_str());
    record.policy_version = tenant.map(|tenant| Arc::clone(&tenant.policy_version).into());
    record.verdict.action = Some("allow".into());
    if state == State::Close {
        let (from_client, to_client) = session.bytes();
        record.http.request_bytes = Some(from_client);
        record.http.response_bytes = Some(to_client);
        record.cost.total = session.since.elapsed().ok();
        if let Some((label, blame)) = ending {
            record.end.error = Some(label);
            record.end.error_side = Some(blame);
        }
    }
    worker.events.append(session.tenant.as_str(), &record);
}

/// Ready when a session, if there is one, has been ended.
pub(super) async fn over(ended: Option<&CancellationToken>) {
    match ended {
        Some(ended) => ended.cancelled().await,
        None => std::future::pending().await,
    }
}
