//! The stock `openconnect` program in a namespace of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, Identity};
use crate::namespace::Namespace;

/// From its start to its tunnel.
const UP_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// What configures the client's network: everything goes into the tunnel. openconnect runs it with
/// what the gateway said in its environment.
const SCRIPT: &str = r#"#!/bin/sh
set -e
case "$reason" in
connect)
  ip link set dev "$TUNDEV" up mtu "$INTERNAL_IP4_MTU"
  ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
  [ -z "$INTERNAL_IP6_ADDRESS" ] || ip -6 address add "$INTERNAL_IP6_ADDRESS/128" dev "$TUNDEV"
  ip route add default dev "$TUNDEV"
  ip -6 route add default dev "$TUNDEV"
  echo "the network is up"
  ;;
esac
"#;

/// A running client. Ended on drop.
pub struct Openconnect {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Openconnect {
    /// Connects and waits until the tunnel is up.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn connect(
        namespace: &Namespace,
        gateway: &Gateway,
        identity: &Identity,
        options: &[&str],
    ) -> Self {
        let client = Self::start(namespace, gateway, identity, options);
        client.wait_for("the network is up", UP_MAX);
        client
    }

    /// Starts the program.
    ///
    /// # Panics
    /// Where there is no such program.
    #[must_use]
    pub fn start(
        namespace: &Namespace,
        gateway: &Gateway,
        identity: &Identity,
        options: &[&str],
    ) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let script = identity.folder.join("vpnc-script");
        std::fs::write(&script, SCRIPT).expect("a script");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).expect("a script");
        let name = gateway.name(&identity.tenant);
        let port = gateway.ports().tunnel;
        let mut child = namespace
            .command("openconnect")
            .args(["--protocol=anyconnect", "--non-inter", "-v"])
            .arg(format!("--cafile={}", identity.file("tunnel-ca.pem")))
            .arg(format!("--certificate={}", identity.file("client.pem")))
            .arg(format!("--resolve={name}:{}", namespace.gateway()))
            .arg(format!("--script={}", script.display()))
            .args(options)
            .arg(format!("https://{name}:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the openconnect command");
        let said = Arc::new(Mutex::new(Vec::new()));
        keep(child.stdout.take().expect("a pipe"), &said);
        keep(child.stderr.take().expect("a pipe"), &said);
        Self { child, said }
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("its words").clone()
    }

    /// How often it has said `part`.
    #[must_use]
    pub fn times(&self, part: &str) -> usize {
        self.said().iter().filter(|line| line.contains(part)).count()
    }

    /// # Panics
    /// Where it does not say so in time.
    pub fn wait_for(&self, part: &str, patience: Duration) {
        self.wait_for_times(part, 1, patience);
    }

    /// # Panics
    /// Where it does not say so as often in time.
    pub fn wait_for_times(&self, part: &str, times: usize, patience: Duration) {
        let begun = Instant::now();
        while self.times(part) < times {
            let said = || self.said().join("\n");
            assert!(begun.elapsed() < patience, "openconnect never said `{part}`:\n{}", said());
            std::thread::sleep(POLL);
        }
    }

    /// Ends it as a user does: it says goodbye.
    pub fn end(&mut self) {
        self.signal(rustix::process::Signal::INT);
        drop(self.child.wait());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, signal).ok();
    }
}

impl Drop for Openconnect {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep(pipe: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            said.lock().expect("its words").push(line);
        }
    });
}
