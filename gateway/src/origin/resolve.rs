//! Names to addresses: by the configured map, else by DNS, remembered per tenant.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{sleep, timeout};

use crate::ident::Blame;
use crate::tls::Bounded;

/// Addresses used of one answer: more would only make failing slower.
const ADDRESSES_MAX: usize = 16;

/// Names remembered per tenant, found or not.
const NAMES_MAX: usize = 4096;

/// Queries of one tenant under way at a time, so that a flood of made-up names by one tenant
/// neither occupies the resolver nor delays the others.
const QUERIES_MAX: usize = 256;

/// An answer that may not be kept at all is still used by whoever asked together.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// Addresses move; nobody waits longer than an hour for us to notice.
const KEPT_MAX: Duration = Duration::from_secs(3600);

/// That a name does not exist is forgotten soon: it may be new.
const ABSENCE_KEPT_MAX: Duration = Duration::from_secs(60);

/// A failed resolution is remembered just long enough to absorb a storm (RFC 9520 section 3.2).
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// How long one family's answer waits for the other's (RFC 8305 section 3).
const SECOND_FAMILY_GRACE: Duration = Duration::from_millis(50);

/// One attempt at one name server, and all of them together.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);

/// Who answers queries.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NameServers {
    /// As the machine is configured, its hosts file included, its search domains not.
    #[default]
    System,
    Addresses(Vec<SocketAddr>),
}

/// What a resolver goes by.
#[derive(Clone, Debug, Default)]
pub struct ResolverSettings {
    pub servers: NameServers,
    /// Canonical name, or `*.suffix`, to address; looked at before any name server.
    pub hosts: BTreeMap<String, IpAddr>,
}

/// The gateway's own resolver. Each tenant sees what it asked itself and nothing else.
pub struct Resolver {
    upstream: TokioResolver,
    hosts: BTreeMap<String, IpAddr>,
    tenants: DashMap<String, Arc<View>>,
    patience: Duration,
}

/// One tenant's memory and budget.
struct View {
    names: Mutex<Bounded<String, Arc<OnceCell<Answer>>>>,
    queries: Semaphore,
}

#[derive(Clone)]
struct Answer {
    addresses: Result<Arc<[IpAddr]>, ResolveError>,
    until: Instant,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ResolveError {
    #[error("the name does not exist")]
    NotFound,
    #[error("the name has no address")]
    NoAddress,
    #[error("the name's own servers fail")]
    ServerFailure,
    #[error("the name server refuses to answer")]
    Refused,
    #[error("no answer in time")]
    Timeout,
    #[error("no name server can be reached")]
    Unreachable,
    #[error("the answer makes no sense")]
    Malformed,
    #[error("too many queries of this tenant are under way")]
    Busy,
    #[error("not a name that can be asked for")]
    Name,
}

impl ResolveError {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "dns_nxdomain",
            Self::NoAddress => "dns_no_address",
            Self::ServerFailure => "dns_servfail",
            Self::Refused => "dns_refused",
            Self::Timeout => "dns_timeout",
            Self::Unreachable => "dns_unreachable",
            Self::Malformed => "dns_malformed",
            Self::Busy => "dns_busy",
            Self::Name => "dns_name",
        }
    }

    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Name | Self::Busy => Blame::Client,
            Self::NotFound | Self::NoAddress | Self::ServerFailure | Self::Malformed => {
                Blame::Origin
            }
            Self::Refused | Self::Timeout | Self::Unreachable => Blame::Gateway,
        }
    }

    #[must_use]
    pub fn is_timeout(self) -> bool {
        self == Self::Timeout
    }
}

