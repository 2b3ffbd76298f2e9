//! Relays a flow as it is, for as long as the policy in force lets it pass undecrypted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use policy::decrypt::DecryptAction;
use policy::verdict::{DialPermit, Outcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::aside;
use super::destination;
use super::flow::{Flow, FlowEnd};
use super::reach::{self, Target, Unreachable};
use super::relay::splice;
use crate::config::AddressAction;
use crate::exchange::Scheme;
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::verdict::{connect, decrypt};

/// A relayed flow that moves nothing for this long is over.
pub(super) const IDLE_TIME_MAX: Duration = Duration::from_secs(900);

/// Relays a flow as it is. A name's flow goes only where the gateway's own resolver says that
/// the name lives.
pub(super) async fn bypass(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    io: Io,
    raw: Bytes,
    began: Instant,
) {
    match open_raw(flow, tenant, permit).await {
        Err(error) => flow.record(tenant, began, &unreachable_end(&error)),
        Ok(origin) => relay(flow, tenant, Rewind::new(raw, io), origin, began).await,
    }
}

/// Relays a flow to where it has been opened.
pub(super) async fn relay<Client: AsyncRead + AsyncWrite + Unpin>(
    flow: &Flow,
    tenant: &Tenant,
    mut client: Client,
    mut origin: TcpStream,
    began: Instant,
) {
    let withdrawn = withdrawn(flow, || still_bypassed(flow));
    let spliced = splice(&mut client, &mut origin, IDLE_TIME_MAX, withdrawn).await;
    flow.record(tenant, began, &FlowEnd::relayed(&spliced));
}

/// Ready when the session has ended, or when a new configuration of the tenant no longer lets
/// `allowed` hold (DESIGN part 4: judged again within two seconds of a swap).
pub(super) async fn withdrawn(flow: &Flow, allowed: impl Fn() -> bool) {
    let Some(mut changed) = flow.worker.pop.snapshot.follow(flow.session.tenant.as_str()) else {
        return;
    };
    loop {
        tokio::select! {
            () = flow.session.ended.cancelled() => return,
            swapped = changed.changed() => {
                if swapped.is_err() || !allowed() {
                    return;
                }
            }
        }
    }
}

/// Whether the policy in force now would let this flow pass undecrypted.
pub(super) fn still_bypassed(flow: &Flow) -> bool {
    let Some(tenant) = flow.tenant() else { return false };
    let subject = flow.unread(&tenant, flow.seen.lock().address);
    if !matches!(connect(&tenant.policy, &subject).outcome, Outcome::Allow { .. }) {
        return false;
    }
    let site = flow.worker.pop.catalog.site(&flow.host);
    let action = decrypt(&tenant.decrypt, &subject, &site).0;
    let aside = flow.seen.lock().aside;
    match (action, aside) {
        _ if flow.ja4.is_none() => true,
        (DecryptAction::Bypass, _) => true,
        (DecryptAction::Decrypt, Some(reason)) => aside::lets_pass(&tenant, reason),
        (DecryptAction::Decrypt | DecryptAction::Block, _) => false,
    }
}

/// Connects to a flow's origin without a look at what will be spoken.
pub(super) async fn open_raw(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
) -> Result<TcpStream, Unreachable> {
    let target = name_and_address(flow, tenant).await?;
    reach::dial(flow, tenant, permit, &target).await
}

/// Where a flow that is not read goes: to what its name is known to live at.
pub(super) async fn name_and_address(flow: &Flow, tenant: &Tenant) -> Result<Target, Unreachable> {
    let mut target = flow.target(Scheme::Https);
    if let Some(address) = target.pinned_address.take() {
        let known = destination::resolve(flow, tenant, &target).await?;
        if !known.contains(&address) {
            return Err(Unreachable::NameElsewhere);
        }
        target.pinned_address = Some(address);
    }
    Ok(target)
}

pub(super) fn unreachable_end(error: &Unreachable) -> FlowEnd {
    FlowEnd {
        action: if error.is_refusal() { "block" } else { "allow" },
        block_reason: error.is_refusal().then(|| error.label()),
        ..FlowEnd::refused(error.label(), error.blame())
    }
}

/// Whether an SNI that names another place than CONNECT's address is taken.
pub(super) fn name_elsewhere_is_blocked(tenant: &Tenant) -> bool {
    tenant.config.decryption.sni_ip_mismatch == AddressAction::Block
}
