//! Origins that only the openssl command can be: old protocol versions, weak keys, weak ciphers.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gateway::ports;
use crate::pki;

/// How long `openssl s_server` may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// `openssl s_server`, answering every request with a status page; killed on drop.
pub struct OpensslOrigin {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl OpensslOrigin {
    /// A P-256 origin for `name`, self-signed, with further s_server options
    /// (`["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]`).
    #[must_use]
    pub fn start(name: &str, options: &[&str]) -> Self {
        Self::with_key(name, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], options)
    }

    /// The same with an RSA key of this size (UC-31).
    #[must_use]
    pub fn start_rsa(name: &str, bits: u32) -> Self {
        let key = format!("rsa:{bits}");
        Self::with_key(name, &[&key], &["-cipher", "ALL:@SECLEVEL=0"])
    }

    fn with_key(name: &str, key: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut request = vec!["req", "-x509", "-nodes", "-days", "30", "-newkey"];
        request.extend_from_slice(key);
        let (subject, san) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let how = ["-keyout", "key.pem", "-out", "cert.pem", "-subj", &subject, "-addext", &san];
        pki::openssl(folder.path(), &request, &how);
        let port = ports::free();
        let child = spawn(folder.path(), port, options);
        let origin = Self { child, port, folder: folder };
        origin.wait();
        origin
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its self-signed certificate as PEM, for a test that trusts it.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("cert.pem")).expect("the certificate")
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
        .args(["s_server", "-quiet", "-www", "-cert", "cert.pem", "-key", "key.pem", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the openssl command")
}
