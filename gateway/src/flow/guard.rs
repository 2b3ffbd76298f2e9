//! Which destinations a client may reach through the gateway, whatever its policy says.
//!
//! Asked twice: of the name, before anything is resolved, and of each address just before it is
//! dialled. The second answer is the one that counts; the first saves a DNS query.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use gateway_proto::target::Host;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the guard goes by.
#[derive(Clone, Debug, Default)]
pub struct GuardSettings {
    /// Every (address, port) this process listens on, UDP too; an unspecified address stands for
    /// every address of the machine.
    pub listening: Vec<SocketAddr>,
    /// Networks that may be dialled although they are not public (`origin.allow_private`).
    pub allow_private: Vec<IpNet>,
    /// Ports that may be dialled (`limits.connect_ports`).
    pub connect_ports: Vec<RangeInclusive<u16>>,
}

/// The destination guard of one configuration.
#[derive(Clone, Debug)]
pub struct Guard {
    settings: GuardSettings,
}

/// Why a destination is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Loopback, private, link-local, multicast, reserved: nothing on the public internet.
    #[error("the destination is not public")]
    Private,
    /// An address and port of this gateway itself.
    #[error("the destination is the gateway itself")]
    OwnAddress,
    /// A cloud's metadata service. No setting opens it.
    #[error("the destination is a metadata service")]
    Metadata,
    #[error("the destination port may not be dialled")]
    Port,
}

impl Refused {
    /// The stable name in events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Private => "private_destination",
            Self::OwnAddress => "own_address",
            Self::Metadata => "metadata_destination",
            Self::Port => "port_not_allowed",
        }
    }
}

impl Guard {
    #[must_use]
    pub fn new(settings: GuardSettings) -> Self {
        Self { settings }
    }

    /// Whether `host` and `port` may be asked for at all.
    ///
    /// # Errors
    /// Where no resolution could make the destination acceptable.
    pub fn check_name(&self, host: &Host, port: u16) -> Result<(), Refused> {
        match host {
            Host::Ip(address) => self.check_address(SocketAddr::new(*address, port)),
            Host::Name(name) => {
                self.check_port(port)?;
                if METADATA_NAMES.contains(&name.as_ref()) {
                    return Err(Refused::Metadata);
                }
                if is_localhost(name) && !self.opens_loopback() {
                    return Err(Refused::Private);
                }
                Ok(())
            }
        }
    }

    /// Whether `destination` may be dialled. An IPv4 address inside an IPv6 one (mapped,
    /// compatible, NAT64, 6to4, ISATAP) is judged as well: something on the way may unwrap it.
    ///
    /// # Errors
    /// Where it may not; never overridden for metadata services and the gateway's own sockets.
    pub fn check_address(&self, destination: SocketAddr) -> Result<(), Refused> {
        let address = destination.ip().to_canonical();
        let embedded = embedded(address);
        let both = [Some(address), embedded];
        let each = || both.iter().flatten().copied();
        if each().any(is_metadata) {
            return Err(Refused::Metadata);
        }
        if each().any(|address| self.is_own(SocketAddr::new(address, destination.port()))) {
            return Err(Refused::OwnAddress);
        }
        self.check_port(destination.port())?;
        let opened = each().any(|address| self.opens(address));
        if !opened && (each().any(|address| !is_public(address))) {
            return Err(Refused::Private);
        }
        Ok(())
    }

    fn check_port(&self, port: u16) -> Result<(), Refused> {
        let allowed = self.settings.connect_ports.iter().any(|range| range.contains(&port));
        if port != 0 && allowed { Ok(()) } else { Err(Refused::Port) }
    }

    fn opens(&self, address: IpAddr) -> bool {
        self.settings.allow_private.iter().any(|network| network.contains(&address))
    }

    fn opens_loopback(&self) -> bool {
        self.opens(Ipv4Addr::LOCALHOST.into()) || self.opens(Ipv6Addr::LOCALHOST.into())
    }

    fn is_own(&self, destination: SocketAddr) -> bool {
        self.settings.listening.iter().any(|own| {
            own.port() == destination.port()
                && match own.ip().to_canonical() {
                    ip if ip.is_unspecified() => is_local(destination.ip()),
                    ip => ip == destination.ip() || destination.ip().is_unspecified(),
                }
        })
    }
}

/// Whether `address` is one of this machine. Only an address of one's own can be bound to; where
/// the kernel lets anything be bound, every address counts as own, for the few ports listened on.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// The names under which clouds serve credentials to whoever asks from inside.
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data"];

fn is_metadata(address: IpAddr) -> bool {
    METADATA_ADDRESSES.contains(&address)
}

/// The addresses under which clouds serve credentials; some lie in public space.
const METADATA_ADDRESSES: [IpAddr; 8] = [
    // Amazon, Google, Azure, OpenStack and most others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Amazon container credentials.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Azure WireServer.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Amazon and Google over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            NAT64.contains(&address)
                || (GLOBAL_V6.contains(&address)
                    && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address)))
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// The IANA special-purpose registry (RFC 6890), and multicast.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// All that is assigned to the public IPv6 internet (RFC 4291 section 2.4).
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// The well-known NAT64 prefix (RFC 6052): as public as the IPv4 address inside.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Special purposes within the global range: protocol assignments and Teredo, documentation.
const NOT_PUBLIC_V6: [Ipv6Net; 3] =
    [v6(0x2001, 0, 0, 23), v6(0x2001, 0xdb8, 0, 32), v6(0x3fff, 0, 0, 20)];

/// The IPv4 address that `address` carries inside, if it is of a kind that carries one.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| {
        let [p, q] = high.to_be_bytes();
        let [r, s] = low.to_be_bytes();
        Some(IpAddr::V4(Ipv4Addr::new(p, q, r, s)))
    };
    match (a, b, c, d, e, f) {
        // IPv4-compatible (RFC 4291 section 2.5.5.1); `::` and `::1` are not.
        (0, 0, 0, 0, 0, 0) if (g, h) > (0, 1) => join(g, h),
        // IPv4-mapped is canonical IPv4 before it comes here; IPv4-translated (RFC 2765).
        (0, 0, 0, 0, 0xffff, 0) => join(g, h),
        (0x64, 0xff9b, ..) => join(g, h),
        (0x2002, ..) => join(b, c),
        // ISATAP (RFC 5214 section 6.1).
        (.., 0 | 0x200, 0x5efe) => join(g, h),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
