//! gateway.yaml: the point of presence itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{ByteSize, HostName, HostPattern, MemoryLimit, NameServer, Network, PortRange};
use super::sink::{Sink, SinkKind};
use crate::ident::TenantName;

/// The point of presence: name, domain, listeners, admin endpoint, origins, events and limits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Name of this point of presence, in events and in `/v1/pop`. A change needs a restart.
    pub pop: String,
    /// Tunnels answer to `gateway-<tenant>.<domain>` and `gateway-backup-<tenant>.<domain>`.
    pub domain: HostName,
    /// Where clients connect. A change needs a restart.
    pub listen: Listen,
    /// The admin endpoint: metrics, health, events, sessions. A change of `listen` or `tls` needs a
    /// restart.
    pub admin: Admin,
    /// Reserved name of the coach and block pages; it exists inside tunnels only.
    pub notice: HostName,
    /// Worker threads; 0 is one per core. A change needs a restart.
    pub workers: u16,
    /// The addresses that clients of packet tunnels are given. A change needs a restart.
    pub inner: Inner,
    /// How origins are found, reached and trusted.
    pub origin: Origin,
    /// The durable event log.
    pub events: Events,
    /// Bounds on what clients together may use.
    pub limits: Limits,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            pop: "local".to_owned(),
            domain: HostName("localhost".to_owned()),
            listen: Listen::default(),
            admin: Admin::default(),
            notice: HostName("notice.sluice.test".to_owned()),
            workers: 0,
            inner: Inner::default(),
            origin: Origin::default(),
            events: Events::default(),
            limits: Limits::default(),
        }
    }
}

/// Listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// TLS tunnels and the OpenConnect bootstrap.
    pub tcp: SocketAddr,
    /// QUIC and DTLS tunnels.
    pub udp: SocketAddr,
    /// Plain proxy listeners, each for one tenant: `{"127.0.0.1:3128": acme}`. Credentials cross
    /// them in clear, so they belong on loopback or a trusted site network.
    #[schemars(with = "BTreeMap<SocketAddr, String>")]
    pub explicit: BTreeMap<SocketAddr, TenantName>,
    /// Directory in which the processes of this machine that serve the same `tcp` and `udp` meet, as
    /// during a rolling upgrade: datagrams of a session reach the process that has it. Null: this
    /// process does not share its ports.
    pub handover: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443));
        Self { tcp: any, udp: any, explicit: BTreeMap::new(), handover: None }
    }
}

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the endpoint; anything but loopback needs `token_file`.
    pub listen: SocketAddr,
    /// File with the bearer token that callers must show; null asks for none.
    pub token_file: Option<PathBuf>,
    /// Certificate and key for HTTPS; null is plain HTTP.
    pub tls: Option<AdminTls>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9901)), token_file: None, tls: None }
    }
}

/// HTTPS for the admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminTls {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Networks inside packet tunnels; they need not be routed anywhere else. The first address of each is
/// the gateway's own: it answers name queries there. A change needs a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inner {
    /// IPv4 addresses, one for each session.
    #[schemars(with = "String")]
    pub ipv4: Ipv4Net,
    /// IPv6 addresses, one for each session.
    #[schemars(with = "String")]
    pub ipv6: Ipv6Net,
    /// Whose TCP ends the connections in packet tunnels.
    pub tcp: InnerTcp,
}

/// Whose TCP ends the connections in packet tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InnerTcp {
    /// The gateway's own, which needs no privilege.
    #[default]
    User,
    /// The kernel's, in a network namespace: far better where packets are lost. Needs /dev/net/tun, and
    /// CAP_SYS_ADMIN or user namespaces; without them the gateway does not start.
    Kernel,
    /// The kernel's where it can be had, the gateway's own otherwise.
    Auto,
}

impl Default for Inner {
    fn default() -> Self {
        // Shared address space (RFC 6598) and a unique local network (RFC 4193).
        let ipv4 = Ipv4Net::new_assert(Ipv4Addr::new(100, 96, 0, 0), 16);
        let ipv6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd73, 0x6c75, 0x6963, 0x65, 0, 0, 0, 0), 64);
        Self { ipv4, ipv6, tcp: InnerTcp::default() }
    }
}

/// Origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    /// Which certificate authorities origins may use.
    pub roots: Roots,
    /// PEM files with authorities trusted in addition.
    pub extra_roots: Vec<PathBuf>,
    /// PEM or DER files with revocation lists of origins' authorities.
    pub crls: Vec<PathBuf>,
    /// Who answers name queries: `system`, or a list of name servers.
    pub resolver: Resolver,
    /// Name or `*.suffix` to address, looked at before the resolver.
    pub hosts: BTreeMap<HostPattern, IpAddr>,
    /// Networks that may be dialled although they are not public.
    pub allow_private: Vec<Network>,
    /// Source addresses for connections to origins; empty leaves it to the kernel.
    pub egress: Vec<IpAddr>,
}

/// A set of root certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// The machine's; the built-in set where the machine has none.
    #[default]
    System,
    /// The built-in set (Mozilla's).
    Webpki,
    /// Only `extra_roots`.
    None,
}

