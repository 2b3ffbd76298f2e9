//! A machine of its own for a client: a network namespace with one link to this one. Needs root and
//! the commands `ip` and `nft`; panics where it cannot have them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use crate::link::{Counts, Impairment};
use crate::wire::Wire;

/// The namespace, this machine's end of its link, and an address behind it for origins. Gone on drop.
pub struct Namespace {
    name: String,
    number: u8,
    /// Where the link is none of the kernel's.
    wire: Option<Wire>,
}

impl Namespace {
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|here, there, name| {
            run("ip", &["link", "add", here, "type", "veth", "peer", "name", there, "netns", name]);
            None
        })
    }

    /// One whose link impairs both ways, whatever the protocol.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn behind(impairment: Impairment, seed: u64) -> Self {
        Self::with(|here, there, name| {
            let wire = Wire::between(here, there, impairment, seed);
            // What is lost the wire decides, and not a thread that had no processor for a moment.
            for end in [here, there] {
                run("ip", &["link", "set", end, "txqueuelen", "10000"]);
            }
            run("ip", &["link", "set", there, "netns", name]);
            Some(wire)
        })
    }

    /// The link as it is from now on; only for one that was made to impair.
    pub fn impair(&self, impairment: Impairment) {
        if let Some(wire) = &self.wire {
            wire.set(impairment);
        }
    }

    /// What became of what this machine sent over such a link, and of what the client did.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        self.wire.as_ref().map(Wire::counts).unwrap_or_default()
    }

    /// By which congestion control this machine's TCP sends over the link.
    pub fn congestion(&self, name: &str) {
        let network = format!("198.18.{}.0/24", self.number);
        let (device, own) = (format!("slh{}", self.number), self.gateway().to_string());
        let route = ["route", "replace", &network, "dev", &device, "src", &own, "congctl", name];
        run("ip", &route);
    }

    fn with(link: impl FnOnce(&str, &str, &str) -> Option<Wire>) -> Self {
        // Of this process and of this namespace: test runs beside each other have their own.
        let number = (std::process::id() as u64 * 31 + crate::unique()) % 250 + 1;
        let number = u8::try_from(number).expect("below 251");
        let name = format!("sluice-{}-{number}", std::process::id());
        let mut namespace = Self { name, number, wire: None };
        let (here, there) = (format!("slh{number}"), format!("slt{number}"));
        run("ip", &["netns", "add", &namespace.name]);
        // An address that becomes good a second after it is given is a change of networks to browsers,
        // and ends what they fetch.
        for whose in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{whose}.accept_dad=0");
            run("ip", &["netns", "exec", &namespace.name, "sysctl", "-qw", &setting]);
        }
        namespace.wire = link(&here, &there, &namespace.name);
        let name = &namespace.name;
        run("ip", &["address", "add", &format!("{}/24", namespace.gateway()), "dev", &here]);
        run("ip", &["address", "add", &format!("{}/32", namespace.origin()), "dev", &here]);
        run("ip", &["link", "set", &here, "up"]);
        let inside = ["-n", name];
        for arguments in [
            &["address", "add", &format!("{}/24", namespace.client()), "dev", &there][..],
            &["link", "set", &there, "up"],
            &["link", "set", "lo", "up"],
        ] {
            run("ip", &[&inside[..], arguments].concat());
        }
        namespace
    }

    /// This machine's address on the link: the gateway is there.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 1)
    }

    /// The client's own address.
    #[must_use]
    pub fn client(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 2)
    }

    /// Another address of this machine, which the client reaches by a tunnel only.
    #[must_use]
    pub fn origin(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.number, 1)
    }

    /// Whom programs inside ask for names.
    pub fn name_server(&self, address: &str) {
        let folder = self.resolver_folder();
        std::fs::create_dir_all(&folder).expect("a folder below /etc/netns");
        let text = format!("nameserver {address}\n");
        std::fs::write(folder.join("resolv.conf"), text).expect("resolv.conf");
    }

    /// Runs something on a thread of its own inside: its sockets belong there.
    ///
    /// # Panics
    /// Where the thread does.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = PathBuf::from("/run/netns").join(&self.name);
        let inside = || {
            let file = std::fs::File::open(file).expect("the namespace");
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace");
            act()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).expect("the thread inside")
    }

    /// A command that runs inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// What the command says; panics where it fails.
    #[must_use]
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let run = self.command(program).args(arguments).output().expect("a command");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{program} {}: {said}", arguments.join(" "));
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// Drops every datagram to this port from now on.
    pub fn block_udp(&self, port: u16) {
        // Where packets leave: a program is told of nothing, as behind a firewall.
        let rules = format!(
            "table netdev sluice {{ chain out {{ type filter hook egress device slt{} priority 0; \
             udp dport {port} drop; }}; }}",
            self.number
        );
        let _said = self.output("nft", &[&rules]);
    }

    pub fn unblock(&self) {
        let _said = self.output("nft", &["flush", "ruleset"]);
    }

    fn resolver_folder(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.name]).output());
        drop(Command::new("ip").args(["link", "delete", &format!("slh{}", self.number)]).output());
        drop(std::fs::remove_dir_all(self.resolver_folder()));
    }
}

fn run(program: &str, arguments: &[&str]) {
    let run = Command::new(program).args(arguments).output();
    let run = run.unwrap_or_else(|_| panic!("the {program} command"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {}: {said}", arguments.join(" "));
}
