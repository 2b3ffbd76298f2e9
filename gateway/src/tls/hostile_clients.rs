//! What clients get that try to weaken, flood or replay the TLS they are shown.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::CertificateDer;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, HandshakeKind, RootCertStore,
    ServerConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::testing::*;
use super::*;

/// Between two turns of the server.
const TURN: Duration = Duration::from_millis(5);

const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a decrypted connection to `a.test` is served with.
async fn shown() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let (authority, ca) = authority("tenant");
    let leaf = authority.leaf("a.test", SystemTime::now()).await.unwrap();
    (client_facing(&leaf, &BOTH), ca)
}

/// What `openssl s_client` says of it, with `input` typed into it.
async fn s_client(arguments: &[&str], input: &str) -> String {
    let (config, _) = shown().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok((mut stream, _)) = accept(stream, config).await {
            let mut bytes = [0; 1024];
            // What the TLS layer has to say goes out with the next thing the gateway does: here at
            // once. It ends when the client does, or with the error that the client made.
            loop {
                tokio::select! {
                    read = stream.read(&mut bytes) => if !matches!(read, Ok(1..)) { break },
                    () = tokio::time::sleep(TURN) => stream.flush().await.unwrap_or_default(),
                }
            }
        }
    });
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", "a.test"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = run.await.unwrap();
    serving.await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn ct_02_ct_03_only_forward_secret_aead_suites_of_tls_1_2_and_1_3_are_spoken() {
    for version in ["-tls1", "-tls1_1"] {
        let said = s_client(&[version, "-cipher", "ALL:@SECLEVEL=0"], "").await;
        let told = ["alert protocol version", "alert handshake failure"];
        assert!(told.iter().any(|alert| said.contains(alert)), "{version}: {said}");
    }
    for weak in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-NULL-SHA"] {
        let weak = format!("{weak}:@SECLEVEL=0");
        let said = s_client(&["-tls1_2", "-cipher", &weak], "").await;
        assert!(said.contains("alert handshake failure"), "{weak}: {said}");
    }
    let said = s_client(&["-tls1_2"], "").await;
    assert!(said.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"), "{said}");
    for part in ["Compression: NONE", "Secure Renegotiation IS supported", "master secret: yes"] {
        assert!(said.contains(part), "no `{part}`: {said}");
    }
    let said = s_client(&["-tls1_3"], "").await;
    assert!(said.contains("Cipher is TLS_AES_"), "{said}");
}

#[tokio::test]
async fn ct_04_a_downgrade_to_tls_1_2_carries_its_mark() {
    let said = s_client(&["-tls1_2", "-msg"], "").await;
    let hello = said.split("ServerHello\n").nth(1).unwrap();
    let bytes: String = hello.lines().take_while(|line| line.starts_with(' ')).collect();
    // RFC 8446 section 4.1.3: the random ends so where a server of TLS 1.3 speaks 1.2.
    let bytes: String = bytes.split_whitespace().collect();
    assert!(bytes.contains("444f574e47524401"), "{bytes}");
    let said = s_client(&["-tls1_3", "-msg"], "").await;
    assert!(!said.split_whitespace().collect::<String>().contains("444f574e47524401"));
}

#[tokio::test]
async fn ct_05_renegotiation_is_refused() {
    let said = s_client(&["-tls1_2"], "R\n").await;
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
}

async fn connected(
    config: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> (TlsStream<DuplexStream>, tokio::task::JoinHandle<std::io::Result<Vec<u8>>>) {
    let (near, far) = duplex(64 * 1024);
    let config = Arc::clone(config);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = accept(far, config).await.unwrap();
        stream.write_all(b"hello").await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        Ok(all)
    });
    let connector = TlsConnector::from(Arc::clone(client));
    let mut stream = connector.connect(named("a.test"), near).await.unwrap();
    // Tickets come with the first bytes.
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    (stream, serving)
}

fn client(ca: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(suites::crypto())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = true;
    Arc::new(config)
}

#[tokio::test]
async fn ct_12_ct_17_two_tickets_at_most_and_none_is_good_for_early_data() {
    let (config, ca) = shown().await;
    let client = client(&ca);
    let (first, serving) = connected(&config, &client).await;
    assert!((1..=2).contains(&first.get_ref().1.tls13_tickets_received()));
    drop(first);
    // A client that just goes away is an error of its own here.
    serving.await.unwrap().ok();
    // What the next connection would send before the answer, if its ticket let it.
    let mut next = ClientConnection::new(Arc::clone(&client), named("a.test")).unwrap();
    assert!(next.early_data().is_none(), "early data is offered");
    let (again, _serving) = connected(&config, &client).await;
    assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn ti_02_a_ticket_dies_with_its_leaf() {
    let (authority, ca) = authority("tenant");
    let client = client(&ca);
    let now = SystemTime::now();
    let mut kinds = Vec::new();
    // Today's leaf has a key of its own, and with it ticket keys of its own.
    for day in [now - DAY, now - DAY, now] {
        let leaf = authority.leaf("a.test", day).await.unwrap();
        let config = client_facing(&leaf, &BOTH);
        let (stream, _serving) = connected(&config, &client).await;
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    use HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Some(Full), Some(Resumed), Some(Full)]);
}

#[tokio::test]
async fn ct_13_a_flood_of_key_updates_ends_the_connection() {
    let (config, ca) = shown().await;
    let (mut stream, serving) = connected(&config, &client(&ca)).await;
    let mut asked = 0;
    for _ in 0..100_000 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        asked += 1;
        if stream.flush().await.is_err() {
            break;
        }
        // The answer frees the pipe, and tells of the end.
        if serving.is_finished() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let error = serving.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("TooManyKeyUpdateRequests"), "{error}");
    assert!(asked < 1_000, "{asked} were read");
}

#[tokio::test]
async fn ct_14_a_flood_of_empty_records_ends_the_connection() {
    let (config, ca) = shown().await;
    let mut extracting = ClientConfig::clone(&client(&ca));
    extracting.enable_secret_extraction = true;
    let (stream, serving) = connected(&config, &Arc::new(extracting)).await;
    // Our own library writes no empty records, so they are sealed here.
    let (mut io, connection) = stream.into_inner();
    let secrets = connection.dangerous_extract_secrets().unwrap();
    let (first, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
        panic!("AES-128 is preferred");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
    let mut sent = 0;
    for number in first..first + 100_000 {
        // Application data of no bytes: its type, and the tag (RFC 8446 sections 5.2 and 5.3).
        let header = [23, 3, 3, 0, 17];
        let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
        for (to, from) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *to ^= from;
        }
        let mut body = vec![23];
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
        if io.write_all(&[&header[..], &body].concat()).await.is_err() || serving.is_finished() {
            break;
        }
        sent += 1;
        tokio::task::yield_now().await;
    }
    let error = serving.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("TooManyEmptyFragments"), "{error}");
    assert!(sent < 1_000, "{sent} were read");
}
