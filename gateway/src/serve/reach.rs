//! Reaches an origin: dial, verify, and make the connection ready for exchanges.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use policy::verdict::DialPermit;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::aside;
use super::bypass::name_elsewhere_is_blocked;
use super::destination::{addresses, destinations, resolve};
use super::flow::Flow;
use super::issuer;
use super::pop::Pop;
use crate::exchange::{Scheme, Version};
use crate::ident::Blame;
use crate::origin::dial::{self, DialError};
use crate::origin::gather::Gather;
use crate::origin::pool::{Generation, PoolKey};
use crate::origin::resolve::ResolveError;
use crate::origin::{Lease, OriginIo, http1, http2};
use crate::snapshot::Tenant;
use crate::tls::{
    FaultAction, FaultSettings, Finding, OriginFacts, OriginTlsError, Profile, ProfileKey,
};

/// Where an exchange goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// The client named an address beside the name: that one is dialled, and no other.
    pub(super) pinned_address: Option<IpAddr>,
}

/// A connection that is ready for an exchange.
pub(super) struct Opened {
    pub(super) lease: Lease,
    pub(super) key: PoolKey,
    pub(super) trust: Trust,
}

/// How good the origin's certificate was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Without fault: other exchanges of the tenant may share the connection.
    Full,
    /// The tenant's settings allow its fault.
    Allowed,
    /// A user chose to go on after a warning: good for that user, as long as the choice is.
    Tolerated,
}

/// Why an origin cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("the name does not resolve: {0}")]
    Resolve(#[from] ResolveError),
    #[error("not reached: {0}")]
    Dial(#[from] DialError),
    #[error("TLS to the origin failed: {0}")]
    Tls(#[from] OriginTlsError),
    #[error("the origin's certificate is at fault: {}", .0.fault.as_str())]
    Fault(Finding, FaultAction),
    #[error("the name lives elsewhere than the address asked for")]
    NameElsewhere,
    #[error("the name has moved to where rules judge otherwise")]
    Moved,
    #[error("the host is no name and no address")]
    Name,
    #[error("the gateway's own TLS settings fail: {0}")]
    Settings(rustls::Error),
    #[error("HTTP/2 to the origin failed")]
    Http2,
}

impl Unreachable {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Resolve(error) => error.label(),
            Self::Dial(error) => error.label(),
            // No setting lets it pass, so it is not called after the fault that it is.
            Self::Tls(error @ OriginTlsError::Obsolete(_)) => error.label(),
            Self::Tls(error) => error.fault().map_or_else(|| error.label(), |it| it.as_str()),
            Self::Fault(finding, _) => finding.fault.as_str(),
            Self::NameElsewhere => "sni_ip_mismatch",
            Self::Moved => "destination_moved",
            Self::Name => "bad_authority",
            Self::Settings(_) => "gateway_tls",
            Self::Http2 => "origin_http2",
        }
    }

    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Resolve(error) => error.blame(),
            Self::Dial(error) => error.blame(),
            Self::Tls(error) => error.blame(),
            Self::Fault(..) | Self::Http2 | Self::Moved => Blame::Origin,
            Self::NameElsewhere | Self::Name => Blame::Client,
            Self::Settings(_) => Blame::Gateway,
        }
    }

    /// Whether the gateway refused, rather than failed.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_refusal(),
            Self::Fault(..) | Self::NameElsewhere => true,
            // The tenant could let it pass undecrypted.
            Self::Tls(OriginTlsError::ClientCertificate) => true,
            Self::Tls(error) => error.fault().is_some(),
            _ => false,
        }
    }

    /// The name of the certificate fault, if that is what it is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Fault(finding, _) => Some(finding.fault.as_str()),
            Self::Tls(error) => error.fault().map(|fault| fault.as_str()),
            _ => None,
        }
    }

    /// The status of the gateway's own answer.
    pub(super) fn status(&self) -> u16 {
        match self {
            _ if self.is_refusal() => 403,
            Self::Dial(error) if error.is_timeout() => 504,
            Self::Resolve(error) if error.is_timeout() => 504,
            Self::Tls(OriginTlsError::Timeout) => 504,
            Self::Settings(_) => 500,
            _ => 502,
        }
    }
}

