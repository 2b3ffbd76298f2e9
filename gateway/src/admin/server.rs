//! Listens and answers; HTTPS and a token where configured.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{dataexport, events, explain, reply, routes};
use crate::event::EventLog;
use crate::serve::pop::Pop;
use crate::snapshot::GatewayUnit;
use crate::socket::Accepting;

/// Connections at once: scrapers, a console and some pulls; more wait.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must be whole by then.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// What every route sees.
pub struct Admin {
    pub(super) pop: Arc<Pop>,
    pub(super) events: Arc<EventLog>,
    pub(super) since: SystemTime,
    /// Slots of pulls that wait for events.
    pub(super) waiting: Semaphore,
}

impl Admin {
    #[must_use]
    pub fn new(pop: Arc<Pop>, log: Arc<EventLog>, since: SystemTime) -> Self {
        let waiting = Semaphore::new(events::WAITING_MAX);
        Self { pop, events: log, since, waiting }
    }

    /// Serves on `listener` until the task is aborted.
    ///
    /// # Errors
    /// Where the configured certificate or key cannot be used.
    pub fn serve(self, listener: TcpListener) -> Result<JoinHandle<()>, String> {
        let gateway = self.pop.snapshot.gateway();
        let tls = acceptor(&gateway)?;
        let admin = Arc::new(self);
        Ok(tokio::spawn(async move {
            let accepting = Accepting::new(listener);
            let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let (stream, _) = accepting.next().await;
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                let (admin, tls) = (Arc::clone(&admin), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => admin.connection(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                admin.connection(stream).await;
                            }
                        }
                    }
                    drop(slot);
                });
            }
        }))
    }

    async fn connection<Io>(self: Arc<Self>, io: Io)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(admin.answer(request).await) }
        });
        // How a caller ends its connection concerns nobody.
        drop(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .serve_connection(TokioIo::new(io), service)
                .await,
        );
    }

    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> hyper::Response<Full<Bytes>> {
        if dataexport::is_path(request.uri().path()) {
            return dataexport::answer(self, &request).await;
        }
        let gateway = self.pop.snapshot.gateway();
        if gateway.admin_token_required() && !shows_token(&gateway, &request) {
            return reply::problem(401, "a bearer token is required");
        }
        if request.method() == hyper::Method::POST && request.uri().path() == "/v1/explain" {
            return explain::answer(self, request.into_body()).await;
        }
        let reads = matches!(*request.method(), hyper::Method::GET | hyper::Method::HEAD);
        if reads && request.uri().path() == "/v1/events" {
            let query = routes::query(request.uri().query().unwrap_or(""));
            return events::answer(self, query).await;
        }
        routes::route(&self, &request)
    }
}

fn shows_token(gateway: &GatewayUnit, request: &hyper::Request<Incoming>) -> bool {
    let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("Bearer "));
    token.is_some_and(|token| gateway.admin_token_is(token.trim()))
}

fn acceptor(gateway: &GatewayUnit) -> Result<Option<TlsAcceptor>, String> {
    let Some(tls) = &gateway.config.admin.tls else { return Ok(None) };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.cert)
        .map_err(|error| format!("{}: {error}", tls.cert.display()))?
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", tls.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| format!("{}: {error}", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
