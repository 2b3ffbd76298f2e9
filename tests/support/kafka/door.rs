//! What stands before a broker: TLS, client certificates, a user's password (tests/kafka/door.py).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::pki::{Chain, Fault, Pki};
use crate::services::Server;

/// A user of a broker, and how the password is proved.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// As Kafka spells it: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    pub name: &'static str,
    pub password: &'static str,
}

/// Who may come in.
pub struct Rules<'a> {
    pub pki: &'a Pki,
    /// What is wrong with the broker's certificate for `localhost`.
    pub fault: Fault,
    /// A client has to show a certificate of the same root.
    pub client_certificate: bool,
    /// A client has to be this user.
    pub user: Option<User>,
}

impl<'a> Rules<'a> {
    /// TLS with a good certificate, and nothing more.
    #[must_use]
    pub fn tls(pki: &'a Pki) -> Self {
        Self { pki, fault: Fault::None, client_certificate: false, user: None }
    }

    #[must_use]
    pub fn user(self, user: User) -> Self {
        Self { user: Some(user), ..self }
    }
}

pub(super) struct Door {
    server: Server,
    pub(super) port: u16,
    broker: u16,
    folder: tempfile::TempDir,
    /// How librdkafka comes in.
    pub(super) reader: Value,
}

impl Door {
    pub(super) fn open(port: u16, broker: u16, rules: &Rules<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = serve(folder.path(), port, broker, rules);
        let reader = reader(folder.path(), rules);
        Self { server, port, broker, folder, reader }
    }

    /// The same door with other rules; who was in is put out.
    pub(super) fn change(&mut self, rules: &Rules<'_>) {
        self.server.kill();
        self.server = serve(self.folder.path(), self.port, self.broker, rules);
        self.reader = reader(self.folder.path(), rules);
    }
}

fn serve(folder: &Path, port: u16, broker: u16, rules: &Rules<'_>) -> Server {
    let (cert, key) = keep(folder, "broker", &rules.pki.chain("localhost", rules.fault));
    std::fs::write(folder.join("ca.pem"), rules.pki.root_pem()).expect("a file of the test");
    let mut settings = json!({"port": port, "broker": broker, "cert": cert, "key": key});
    if rules.client_certificate {
        settings["client_ca"] = json!(folder.join("ca.pem"));
    }
    if let Some(user) = rules.user {
        settings["mechanism"] = json!(user.mechanism);
        settings["user"] = json!(user.name);
        settings["password"] = json!(user.password);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/door.py");
    Server::start(Command::new("python3").arg(script).arg(settings.to_string()), port)
}

/// librdkafka's settings for somebody who may come in.
fn reader(folder: &Path, rules: &Rules<'_>) -> Value {
    let protocol = if rules.user.is_some() { "SASL_SSL" } else { "SSL" };
    let mut settings = json!({
        "security.protocol": protocol,
        "ssl.ca.location": folder.join("ca.pem"),
        // The door listens on 127.0.0.1 alone.
        "broker.address.family": "v4",
    });
    if rules.client_certificate {
        let (cert, key) = keep(folder, "reader", &rules.pki.client("reader"));
        settings["ssl.certificate.location"] = json!(cert);
        settings["ssl.key.location"] = json!(key);
    }
    if let Some(user) = rules.user {
        settings["sasl.mechanisms"] = json!(user.mechanism);
        settings["sasl.username"] = json!(user.name);
        settings["sasl.password"] = json!(user.password);
    }
    settings
}

/// Writes a chain and its key, and says where.
fn keep(folder: &Path, name: &str, chain: &Chain) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&cert, chain.certificates_pem()).expect("a file of the test");
    std::fs::write(&key, chain.key_pem()).expect("a file of the test");
    (cert, key)
}
