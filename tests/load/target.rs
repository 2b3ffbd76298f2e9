//! Where the load goes: the gateway, reached by one access method.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use ::tests::client::carrier::{GatewayAt, PacketTunnel};
use ::tests::client::dtls::DtlsTo;
use ::tests::client::error::ClientError;
use ::tests::client::explicit::Explicit;
use ::tests::client::inner::Inner;
use ::tests::client::openconnect::OpenConnectTo;
use ::tests::client::packet::{Addresses, MTU};
use ::tests::client::quic::{QuicTo, QuicTunnel};
use ::tests::client::tls;
use ::tests::client::tunnel::{Leg, Tunnel, TunnelTo};
use ::tests::pki::Chain;
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::inside::{self, Inside};
use crate::mix::Entry;
use crate::packets::{self, PacketsTo};
use crate::{InnerVersion, Method, Options, Version};

/// What a DTLS client calls itself inside its tunnel.
const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// How a stream comes to be.
#[derive(Clone)]
pub(crate) enum Via {
    Tunnel(TunnelTo),
    Quic(QuicTo),
    Packets(PacketsTo),
    Explicit(Explicit),
}

/// A tunnel that streams share.
pub(crate) enum Held {
    Streams(Tunnel),
    Quic(QuicTunnel),
    Packets(PacketTunnel),
}

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) via: Via,
    inner: Arc<ClientConfig>,
    /// The interception CA, where the inner protocol is HTTP/3.
    http3: Option<String>,
    /// The gateway's name.
    proxy: String,
}

impl Target {
    /// Says in words what is missing or not supported.
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let alpn = match options.inner {
            InnerVersion::Http1 => "http/1.1",
            InnerVersion::Http2 => "h2",
            InnerVersion::Http3 => "h3",
        };
        let trusted = text("--intercept-ca", options.intercept_ca.as_deref())?;
        let inner = tls::config(&trusted, None, &[alpn]).map_err(|error| error.to_string())?;
        let via = match options.method {
            Method::Tls => Via::Tunnel(tunnel(options)?),
            Method::Explicit => Via::Explicit(explicit(options)?),
            Method::Dtls | Method::Openconnect => Via::Packets(packets(options)?),
            Method::Quic => Via::Quic(quic(options)?),
        };
        let http3 = (options.inner == InnerVersion::Http3).then_some(trusted);
        let proxy = split(&options.gateway)?.0.to_owned();
        Ok(Self { via, inner: Arc::new(inner), http3, proxy })
    }

    /// Whether the streams of a tunnel share it.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.via {
            Via::Tunnel(to) => to.leg == Leg::Http2,
            Via::Quic(_) | Via::Packets(_) => true,
            Via::Explicit(_) => false,
        }
    }

    /// A tunnel; `None` for a method without one (each stream then stands alone).
    pub(crate) async fn tunnel(&self) -> Result<Option<Held>, ClientError> {
        match &self.via {
            Via::Tunnel(to) if to.leg == Leg::Http2 => Ok(Some(Held::Streams(to.connect().await?))),
            Via::Quic(to) => Ok(Some(Held::Quic(to.connect().await?))),
            Via::Packets(to) => Ok(Some(Held::Packets(to.connect().await?))),
            Via::Tunnel(_) | Via::Explicit(_) => Ok(None),
        }
    }

    /// An inner connection to the entry's origin, over `tunnel` where there is one.
    pub(crate) async fn connect(
        &self,
        tunnel: Option<&Held>,
        entry: &Entry,
    ) -> Result<Inside, ClientError> {
        if let (Some(trusted), true) = (&self.http3, entry.secure) {
            let http3 = inside::http3(tunnel, &self.proxy, &entry.authority, trusted).await?;
            return Ok(Inside::Quic(Box::new(http3)));
        }
        let gone = || ClientError::Unsupported("a stream without its tunnel".to_owned());
        let stream = match (&self.via, tunnel) {
            (_, Some(Held::Streams(tunnel))) => {
                tunnel.share().ok_or_else(gone)?.open(&entry.authority).await?
            }
            (_, Some(Held::Quic(tunnel))) => tunnel.open(&entry.authority).await?,
            (_, Some(Held::Packets(tunnel))) => packets::open(tunnel, &entry.authority).await?,
            (Via::Tunnel(to), None) => to.connect().await?.open(&entry.authority).await?,
            (Via::Explicit(explicit), None) => explicit.open(&entry.authority).await?,
            (Via::Quic(_) | Via::Packets(_), None) => return Err(gone()),
        };
        let inner = if entry.secure {
            Inner::tls(stream, &entry.authority, Arc::clone(&self.inner)).await?
        } else {
            Inner::plain(stream, &entry.authority)
        };
        Ok(Inside::Stream(Box::new(inner)))
    }
}

