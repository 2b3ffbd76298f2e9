//! A real gateway process with a configuration of its own, for one test.

mod admin;
mod browser;
mod build;
mod events;
mod identity;
mod inner_network;
pub mod ports;
mod process;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

pub use browser::{Browser, Url};
pub use build::Build;
pub use identity::Identity;
pub use inner_network::SocketState;
pub use process::{binary, cpu_of};

use crate::origin::Origin;
use process::Process;

/// The tenant every gateway of a test has.
pub const TENANT: &str = "acme";
/// The user behind [`Gateway::browser`].
pub const USER: &str = "alice@acme.test";
/// Gateways answer to `gateway-<tenant>.` and this.
pub const DOMAIN: &str = "pop.test";

/// A running `sluice serve`. Dropping it kills the process; an ERROR line in its log fails the test.
pub struct Gateway {
    folder: tempfile::TempDir,
    /// `None` while stopped.
    process: RefCell<Option<Process>>,
    ports: Ports,
    first: RefCell<Option<Identity>>,
    errors_expected: bool,
    launcher: Vec<String>,
}

/// Where the gateway listens on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub tunnel: u16,
    pub explicit: u16,
    pub admin: u16,
}

impl Gateway {
    /// A gateway with tenant `acme`, an empty policy that allows, and trust in `origin`'s CAs.
    #[must_use]
    pub fn start(origin: &Origin) -> Self {
        Self::build(origin).start()
    }

    #[must_use]
    pub fn build(origin: &Origin) -> Build {
        Build::new(origin)
    }

    /// The configuration directory.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The tunnel's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.tunnel).into()
    }

    #[must_use]
    pub fn explicit_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.explicit).into()
    }

    /// The name of a tenant's gateway.
    #[must_use]
    pub fn name(&self, tenant: &str) -> String {
        format!("gateway-{tenant}.{DOMAIN}")
    }

    /// Runs a `sluice` command on this configuration and returns what it said.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = std::process::Command::new(binary());
        command.args(arguments).arg("--config").arg(self.folder());
        command.output().expect("the sluice binary")
    }

    /// A file of the configuration, as text.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder().join(path)).expect("a file of the configuration")
    }

    /// Replaces a file of the configuration; a running gateway picks it up within a second.
    pub fn write(&self, path: &str, text: &str) {
        replace(&self.folder().join(path), text);
    }

    /// Replaces a tenant's policy by these rules (the text below `rules:`, `default: allow`).
    pub fn set_policy(&self, tenant: &str, rules: &str) {
        self.write(&format!("tenants/{tenant}/policy.yaml"), &policy(rules));
    }

    /// Enrolls a device; works while the gateway runs.
    #[must_use]
    pub fn enroll(&self, tenant: &str, user: &str, device: &str) -> Identity {
        Identity::enroll(self, tenant, user, device)
    }

    /// The first device of `alice@acme.test`.
    #[must_use]
    pub fn alice(&self) -> Identity {
        let mut first = self.first.borrow_mut();
        first.get_or_insert_with(|| Identity::enroll(self, TENANT, USER, "laptop-1")).clone()
    }

    /// A client as alice: HTTP/2 to the gateway, HTTP/2 inside.
    #[must_use]
    pub fn browser(&self) -> Browser {
        self.browser_of(&self.alice())
    }

    #[must_use]
    pub fn browser_of(&self, identity: &Identity) -> Browser {
        Browser::new(self, identity)
    }

    /// Revokes a device.
    pub fn revoke_device(&self, tenant: &str, device: &str) {
        let run = self.command(&["revoke", tenant, "--device", device]);
        assert!(run.status.success(), "revoke: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// A second process on the same ports, with the same tenants and a log of its own, as in a rolling
    /// upgrade. This one was built with [`Build::handover`].
    #[must_use]
    pub fn successor(&self) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config");
        copy(&self.folder(), &config);
        let ports = Ports { admin: ports::free(), ..self.ports };
        let admin = |port: u16| format!("admin: {{ listen: \"127.0.0.1:{port}\"");
        let yaml = self.read("gateway.yaml").replace(&admin(self.ports.admin), &admin(ports.admin));
        std::fs::write(config.join("gateway.yaml"), yaml).expect("a writable configuration");
        let process = RefCell::new(Some(Process::start(&config, &self.launcher)));
        let first = RefCell::new(Some(self.alice()));
        let launcher = self.launcher.clone();
        Self { folder, process, ports, first, errors_expected: self.errors_expected, launcher }
    }

    /// kill -9; nothing is flushed.
    pub fn kill(&self) {
        if let Some(process) = self.process.borrow_mut().as_mut() {
            process.kill();
        }
    }

    /// SIGTERM: drain and exit.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGHUP: reload.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Starts it again on the same configuration and ports, and waits until it is ready.
    pub fn restart(&self) {
        let old = self.process.borrow_mut().take();
        drop(old);
        *self.process.borrow_mut() = Some(Process::start(&self.folder(), &self.launcher));
    }

    /// Waits for the process to end and gives its exit code.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.process.borrow_mut().as_mut().and_then(Process::exit_code)
    }

    /// The processor time that the process has had so far.
    #[must_use]
    pub fn cpu(&self) -> std::time::Duration {
        self.process.borrow().as_ref().map(Process::cpu).unwrap_or_default()
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.process.borrow().as_ref().map_or(0, Process::resident_bytes)
    }

    /// CPU time of all its threads so far, in nanoseconds, by the scheduler's own account.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.process.borrow().as_ref().map_or(0, Process::cpu_ns)
    }

    /// The states of the TCP sockets in the network of inner connections.
    #[must_use]
    pub fn inner_sockets(&self) -> Vec<SocketState> {
        self.process.borrow().as_ref().map_or_else(Vec::new, |it| inner_network::sockets(it.id()))
    }

    /// Open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.process.borrow().as_ref().map_or(0, Process::descriptors)
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.process.borrow().as_ref().map_or_else(Vec::new, Process::log)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(process) = self.process.borrow().as_ref() {
            process.signal(signal);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(mut process) = self.process.borrow_mut().take() else { return };
        process.kill();
        if std::thread::panicking() {
            let log = process.log();
            let tail = log.len().saturating_sub(30);
            eprintln!("the gateway's log ends with:\n{}", log[tail..].join("\n"));
            return;
        }
        let errors: Vec<_> =
            process.log().into_iter().filter(|line| line.contains("ERROR")).collect();
        assert!(self.errors_expected || errors.is_empty(), "ERROR in the log: {errors:#?}");
    }
}

/// Copies a configuration, without what the gateway writes.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a configuration") {
        let entry = entry.expect("an entry");
        let (name, beneath) = (entry.file_name(), to.join(entry.file_name()));
        match entry.file_type().expect("a type").is_dir() {
            true if name == "data" => {}
            true => copy(&entry.path(), &beneath),
            false => drop(std::fs::copy(entry.path(), beneath).expect("a copy")),
        }
    }
}

/// Writes beside and renames, as editors do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a writable configuration");
    std::fs::rename(&beside, path).expect("a writable configuration");
}

fn policy(rules: &str) -> String {
    let rules =
        if rules.trim().is_empty() { "rules: []".to_owned() } else { format!("rules:\n{rules}") };
    format!("version: 1\n{rules}\ndefault: allow\n")
}
