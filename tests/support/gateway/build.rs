//! Writes a gateway's configuration with the real commands, then starts it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::binary;
use super::{DOMAIN, Gateway, Ports, TENANT, policy, ports};
use crate::origin::Origin;

/// How a gateway differs from the plain one. Made by [`Gateway::build`].
pub struct Build {
    roots_pem: String,
    lists_pem: Option<String>,
    tenants: Vec<String>,
    policies: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    hosts: Vec<String>,
    resolver: String,
    allow_private: String,
    gateway_yaml: String,
    admin: String,
    listen: String,
    mapped: String,
    handover: bool,
    errors_expected: bool,
    launcher: Vec<String>,
}

impl Build {
    pub(super) fn new(origin: &Origin) -> Self {
        Self {
            roots_pem: origin.pki().roots_pem(),
            lists_pem: None,
            tenants: vec![TENANT.to_owned()],
            policies: Vec::new(),
            settings: Vec::new(),
            hosts: vec!["*.test".to_owned()],
            resolver: "system".to_owned(),
            allow_private: "[127.0.0.0/8]".to_owned(),
            gateway_yaml: String::new(),
            admin: String::new(),
            listen: "127.0.0.1".to_owned(),
            mapped: "127.0.0.1".to_owned(),
            handover: false,
            errors_expected: false,
            launcher: Vec::new(),
        }
    }

    /// A further tenant.
    #[must_use]
    pub fn tenant(mut self, name: &str) -> Self {
        self.tenants.push(name.to_owned());
        self
    }

    /// The rules of `acme` (the text below `rules:`, each line indented by two).
    #[must_use]
    pub fn policy(self, rules: &str) -> Self {
        self.policy_of(TENANT, rules)
    }

    #[must_use]
    pub fn policy_of(mut self, tenant: &str, rules: &str) -> Self {
        self.policies.push((tenant.to_owned(), rules.to_owned()));
        self
    }

    /// The whole tenant.yaml of `acme`.
    #[must_use]
    pub fn settings(self, yaml: &str) -> Self {
        self.settings_of(TENANT, yaml)
    }

    #[must_use]
    pub fn settings_of(mut self, tenant: &str, yaml: &str) -> Self {
        self.settings.push((tenant.to_owned(), yaml.to_owned()));
        self
    }

