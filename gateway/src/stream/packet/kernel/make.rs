//! Makes the network: what the process behind [`super::network`] does before it ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::handover::{self, Made, Said};
use super::network::Size;
use crate::stream::packet::AddressPool;

/// Half-open connections of all sessions; each session has a bound of its own far below.
const BACKLOG: i32 = 65_535;
/// The largest packet that clients are offered is smaller.
const MTU: u16 = 1_500;
/// Data that nobody acknowledges for this long has no reader (RFC 9293 section 3.8.3, R2).
const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(120);
/// In order of preference: what fills a path that loses packets, what every kernel has.
const CONGESTION: [&str; 2] = ["bbr", "cubic"];

/// Settings of the namespace, below /proc/sys.
const SETTINGS: [(&str, &str); 6] = [
    // Least, first and largest buffer of a connection: `Size::Large`.
    ("net/ipv4/tcp_wmem", "4096 65536 4194304"),
    ("net/ipv4/tcp_rmem", "4096 131072 4194304"),
    ("net/core/somaxconn", "65535"),
    ("net/ipv4/tcp_max_syn_backlog", "65536"),
    // A half-open connection is given up after about as long as the gateway waits for it.
    ("net/ipv4/tcp_synack_retries", "2"),
    // Nothing is forwarded: what is not for the gateway's own address goes nowhere.
    ("net/ipv4/ip_forward", "0"),
];

/// Makes the network and hands it over by standard input, a Unix socket.
///
/// # Errors
/// Where nobody takes it.
pub fn make(ipv4: Ipv4Net, ipv6: Ipv6Net) -> io::Result<()> {
    let standard_input = io::stdin();
    let to = standard_input.as_fd();
    match Parts::make(ipv4, ipv6) {
        Ok(parts) => {
            let listeners = parts.listeners.iter().map(|(_, listener)| listener.as_fd());
            let descriptors: Vec<_> = [parts.device.as_fd()].into_iter().chain(listeners).collect();
            let made = Made {
                listeners: parts.listeners.iter().map(|(size, _)| *size).collect(),
                has_ipv6: parts.has_ipv6,
                congestion: parts.congestion.to_owned(),
                unset: parts.unset,
            };
            handover::send(to, &Said::Made(made), &descriptors)
        }
        Err(why) => handover::send(to, &Said::Cannot(why), &[]),
    }
}

struct Parts {
    device: SyncDevice,
    listeners: Vec<(Size, Socket)>,
    has_ipv6: bool,
    congestion: &'static str,
    unset: Vec<String>,
}

impl Parts {
    fn make(ipv4: Ipv4Net, ipv6: Ipv6Net) -> Result<Self, String> {
        namespace().map_err(|error| {
            format!(
                "a network namespace needs CAP_SYS_ADMIN, or user namespaces that anybody may make: \
                 {error}"
            )
        })?;
        let set = |(path, value): &(&str, &str)| {
            let written = std::fs::write(format!("/proc/sys/{path}"), value);
            written.err().map(|_| path.replace('/', "."))
        };
        let unset = SETTINGS.iter().filter_map(set).collect();
        let [own_ipv4, own_ipv6] = AddressPool::new(ipv4, ipv6).own();
        let device = DeviceBuilder::new()
            .name("inner")
            .offload(true)
            .mtu(MTU)
            .ipv4(own_ipv4, ipv4.prefix_len(), None)
            .enable(true)
            .build_sync()
            .map_err(|error| format!("/dev/net/tun: {error}"))?;
        // A kernel without IPv6 still has its IPv4; the other family's connections end in user space.
        let has_ipv6 = device.add_address_v6(own_ipv6, ipv6.prefix_len()).is_ok();
        let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let mut listeners = Vec::new();
        let mut congestion = "";
        for family in families.into_iter().filter(|family| family.is_ipv4() || has_ipv6) {
            for size in Size::ALL {
                let (listener, control) = listen(family, size)
                    .map_err(|error| format!("a listener in the namespace: {error}"))?;
                listeners.push((size, listener));
                congestion = control;
            }
        }
        Ok(Self { device, listeners, has_ipv6, congestion, unset })
    }
}

/// Enters a network namespace without anything in it: by privilege, or as root of a new user namespace.
fn namespace() -> Result<(), Errno> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) => unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET),
        done => done,
    }
}

/// A listener whose connections have buffers of this size, and their congestion control.
fn listen(family: IpAddr, size: Size) -> io::Result<(Socket, &'static str)> {
    let address = SocketAddr::new(family, size.port());
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if family.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections have all of these from their listener.
    let control =
        CONGESTION.into_iter().find(|it| socket.set_tcp_congestion(it.as_bytes()).is_ok());
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME_MAX))?;
    // Small records must not wait for acknowledgements.
    socket.set_tcp_nodelay(true)?;
    if size != Size::Large {
        // The kernel takes twice as much, for what it writes beside the data.
        socket.set_send_buffer_size(size.buffer_bytes() / 2)?;
        socket.set_recv_buffer_size(size.buffer_bytes() / 2)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok((socket, control.unwrap_or("the kernel's default")))
}