/// Dials a target's TCP port.
pub(super) async fn dial(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    target: &Target,
) -> Result<TcpStream, Unreachable> {
    let addresses = destinations(flow, tenant, target).await?;
    dial_any(flow, tenant, permit, &addresses, target.port).await.map(|(stream, _)| stream)
}

/// Dials for the gateway's own sake: nothing of it goes into the flow's record.
pub(super) async fn dial_aside(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    target: &Target,
) -> Result<TcpStream, Unreachable> {
    let addresses = addresses(flow, tenant, target).await?;
    let guard = flow.worker.pop.guard.load_full();
    let egress = egress(flow, tenant);
    Ok(dial::dial(permit, &addresses, target.port, &guard, &egress).await?.0)
}

async fn dial_any(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    addresses: &[IpAddr],
    port: u16,
) -> Result<(TcpStream, SocketAddr), Unreachable> {
    let began = Instant::now();
    let guard = flow.worker.pop.guard.load_full();
    let dialled = dial::dial(permit, addresses, port, &guard, &egress(flow, tenant)).await;
    let mut seen = flow.seen.lock();
    seen.dialled.connect = Some(began.elapsed());
    let (stream, address) = dialled?;
    seen.address = Some(address.ip().to_canonical());
    seen.egress = dial::left_from(stream.local_addr());
    Ok((stream, address))
}

/// The tenant's own source addresses, else the gateway's.
pub(super) fn egress(flow: &Flow, tenant: &Tenant) -> Vec<IpAddr> {
    if tenant.config.origin.egress.is_empty() {
        flow.worker.pop.snapshot.gateway().config.origin.egress.clone()
    } else {
        tenant.config.origin.egress.clone()
    }
}

/// The pool's key for one of a target's addresses.
pub(super) fn key(
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
    address: IpAddr,
    http2: bool,
) -> PoolKey {
    PoolKey {
        egress: tenant.config.origin.egress.first().copied(),
        scheme: target.scheme,
        host: Arc::clone(&target.host),
        address: SocketAddr::new(address, target.port),
        http2,
        generation: generation(&flow.worker.pop, tenant),
    }
}

/// The settings of TLS towards origins that are in force.
pub(super) fn generation(pop: &Pop, tenant: &Tenant) -> Generation {
    Generation {
        gateway: pop.snapshot.gateway().origin_generation,
        tenant: tenant.origin_generation,
    }
}

/// The profile that belongs to a connection.
pub(super) fn profile_key(key: &PoolKey) -> ProfileKey {
    ProfileKey { host: Arc::clone(&key.host), port: key.address.port(), address: key.address.ip() }
}

/// Opens a connection: dialled, verified, judged, HTTP/2 where the origin chose it.
pub(super) async fn open(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    target: &Target,
    http2: bool,
    tolerate: bool,
) -> Result<Opened, Unreachable> {
    let addresses = destinations(flow, tenant, target).await?;
    if name_elsewhere_is_blocked(tenant) && target.pinned_address.is_some() {
        check_name_lives_here(flow, tenant, target).await?;
    }
    let (stream, address) = dial_any(flow, tenant, permit, &addresses, target.port).await?;
    let key = key(flow, tenant, target, address.ip(), http2);
    if target.scheme == Scheme::Http {
        let lease = Lease::Http1(Box::new(http1::Http1::new(OriginIo::Plain(stream))));
        return Ok(Opened { lease, key, trust: Trust::Full });
    }
    let began = Instant::now();
    let name = ServerName::try_from(&*target.host).map_err(|_| Unreachable::Name)?;
    let pop = &flow.worker.pop;
    let tls = flow.tenancy.origin_tls(tenant, pop).map_err(Unreachable::Settings)?;
    let offered: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    let connected = tls.connect(stream, &name, offered).await;
    if let Err(error) = &connected {
        flow.seen.lock().fault = error.fault().map(|fault| fault.as_str());
        aside::note_origin(flow, tenant, error);
    }
    let (stream, mut facts) = connected?;
    let handshake = began.elapsed();
    issuer::complete(flow, tenant, &tls, &stream, &name, &mut facts).await;
    let trust = judge(flow, tenant, &facts, tolerate)?;
    // Whatever was assumed of this origin, this is what it is.
    let profile = Profile::from(&facts);
    flow.tenancy.profiles.learn(profile_key(&key), profile, Instant::now());
    let version = version_of(&facts);
    {
        let mut seen = flow.seen.lock();
        seen.dialled.tls = Some(handshake);
        seen.origin = Some(facts);
    }
    let stream = Box::new(stream);
    let lease = match version {
        Version::Http2 => start_http2(flow, stream, &key, trust).await?,
        _ => Lease::Http1(Box::new(http1::Http1::new(OriginIo::Tls(stream)))),
    };
    Ok(Opened { lease, key, trust })
}