    /// A name (or `*.suffix`) beside `*.test` that the resolver maps to 127.0.0.1.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.hosts.push(name.to_owned());
        self
    }

    /// Asks this DNS server instead of the system's.
    #[must_use]
    pub fn resolver(mut self, address: &str) -> Self {
        self.resolver = format!("[\"{address}\"]");
        self
    }

    /// Clients and origins are in another namespace: tunnels are taken at every address, and names map
    /// to `origin`.
    #[must_use]
    pub fn beyond(mut self, origin: std::net::Ipv4Addr) -> Self {
        "0.0.0.0".clone_into(&mut self.listen);
        self.mapped = origin.to_string();
        self.allow_private = format!("[127.0.0.0/8, {origin}/32]");
        self
    }

    /// Clients come to this address; IPv6 in brackets.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Shares its ports with a [`Gateway::successor`].
    #[must_use]
    pub fn handover(mut self) -> Self {
        self.handover = true;
        self
    }

    /// Networks that may be dialled although not public, as a YAML list.
    #[must_use]
    pub fn allow_private(mut self, networks: &str) -> Self {
        networks.clone_into(&mut self.allow_private);
        self
    }

    /// Further origin CAs, as PEM.
    #[must_use]
    pub fn trust(mut self, pem: &str) -> Self {
        self.roots_pem.push_str(pem);
        self
    }

    /// Revocation lists of origins' authorities, as PEM: `origin-crls.pem` beside the configuration.
    #[must_use]
    pub fn lists(mut self, pem: String) -> Self {
        self.lists_pem = Some(pem);
        self
    }

    /// Certificate and key files with which the admin endpoint speaks HTTPS. [`Gateway::admin_get`]
    /// and what builds on it speak HTTP.
    #[must_use]
    pub fn admin_tls(mut self, cert: &str, key: &str) -> Self {
        self.admin = format!(", tls: {{ cert: \"{cert}\", key: \"{key}\" }}");
        self
    }

    /// Further top-level keys of gateway.yaml.
    #[must_use]
    pub fn gateway_yaml(mut self, yaml: &str) -> Self {
        self.gateway_yaml.push_str(yaml);
        self.gateway_yaml.push('\n');
        self
    }

    /// This test makes the gateway log an ERROR on purpose.
    #[must_use]
    pub fn expects_errors(mut self) -> Self {
        self.errors_expected = true;
        self
    }

    /// A command that starts the process: what it is given behind its own arguments is the gateway's command.
    #[must_use]
    pub fn launched_by(mut self, command: &[&str]) -> Self {
        self.launcher = command.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// Writes the configuration and starts the process.
    #[must_use]
    pub fn start(self) -> Gateway {
        let gateway = self.configure();
        gateway.restart();
        gateway
    }

    /// Writes the configuration only; [`Gateway::restart`] starts it.
    #[must_use]
    pub fn configure(self) -> Gateway {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        run(&["init", &text(&config), "--domain", DOMAIN, "--tenant", TENANT]);
        for tenant in self.tenants.iter().filter(|name| *name != TENANT) {
            run(&["tenant", "add", tenant, "--config", &text(&config)]);
        }
        let ports = Ports { tunnel: ports::free(), explicit: ports::free(), admin: ports::free() };
        let roots = folder.path().join("origin-roots.pem");
        write(&roots, &self.roots_pem);
        if let Some(lists) = &self.lists_pem {
            write(&folder.path().join("origin-crls.pem"), lists);
        }
        write(&config.join("gateway.yaml"), &self.yaml(ports, &roots));
        for tenant in &self.tenants {
            let own = config.join("tenants").join(tenant);
            write(&own.join("policy.yaml"), &policy(last(&self.policies, tenant).unwrap_or("")));
            if let Some(settings) = last(&self.settings, tenant) {
                write(&own.join("tenant.yaml"), settings);
            }
        }
        let gateway = Gateway {
            folder,
            process: RefCell::default(),
            ports,
            first: RefCell::default(),
            errors_expected: self.errors_expected,
            launcher: self.launcher,
        };
        // A token that is enrolled while the gateway runs is in force only a second later.
        drop(gateway.alice());
        gateway
    }

    fn yaml(&self, ports: Ports, roots: &Path) -> String {
        let Ports { tunnel, explicit, admin } = ports;
        let mut yaml = String::new();
        let handover = roots.with_file_name("handover");
        let handover =
            if self.handover { format!("handover: {handover:?}") } else { String::new() };
        let hosts: Vec<_> =
            self.hosts.iter().map(|name| format!("\"{name}\": {}", self.mapped)).collect();
        write!(
            yaml,
            "pop: test-1\n\
             domain: {DOMAIN}\n\
             listen:\n  tcp: \"{listen}:{tunnel}\"\n  udp: \"{listen}:{tunnel}\"\n  \
             explicit: {{ \"127.0.0.1:{explicit}\": {TENANT} }}\n  {handover}\n\
             admin: {{ listen: \"127.0.0.1:{admin}\"{} }}\n\
             origin:\n  roots: none\n  extra_roots: [{roots:?}]\n  resolver: {}\n  \
             hosts: {{ {} }}\n  allow_private: {}\n",
            self.admin,
            self.resolver,
            hosts.join(", "),
            self.allow_private,
            listen = self.listen,
        )
        .expect("text");
        if self.lists_pem.is_some() {
            yaml.push_str("  crls: [../origin-crls.pem]\n");
        }
        // The same tests over the kernel's TCP: `tests/run` has them twice.
        if let Ok(backend) = std::env::var("SLUICE_TEST_INNER_TCP")
            && !self.gateway_yaml.contains("inner:")
        {
            writeln!(yaml, "inner: {{ tcp: {backend} }}").expect("text");
        }
        yaml + &self.gateway_yaml
    }
}

fn last<'a>(pairs: &'a [(String, String)], tenant: &str) -> Option<&'a str> {
    let hit = pairs.iter().rev().find(|(name, _)| name == tenant);
    hit.map(|(_, text)| text.as_str())
}

fn write(path: &PathBuf, text: &str) {
    std::fs::write(path, text).expect("a writable configuration");
}

fn run(arguments: &[&str]) {
    let run = Command::new(binary()).args(arguments).output().expect("the sluice binary");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "sluice {}: {said}", arguments.join(" "));
}
