//! Programs of others that speak HTTP/3, on the client machine or as an origin: libcurl (curl_cffi)
//! and aioquic, both from Python's index.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::gateway::Identity;
use crate::namespace::Namespace;
use crate::webdriver;

/// Which program asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Curl,
    Aioquic,
}

/// What it got, as it says itself.
///
/// # Panics
/// Where the program does not run.
pub async fn ask(
    namespace: &Namespace,
    program: Program,
    identity: &Identity,
    url: &str,
    method: &str,
    size: u64,
) -> Value {
    ask_trusting(namespace, program, &identity.file("intercept-ca.pem"), url, method, size).await
}

/// The same, trusting the CA in a file of one's own.
///
/// # Panics
/// Where the program does not run.
pub async fn ask_trusting(
    namespace: &Namespace,
    program: Program,
    ca: &str,
    url: &str,
    method: &str,
    size: u64,
) -> Value {
    let script = match program {
        Program::Curl => script("curl.py"),
        Program::Aioquic => script("client.py"),
    };
    let mut command = namespace.command("python3");
    command.arg(script).args([ca, url, method]);
    if size > 0 {
        command.arg(size.to_string());
    }
    let run = tokio::task::spawn_blocking(move || command.output()).await;
    let output = run.expect("the program's thread").expect("the python3 command");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} {url}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{program:?} {url}: {said}"))
}

/// An HTTP/3 origin of aioquic. Ended on drop.
pub struct Http3Origin(Child);

impl Http3Origin {
    /// Starts it with a certificate and key in PEM files and waits until it serves.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(address: Ipv4Addr, port: u16, certificate: &str, key: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(script("server.py"))
            .args([&address.to_string(), &port.to_string(), certificate, key])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the python3 command");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        drop(said.read_line(&mut line));
        let origin = Self(child);
        assert_eq!(line.trim(), "ready", "the HTTP/3 origin does not start");
        origin
    }
}

impl Drop for Http3Origin {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A headless Chromium of a client machine, with a profile of its own that trusts the tenant's CA.
pub struct Chromium<'a> {
    namespace: &'a Namespace,
    home: PathBuf,
}

impl<'a> Chromium<'a> {
    #[must_use]
    pub fn on(namespace: &'a Namespace, identity: &Identity) -> Self {
        Self { namespace, home: webdriver::home(identity) }
    }

    /// What a page looks like once it is loaded; each call is a browser of its own.
    ///
    /// # Panics
    /// Where there is no such program.
    pub async fn page(&self, url: &str, options: &[&str]) -> String {
        let mut command = self.namespace.command("timeout");
        command
            .env("HOME", &self.home)
            .args(["60", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"])
            .arg("--disable-component-update")
            .arg(format!("--user-data-dir={}", self.home.join("profile").display()))
            .args(options)
            .args(["--dump-dom", url]);
        let run = tokio::task::spawn_blocking(move || command.output()).await;
        let output = run.expect("chromium's thread").expect("the chromium command");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("support/http3").join(name)
}