/// Why a resolver cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up: {0}")]
pub struct ResolverError(#[from] NetError);

impl Resolver {
    /// # Errors
    /// Where the machine's own configuration is asked for and cannot be read.
    pub fn new(settings: ResolverSettings) -> Result<Self, ResolverError> {
        let (config, mut options) = match &settings.servers {
            NameServers::System => {
                let (config, options) = read_system_conf()?;
                let (_, _, servers) = config.into_parts();
                (ResolverConfig::from_name_servers(servers), options)
            }
            NameServers::Addresses(addresses) => {
                let servers = addresses.iter().map(name_server).collect();
                (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
            }
        };
        options.use_hosts_file = match settings.servers {
            NameServers::System => ResolveHosts::Always,
            NameServers::Addresses(_) => ResolveHosts::Never,
        };
        // Tenants' memories are their own: nothing is kept where they would share it.
        options.cache_size = 0;
        options.ndots = 0;
        options.timeout = ATTEMPT_TIMEOUT;
        let upstream = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        let (hosts, tenants) = (settings.hosts, DashMap::new());
        Ok(Self { upstream, hosts, tenants, patience: LOOKUP_TIMEOUT })
    }

    /// The addresses of `host` (canonical, without trailing dot) as `tenant` gets to see them, in
    /// the order they should be tried; at least one, at most 16. Asked for once however many wait.
    ///
    /// # Errors
    /// Where there is no address; remembered for a while.
    pub async fn resolve(&self, tenant: &str, host: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::from([address]));
        }
        if let Some(address) = self.mapped(host) {
            return Ok(Arc::from([address]));
        }
        if host == "localhost" || host.ends_with(".localhost") {
            // RFC 6761 section 6.3: never asked of a server.
            return Ok(Arc::from([IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]));
        }
        let view = self.view(tenant);
        let place = view.place(host, Instant::now());
        place.get_or_init(|| self.ask(&view, host)).await.addresses.clone()
    }

    /// Forgets a tenant that was removed.
    pub fn forget(&self, tenant: &str) {
        self.tenants.remove(tenant);
    }

    fn view(&self, tenant: &str) -> Arc<View> {
        if let Some(view) = self.tenants.get(tenant) {
            return Arc::clone(&view);
        }
        Arc::clone(&self.tenants.entry(tenant.to_owned()).or_insert_with(|| {
            let names = Mutex::new(Bounded::new(NAMES_MAX));
            Arc::new(View { names, queries: Semaphore::new(QUERIES_MAX) })
        }))
    }

    /// The exact name first, then the longest suffix.
    fn mapped(&self, host: &str) -> Option<IpAddr> {
        if self.hosts.is_empty() {
            return None;
        }
        if let Some(address) = self.hosts.get(host) {
            return Some(*address);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(address) = self.hosts.get(&format!("*.{parent}")) {
                return Some(*address);
            }
            rest = parent;
        }
        None
    }

    async fn ask(&self, view: &View, host: &str) -> Answer {
        let Ok(_query) = view.queries.try_acquire() else {
            return Answer::failure(ResolveError::Busy, Duration::ZERO);
        };
        // The final dot keeps search domains out of it.
        let Ok(name) = Name::from_ascii(format!("{host}.")) else {
            return Answer::failure(ResolveError::Name, FAILURE_KEPT);
        };
        match timeout(self.patience, self.both_families(&name)).await {
            Ok(answer) => answer,
            Err(_) => Answer::failure(ResolveError::Timeout, FAILURE_KEPT),
        }
    }

    /// Asks for both families at once; an answer of one waits only briefly for the other.
    async fn both_families(&self, name: &Name) -> Answer {
        let mut v6 = pin!(self.upstream.lookup(name.clone(), RecordType::AAAA));
        let mut v4 = pin!(self.upstream.lookup(name.clone(), RecordType::A));
        let (mut got_v6, mut got_v4) = (None, None);
        let mut grace = pin!(sleep(self.patience));
        while got_v6.is_none() || got_v4.is_none() {
            tokio::select! {
                found = &mut v6, if got_v6.is_none() => got_v6 = Some(found),
                found = &mut v4, if got_v4.is_none() => got_v4 = Some(found),
                () = &mut grace => break,
            }
            if matches!((&got_v6, &got_v4), (Some(Ok(_)), None) | (None, Some(Ok(_)))) {
                grace.set(sleep(SECOND_FAMILY_GRACE));
            }
        }
        Answer::of(got_v6, got_v4)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resolver").field("tenants", &self.tenants.len()).finish()
    }
}

