//! Chromium, driven as a person would: WebDriver over plain HTTP to the `chromedriver` command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::Identity;
use crate::namespace::Namespace;

/// No page of a test takes longer; what is waited for is there much sooner.
const WAIT: Duration = Duration::from_secs(60);
/// How the standard spells "this is an element" (W3C WebDriver section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless Chromium with a profile of its own. Its calls block.
pub struct Chromium {
    driver: Child,
    address: (Ipv4Addr, u16),
    session: String,
}

/// Something on the page in view.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Chromium {
    /// Starts it behind the proxy `proxy` (`host:port`), trusting the identity's interception CA.
    #[must_use]
    pub fn start(identity: &Identity, proxy: &str) -> Self {
        let ways = [&format!("--proxy-server=http://{proxy}"), "--proxy-bypass-list=<-loopback>"];
        Self::launch(&home(identity), Command::new("chromedriver"), Ipv4Addr::LOCALHOST, &ways)
    }

    /// Starts it with a [`home`] of its own and these options.
    #[must_use]
    pub fn start_with(home: &Path, options: &[&str]) -> Self {
        Self::launch(home, Command::new("chromedriver"), Ipv4Addr::LOCALHOST, options)
    }

    /// Starts it on a client machine, without a proxy, trusting the identity's interception CA.
    #[must_use]
    pub fn start_in(namespace: &Namespace, identity: &Identity) -> Self {
        Self::start_at(namespace, &home(identity), &[])
    }

    /// The same, with a [`home`] that may remember an earlier browser.
    #[must_use]
    pub fn start_at(namespace: &Namespace, home: &Path, options: &[&str]) -> Self {
        let mut driver = namespace.command("chromedriver");
        // We reach it over the machine's link, since its loopback is not ours.
        driver.arg(format!("--allowed-ips={}", namespace.gateway()));
        Self::launch(home, driver, namespace.client(), options)
    }

    fn launch(home: &Path, mut driver: Command, at: Ipv4Addr, more: &[&str]) -> Self {
        let mut driver = driver
            .arg("--port=0")
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (chromium-driver)");
        let said = BufReader::new(driver.stdout.take().expect("piped"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let address = (at, port.expect("chromedriver's port"));
        let mut browser = Self { driver, address, session: String::new() };
        let profile = format!("--user-data-dir={}", home.join("profile").display());
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=900,900",
            &profile,
        ];
        arguments.extend(more);
        let wait = u64::try_from(WAIT.as_millis()).expect("a minute");
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"implicit": wait, "pageLoad": wait, "script": wait},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session =
            made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({"url": url}));
    }

    /// Where the browser is.
    #[must_use]
    pub fn url(&self) -> String {
        self.ask("GET", "/url", &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// The first element that the XPath names; waits until there is one.
    pub fn find(&self, xpath: &str) -> Element {
        let found = self.ask("POST", "/element", &json!({"using": "xpath", "value": xpath}));
        let id = found[ELEMENT].as_str().unwrap_or_else(|| {
            panic!("no `{xpath}` on {}: {}", self.url(), self.run("return document.body.innerText"))
        });
        Element(id.to_owned())
    }

    pub fn click(&self, element: &Element) {
        let said = self.ask("POST", &format!("/element/{}/click", element.0), &json!({}));
        assert!(said.is_null(), "{said}");
    }

    pub fn type_into(&self, element: &Element, text: &str) {
        let path = format!("/element/{}/value", element.0);
        let said = self.ask("POST", &path, &json!({"text": text}));
        assert!(said.is_null(), "{said}");
    }

    /// What a script on the page returns.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What a script on the page hands to `done(…)`, however late.
    #[must_use]
    pub fn run_until_done(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.ask("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    /// Keeps what the browser downloads in `folder`.
    pub fn download_to(&self, folder: &Path) {
        let params = json!({"behavior": "allow", "downloadPath": folder});
        let command = json!({"cmd": "Browser.setDownloadBehavior", "params": params});
        self.ask("POST", "/goog/cdp/execute", &command);
    }

    /// What the page finds when it asks for a colour scheme: `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        let command =
            json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": [feature]}});
        self.ask("POST", "/goog/cdp/execute", &command);
    }

    /// The page in view as PNG.
    #[must_use]
    pub fn screenshot(&self) -> Vec<u8> {
        let text = self.ask("GET", "/screenshot", &Value::Null);
        let text = text.as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// The `value` of chromedriver's answer.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.address).expect("chromedriver");
        stream.set_read_timeout(Some(WAIT * 2)).expect("a timeout");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("chromedriver");
        let mut reply = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while reply.read_line(&mut line).is_ok_and(|count| count > 2) {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reply.read_exact(&mut body).expect("chromedriver's answer");
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        answer["value"].take()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Ending the session ends the browser; chromedriver goes with us.
        if !std::thread::panicking() {
            self.ask("DELETE", "", &Value::Null);
        }
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

/// A home folder whose certificate store trusts the identity's interception CA.
#[must_use]
pub fn home(identity: &Identity) -> PathBuf {
    let home = identity.folder.join(format!("home-{}", crate::unique()));
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).expect("a writable folder");
    let database = format!("sql:{}", store.display());
    certutil(&database, &["-N", "--empty-password"]);
    let ca = identity.file("intercept-ca.pem");
    certutil(&database, &["-A", "-n", "tenant", "-t", "C,,", "-i", &ca]);
    home
}

fn certutil(database: &str, arguments: &[&str]) {
    let run = Command::new("certutil").args(arguments).args(["-d", database]).status();
    assert!(run.expect("certutil (libnss3-tools)").success());
}

/// Keeps a picture where `SLUICE_TEST_SCREENSHOTS` names a folder, for a person to look at.
pub fn keep(name: &str, png: &[u8]) {
    if let Some(folder) = std::env::var_os("SLUICE_TEST_SCREENSHOTS") {
        let path = Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(path, png).expect("a writable folder for screenshots");
    }
}

/// A [`home`] whose certificate store also trusts the tunnel's CA and holds the device's certificate, made
/// as `sluice enroll` says.
#[must_use]
pub fn home_of_device(identity: &Identity) -> PathBuf {
    let home = home(identity);
    let database = format!("sql:{}", home.join(".pki/nssdb").display());
    let tunnel_ca = identity.file("tunnel-ca.pem");
    certutil(&database, &["-A", "-n", "tunnel", "-t", "C,,", "-i", &tunnel_ca]);
    let packed = home.join("client.p12").display().to_string();
    let client = identity.file("client.pem");
    let pack = ["pkcs12", "-export", "-in", &client, "-out", &packed, "-passout", "pass:"];
    assert!(Command::new("openssl").args(pack).status().expect("openssl").success());
    let import = ["-d", &database, "-i", &packed, "-W", ""];
    let run = Command::new("pk12util").args(import).stdout(Stdio::null()).status();
    assert!(run.expect("pk12util (libnss3-tools)").success());
    home
}
