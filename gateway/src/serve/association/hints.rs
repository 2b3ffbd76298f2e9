//! What tells clients of HTTP/3 (`Alt-Svc`, the `alpn` of service records): passed on to those whose
//! QUIC would be served.

use gateway_proto::target::Host;
use hickory_proto::rr::Record;

use super::action;
use crate::config::QuicAction;
use crate::ident::AccessMethod;
use crate::serve::aside;
use crate::serve::flow::Flow;
use crate::serve::pop::Worker;
use crate::snapshot::Tenant;
use crate::tunnel::Session;
use crate::verdict::quic::whose;
use policy::decrypt::DecryptAction;
use std::sync::Arc;

const HTTPS_PORT: u16 = 443;

/// Whether a client may be told of HTTP/3 where this flow goes. One whose streams come alone would try
/// it past the tunnel.
pub(in crate::serve) fn invites(flow: &Flow, tenant: &Tenant) -> bool {
    let all_traffic = matches!(flow.session.access, AccessMethod::Dtls | AccessMethod::Openconnect);
    all_traffic && !would_refuse(flow, tenant)
}

fn would_refuse(flow: &Flow, tenant: &Tenant) -> bool {
    match action(flow, tenant) {
        DecryptAction::Bypass => false,
        DecryptAction::Block => true,
        DecryptAction::Decrypt => {
            tenant.config.decryption.quic == QuicAction::Refuse
                || aside::met(flow, |met| flow.tenancy.quic.knows_device(&whose(met)))
        }
    }
}

/// The service records of a name as this session is to see them.
pub(in crate::serve) fn without_hints(
    worker: &Arc<Worker>,
    session: &Arc<Session>,
    name: &str,
    records: Vec<Record>,
) -> Vec<Record> {
    let flow = Host::parse(name.as_bytes())
        .ok()
        .and_then(|host| Flow::new(Arc::clone(worker), Arc::clone(session), host, HTTPS_PORT));
    let refused = flow
        .and_then(|flow| Some(would_refuse(&flow, &*flow.tenant()?)))
        // Names that are none of a host: `_dns.resolver.arpa` and such.
        .unwrap_or(true);
    let plain = records.into_iter().map(gateway_proto::dns::without_ech);
    match refused {
        true => plain.filter_map(gateway_proto::dns::without_http3).collect(),
        false => plain.collect(),
    }
}
