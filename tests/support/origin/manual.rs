//! An origin whose connections the test drives itself, to do what a well-behaved server does not.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Certificates, Origin, server_config};
use crate::BoxStream;

/// Listens with TLS, with certificates of another origin's CAs.
pub struct Manual {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// One connection that shook hands.
pub struct Accepted {
    pub stream: BoxStream,
    pub http2: bool,
}

impl Manual {
    /// Offers `alpn`; trusted by whoever trusts `origin`.
    pub async fn listen(origin: &Origin, alpn: &[&'static str]) -> Self {
        let pki = Arc::clone(origin.pki());
        let certificates = Certificates {
            pki: Arc::clone(&pki),
            faults: Default::default(),
            made: Default::default(),
        };
        let acceptor = TlsAcceptor::from(server_config(certificates, alpn, None, &pki));
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"), acceptor }
    }

    /// `https://name:port/path` of this origin.
    #[must_use]
    pub fn url(&self, name: &str, path: &str) -> String {
        let port = self.listener.local_addr().expect("an address").port();
        format!("https://{name}:{port}{path}")
    }

    /// The next connection; ones whose handshake fails are passed over.
    pub async fn accept(&self) -> Accepted {
        loop {
            let (stream, _) = self.listener.accept().await.expect("a connection");
            stream.set_nodelay(true).ok();
            let Ok(stream) = self.acceptor.accept(stream).await else { continue };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            return Accepted { stream: Box::new(stream), http2 };
        }
    }

    /// Serves every connection from now on with `handler`, which gets the connection's number.
    /// Connections that are not HTTP/2 are `other`'s.
    pub fn serve<Handle, Handled, Other, Done>(
        self,
        builder: h2::server::Builder,
        handler: Handle,
        other: Other,
    ) where
        Handle: Fn(usize, Request<RecvStream>, SendResponse<Bytes>) -> Handled,
        Handle: Send + Sync + 'static,
        Handled: Future<Output = ()> + Send + 'static,
        Other: Fn(usize, BoxStream) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let counted = AtomicUsize::new(0);
        tokio::spawn(async move {
            loop {
                let accepted = self.accept().await;
                let number = counted.fetch_add(1, Ordering::Relaxed);
                if !accepted.http2 {
                    tokio::spawn(other(number, accepted.stream));
                    continue;
                }
                let (builder, handler) = (builder.clone(), Arc::clone(&handler));
                tokio::spawn(async move {
                    let Ok(mut requests) = builder.handshake(accepted.stream).await else { return };
                    while let Some(Ok((request, respond))) = requests.accept().await {
                        tokio::spawn(handler(number, request, respond));
                    }
                });
            }
        });
    }
}