fn tunnel(options: &Options) -> Result<TunnelTo, String> {
    let (name, port) = split(&options.gateway)?;
    let leg = match options.leg {
        Version::Http1 => Leg::Http1,
        Version::Http2 => Leg::Http2,
    };
    let trusted = text("--tunnel-ca", options.tunnel_ca.as_deref())?;
    let chain = identity(options)?;
    let address = address(options, name, port)?;
    TunnelTo::new(address, name, leg, &trusted, Some(&chain)).map_err(|error| error.to_string())
}

fn quic(options: &Options) -> Result<QuicTo, String> {
    let (name, port) = split(&options.gateway)?;
    let trusted = text("--tunnel-ca", options.tunnel_ca.as_deref())?;
    let chain = identity(options)?;
    let address = address(options, name, port)?;
    QuicTo::new(address, name, &trusted, Some(&chain)).map_err(|error| error.to_string())
}

/// A packet tunnel's gateway, and its backup where that has a name that resolves.
fn packets(options: &Options) -> Result<PacketsTo, String> {
    let (name, port) = split(&options.gateway)?;
    let trusted = text("--tunnel-ca", options.tunnel_ca.as_deref())?;
    let chain = identity(options)?;
    let tcp = address(options, name, port)?;
    let udp = (tcp.ip(), 0).into();
    let backup = name.strip_prefix("gateway-").filter(|_| options.address.is_none());
    let backup = backup.map(|rest| format!("gateway-backup-{rest}")).and_then(|name| {
        let tcp = (name.as_str(), port).to_socket_addrs().ok()?.next()?;
        Some(GatewayAt { name, tcp, udp: (tcp.ip(), 0).into() })
    });
    let wrong = |error: ClientError| error.to_string();
    if options.method == Method::Openconnect {
        let mut to = OpenConnectTo::new(tcp, name, &trusted, Some(&chain)).map_err(wrong)?;
        to.gateways.extend(backup);
        return Ok(PacketsTo::OpenConnect(to));
    }
    let mut to = DtlsTo::new(udp, tcp, name, &trusted, &chain).map_err(wrong)?;
    to.gateways.extend(backup);
    // Each has a network of its own, so all can have the same address: the first handshake is DTLS's, and
    // TLS is asked only where datagrams do not get through.
    let to = to.addresses(Addresses { v4: Some(OWN_V4), v6: Some(OWN_V6), mtu: MTU });
    // Tunnel CAs issue gateways' certificates alone, and without SNI any of them may be shown.
    Ok(PacketsTo::Dtls(to.any_name()))
}

fn identity(options: &Options) -> Result<Chain, String> {
    let own = text("--identity", options.identity.as_deref())?;
    let certificates = rustls::pki_types::CertificateDer::pem_slice_iter(own.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("--identity: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(own.as_bytes())
        .map_err(|error| format!("--identity: {error}"))?;
    Ok(Chain { certificates, key })
}

fn explicit(options: &Options) -> Result<Explicit, String> {
    let (name, port) = split(&options.gateway)?;
    // `sluice enroll` puts it beside the certificate.
    let beside = || options.identity.as_ref().map(|identity| identity.with_file_name("proxy.url"));
    let file = options.proxy_url.clone().or_else(|| beside().filter(|file| file.is_file()));
    let credentials = match file {
        None => None,
        Some(file) => {
            let url = text("--proxy-url", Some(&file))?;
            Explicit::from_url(&url).map_err(|error| error.to_string())?.credentials
        }
    };
    Ok(Explicit { address: address(options, name, port)?, credentials })
}

fn split(gateway: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("--gateway `{gateway}` is not NAME:PORT");
    let (name, port) = gateway.rsplit_once(':').ok_or_else(wrong)?;
    Ok((name, port.parse().map_err(|_| wrong())?))
}

/// The address to dial, which --address can give where the name does not resolve.
fn address(options: &Options, name: &str, port: u16) -> Result<SocketAddr, String> {
    if let Some(address) = options.address {
        return Ok((address, port).into());
    }
    let resolved = (name, port).to_socket_addrs().ok().and_then(|mut all| all.next());
    resolved.ok_or_else(|| format!("--gateway `{name}` does not resolve; give --address"))
}

fn text(option: &str, path: Option<&Path>) -> Result<String, String> {
    let path = path.ok_or_else(|| format!("{option} is needed"))?;
    std::fs::read_to_string(path).map_err(|error| format!("{option} {}: {error}", path.display()))
}
