//! Origins that only the openssl command can be: old protocol versions, weak keys, weak ciphers.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gateway::ports;
use crate::pki::Pki;

/// How long `openssl s_server` may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// `openssl s_server`, answering every request with a status page; killed on drop.
pub struct OpensslOrigin {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl OpensslOrigin {
    /// A P-256 origin for `name`, with a good certificate and further s_server options
    /// (`["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]`).
    #[must_use]
    pub fn start(pki: &Pki, name: &str, options: &[&str]) -> Self {
        Self::with_key(pki, name, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], options)
    }

    /// The same with an RSA key of this size (UC-31).
    #[must_use]
    pub fn start_rsa(pki: &Pki, name: &str, bits: u32) -> Self {
        let key = format!("rsa:{bits}");
        Self::with_key(pki, name, &[&key], &["-cipher", "ALL:@SECLEVEL=0"])
    }

    fn with_key(pki: &Pki, name: &str, key: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        pki.issue_with_openssl(folder.path(), name, key, "-sha256");
        let port = ports::free();
        let child = spawn(folder.path(), port, options);
        let origin = Self { child, port, _folder: folder };
        origin.wait();
        origin
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < START_MAX, "openssl s_server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for OpensslOrigin {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(folder: &Path, port: u16, options: &[&str]) -> Child {
    Command::new("openssl")
        .current_dir(folder)
        .args([
            "s_server",
            "-quiet",
            "-www",
            "-cert",
            "leaf.pem",
            "-key",
            "leaf.key",
            "-cert_chain",
            "ca.pem",
            "-accept",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the openssl command")
}
