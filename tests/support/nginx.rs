//! A real nginx as origin, for programs that need more than scripted answers: git over
//! `http-backend`, package indices, ranges of large files.

use std::fmt::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gateway::ports;
use crate::pki::Pki;

/// How long nginx may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// One site: its name, and what stands in its `server` block. `$ROOT` there is the site's folder,
/// `$SOCKET` that of the FastCGI server.
pub struct Site {
    pub name: &'static str,
    pub directives: String,
}

/// nginx with fcgiwrap behind it; killed on drop.
pub struct Nginx {
    children: Vec<Child>,
    port: u16,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Serves `sites` over TLS on one port, HTTP/1.1 and HTTP/2, each with a certificate of its own.
    ///
    /// # Panics
    /// Where nginx or fcgiwrap is missing or does not start.
    #[must_use]
    pub fn start(pki: &Pki, sites: &[Site]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = ports::free();
        let base = folder.path();
        std::fs::create_dir_all(base.join("logs")).expect("a folder for logs");
        std::fs::write(base.join("nginx.conf"), configuration(pki, base, port, sites))
            .expect("nginx.conf");
        let socket = base.join("fcgi.sock");
        let wrap = quiet("fcgiwrap").arg("-s").arg(format!("unix:{}", socket.display())).spawn();
        let nginx = quiet("nginx")
            .args(["-p", &base.display().to_string(), "-c", "nginx.conf", "-e", "logs/error.log"])
            .args(["-g", "daemon off;"])
            .spawn();
        let children = vec![wrap.expect("the fcgiwrap command"), nginx.expect("the nginx command")];
        let origin = Self { children, port, folder };
        origin.wait(&socket);
        origin
    }

    /// `https://NAME:PORT/PATH`; `path` begins with a slash.
    #[must_use]
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("https://{name}:{}{path}", self.port)
    }

    /// A site's folder, to put files into.
    #[must_use]
    pub fn root(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait(&self, socket: &Path) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() || !socket.exists() {
            let log = std::fs::read_to_string(self.folder.path().join("logs/error.log"));
            assert!(begun.elapsed() < START_MAX, "nginx does not listen: {log:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        for child in &mut self.children {
            // SIGTERM, so that nginx takes its workers with it.
            Command::new("kill").arg(child.id().to_string()).status().ok();
            child.wait().ok();
        }
    }
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn configuration(pki: &Pki, base: &Path, port: u16, sites: &[Site]) -> String {
    let mut servers = String::new();
    for site in sites {
        let root = base.join(site.name);
        let keys = base.join("keys").join(site.name);
        for folder in [&root, &keys] {
            std::fs::create_dir_all(folder).expect("a site's folder");
        }
        pki.issue_with_openssl(
            &keys,
            site.name,
            &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "-sha256",
        );
        let chain = ["leaf.pem", "ca.pem"].map(|file| std::fs::read(keys.join(file)).expect(file));
        std::fs::write(keys.join("chain.pem"), chain.concat()).expect("a chain");
        let directives = site
            .directives
            .replace("$ROOT", &root.display().to_string())
            .replace("$SOCKET", &base.join("fcgi.sock").display().to_string());
        write!(
            servers,
            "server {{\n listen 127.0.0.1:{port} ssl http2;\n server_name {};\n root {};\n \
             ssl_certificate {keys}/chain.pem;\n ssl_certificate_key {keys}/leaf.key;\n {directives}\n}}\n",
            site.name,
            root.display(),
            keys = keys.display(),
        )
        .expect("a string grows");
    }
    let user = if is_root() { "user root;\n" } else { "" };
    format!(
        "{user}worker_processes 1;\npid logs/pid;\nerror_log logs/error.log;\nevents {{}}\nhttp {{\n \
         access_log logs/access.log;\n default_type application/octet-stream;\n \
         client_max_body_size 0;\n client_body_temp_path logs/body;\n \
         fastcgi_temp_path logs/fastcgi;\n proxy_temp_path logs/proxy;\n \
         uwsgi_temp_path logs/uwsgi;\n scgi_temp_path logs/scgi;\n{servers}}}\n"
    )
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("the id command");
    id.stdout.starts_with(b"0")
}
