//! Real servers that events are sent to: NATS and rsyslog, as the distribution has them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gateway::ports;
use crate::pki::{Fault, Pki};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(15);

/// In the folder of a nats-server with TLS.
const NATS_CERT: &str = "nats.pem";
const NATS_KEY: &str = "nats.key";

/// A process that is killed on drop.
pub(crate) struct Server(Option<Child>);

impl Server {
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(Some(command.spawn().unwrap_or_else(|_| panic!("the {name} command"))));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START_MAX, "{name} does not listen on {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGSTOP or SIGCONT: it keeps its connections and answers none of them, then goes on.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.0.as_ref().map(Child::id).and_then(|pid| pid.try_into().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a server that runs");
        rustix::process::kill_process(pid, signal).expect("a signal to a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// nats-server with JetStream on a folder of its own.
pub struct Nats {
    server: Server,
    port: u16,
    folder: tempfile::TempDir,
    bytes: u64,
}

impl Nats {
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with_room(1 << 30)
    }

    /// That speaks to nobody but over TLS.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn secure(pki: &Pki) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let chain = pki.chain("localhost", Fault::None);
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("a file of the test");
        };
        write(NATS_CERT, chain.certificates_pem());
        write(NATS_KEY, chain.key_pem());
        let (port, bytes) = (ports::free(), 1 << 30);
        Self { server: serve_nats(folder.path(), port, bytes), port, folder, bytes }
    }

    /// `localhost:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Of which the streams may take this many bytes of the disk.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn with_room(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ports::free();
        Self { server: serve_nats(folder.path(), port, bytes), port, folder, bytes }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// On the same folder and port.
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = serve_nats(self.folder.path(), self.port, self.bytes);
    }

    /// As [`Nats::restart`], with this much room.
    pub fn restart_with_room(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.restart();
    }

    /// As a partition: connections stay, and nothing comes through them.
    pub fn cut_off(&self) {
        self.server.signal(rustix::process::Signal::STOP);
    }

    pub fn reach_again(&self) {
        self.server.signal(rustix::process::Signal::CONT);
    }
}

/// With TLS where its certificate lies in the folder.
fn serve_nats(folder: &Path, port: u16, bytes: u64) -> Server {
    let config = folder.join("nats.conf");
    let mut text = format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", max_file_store: {bytes} }}\n",
        folder.display()
    );
    let (cert, key) = (folder.join(NATS_CERT), folder.join(NATS_KEY));
    if cert.exists() {
        let (cert, key) = (cert.display(), key.display());
        text += &format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}\n");
    }
    std::fs::write(&config, text).expect("a file of the test");
    Server::start(Command::new("nats-server").arg("-c").arg(config), port)
}

/// rsyslogd that takes syslog over TLS and writes each message to a file.
pub struct Rsyslog {
    _server: Server,
    port: u16,
    folder: tempfile::TempDir,
}

impl Rsyslog {
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(pki: &Pki) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ports::free();
        let chain = pki.chain("localhost", Fault::None);
        let at = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("a file of the test");
        };
        write("ca.pem", pki.root_pem());
        write("cert.pem", chain.certificates_pem());
        write("key.pem", chain.key_pem());
        write(
            "rsyslog.conf",
            format!(
                "global(workDirectory=\"{}\" defaultNetstreamDriver=\"gtls\"\n\
                 defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\"\n\
                 defaultNetstreamDriverKeyFile=\"{}\" maxMessageSize=\"64k\")\n\
                 module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\"\n\
                 streamDriver.authMode=\"anon\")\n\
                 template(name=\"whole\" type=\"string\" string=\"%pri% %timestamp:::date-rfc3339% \
                 %app-name% %msgid% %structured-data% %msg%\\n\")\n\
                 ruleset(name=\"in\") {{ action(type=\"omfile\" file=\"{}\" template=\"whole\") }}\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"in\")\n",
                folder.path().display(),
                at("ca.pem"),
                at("cert.pem"),
                at("key.pem"),
                at("out.log"),
            ),
        );
        let mut command = Command::new("rsyslogd");
        command.args(["-n", "-f", &at("rsyslog.conf"), "-i", &at("pid")]);
        Self { _server: Server::start(&mut command, port), port, folder }
    }

    /// `localhost:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// PEM file with the CA of its certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What it has written so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("out.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
