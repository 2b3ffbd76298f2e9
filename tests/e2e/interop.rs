//! Real clients other than curl: Python requests and Chromium, through the explicit listener.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use tests::webdriver::{self, Chromium};
use tests::{Fault, Gateway, Origin};

/// Runs `program` off the runtime, with a bound.
async fn run(program: &'static str, arguments: Vec<String>, home: PathBuf) -> (bool, String) {
    let run = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .arg("90")
            .arg(program)
            .args(arguments)
            .env("HOME", home)
            .stdin(Stdio::null())
            .output()
    });
    let output = run.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn python_fetches_through_the_explicit_listener() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let script = r#"
import sys
proxy, ca, url = sys.argv[1:]
try:
    import requests
    reply = requests.get(url, proxies={"https": proxy}, verify=ca, timeout=20)
    print(reply.status_code, reply.text)
except ImportError:
    import base64, ssl, urllib.request
    context = ssl.create_default_context(cafile=ca)
    handlers = [urllib.request.ProxyHandler({"https": proxy}),
                urllib.request.HTTPSHandler(context=context)]
    with urllib.request.build_opener(*handlers).open(url, timeout=20) as reply:
        print(reply.status, reply.read().decode())
"#;
    let arguments = vec![
        "-c".to_owned(),
        script.to_owned(),
        alice.proxy_url.clone().expect("an explicit listener"),
        alice.file("intercept-ca.pem"),
        origin.url("site.test", "/hello"),
    ];
    let (fine, said) = run("python3", arguments, alice.folder.clone()).await;
    assert!(fine && said.contains("200 hello from site.test"), "{said}");
}

/// Listens without credentials and opens each CONNECT at the explicit listener with alice's.
async fn forwarder(gateway: &Gateway) -> std::net::SocketAddr {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let explicit = gateway.browser().explicit_client().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let explicit = explicit.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut first = String::new();
                client.read_line(&mut first).await.ok();
                let mut line = String::new();
                while client.read_line(&mut line).await.is_ok_and(|count| count > 2) {
                    line.clear();
                }
                let authority = first.split(' ').nth(1).unwrap_or_default().to_owned();
                if !first.starts_with("CONNECT ") {
                    return;
                }
                if let Ok(mut stream) = explicit.open(&authority).await {
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
                    tokio::io::copy_bidirectional(&mut client, &mut stream).await.ok();
                }
            });
        }
    });
    address
}

/// Alice's Chromium. It takes no credentials in --proxy-server, so a forwarder adds them.
pub(crate) async fn chromium(gateway: &Gateway) -> Chromium {
    let proxy = forwarder(gateway).await.to_string();
    Chromium::start(&gateway.alice(), &proxy)
}

/// The lowest contrast between text and what is behind it, of all elements with text of their own.
/// `color-mix` backgrounds are painted over the colour below them.
const CONTRAST: &str = r#"
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (...layers) => {
  for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = ([r, g, b]) => {
  const of = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * of(r) + 0.7152 * of(g) + 0.0722 * of(b);
};
let lowest = [99, "no text"];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((it) => it.nodeType === 3 && it.data.trim());
  if (!own) continue;
  const behind = [];
  for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
  const [a, b] = [light(rgb(...behind)), light(rgb(...behind, getComputedStyle(element).color))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < lowest[0]) lowest = [ratio, element.outerHTML];
}
return lowest;
"#;

