//! Real curl, as users type it.

use std::process::Command;

use crate::gateway::{Gateway, Identity};

/// One run of curl.
#[derive(Clone, Debug)]
pub struct Curl {
    arguments: Vec<String>,
}

/// What curl gave.
#[derive(Clone, Debug)]
pub struct Curled {
    /// curl's exit code.
    pub code: i32,
    /// Status of the final response; 0 where there was none.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    pub body: String,
    /// curl's own words, with `--verbose`.
    pub said: String,
}

impl Curl {
    /// Through the TLS tunnel with the device's certificate.
    #[must_use]
    pub fn tunnel(gateway: &Gateway, identity: &Identity) -> Self {
        let port = gateway.ports().tunnel;
        let name = gateway.name(&identity.tenant);
        let client = identity.file("client.pem");
        Self::bare()
            .with("--proxy", &format!("https://{name}:{port}"))
            .with("--resolve", &format!("{name}:{port}:127.0.0.1"))
            .with("--proxy-cacert", &identity.file("tunnel-ca.pem"))
            .with("--proxy-cert", &client)
            .with("--proxy-key", &client)
            .with("--cacert", &identity.file("intercept-ca.pem"))
    }

    /// Through the explicit listener with the token of `proxy.url`.
    #[must_use]
    pub fn explicit(identity: &Identity) -> Self {
        Self::bare()
            .with("--proxy", identity.proxy_url.as_deref().expect("an explicit listener"))
            .with("--cacert", &identity.file("intercept-ca.pem"))
    }

    fn bare() -> Self {
        let fixed = ["--silent", "--show-error", "--max-time", "60", "--noproxy", ""];
        Self { arguments: fixed.map(str::to_owned).to_vec() }
    }

    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    #[must_use]
    pub fn flag(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    /// Fetches. Blocks, so it runs beside the test's runtime.
    pub async fn get(&self, url: &str) -> Curled {
        let mut arguments = self.arguments.clone();
        arguments.extend([
            "--verbose".to_owned(),
            "--write-out".to_owned(),
            "\n%{http_code} %{http_version}".to_owned(),
            url.to_owned(),
        ]);
        let run = tokio::task::spawn_blocking(move || {
            Command::new("curl").args(arguments).env_remove("SSLKEYLOGFILE").output()
        });
        let output = run.await.expect("curl's thread").expect("the curl command");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, tail) = text.rsplit_once('\n').unwrap_or(("", ""));
        let (status, version) = tail.split_once(' ').unwrap_or_default();
        Curled {
            code: output.status.code().unwrap_or(-1),
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            body: body.to_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
