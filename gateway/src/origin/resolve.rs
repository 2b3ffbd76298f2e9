//! Names to addresses: by the configured map, else by DNS, remembered per tenant.

mod ask;
mod memory;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout;

use self::ask::Asker;
use self::memory::{Place, View};
use crate::ident::Blame;

/// Addresses used of one answer: more would only make failing slower.
const ADDRESSES_MAX: usize = 16;

/// One attempt at one name server, and all of them together.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);

/// Who has stale addresses waits no longer than this for better ones (RFC 8767 section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1_800);

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
    asker: Asker,
    hosts: BTreeMap<String, IpAddr>,
    tenants: DashMap<String, Arc<View>>,
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

    /// Whether this is an answer: there is nothing.
    fn is_absence(self) -> bool {
        matches!(self, Self::NotFound | Self::NoAddress)
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
        let asker = Asker { upstream, patience: LOOKUP_TIMEOUT };
        Ok(Self { asker, hosts: settings.hosts, tenants: DashMap::new() })
    }

    /// The addresses of `host` (canonical, without trailing dot) as `tenant` gets to see them, in
    /// the order they should be tried; at least one, at most 16. Asked for once however many wait.
    ///
    /// # Errors
    /// Where there is no address; remembered for a while.
    pub async fn resolve(&self, tenant: &str, host: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        // In brackets where it is IPv6 (RFC 3986 section 3.2.2).
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            return Ok(Arc::from([address]));
        }
        if let Some(address) = self.mapped(host) {
            return Ok(Arc::from([address]));
        }
        if host == "localhost" || host.ends_with(".localhost") {
            // RFC 6761 section 6.3: never asked of a server.
            return Ok(Arc::from([IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]));
        }
        self.remembered(tenant, host, Instant::now()).await
    }

    /// The records of `name` of a type other than addresses, as `tenant` gets to see them; aliases on
    /// the way included.
    ///
    /// # Errors
    /// Where there are none.
    pub async fn records(
        &self,
        tenant: &str,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<Record>, ResolveError> {
        let host = name.to_lowercase().to_ascii();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if self.mapped(host).is_some() || host == "localhost" || host.ends_with(".localhost") {
            return Err(ResolveError::NoAddress);
        }
        let mut absolute = name.clone();
        // The final dot keeps search domains out of it.
        absolute.set_fqdn(true);
        self.asker.records(&self.view(tenant).queries, &absolute, kind).await
    }

    /// As remembered at `now`: a fresh answer, a stale one while it is asked for anew, or whatever
    /// asking gives.
    async fn remembered(
        &self,
        tenant: &str,
        host: &str,
        now: Instant,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        let view = self.view(tenant);
        let Place { cell, stale, is_new } = view.place(host, now);
        let Some(stale) = stale else {
            return cell
                .get_or_init(|| self.asker.ask(&view.queries, host, now))
                .await
                .addresses
                .clone();
        };
        if is_new {
            // Whoever asks may leave before the answer is there.
            let (asker, view, cell) = (self.asker.clone(), Arc::clone(&view), Arc::clone(&cell));
            let host = host.to_owned();
            tokio::spawn(async move {
                cell.get_or_init(|| asker.ask(&view.queries, &host, now)).await;
            });
        }
        if stale.serves_at_once(now) {
            return Ok(stale.addresses);
        }
        let asking = cell.get_or_init(|| self.asker.ask(&view.queries, host, now));
        match timeout(STALE_PATIENCE, asking).await.map(|answer| &answer.addresses) {
            Ok(Ok(addresses)) => Ok(Arc::clone(addresses)),
            Ok(Err(error)) if error.is_absence() => Err(*error),
            Ok(Err(_)) | Err(_) => Ok(stale.addresses),
        }
    }

    /// Forgets a tenant that was removed.
    pub fn forget(&self, tenant: &str) {
        self.tenants.remove(tenant);
    }

    fn view(&self, tenant: &str) -> Arc<View> {
        if let Some(view) = self.tenants.get(tenant) {
            return Arc::clone(&view);
        }
        Arc::clone(&self.tenants.entry(tenant.to_owned()).or_insert_with(|| Arc::new(View::new())))
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
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resolver").field("tenants", &self.tenants.len()).finish()
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