/// Looks at the page in view in both colour schemes: it must differ, and be readable in each
/// (WCAG 2.2, 1.4.3 AA: 4.5), named in a language, headed once, with a label on each field.
fn look(browser: &Chromium, name: &str) {
    let mut pictures = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        let lowest = browser.run(CONTRAST);
        assert!(lowest[0].as_f64().is_some_and(|it| it >= 4.5), "{name}, {scheme}: {lowest}");
        pictures.push(browser.screenshot());
        webdriver::keep(&format!("{name}-{scheme}"), &pictures[pictures.len() - 1]);
    }
    assert_ne!(pictures[0], pictures[1], "{name} does not follow the colour scheme");
    let shape = browser.run(
        "return [document.documentElement.lang, document.querySelectorAll('h1').length,
          [...document.querySelectorAll('textarea')].every((it) => it.labels.length === 1)]",
    );
    assert_eq!(shape, json!(["en", 1, true]), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_sees_the_page_and_the_block_page() {
    let origin = Origin::start().await;
    let rule =
        "  - { name: closed shop, match: { app: [dropbox] }, action: block, message: Not today. }";
    let gateway = Gateway::build(&origin).host("www.dropbox.com").policy(rule).start();
    let browser = chromium(&gateway).await;
    browser.open(&origin.url("site.test", "/page"));
    browser.find("//h1[text()='Origin page']");
    browser.open(&origin.url("www.dropbox.com", "/page"));
    browser.find("//blockquote[text()='Not today.']");
    let event = gateway.await_transaction("acme", "dropbox.com").await;
    assert_eq!(event["app"], "dropbox", "{event}");
    let facts = [
        ("Site", "www.dropbox.com"),
        ("App", "dropbox"),
        ("Rule", "closed shop"),
        ("Reference", event["id"].as_str().unwrap()),
    ];
    for (term, fact) in facts {
        browser.find(&format!("//dt[text()='{term}']/following-sibling::dd[text()='{fact}']"));
    }
    look(&browser, "block");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_is_coached_gives_a_reason_and_goes_on() {
    let origin = Origin::start().await;
    let rule = "  - { name: think first, match: { domain: [site.test] }, action: coach, message: Is this for work? }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let browser = chromium(&gateway).await;
    let url = origin.url("site.test", "/page");
    browser.open(&url);
    browser.find("//blockquote[text()='Is this for work?']");
    browser.find("//dt[text()='Rule']/following-sibling::dd[text()='think first']");
    look(&browser, "coach");
    assert!(origin.last("/page").is_none(), "a coached request reached the origin");

    browser.click(&browser.find("//a[text()='Give a reason and go on']"));
    let field = browser.find("//textarea");
    assert!(browser.url().starts_with("https://notice.sluice.test/"), "{}", browser.url());
    look(&browser, "reason");
    browser.type_into(&field, "quarterly report");
    browser.click(&browser.find("//button"));

    let onward = browser.find("//a[text()='Go on to the page']");
    look(&browser, "thanks");
    browser.click(&onward);
    browser.find("//h1[text()='Origin page']");
    assert_eq!(browser.url(), url);
    let event = gateway.await_event("acme", |one| one["justification"] == "quarterly report").await;
    assert_eq!(event["user"], "alice@acme.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_is_warned_of_a_bad_certificate_and_goes_on() {
    let origin = Origin::build().fault("old.test", Fault::Expired).start().await;
    let gateway = Gateway::build(&origin).settings("decryption: { expired: warn }\n").start();
    let browser = chromium(&gateway).await;
    let url = origin.url("old.test", "/page");
    browser.open(&url);
    browser.find("//h1[text()='This site cannot be trusted']");
    browser.find("//dt[text()='Reason']/following-sibling::dd[text()='expired']");
    look(&browser, "fault");
    assert!(origin.last("/page").is_none(), "a request went to a faulty origin unasked");
    browser.click(&browser.find("//a[text()='Go on in spite of the risk']"));
    browser.type_into(&browser.find("//textarea"), "the vendor knows");
    browser.click(&browser.find("//button"));
    browser.click(&browser.find("//a[text()='Go on to the page']"));
    browser.find("//h1[text()='Origin page']");
    let event = gateway.await_event("acme", |one| one["justification"] == "the vendor knows").await;
    assert_eq!(event["user"], "alice@acme.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_websockets_compress_ping_and_close_through_the_explicit_listener() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let alice = gateway.alice();
    let folder = tempfile::tempdir().unwrap();
    let chain = trust.pki().chain("ws.test", tests::Fault::None);
    let pem = folder.path().join("both.pem");
    std::fs::write(&pem, chain.certificates_pem() + &chain.key_pem()).unwrap();
    // Both ends are the library's own; between them messages, compression and close codes.
    let script = r#"
import asyncio, base64, os, socket, ssl, sys, urllib.parse
import websockets
proxy, ca, pem = sys.argv[1:]

async def echo(peer, *path):
    async for message in peer:
        if message == "close me":
            return await peer.close(4002, "as asked")
        await peer.send(message)

def tunnel(port):
    at = urllib.parse.urlsplit(proxy)
    login = ":".join(urllib.parse.unquote(part) for part in (at.username, at.password))
    stream = socket.create_connection((at.hostname, at.port), timeout=20)
    stream.sendall(f"CONNECT ws.test:{port} HTTP/1.1\r\nHost: ws.test:{port}\r\nProxy-Authorization: "
                   f"Basic {base64.b64encode(login.encode()).decode()}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1)
    assert b" 200 " in head, head
    stream.setblocking(False)
    return stream

async def main():
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(pem)
    server = await websockets.serve(echo, "127.0.0.1", 0, ssl=inside, max_size=None)
    port = server.sockets[0].getsockname()[1]
    trusted = ssl.create_default_context(cafile=ca)
    options = dict(ssl=trusted, server_hostname="ws.test", max_size=None)
    async with websockets.connect(f"wss://ws.test:{port}/", sock=tunnel(port), **options) as peer:
        agreed = getattr(peer, "extensions", None) or peer.protocol.extensions
        assert [one.name for one in agreed] == ["permessage-deflate"], agreed
        for size in [0, 1, 125, 126, 65535, 65536, 1_000_000]:
            for message in ["m" * size, os.urandom(size)]:
                await peer.send(message)
                assert await peer.recv() == message, size
        await asyncio.wait_for(await peer.ping(), 20)
        await peer.send("close me")
        try:
            await peer.recv()
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4002, "as asked"), closed
        print("all fine")

asyncio.run(asyncio.wait_for(main(), 60))
"#;
    let arguments = vec![
        "-c".to_owned(),
        script.to_owned(),
        alice.proxy_url.clone().expect("an explicit listener"),
        alice.file("intercept-ca.pem"),
        pem.display().to_string(),
    ];
    let (fine, said) = run("python3", arguments, alice.folder.clone()).await;
    assert!(fine && said.contains("all fine"), "{said}");
}

/// Which certificate to show is a question that a browser asks its user. What answers it is a policy of the
/// machine, as administrators distribute it.
struct Chosen(std::path::PathBuf);

impl Chosen {
    fn for_gateway(name: &str, port: u16) -> Self {
        let folder = std::path::Path::new("/etc/chromium/policies/managed");
        std::fs::create_dir_all(folder).expect("root");
        let pattern = json!({ "pattern": format!("https://{name}:{port}"), "filter": {} });
        let policy = json!({ "AutoSelectCertificateForUrls": [pattern.to_string()] });
        let path = folder.join(format!("sluice-test-{port}.json"));
        std::fs::write(&path, policy.to_string()).expect("root");
        Self(path)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// With nothing but the lines that `sluice enroll` prints: TLS tunnel, HTTP/2 CONNECT, the device's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_speaks_to_the_tunnel_itself_with_the_devices_certificate() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    let (name, port) = (gateway.name(&alice.tenant), gateway.address().port());
    let _chosen = Chosen::for_gateway(&name, port);
    let home = webdriver::home_of_device(&alice);
    let proxy = format!("--proxy-server=https://{name}:{port}");
    let resolved = format!("--host-resolver-rules=MAP {name} 127.0.0.1");
    let browser =
        Chromium::start_with(&home, &[&proxy, &resolved, "--proxy-bypass-list=<-loopback>"]);
    browser.open(&origin.url("site.test", "/hello?tunnel"));
    let text = browser.run("return document.body.innerText");
    assert!(text.as_str().unwrap().contains("hello from site.test"), "{text}");
    let event = gateway.await_transaction("acme", "/hello?tunnel").await;
    for (field, value) in [
        ("access_method", "tls"),
        ("user", "alice@acme.test"),
        ("device", "laptop-1"),
        ("browser", "Chrome"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
}
