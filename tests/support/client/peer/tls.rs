//! The TCP port of the small gateway: OpenConnect's bootstrap and its TLS channel.

use std::sync::Arc;

use bytes::BytesMut;
use gateway_proto::openconnect::frame::{Frame, Kind, put_cstp, take_cstp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{CLIENT, Command, Shared, Way};
use crate::client::carrier::lock;
use crate::client::packet::QUEUE_PACKETS;
use crate::pki::Chain;

pub(super) async fn serve(
    listener: TcpListener,
    clients_pem: String,
    chain: Chain,
    shared: Arc<Shared>,
) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.certificates, chain.key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(tcp).await {
                lock(&shared.seen).certificates += 1;
                connection(stream, &shared).await;
            }
        });
    }
}

/// The head of a request; whatever follows stays in `buffer`.
async fn head(stream: &mut TlsStream<TcpStream>, buffer: &mut BytesMut) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = buffer.split_to(at + 4);
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn connection(mut stream: TlsStream<TcpStream>, shared: &Shared) {
    let mut buffer = BytesMut::new();
    let Some(head) = head(&mut stream, &mut buffer).await else { return };
    if head.starts_with("POST / ") {
        let cookie = format!("cookie-{}", crate::unique());
        lock(&shared.seen).posts += 1;
        lock(&shared.cookies).push(cookie.clone());
        let body = "<config-auth client=\"vpn\" type=\"complete\"><version who=\"sg\">0.1(1)</version>\
                    <auth id=\"success\"><title>SSL VPN Service</title></auth></config-auth>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\
             Set-Cookie: webvpncontext=x; Secure\r\nSet-Cookie: webvpn={cookie}; Secure; HttpOnly\r\n\
             X-Transcend-Version: 1\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.ok();
        // The client may keep the connection or leave.
        stream.read_buf(&mut buffer).await.ok();
        return;
    }
    lock(&shared.seen).connects.push(head.clone());
    let holds = lock(&shared.cookies).iter().any(|it| head.contains(&format!("webvpn={it}\r\n")));
    if !holds {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refusal.as_bytes()).await.ok();
        return;
    }
    let (mut app_id, mut key) = ([0; 32], [0; 32]);
    aws_lc_rs::rand::fill(&mut app_id).unwrap();
    let label = b"EXPORTER-openconnect-psk";
    stream.get_ref().1.export_keying_material(&mut key, label, None).unwrap();
    lock(&shared.keys).insert(app_id, key);
    let app_id: String = app_id.iter().map(|byte| format!("{byte:02X}")).collect();
    let answer = format!(
        "HTTP/1.1 200 CONNECTED\r\nX-CSTP-Version: 1\r\nX-CSTP-Address: {CLIENT}\r\n\
         X-CSTP-Netmask: 255.255.255.255\r\nX-CSTP-DNS: 192.0.2.1\r\nX-CSTP-MTU: 1380\r\n\
         X-CSTP-DPD: 1\r\nX-CSTP-Keepalive: 1\r\nX-DTLS-App-ID: {app_id}\r\nX-DTLS-Port: {}\r\n\
         X-DTLS-CipherSuite: PSK-NEGOTIATE\r\nX-DTLS-MTU: 1390\r\nX-DTLS-DPD: 30\r\n\r\n",
        shared.port
    );
    stream.write_all(answer.as_bytes()).await.ok();
    tunnel(stream, buffer, shared).await;
}

async fn tunnel(mut stream: TlsStream<TcpStream>, mut buffer: BytesMut, shared: &Shared) {
    let (to_client, mut frames) = mpsc::channel(QUEUE_PACKETS);
    let mut commands = shared.commands.subscribe();
    *lock(&shared.way) = Some(Way::Tls(to_client.clone()));
    loop {
        let mut out = BytesMut::new();
        buffer.reserve(64 * 1024);
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                while let Ok(Some(frame)) = take_cstp(&mut buffer) {
                    take(&frame, &to_client, shared);
                }
                // One frame in one record, so a read never ends within one.
                lock(&shared.seen).torn += usize::from(!buffer.is_empty());
            }
            Some((kind, payload)) = frames.recv() => put_cstp(kind, &payload, &mut out),
            Ok(Command::Goodbye) = commands.recv() => {
                put_cstp(Kind::Disconnect, b"\xb0drain", &mut out);
            }
        }
        if !out.is_empty() && stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn take(frame: &Frame, to_client: &mpsc::Sender<(Kind, Vec<u8>)>, shared: &Shared) {
    match frame.kind {
        Kind::Data => {
            *lock(&shared.way) = Some(Way::Tls(to_client.clone()));
            shared.to_stack.try_send(frame.payload.to_vec()).ok();
        }
        Kind::DpdRequest => {
            to_client.try_send((Kind::DpdResponse, frame.payload.to_vec())).ok();
        }
        Kind::Disconnect => lock(&shared.seen).goodbyes += 1,
        _ => {}
    }
}
