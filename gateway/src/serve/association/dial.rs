//! The connect gate of a flow that is not read, and its socket.

use std::net::{IpAddr, SocketAddr};

use policy::verdict::DialPermit;
use tokio::net::UdpSocket;

use crate::ident::Blame;
use crate::origin::dial;
use crate::serve::bypass::{name_and_address, unreachable_end};
use crate::serve::decide;
use crate::serve::destination;
use crate::serve::flow::{Flow, FlowEnd};
use crate::serve::reach;
use crate::snapshot::Tenant;

/// Asks whether datagrams to this destination may go on by its name alone.
pub(super) async fn admit(flow: &Flow, tenant: &Tenant) -> Result<DialPermit, FlowEnd> {
    let guard = flow.worker.pop.guard.load_full();
    guard
        .check_name(&flow.asked, flow.port)
        .map_err(|refused| FlowEnd::refused(refused.label(), Blame::Client))?;
    decide::connect_gate(flow, tenant, false).await
}

/// The same, and whether there is anything to go to.
pub(in crate::serve) async fn reaches(flow: &Flow, tenant: &Tenant) -> Result<(), FlowEnd> {
    let _permit = admit(flow, tenant).await?;
    destination(flow, tenant).await.map(|_| ())
}

/// Opens a socket that only the destination can answer. A name's datagrams go only where the gateway's
/// own resolver says that the name lives.
pub(super) async fn open(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
) -> Result<UdpSocket, FlowEnd> {
    let target = destination(flow, tenant).await?;
    flow.seen.lock().address = Some(target.ip());
    let source = dial::source(&reach::egress(flow, tenant), target.ip())
        .map_err(|error| FlowEnd::refused(error.label(), error.blame()))?;
    let socket = connect(permit, target, source)
        .await
        .map_err(|_| FlowEnd::refused("unreachable", Blame::Origin))?;
    flow.seen.lock().egress = dial::left_from(socket.local_addr());
    Ok(socket)
}

/// Where the datagrams would go: somewhere that may be dialled.
async fn destination(flow: &Flow, tenant: &Tenant) -> Result<SocketAddr, FlowEnd> {
    let target = name_and_address(flow, tenant).await.map_err(|error| unreachable_end(&error))?;
    let addresses = destination::destinations(flow, tenant, &target)
        .await
        .map_err(|error| unreachable_end(&error))?;
    let nowhere = || FlowEnd::refused("dns_nodata", Blame::Origin);
    let address = *addresses.first().ok_or_else(nowhere)?;
    let target = SocketAddr::new(address, flow.port);
    let guard = flow.worker.pop.guard.load_full();
    guard
        .check_address(target)
        .map_err(|refused| FlowEnd::refused(refused.label(), Blame::Client))?;
    Ok(target)
}

/// From `source`, or from where the kernel sends such datagrams.
async fn connect(
    _permit: &DialPermit,
    target: SocketAddr,
    source: Option<IpAddr>,
) -> std::io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}