/// Who answers name queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Resolver {
    /// What /etc/resolv.conf says.
    #[default]
    #[schemars(with = "String")]
    System,
    /// These servers, each an address with a port where that is not 53.
    Servers(Vec<NameServer>),
}

impl<'de> Deserialize<'de> for Resolver {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResolverVisitor)
    }
}

impl Serialize for Resolver {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::System => serializer.serialize_str("system"),
            Self::Servers(servers) => servers.serialize(serializer),
        }
    }
}

struct ResolverVisitor;

impl<'de> serde::de::Visitor<'de> for ResolverVisitor {
    type Value = Resolver;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("`system` or a list of name servers such as `[192.0.2.53]`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Resolver, E> {
        if text == "system" {
            return Ok(Resolver::System);
        }
        Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Resolver, A::Error> {
        let mut servers = Vec::new();
        while let Some(server) = items.next_element()? {
            servers.push(server);
        }
        if servers.is_empty() {
            return Err(serde::de::Error::invalid_value(
                serde::de::Unexpected::Other("an empty list"),
                &self,
            ));
        }
        Ok(Resolver::Servers(servers))
    }
}

/// The event log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Folder of the log. A change needs a restart.
    pub dir: PathBuf,
    /// Longest time, in milliseconds, an event waits before it is written. A change needs a restart.
    #[schemars(range(min = 1, max = 10_000))]
    pub flush_ms: u64,
    /// Also wait for the disk at each flush, so that a power cut loses nothing older. A
    /// change needs a restart.
    pub fsync: bool,
    /// Compress segments that are written to no more. A change needs a restart.
    pub compress: bool,
    /// Disk space of all tenants' events together; each tenant has its share. A change needs a restart.
    pub max_bytes: ByteSize,
    /// What happens while the disk takes no more events and memory for them is used up.
    pub when_full: WhenFull,
    /// Address databases in MaxMind's format (country, ASN), asked in order; rules over countries go by
    /// them too.
    pub geoip: Vec<PathBuf>,
    /// Where events are sent in addition.
    pub sinks: Vec<Sink>,
}

/// What gives way where events cannot be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest events that wait in memory are lost, counted and told of; traffic goes on.
    #[default]
    DropOldest,
    /// New requests and flows are refused until events can be written: nothing goes unrecorded.
    RefuseTraffic,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data/events"),
            flush_ms: 100,
            fsync: true,
            compress: true,
            max_bytes: ByteSize(10 << 30),
            when_full: WhenFull::default(),
            geoip: Vec::new(),
            sinks: Vec::new(),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the process, as a share of the machine's (or cgroup's) or in bytes. A change needs a
    /// restart.
    pub memory: MemoryLimit,
    /// Tunnels open at once.
    #[schemars(range(min = 1))]
    pub tunnels: u32,
    /// Streams open at once in one tunnel.
    #[schemars(range(min = 1))]
    pub streams_per_tunnel: u32,
    /// Ports that clients may reach; the default leaves out 25 (mail relays).
    pub connect_ports: Vec<PortRange>,
    /// Longest time, in seconds, that requests under way have to end when the gateway drains.
    #[schemars(range(min = 0, max = 3_600))]
    pub drain_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: MemoryLimit::Percent(70),
            tunnels: 50_000,
            streams_per_tunnel: 1_000,
            connect_ports: vec![PortRange(1..=24), PortRange(26..=65_535)],
            drain_s: 300,
        }
    }
}

impl Limits {
    /// Whether clients may reach this port.
    #[must_use]
    pub fn may_connect(&self, port: u16) -> bool {
        self.connect_ports.iter().any(|range| range.contains(port))
    }
}

impl GatewayConfig {
    /// Makes every relative path relative to the configuration directory.
    pub(crate) fn anchor(&mut self, dir: &Path) {
        let mut anchor = |path: &mut PathBuf| *path = dir.join(&*path);
        anchor(&mut self.events.dir);
        self.listen.handover.iter_mut().for_each(&mut anchor);
        self.events.geoip.iter_mut().for_each(&mut anchor);
        for sink in &mut self.events.sinks {
            sink.files().for_each(&mut anchor);
            if sink.kind == SinkKind::File {
                sink.to = dir.join(&sink.to).display().to_string();
            }
        }
        self.origin.extra_roots.iter_mut().for_each(&mut anchor);
        self.origin.crls.iter_mut().for_each(&mut anchor);
        self.admin.token_file.iter_mut().for_each(&mut anchor);
        if let Some(tls) = &mut self.admin.tls {
            anchor(&mut tls.cert);
            anchor(&mut tls.key);
        }
    }

    /// The name clients of a tenant connect to.
    #[must_use]
    pub fn tunnel_name(&self, tenant: &TenantName) -> String {
        format!("gateway-{tenant}.{}", self.domain.as_str())
    }

    /// The name clients of a tenant fail over to.
    #[must_use]
    pub fn backup_name(&self, tenant: &TenantName) -> String {
        format!("gateway-backup-{tenant}.{}", self.domain.as_str())
    }
}
