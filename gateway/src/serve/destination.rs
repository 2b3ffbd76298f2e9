//! Where a flow goes: the addresses of a name, and which of them rules let be dialled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use policy::fact::{Fact, Key, Value};
use policy::verdict::{DialPermit, Verdict};

use super::flow::Flow;
use super::reach::{Target, Unreachable};
use crate::snapshot::Tenant;
use crate::verdict::{ConnectSubject, connect};

/// The addresses of a target, by the gateway's own resolver.
pub(super) async fn resolve(
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
) -> Result<Arc<[IpAddr]>, Unreachable> {
    let began = Instant::now();
    let resolved = addresses(flow, tenant, target).await;
    if target.pinned_address.is_none() && target.host.parse::<IpAddr>().is_err() {
        let mut seen = flow.seen.lock();
        let dns = &mut seen.dialled.dns;
        *dns = Some(dns.unwrap_or_default() + began.elapsed());
    }
    resolved
}

/// The same, for the gateway's own sake: nothing of it goes into the flow's record.
pub(super) async fn addresses(
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
) -> Result<Arc<[IpAddr]>, Unreachable> {
    let known = target.pinned_address.or_else(|| target.host.parse().ok());
    if let Some(address) = known {
        return Ok(Arc::from([address]));
    }
    let resolver = flow.worker.pop.resolver.load_full();
    Ok(resolver.resolve(tenant.name.as_str(), &target.host).await?)
}

/// The addresses of a target that may be dialled as far as rules go by address: what one address was
/// allowed, another that some rule tells from it was not. The first is the one that rules are asked of,
/// unless they were asked before.
pub(super) async fn destinations(
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
) -> Result<Arc<[IpAddr]>, Unreachable> {
    let addresses = resolve(flow, tenant, target).await?;
    let Some(first) = addresses.first().filter(|_| tenant.policy.keys().by_address()) else {
        return Ok(addresses);
    };
    let judged = flow.judged(&target.host).unwrap_or_else(|| {
        flow.seen.lock().judged = Some((Arc::clone(&target.host), *first));
        *first
    });
    let is_alike =
        |address: &IpAddr| *address == judged || !told_apart(flow, tenant, judged, *address);
    if addresses.iter().all(is_alike) {
        return Ok(addresses);
    }
    let alike: Arc<[IpAddr]> = addresses.iter().copied().filter(is_alike).collect();
    if alike.is_empty() {
        // What comes next is judged by where the name lives now.
        flow.seen.lock().judged = None;
        return Err(Unreachable::Moved);
    }
    Ok(alike)
}

/// Whether some rule sees two addresses, or the countries that they are in, differently.
fn told_apart(flow: &Flow, tenant: &Tenant, one: IpAddr, other: IpAddr) -> bool {
    let address = |address: IpAddr| Fact::Known(Value::Address(address.to_canonical()));
    let policy = &tenant.policy;
    policy.tells_apart(Key::DestIp, address(one), address(other))
        || policy.tells_apart(Key::DestCountry, flow.places.fact(one), flow.places.fact(other))
}

/// What the connect gate says. The name is resolved first where the policy goes by its address, which
/// is then in `subject`.
pub(super) async fn ask(
    flow: &Flow,
    tenant: &Tenant,
    subject: &mut ConnectSubject<'_>,
    target: &Target,
) -> Result<Verdict<DialPermit>, Unreachable> {
    let verdict = connect(&tenant.policy, subject);
    if verdict.resolve_permit().is_none() {
        return Ok(verdict);
    }
    flow.seen.lock().judged = None;
    subject.address = destinations(flow, tenant, target).await?.first().copied();
    Ok(connect(&tenant.policy, subject))
}