async fn check_name_lives_here(
    flow: &Flow,
    tenant: &Tenant,
    target: &Target,
) -> Result<(), Unreachable> {
    let by_name = Target { pinned_address: None, ..target.clone() };
    let known = resolve(flow, tenant, &by_name).await?;
    match target.pinned_address {
        Some(address) if !known.contains(&address) => Err(Unreachable::NameElsewhere),
        _ => Ok(()),
    }
}

/// What the tenant says of the certificate.
fn judge(
    flow: &Flow,
    tenant: &Tenant,
    facts: &OriginFacts,
    tolerate: bool,
) -> Result<Trust, Unreachable> {
    let findings = &facts.certificate.findings;
    flow.seen.lock().fault = findings.first().map(|finding| finding.fault.as_str());
    match settings(tenant).judge(findings) {
        None => Ok(Trust::Full),
        Some((FaultAction::Allow, _)) => Ok(Trust::Allowed),
        Some((FaultAction::Warn, _)) if tolerate => Ok(Trust::Tolerated),
        Some((action, finding)) => Err(Unreachable::Fault(finding, action)),
    }
}

/// The tenant's setting for each certificate fault.
fn settings(tenant: &Tenant) -> FaultSettings {
    use crate::tls::Fault;
    let configured = &tenant.config.decryption;
    let action = |it: crate::config::FaultAction| match it {
        crate::config::FaultAction::Block => FaultAction::Block,
        crate::config::FaultAction::Warn => FaultAction::Warn,
        crate::config::FaultAction::Allow => FaultAction::Allow,
    };
    FaultSettings::default()
        .with(Fault::UntrustedRoot, action(configured.untrusted_root))
        .with(Fault::SelfSigned, action(configured.self_signed))
        .with(Fault::Expired, action(configured.expired))
        .with(Fault::NotYetValid, action(configured.not_yet_valid))
        .with(Fault::NameMismatch, action(configured.name_mismatch))
        .with(Fault::Revoked, action(configured.revoked))
        .with(Fault::IncompleteChain, action(configured.incomplete_chain))
        .with(Fault::Weak, action(configured.weak))
}

fn version_of(facts: &OriginFacts) -> Version {
    if facts.alpn.as_deref() == Some(b"h2") { Version::Http2 } else { Version::Http11 }
}

/// Starts HTTP/2 and shares a connection that is without fault with the tenant's later exchanges.
async fn start_http2(
    flow: &Flow,
    stream: Box<TlsStream<TcpStream>>,
    key: &PoolKey,
    trust: Trust,
) -> Result<Lease, Unreachable> {
    let (websocket, tenancy) = (Arc::clone(&flow.websocket), Arc::clone(&flow.tenancy));
    let profile = profile_key(key);
    let learned = move |allowed| {
        websocket.send_replace(Some(allowed));
        tenancy.profiles.note_connect_protocol(&profile, allowed);
    };
    let egress = dial::left_from(stream.get_ref().0.local_addr());
    let (io, turns) = Gather::new(stream);
    let (connection, driver) =
        http2::Connection::open(io, egress, learned).await.map_err(|_| Unreachable::Http2)?;
    let ended = flow.tenancy.ended.clone();
    // Not among the tasks a drain waits for: idle connections to origins hold nobody up.
    tokio::spawn(async move {
        tokio::select! {
            () = turns.run(driver) => {}
            () = ended.cancelled() => {}
        }
    });
    if trust == Trust::Full {
        flow.tenancy.pool.share(flow.worker.index, key, connection.clone());
    }
    Ok(Lease::Http2 { connection, stream: None })
}
