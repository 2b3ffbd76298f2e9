//! Fetches the certificate that an origin forgot to send, where the tenant wants that: browsers do, so
//! such sites work without a gateway.
//!
//! The URL stands in the origin's certificate, so a stranger wrote it: it passes the destination guard
//! and the tenant's connect gate like a client's, carries nothing, and gives up soon (CASES SD-22).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;
use policy::verdict::DialPermit;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::flow::Flow;
use super::gates;
use super::reach::{self, Target};
use crate::exchange::{Frame, Length, Request, Scheme, Sink, Source, Version};
use crate::origin::{OriginIo, http1::Http1};
use crate::snapshot::Tenant;
use crate::tls::{OriginFacts, OriginTls};

/// One missing certificate is usual; more than two mean that something else is wrong.
const FETCHES_MAX: usize = 2;
/// The client waits for it, and the origin's handshake has been done.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Ten times what one certificate needs.
const CERTIFICATE_BYTES_MAX: usize = 32 * 1024;
/// What was fetched, or could not be, is not asked for again for this long.
pub(super) const FETCHED_TIME: Duration = Duration::from_secs(300);
/// URLs remembered per tenant.
pub(super) const FETCHED_MAX: u64 = 256;

/// Completes what `stream`'s origin sent, if it lacks an issuer, and judges it again.
pub(super) async fn complete(
    flow: &Flow,
    tenant: &Tenant,
    tls: &OriginTls,
    stream: &TlsStream<TcpStream>,
    name: &ServerName<'_>,
    facts: &mut OriginFacts,
) {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    for _ in 0..FETCHES_MAX {
        if !tenant.config.origin.fetch_intermediates || !facts.certificate.lacks_issuer() {
            return;
        }
        let Some(url) = tls.issuer_location(chain) else { return };
        // Asked for this user; what is fetched then is the same for all of the tenant.
        let Some(place) = Place::of(flow, tenant, &url).await else { return };
        let fetching =
            Box::pin(async { timeout(FETCH_TIME_MAX, get(flow, tenant, &place)).await.ok()? });
        // Whoever else needs it meanwhile waits for the same answer.
        let fetched = flow.tenancy.issuers.get_with(url.clone().into(), fetching).await;
        let certificate = fetched.and_then(|bytes| certificate(&bytes));
        match certificate.and_then(|der| tls.learn_issuer(chain, name, der)) {
            Some(certificate) => facts.certificate = certificate,
            None => {
                tracing::debug!(host = %flow.host, "no issuer at the place that its certificate names");
                return;
            }
        }
    }
}

/// In DER as it should be (RFC 5280 section 4.2.2.1), or in PEM as it happens.
fn certificate(bytes: &[u8]) -> Option<CertificateDer<'static>> {
    let pem = CertificateDer::pem_slice_iter(bytes).next().and_then(Result::ok);
    Some(pem.unwrap_or_else(|| CertificateDer::from(bytes.to_vec())))
}

/// Where a certificate may be fetched.
struct Place {
    host: Host,
    target: Target,
    path: Bytes,
    permit: DialPermit,
}

impl Place {
    /// `None` where this user may not go there, or only after a page that nobody would see.
    async fn of(flow: &Flow, tenant: &Tenant, url: &str) -> Option<Self> {
        let url: http::Uri = url.parse().ok()?;
        let host = Host::parse(url.host()?.as_bytes()).ok()?;
        let target = Target {
            scheme: Scheme::Http,
            host: host.text(),
            port: url.port_u16().unwrap_or(80),
            pinned_address: None,
        };
        let permit = gates::connect_gate(flow, tenant, &host, &target, false).await.ok()?;
        let path = url.path_and_query().map_or("/", |it| it.as_str()).to_owned().into();
        Some(Self { host, target, path, permit })
    }
}

async fn get(flow: &Flow, tenant: &Tenant, place: &Place) -> Option<Bytes> {
    let stream = reach::dial_aside(flow, tenant, &place.permit, &place.target).await.ok()?;
    let mut fields = Fields::new();
    fields.push("Connection", "close");
    let request = Request {
        version: Version::Http11,
        method: Bytes::from_static(b"GET"),
        scheme: Scheme::Http,
        host: place.host.clone(),
        port: place.target.port,
        target: place.path.clone(),
        fields,
        body: Length::None,
        upgrade: None,
        expects_continue: false,
    };
    let mut origin = Http1::new(OriginIo::Plain(stream));
    origin.start(&request).ok()?;
    std::future::poll_fn(|context| origin.poll_flush(context)).await.ok()?;
    let response = std::future::poll_fn(|context| origin.poll_response(context)).await.ok()?;
    if response.status != 200 {
        return None;
    }
    let mut body = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| origin.poll_frame(cx)).await.ok()? {
        let Frame::Data(data) = frame else { break };
        if body.len() + data.len() > CERTIFICATE_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&data);
    }
    Some(body.freeze())
}
