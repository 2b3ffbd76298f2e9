//! TLS of the tunnel's own port under attack, and whose identity counts (CT-10 to CT-24, TA-02 to
//! TA-17).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use serde_json::{Value, json};
use tests::client::hostile::{self, Ending, Handshake};
use tests::client::tls;
use tests::pki::{Chain, client_chain};
use tests::{Gateway, Leg, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const WAIT: Duration = Duration::from_secs(15);

/// A tunnel's TLS from a source address of its own.
async fn dial(
    gateway: &Gateway,
    from: Ipv4Addr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(gateway.address()).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

fn config(gateway: &Gateway, client: &Chain, alpn: &str) -> Arc<ClientConfig> {
    let mut config = tls::config(&gateway.alice().tunnel_ca_pem, Some(client), &[alpn]).unwrap();
    config.enable_early_data = true;
    Arc::new(config)
}

/// A whole ClientHello that asks for `name`, as the bytes on the wire.
fn hello(name: &str) -> Vec<u8> {
    let config = tls::config("", None, &["h2"]).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// Replaces the entries of a hello's server name list by others of the same length in all.
fn with_names(mut hello: Vec<u8>, old: &str, entries: &[(u8, &[u8])]) -> Vec<u8> {
    let at = hello.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    let mut list = Vec::new();
    for (kind, name) in entries {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(*name);
    }
    assert_eq!(list.len(), 3 + old.len(), "the lengths around it stay true");
    hello[at - 3..at + old.len()].copy_from_slice(&list);
    hello
}

fn is_refusal(ending: &Ending) -> bool {
    // An alert record, or nothing, and the end: no ServerHello.
    matches!(ending, Ending::Closed(bytes) if bytes.first().is_none_or(|kind| *kind == 21))
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_10_odd_server_names_are_canonical_or_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let good = gateway.name("acme");
    let (one, other) = (good.as_bytes(), b"gateway-nobody.pop.test".as_slice());
    let room = "x".repeat(one.len() + 3 + other.len());
    let plain = "fifteen.letters";
    let nul = [&one[..one.len() - 5], b"\0", &one[one.len() - 4..]].concat();
    // The control: rewritten with the same name it is answered with a ServerHello.
    let mut control = TcpStream::connect(gateway.address()).await.unwrap();
    control.write_all(&with_names(hello(&good), &good, &[(0, one)])).await.unwrap();
    assert_eq!(control.read_u8().await.unwrap(), 22, "a handshake record");
    let odd = [
        ("two names", with_names(hello(&room), &room, &[(0, one), (0, other)])),
        ("two names, ours last", with_names(hello(&room), &room, &[(0, other), (0, one)])),
        ("NUL", with_names(hello(&good), &good, &[(0, &nul)])),
        ("another kind of name", with_names(hello(&good), &good, &[(7, one)])),
        ("an address", with_names(hello(plain), plain, &[(0, b"192.168.100.100")])),
        ("a space", with_names(hello(&good), &good, &[(0, good.replace("pop", "p p").as_bytes())])),
    ];
    for (what, bytes) in odd {
        let ending = hostile::send_first(gateway.address(), &bytes, WAIT).await.unwrap();
        assert!(is_refusal(&ending), "{what}: {ending:?}");
    }
    // In capitals it is the same name, for the tenant and in the record.
    let alice = gateway.alice();
    let shouted = config(&gateway, &alice.chain, "h2");
    let upper = good.to_ascii_uppercase();
    dial(&gateway, Ipv4Addr::LOCALHOST, &upper, &shouted).await.unwrap();
    let event = gateway.await_event("acme", |event| event["type"] == "session").await;
    assert_eq!((&event["user"], &event["tenant"]), (&"alice@acme.test".into(), &"acme".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_11_a_tunnel_speaks_what_was_agreed_and_nothing_else() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let (alice, name) = (gateway.alice(), gateway.name("acme"));
    let knock = |alpn: &'static [&'static str], then: &'static [u8]| Handshake {
        address: gateway.address(),
        sni: Some(&name),
        verify: &name,
        trusted_pem: &alice.tunnel_ca_pem,
        client: Some(&alice.chain),
        alpn,
        then,
        wait: WAIT,
    };
    let unknown = knock(&["smtp", "acme/9"], b"").run().await.unwrap();
    assert!(
        matches!(&unknown, Ending::Alert(text) if text.contains("NoApplicationProtocol")),
        "{unknown:?}"
    );
    let http1 = b"CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n";
    let crossed = knock(&["h2"], http1).run().await.unwrap();
    match crossed {
        Ending::Closed(bytes) => assert!(!bytes.starts_with(b"HTTP/1.1"), "read as HTTP/1.1"),
        Ending::Alert(_) => {}
        Ending::StillOpen => panic!("HTTP/1.1 on an HTTP/2 tunnel is waited for"),
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let crossed = knock(&["http/1.1"], preface).run().await.unwrap();
    match crossed {
        Ending::Closed(bytes) => {
            assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 "), "{bytes:?}")
        }
        Ending::Alert(_) => {}
        Ending::StillOpen => panic!("HTTP/2 on an HTTP/1.1 tunnel is waited for"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_12_ct_17_ta_10_ti_01_tunnels_give_no_tickets_so_nothing_is_resumed() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let alice = gateway.alice();
    // One memory of sessions for all connections, as a client has that wants to resume.
    let config = config(&gateway, &alice.chain, "h2");
    let backup = gateway.name("acme").replace("gateway-", "gateway-backup-");
    for name in [gateway.name("acme"), gateway.name("acme"), backup, gateway.name("globex")] {
        let asked = ServerName::try_from(name.clone()).unwrap();
        let mut next = ClientConnection::new(Arc::clone(&config), asked).unwrap();
        assert!(next.early_data().is_none(), "early data could be sent to {name}");
        let mut stream = dial(&gateway, Ipv4Addr::LOCALHOST, &name, &config).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "{name}");
        // The gateway's SETTINGS come after whatever tickets it has; of another tenant, an alert.
        let mut bytes = [0; 9];
        let read = stream.read_exact(&mut bytes).await;
        assert_eq!(read.is_ok(), !name.contains("globex"), "{name}: {read:?}");
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0, "{name}");
    }
    gateway.await_refusal("globex", "foreign_certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_13_a_flood_of_key_updates_ends_the_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let config = config(&gateway, &gateway.alice().chain, "h2");
    let name = gateway.name("acme");
    let mut stream = dial(&gateway, Ipv4Addr::LOCALHOST, &name, &config).await.unwrap();
    let flood = async {
        for _ in 0..100_000 {
            stream.get_mut().1.refresh_traffic_keys().unwrap();
            if stream.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
    };
    tokio::time::timeout(WAIT * 2, flood).await.expect("the tunnel outlived the flood");
    let after = gateway.browser().get(&origin.url("site.test", "/hello")).await;
    assert_eq!(after.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_14_empty_records_and_warnings_before_the_hello_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let empty = [22, 3, 1, 0, 0].repeat(20_000);
    let warnings = [21, 3, 1, 0, 2, 1, 90].repeat(20_000);
    for flood in [empty, warnings] {
        let ending = hostile::send_first(gateway.address(), &flood, WAIT).await.unwrap();
        assert!(is_refusal(&ending), "{ending:?}");
    }
    gateway.await_refusal("_pop", "bad_first_bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_16_client_chains_are_short_and_small() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let (alice, name) = (gateway.alice(), gateway.name("acme"));
    let control = gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap();
    assert_eq!(control.status, 200);
    let before = gateway.resident_bytes();
    // A hundred certificates, and ten megabytes of them.
    for copies in [100, 10_000_000 / alice.chain.certificates[0].len()] {
        let mut chain = alice.chain.clone();
        let copy = chain.certificates[0].clone();
        chain.certificates.extend(std::iter::repeat_n(copy, copies));
        let handshake = Handshake {
            address: gateway.address(),
            sni: Some(&name),
            verify: &name,
            trusted_pem: &alice.tunnel_ca_pem,
            client: Some(&chain),
            alpn: &["http/1.1"],
            then: b"CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n",
            wait: WAIT,
        };
        let ending = handshake.run().await.unwrap();
        let opened = matches!(&ending, Ending::Closed(bytes) if bytes.starts_with(b"HTTP/1.1 200"));
        assert!(!opened && ending != Ending::StillOpen, "{copies}: {ending:?}");
    }
    gateway.await_refusal("acme", "bad_certificate").await;
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "ten megabytes were read: {grown} bytes more are held");
}

#[tokio::test(flavor = "multi_thread")]
async fn ct_24_the_hybrid_key_exchange_is_agreed_and_recorded() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let got = gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap();
    assert_eq!(got.status, 200);
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["tunnel_kx"], "X25519MLKEM768", "{event}");
}

/// An identity provider with one Ed25519 key.
pub(crate) struct Issuer(rcgen::KeyPair);

impl Issuer {
    pub(crate) fn new() -> Self {
        Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    pub(crate) fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key_raw());
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "k1", "x": x });
        json!({ "keys": [key] }).to_string()
    }

    pub(crate) fn token(&self, expires: u64) -> String {
        let claims = json!({
            "iss": "https://login.acme.test/", "aud": "sluice", "exp": expires,
            "email": "alice@acme.test", "device": "laptop-1",
        });
        let header = json!({ "alg": "EdDSA", "kid": "k1" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let key = PrivatePkcs8KeyDer::from(self.0.serialize_der());
        let key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&key).unwrap();
        let signer = key.choose_scheme(&[rustls::SignatureScheme::ED25519]).unwrap();
        let signature = signer.sign(signed.as_bytes()).unwrap();
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_02_a_tunnel_ends_with_the_token_that_opened_it() {
    let origin = Origin::start().await;
    let issuer = Issuer::new();
    let gateway = Gateway::build(&origin)
        .settings(
            "identity: { require: token, jwks: keys.json, issuer: \"https://login.acme.test/\", \
             audience: sluice, leeway_s: 0 }\n",
        )
        .configure();
    gateway.write("tenants/acme/keys.json", &issuer.keys());
    gateway.restart();
    let authority = format!("site.test:{}", origin.port());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for leg in [Leg::Http1, Leg::Http2] {
        let browser = gateway.browser().leg(leg).with_certificate(None);
        let open = async |token: &str| {
            let mut tunnel = browser.tunnel().await.unwrap();
            let shown = [("proxy-authorization", token)];
            tunnel.open_with(&authority, &shown).await.map(|stream| (tunnel, stream))
        };
        let refused = open("Bearer nonsense").await.err().and_then(|error| error.status());
        assert_eq!(refused, Some(407));
        let expired = open(&issuer.token(now - 1)).await.err().and_then(|error| error.status());
        assert_eq!(expired, Some(407), "the answer does not tell why");
        let soon = SystemTime::now() + Duration::from_secs(3);
        let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (_tunnel, stream) = open(&issuer.token(soon)).await.unwrap();
        let mut inner = browser.inner(stream, &authority).await.unwrap();
        assert_eq!(inner.get("/hello").await.unwrap().status, 200, "{leg:?}");
        // An answer that never comes is cut off when the token expires.
        let cut = tokio::time::timeout(WAIT, inner.get("/slow/60000")).await;
        assert!(cut.expect("the stream outlived its token").is_err());
    }
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!((&event["user"], &event["device"]), (&"alice@acme.test".into(), &"laptop-1".into()));
    gateway.await_refusal("acme", "bad_token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_02_a_tunnel_ends_with_the_certificate_that_opened_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let read = |end: &str| gateway.read(&format!("tenants/acme/ca/device.{end}"));
    let (pem, key) = (read("pem"), read("key"));
    let chain = client_chain("alice@acme.test", "laptop-1", Some((&pem, &key)), |params| {
        params.not_after = (SystemTime::now() + Duration::from_secs(3)).into();
    });
    let browser = gateway.browser().with_certificate(Some(chain));
    let mut tunnel = browser.tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open(&authority).await.unwrap();
    let mut inner = browser.inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    tunnel.ended(WAIT).await.expect("the tunnel outlived its certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_12_guessed_tokens_stop_nobody_and_fill_no_log() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let right = gateway.browser().explicit_client().unwrap();
    let authority = format!("site.test:{}", origin.port());
    for round in 0..200 {
        let credentials = Some(format!("Bearer guess-{round}"));
        let guess = tests::Explicit { credentials, ..right.clone() }.open(&authority).await;
        assert_eq!(guess.err().and_then(|error| error.status()), Some(407));
        if round % 50 == 0 {
            right.open(&authority).await.unwrap();
        }
    }
    right.open(&authority).await.unwrap();
    gateway.browser().get(&origin.url("site.test", "/last")).await.unwrap();
    gateway.await_transaction("acme", "/last").await;
    let events = gateway.events("acme").await.unwrap();
    let refused: Vec<_> = events.iter().filter(|event| event["error"] == "bad_token").collect();
    assert!((30..100).contains(&refused.len()), "{} records", refused.len());
    assert!(refused.iter().all(|event| event["access_method"] == "explicit"), "{:?}", refused[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_16_a_device_in_two_places_is_two_sessions() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let config = config(&gateway, &gateway.alice().chain, "h2");
    let mut held = Vec::new();
    for place in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)] {
        held.push(dial(&gateway, place, &gateway.name("acme"), &config).await.unwrap());
        let event = gateway
            .await_event("acme", |event| {
                event["type"] == "session" && event["client_ip"] == place.to_string()
            })
            .await;
        assert_eq!((&event["state"], &event["device"]), (&"open".into(), &"laptop-1".into()));
    }
    let live = gateway.admin_get("/v1/sessions?tenant=acme").await.unwrap().text();
    assert!(live.contains("127.0.0.1") && live.contains("127.0.0.2"), "{live}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ta_17_the_tunnels_identity_wins_over_a_streams_claim() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let bob = gateway.enroll("acme", "bob@acme.test", "laptop-2");
    let bobs = gateway.browser_of(&bob).explicit_client().unwrap().credentials.unwrap();
    let authority = format!("site.test:{}", origin.port());
    for (leg, path) in [(Leg::Http1, "/over-one"), (Leg::Http2, "/over-two")] {
        let browser = gateway.browser().leg(leg);
        let mut tunnel = browser.tunnel().await.unwrap();
        let stream = tunnel.open_with(&authority, &[("proxy-authorization", &bobs)]).await.unwrap();
        let mut inner = browser.inner(stream, &authority).await.unwrap();
        assert_eq!(inner.get(path).await.unwrap().status, 200);
        let event = gateway.await_transaction("acme", path).await;
        assert_eq!(
            (&event["user"], &event["device"]),
            (&"alice@acme.test".into(), &"laptop-1".into())
        );
        assert!(!event.to_string().contains("bob"), "{event}");
    }
    assert!(origin.requests().iter().all(|seen| seen.field("proxy-authorization").is_none()));
}
