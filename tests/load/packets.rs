//! Packet tunnels of a run: what opens them, and what became of their channels.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::tests::BoxStream;
use ::tests::client::carrier::{Carrier, PacketTunnel};
use ::tests::client::dtls::DtlsTo;
use ::tests::client::error::ClientError;
use ::tests::client::openconnect::OpenConnectTo;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

/// A tunnel that is still on TLS after this is loaded as it is, and the report says so.
const DATAGRAMS_WAIT: Duration = Duration::from_secs(5);

/// Asked where the gateway has named none: an address of documentation (RFC 5737).
const ANY_NAME_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

/// How packet tunnels are opened.
#[derive(Clone)]
pub(crate) enum PacketsTo {
    Dtls(DtlsTo),
    OpenConnect(OpenConnectTo),
}

impl PacketsTo {
    pub(crate) async fn connect(&self) -> Result<PacketTunnel, ClientError> {
        let tunnel = match self {
            Self::Dtls(to) => to.connect().await?,
            Self::OpenConnect(to) => to.connect().await?,
        };
        match tunnel.carried_by(Carrier::Datagrams, DATAGRAMS_WAIT).await {
            Ok(()) | Err(ClientError::Timeout) => Ok(tunnel),
            Err(error) => Err(error),
        }
    }
}

/// Where a host is, looked up through a tunnel.
pub(crate) async fn address(
    tunnel: &PacketTunnel,
    host: &str,
    port: u16,
) -> Result<SocketAddr, ClientError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => resolve(tunnel, host).await?,
    };
    Ok((address, port).into())
}

/// A TCP connection to `host:port` through a tunnel, the name looked up through it as well.
pub(crate) async fn open(tunnel: &PacketTunnel, authority: &str) -> Result<BoxStream, ClientError> {
    let wrong = || ClientError::Unsupported(format!("`{authority}` is not HOST:PORT"));
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let address = address(tunnel, host, port).await?;
    Ok(Box::new(tunnel.stack().connect(address).await?))
}

async fn resolve(tunnel: &PacketTunnel, host: &str) -> Result<IpAddr, ClientError> {
    // The gateway answers whomever is asked.
    let server = tunnel.parameters().and_then(|it| it.name_server()).unwrap_or(ANY_NAME_SERVER);
    for kind in [RecordType::A, RecordType::AAAA] {
        let answer = tunnel.stack().lookup(server, host, kind).await?;
        let reachable = |it: &IpAddr| tunnel.stack().addresses().towards(*it).is_some();
        let found = answer.answers.iter().filter_map(|record| record.data.ip_addr());
        if let Some(address) = found.into_iter().find(reachable) {
            return Ok(address);
        }
    }
    Err(ClientError::Connect(std::io::Error::other(format!("`{host}` does not resolve"))))
}

/// Sums over the packet tunnels of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    by_datagrams: u64,
    by_tls: u64,
    handshakes: u64,
    fallbacks: u64,
    returns: u64,
    failovers: u64,
    dropped: u64,
}

impl Carried {
    /// A tunnel at the end of its run.
    pub(crate) fn add(&mut self, tunnel: &PacketTunnel) {
        match tunnel.carrier() {
            Carrier::Datagrams => self.by_datagrams += 1,
            Carrier::Tls => self.by_tls += 1,
            Carrier::Nothing => {}
        }
        let counts = tunnel.counts();
        self.handshakes += counts.handshakes;
        self.fallbacks += counts.fallbacks;
        self.returns += counts.returns;
        self.failovers += counts.failovers;
        self.dropped += counts.dropped;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.by_datagrams += other.by_datagrams;
        self.by_tls += other.by_tls;
        self.handshakes += other.handshakes;
        self.fallbacks += other.fallbacks;
        self.returns += other.returns;
        self.failovers += other.failovers;
        self.dropped += other.dropped;
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "by_datagrams": self.by_datagrams,
            "by_tls": self.by_tls,
            "handshakes": self.handshakes,
            "fallbacks": self.fallbacks,
            "returns": self.returns,
            "failovers": self.failovers,
            "dropped": self.dropped,
        })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} by datagrams, {} by TLS at the end; {} fallbacks, {} returns, {} failovers",
            self.by_datagrams, self.by_tls, self.fallbacks, self.returns, self.failovers
        )
    }
}
