//! Stepping aside: flows that cannot be decrypted are noticed and named, and pass undecrypted only
//! where the tenant's settings say so.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use policy::verdict::DialPermit;
use tokio::io::AsyncWriteExt;

use super::bypass::bypass;
use super::decide;
use super::flow::{Flow, FlowEnd};
use super::reach::Unreachable;
use crate::config::BypassAction;
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::tls::OriginTlsError;
use crate::verdict::pinned::{Encounter, Reason, Sign};

/// A fatal alert `no_application_protocol` (RFC 7301 section 3.2), in clear as before a ServerHello.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// Whether the tenant lets such flows pass undecrypted. Where no setting is meant for them, a
/// decrypt rule is the way.
pub(super) fn lets_pass(tenant: &Tenant, reason: Reason) -> bool {
    let settings = &tenant.config.decryption;
    match reason {
        Reason::ClientPinned => settings.client_pinned == BypassAction::Bypass,
        Reason::ClientCertificate => settings.client_certificate_wanted == BypassAction::Bypass,
        Reason::ObsoleteOrigin | Reason::NotHttp => false,
    }
}

/// Whether this client program is to pass: the tenant wants that, and it has shown more than once
/// that it accepts no certificate of ours for this host.
pub(super) fn is_pinned(flow: &Flow, tenant: &Tenant) -> bool {
    lets_pass(tenant, Reason::ClientPinned)
        && met(flow, |met| flow.tenancy.pinned.passes(met, Instant::now()))
}

/// The permit to pass. A rule that wants a page first is not fulfilled by passing by.
pub(super) async fn permit(flow: &Flow, tenant: &Tenant) -> Option<DialPermit> {
    decide::connect_gate(flow, tenant, false).await.ok()
}

/// Relays the flow as it is.
pub(super) async fn pass(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    reason: Reason,
    io: Rewind<Io>,
    began: Instant,
) {
    {
        let mut seen = flow.seen.lock();
        seen.decrypted = Some(false);
        seen.decrypt_reason = Some(reason.label().into());
        seen.aside = Some(reason);
    }
    note(flow, reason, true);
    let (io, raw) = io.into_parts();
    bypass(flow, tenant, permit, io, raw, began).await;
}

/// Counts a flow that could not be decrypted.
pub(super) fn note(flow: &Flow, reason: Reason, passed: bool) {
    met(flow, |met| flow.tenancy.pinned.note(met, reason, passed, SystemTime::now()));
}

/// Counts a flow whose origin cannot be decrypted.
pub(super) fn note_origin(flow: &Flow, tenant: &Tenant, error: &OriginTlsError) {
    if let Some(reason) = reason_of(error)
        && !lets_pass(tenant, reason)
    {
        note(flow, reason, false);
    }
}

/// The client showed that it does not accept our certificate.
pub(super) fn note_pinned(flow: &Flow, sign: Sign) {
    let suffices = met(flow, |met| flow.tenancy.pinned.learn(met, sign, Instant::now()));
    // A connection that was merely closed proves nothing until it is a habit.
    if sign == Sign::Refused || suffices {
        note(flow, Reason::ClientPinned, false);
    }
}

/// The client uses a connection under our certificate.
pub(super) fn note_trust(flow: &Flow) {
    if flow.tenancy.pinned.suspects_nobody() {
        return;
    }
    met(flow, |met| flow.tenancy.pinned.trusts(met));
}

/// The reason why there is no way to decrypt, where `error` is such.
pub(super) fn reason_of(error: &OriginTlsError) -> Option<Reason> {
    match error {
        OriginTlsError::ClientCertificate => Some(Reason::ClientCertificate),
        OriginTlsError::Obsolete(_) => Some(Reason::ObsoleteOrigin),
        _ => None,
    }
}

/// Whether an origin was not reached because it insists on a client certificate.
pub(super) fn wants_certificate(error: &Unreachable) -> bool {
    matches!(error, Unreachable::Tls(OriginTlsError::ClientCertificate))
}

/// Refuses a flow whose client offers protocols and none of them is HTTP. Nothing is dialled.
pub(super) async fn refuse_foreign(flow: &Flow, tenant: &Arc<Tenant>, mut io: Io, began: Instant) {
    {
        let mut seen = flow.seen.lock();
        seen.decrypted = Some(false);
        seen.decrypt_reason = Some("alpn_not_http".into());
    }
    note(flow, Reason::NotHttp, false);
    // The client may be gone already; the record says what happened either way.
    if io.write_all(&NO_APPLICATION_PROTOCOL).await.is_ok() {
        drop(io.shutdown().await);
    }
    flow.record(tenant, began, &FlowEnd::refused(Reason::NotHttp.label(), Blame::Client));
}

/// Shows `act` whose flow this is.
pub(super) fn met<T>(flow: &Flow, act: impl FnOnce(&Encounter<'_>) -> T) -> T {
    let who = &flow.session.who;
    act(&Encounter {
        host: &flow.host,
        port: flow.port,
        user: &who.user,
        device: who.device.as_deref(),
        app: flow.worker.pop.catalog.site(&flow.host).app,
        ja4: flow.ja4.as_deref(),
    })
}
