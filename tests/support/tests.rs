//! The kit against itself: the inner client talks straight to the origin.

use std::sync::Arc;

use crate::client::message::Body;
use crate::client::tls;
use crate::origin::openssl::OpensslOrigin;
use crate::{Fault, Http, Inner, Origin, Request};

async fn direct(origin: &Origin, name: &str, http: Http) -> Result<Inner, crate::ClientError> {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", origin.port())).await.unwrap();
    let config = tls::config(&origin.pki().root_pem(), None, &[http.alpn()]).unwrap();
    Inner::tls(Box::new(tcp), &format!("{name}:{}", origin.port()), Arc::new(config)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_origin_agree_over_both_versions() {
    let origin = Origin::start().await;
    for http in [Http::One, Http::Two] {
        let mut inner = direct(&origin, "site.test", http).await.unwrap();
        assert_eq!(inner.get("/hello").await.unwrap().status, 200);
        let got = inner.get("/trailers").await.unwrap();
        assert_eq!((got.text().as_str(), got.trailer("x-checksum")), ("body\n", Some("abc")));
        let got = inner.get("/hints").await.unwrap();
        assert_eq!(got.early.len(), 1, "{http:?}");
        for body in [Body::Fill(300_000), Body::FillUnsized(300_000)] {
            let got = inner.send(Request::new("POST", "/upload").body(body)).await.unwrap();
            assert_eq!(got.json()["bytes"], 300_000);
        }
        let request = Request::post("/echo", "data").trailer("x-sum", "1").field("x-a", "b");
        let got = inner.send(request).await.unwrap();
        assert_eq!(got.json()["trailers"][0][1], "1");
        assert_eq!(got.json()["body_sha256"], crate::sha256_hex(b"data"));
        assert_eq!(inner.get("/chunked/100000").await.unwrap().length, 100_000);
        assert_eq!(inner.get("/bytes/5000000").await.unwrap().length, 5_000_000);
        assert_eq!(inner.send(Request::new("HEAD", "/bytes/10")).await.unwrap().length, 0);
        assert_eq!(inner.get("/status/204").await.unwrap().status, 204);
        assert!(inner.get("/reset").await.is_err());
    }
    assert_eq!(origin.connections().len(), 2);
    assert_eq!(origin.last("/echo").unwrap().field("x-a"), Some("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_one_a_strict_client_refuses() {
    // rustls knows neither public suffixes nor the expiry of roots: those two are the gateway's.
    let faults = [
        Fault::SelfSigned,
        Fault::UntrustedRoot,
        Fault::TamperedSignature,
        Fault::FakeIssuer,
        Fault::NoSan,
        Fault::NameMismatch,
        Fault::WildcardTooShallow,
        Fault::WildcardAlone,
        Fault::Expired,
        Fault::ExpiredIntermediate,
        Fault::NotYetValid,
        Fault::IssuerNotCa,
        Fault::PathLength,
        Fault::NameConstraints,
        Fault::UnknownCriticalExtension,
        Fault::ClientUsageOnly,
        Fault::WeakSha1,
        Fault::IncompleteChain,
    ];
    for fault in faults {
        let origin = Origin::build().fault("x.bad.test", fault).start().await;
        direct(&origin, "good.test", Http::One).await.unwrap();
        let refused = direct(&origin, "x.bad.test", Http::One).await;
        assert!(refused.is_err(), "{fault:?} was accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openssl_origin_listens() {
    let pki = crate::Pki::new();
    let weak = OpensslOrigin::start_rsa(&pki, "weak.test", 1_024);
    let old = OpensslOrigin::start(&pki, "old.test", &["-tls1_1"]);
    assert_ne!(old.port(), weak.port());
}
