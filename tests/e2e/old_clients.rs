//! Clients that cannot speak TLS 1.3: OpenConnect where the tenant lets them in, and nobody else.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::{Gateway, Identity, Origin};

const SETTING: &str = "openconnect: { tls_1_2: true }\n";
const ONLY_1_2: &str = "--gnutls-priority=NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-DTLS1.2";
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_old_openconnect_gets_its_tunnel_and_dtls_over_tls_1_2() {
    let namespace = Namespace::new();
    namespace.name_server("100.96.0.1");
    let origin = Origin::build().at(namespace.origin()).start().await;
    let gateway = Gateway::build(&origin).beyond(namespace.origin()).settings(SETTING).start();
    let alice = gateway.alice();
    let client = Openconnect::connect(&namespace, &gateway, &alice, &[ONLY_1_2]);
    client.wait_for("(TLS1.2)", SOON);
    // The key comes from this connection: both ends agree on it only with what TLS 1.2 exports.
    client.wait_for("Established DTLS connection", SOON);
    let mut curl = namespace.command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]);
    curl.arg(alice.file("intercept-ca.pem")).arg(origin.url("site.test", "/hello"));
    let page = tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains("hello from site.test"), "{page:?}");
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["tunnel_tls"], "1.2", "{event}");
    assert_eq!(event["user"], "alice@acme.test", "{event}");
    // A client that knows both speaks the newer one.
    let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
    drop(client);
    let newer = Openconnect::connect(&namespace, &gateway, &bob, &[]);
    newer.wait_for("(TLS1.3)", SOON);
}

/// What a TLS client is told, and what it says of it.
async fn client(mut command: Command, says: &'static str) -> String {
    let run = move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command");
        let mut stdin = child.stdin.take().expect("a pipe");
        let speaking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            stdin.write_all(says.as_bytes()).ok();
            std::thread::sleep(Duration::from_secs(1));
        });
        let output = child.wait_with_output().expect("its output");
        speaking.join().ok();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    tokio::task::spawn_blocking(run).await.expect("the client's thread")
}

fn openssl(gateway: &Gateway, identity: Option<&Identity>, options: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["10", "openssl", "s_client", "-servername", &gateway.name("acme")]);
    command.args(["-connect", &gateway.address().to_string()]).args(options);
    if let Some(identity) = identity {
        let pem = identity.file("client.pem");
        command.args(["-cert", &pem, "-key", &pem]);
    }
    command
}

const REQUEST: &str = "CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_1_2_nothing_else_is_served() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).settings(SETTING).start();
    let alice = gateway.alice();
    // Who offers an application protocol is a browser or another user of proxies.
    for protocol in ["h2", "http/1.1"] {
        let options = ["-tls1_2", "-alpn", protocol];
        let said = client(openssl(&gateway, Some(&alice), &options), REQUEST).await;
        assert!(said.contains("alert protocol version"), "{protocol}: {said}");
    }
    let said = client(openssl(&gateway, Some(&alice), &["-tls1_2"]), REQUEST).await;
    assert!(said.contains("Cipher is ECDHE") && !said.contains("HTTP/1.1 200"), "{said}");
    gateway.await_refusal("acme", "old_tls").await;
    let said = client(openssl(&gateway, None, &["-tls1_2"]), REQUEST).await;
    assert!(!said.contains("HTTP/1.1"), "{said}");
    gateway.await_refusal("acme", "no_certificate").await;
    for old in [
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ] {
        let said = client(openssl(&gateway, Some(&alice), old), REQUEST).await;
        assert!(said.contains("Cipher is (NONE)"), "{old:?}: {said}");
    }
    let said = client(openssl(&gateway, Some(&alice), &["-tls1_3"]), REQUEST).await;
    assert!(said.contains("HTTP/1.1 200"), "over TLS 1.3 it is a tunnel as ever: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extended_master_secret_there_is_no_tls_1_2() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).settings(SETTING).start();
    let alice = gateway.alice();
    let run = |priority: &str| {
        let mut command = Command::new("timeout");
        command.args(["10", "gnutls-cli", "--no-ca-verification", "--priority", priority]);
        command.args(["--sni-hostname", &gateway.name("acme")]);
        for option in ["--x509certfile", "--x509keyfile"] {
            command.args([option, &alice.file("client.pem")]);
        }
        let (ip, port) = (gateway.address().ip().to_string(), gateway.address().port());
        command.args(["--port", &port.to_string(), &ip]);
        client(command, REQUEST)
    };
    let with = run("NORMAL:-VERS-ALL:+VERS-TLS1.2").await;
    assert!(with.contains("Handshake was completed"), "{with}");
    let without = run("NORMAL:-VERS-ALL:+VERS-TLS1.2:%NO_SESSION_HASH").await;
    assert!(!without.contains("Handshake was completed"), "{without}");
}
