#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Counts the writes that carry something, each of them a system call on a socket.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn configs() -> (TlsAcceptor, TlsConnector) {
    let signed = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = signed.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

/// Uploads `pieces` of 16 KiB over a transport that holds `room` bytes. Gives the bytes that the server
/// read, and how many writes the client's transport saw after the handshake.
async fn upload(pieces: usize, room: usize) -> (usize, usize) {
    let (acceptor, connector) = configs();
    let (near, far) = duplex(room);
    let serving = tokio::spawn(async move {
        let tls = acceptor.accept(far).await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let mut server = builder.handshake::<_, Bytes>(tls).await.unwrap();
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        let reading = tokio::spawn(async move {
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                read += data.len();
            }
            respond.send_response(http::Response::new(()), true).unwrap();
            read
        });
        tokio::select! {
            read = reading => read.unwrap(),
            _ = server.accept() => 0,
        }
    });
    let writes = Arc::new(AtomicUsize::new(0));
    let name = ServerName::try_from("a.test").unwrap();
    let counted = Counted(near, Arc::clone(&writes));
    let tls = connector.connect(name, counted).await.unwrap();
    let (io, turns) = Gather::new(Box::new(tls));
    let (mut requests, driver) = h2::client::handshake(io).await.unwrap();
    let driving = tokio::spawn(turns.run(async move {
        driver.await.ok();
    }));
    // The windows come first, so that all pieces can leave in one turn.
    requests = requests.ready().await.unwrap();
    let (_, mut settled) = requests.send_request(http::Request::new(()), false).unwrap();
    settled.reserve_capacity(pieces * 16 * 1024);
    while settled.capacity() < pieces * 16 * 1024 {
        std::future::poll_fn(|context| settled.poll_capacity(context)).await.unwrap().unwrap();
    }
    tokio::task::yield_now().await;
    let before = writes.load(Ordering::Relaxed);
    for piece in 1..=pieces {
        let data = Bytes::from(vec![7; 16 * 1024 - 9]);
        settled.send_data(data, piece == pieces).unwrap();
    }
    let read = serving.await.unwrap();
    driving.abort();
    (read, writes.load(Ordering::Relaxed) - before)
}

#[tokio::test]
async fn the_frames_of_one_turn_leave_in_one_write() {
    let (read, writes) = upload(4, 1 << 20).await;
    assert_eq!(read, 4 * (16 * 1024 - 9));
    // One for the four frames, and one for what acknowledges, if it came then.
    assert!(writes <= 2, "{writes} writes");
}

#[tokio::test]
async fn what_does_not_fit_the_transport_leaves_as_it_drains() {
    let (read, writes) = upload(20, 4 * 1024).await;
    assert_eq!(read, 20 * (16 * 1024 - 9));
    assert!(writes >= 80, "{writes} writes of 4 KiB at most");
}
