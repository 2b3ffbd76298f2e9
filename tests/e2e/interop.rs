//! Real clients other than curl: Python requests and Chromium, through the explicit listener.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::{Gateway, Identity, Origin};

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

/// Chromium's page as text, with the interception CA in a profile of its own.
async fn chromium(gateway: &Gateway, alice: &Identity, url: &str) -> String {
    let home = alice.folder.join(format!("home-{}", tests::unique()));
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).unwrap();
    let database = format!("sql:{}", store.display());
    let import = ["-A", "-n", "acme", "-t", "C,,", "-i", &alice.file("intercept-ca.pem")];
    let made = Command::new("certutil")
        .args(["-N", "--empty-password", "-d", &database])
        .status()
        .expect("certutil (libnss3-tools)");
    assert!(made.success());
    let added = Command::new("certutil").args(["-d", &database]).args(import).status().unwrap();
    assert!(added.success());
    // Chromium takes no credentials in --proxy-server, so a forwarder adds them.
    let forwarder = forwarder(gateway).await;
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--virtual-time-budget=5000",
        &format!("--user-data-dir={}", home.join("profile").display()),
        &format!("--proxy-server=http://{forwarder}"),
        "--proxy-bypass-list=<-loopback>",
        "--dump-dom",
        url,
    ];
    let arguments = arguments.map(str::to_owned).to_vec();
    let (_, said) = run("chromium", arguments, home).await;
    said
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

#[tokio::test(flavor = "multi_thread")]
async fn chromium_sees_the_page_and_the_block_page() {
    let origin = Origin::start().await;
    let rule = "  - { name: closed shop, match: { domain: [shop.test] }, action: block, message: Not today. }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let alice = gateway.alice();
    let page = chromium(&gateway, &alice, &origin.url("site.test", "/page")).await;
    assert!(page.contains("Origin page"), "{page}");
    let block = chromium(&gateway, &alice, &origin.url("shop.test", "/page")).await;
    assert!(block.contains("closed shop") && block.contains("Not today."), "{block}");
}
