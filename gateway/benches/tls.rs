//! What interception costs in CPU time: a leaf, a handshake on each side, a judgement. Prints,
//! asserts nothing.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::tls::{
    Authority, OriginTls, OriginTlsSettings, OwnAuthorities, RootSource, Roots, accept,
    client_facing,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use zeroize::Zeroizing;

const LEAFS: u32 = 2_000;
const HANDSHAKES: u32 = 1_000;

fn authority() -> (Authority, rustls::pki_types::CertificateDer<'static>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = Zeroizing::new(ca.key().serialize_der());
    (Authority::new(ca.der().clone(), &key).unwrap(), ca.der().clone())
}

/// CPU time of this thread, on which everything here runs: other load on the machine does not
/// count.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

fn show(what: &str, took: Duration, count: u32) {
    println!("{what:<44} {:>9.1} µs", took.as_secs_f64() * 1e6 / f64::from(count));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (authority, ca) = authority();
    let now = SystemTime::now();
    authority.leaf("warm.test", now).await.unwrap();

    let began = cpu();
    for number in 0..LEAFS {
        authority.leaf(&format!("n{number}.test"), now).await.unwrap();
    }
    show("mint a leaf", cpu() - began, LEAFS);

    let leaf = authority.leaf("a.test", now).await.unwrap();
    let began = cpu();
    for _ in 0..LEAFS {
        authority.leaf("a.test", now).await.unwrap();
    }
    show("find a leaf", cpu() - began, LEAFS);

    let alpn: [&[u8]; 2] = [b"h2", b"http/1.1"];
    let (roots, _) = Roots::load(RootSource::None, &[ca], now);
    let roots = Arc::new(roots);
    let settings = || OriginTlsSettings {
        roots: Arc::clone(&roots),
        own: Arc::new(OwnAuthorities::new()),
        revoked: Arc::from([]),
    };
    let name = ServerName::try_from("a.test").unwrap();
    let shared = OriginTls::new(settings()).unwrap();
    for (what, fresh) in [
        ("both sides of a full handshake, judged anew", true),
        ("both sides of a resumed handshake", false),
    ] {
        let began = cpu();
        for _ in 0..HANDSHAKES {
            let own = fresh.then(|| OriginTls::new(settings()).unwrap());
            let origin = own.as_ref().unwrap_or(&shared);
            let (near, far) = duplex(64 * 1024);
            let (client, server) = tokio::join!(
                origin.connect(near, &name, &alpn),
                accept(far, client_facing(&leaf, &alpn)),
            );
            let ((mut client, _), (mut server, _)) = (client.unwrap(), server.unwrap());
            // The tickets come with the first bytes.
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
        }
        show(what, cpu() - began, HANDSHAKES);
    }
}