impl View {
    fn place(&self, host: &str, now: Instant) -> Arc<OnceCell<Answer>> {
        let mut names = self.names.lock();
        match names.find(host) {
            Some(place) if place.get().is_none_or(|answer| now < answer.until) => Arc::clone(place),
            _ => {
                let place = Arc::new(OnceCell::new());
                names.insert(host.to_owned(), Arc::clone(&place));
                place
            }
        }
    }
}

type Found = Option<Result<Lookup, NetError>>;

impl Answer {
    fn failure(error: ResolveError, kept: Duration) -> Self {
        Self { addresses: Err(error), until: Instant::now() + kept }
    }

    fn of(v6: Found, v4: Found) -> Self {
        let now = Instant::now();
        let mut kept = KEPT_MAX;
        let mut families = [Vec::new(), Vec::new()];
        let mut failure: Option<(ResolveError, Duration)> = None;
        for (found, addresses) in [v6, v4].into_iter().zip(&mut families) {
            match found {
                Some(Ok(lookup)) => {
                    kept = kept.min(lookup.valid_until().saturating_duration_since(now));
                    addresses.extend(lookup.answers().iter().filter_map(address));
                }
                Some(Err(error)) => failure = worse(failure, classify(&error)),
                None => failure = worse(failure, (ResolveError::Timeout, FAILURE_KEPT)),
            }
        }
        let [v6, v4] = families;
        let addresses = in_order(&v6, &v4);
        match failure {
            _ if !addresses.is_empty() => {
                // With one family missing, ask again soon.
                let kept = if failure.is_some_and(|(error, _)| !error.is_absence()) {
                    kept.min(FAILURE_KEPT)
                } else {
                    kept
                };
                Self { addresses: Ok(addresses), until: now + kept.max(KEPT_MIN) }
            }
            Some((error, kept)) => Self::failure(error, kept),
            None => Self::failure(ResolveError::NoAddress, FAILURE_KEPT),
        }
    }
}

impl ResolveError {
    /// Whether this is an answer: there is nothing.
    fn is_absence(self) -> bool {
        matches!(self, Self::NotFound | Self::NoAddress)
    }
}

/// Of two families' failures the one that says more: any failure before mere absence.
fn worse(
    before: Option<(ResolveError, Duration)>,
    now: (ResolveError, Duration),
) -> Option<(ResolveError, Duration)> {
    match before {
        Some(before) if !before.0.is_absence() || now.0.is_absence() => Some(before),
        _ => Some(now),
    }
}

fn address(record: &hickory_resolver::proto::rr::Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// Both families in turn (RFC 8305 section 4), IPv6 first where this machine has a way there.
fn in_order(v6: &[IpAddr], v4: &[IpAddr]) -> Arc<[IpAddr]> {
    let v6_first = !v6.is_empty() && has_ipv6();
    let (first, second) = if v6_first { (v6, v4) } else { (v4, v6) };
    let mut ordered = Vec::with_capacity(first.len().saturating_add(second.len()));
    let (mut first, mut second) = (first.iter(), second.iter());
    loop {
        let (a, b) = (first.next(), second.next());
        ordered.extend(a.into_iter().chain(b).copied());
        if (a.is_none() && b.is_none()) || ordered.len() >= ADDRESSES_MAX {
            break;
        }
    }
    ordered.truncate(ADDRESSES_MAX);
    ordered.into()
}

/// Whether there is a route to the public IPv6 internet. Sends nothing: connecting a datagram
/// socket only looks the route up.
fn has_ipv6() -> bool {
    let probe = SocketAddr::new(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111).into(), 53);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok_and(|socket| socket.connect(probe).is_ok())
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn classify(error: &NetError) -> (ResolveError, Duration) {
    let kind = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let kept = Duration::from_secs(none.negative_ttl.unwrap_or(0).into())
                .clamp(KEPT_MIN, ABSENCE_KEPT_MAX);
            return match none.response_code {
                ResponseCode::NXDomain => (ResolveError::NotFound, kept),
                _ => (ResolveError::NoAddress, kept),
            };
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            ResolveError::ServerFailure
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => ResolveError::Refused,
        NetError::Timeout => ResolveError::Timeout,
        NetError::Io(_) | NetError::NoConnections | NetError::Busy => ResolveError::Unreachable,
        _ => ResolveError::Malformed,
    };
    (kind, FAILURE_KEPT)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
