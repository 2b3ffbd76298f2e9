//! The common client of tests: one device, one access method, one URL at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Gateway, Identity};
use crate::client::error::ClientError;
use crate::client::explicit::Explicit;
use crate::client::inner::{Http, Inner};
use crate::client::message::{Reply, Request};
use crate::client::quic::{QuicTo, QuicTunnel};
use crate::client::tls;
use crate::client::tunnel::{Leg, Tunnel, TunnelTo};
use crate::{BoxStream, pki::Chain};

/// Settings are values: a changed browser is a new one.
#[derive(Clone)]
pub struct Browser {
    address: SocketAddr,
    explicit_address: SocketAddr,
    gateway_name: String,
    identity: Identity,
    chain: Option<Chain>,
    leg: Leg,
    explicit: bool,
    offers: Vec<&'static str>,
}

impl Browser {
    pub(super) fn new(gateway: &Gateway, identity: &Identity) -> Self {
        Self {
            address: gateway.address(),
            explicit_address: gateway.explicit_address(),
            gateway_name: gateway.name(&identity.tenant),
            identity: identity.clone(),
            chain: Some(identity.chain.clone()),
            leg: Leg::Http2,
            explicit: false,
            offers: vec![Http::Two.alpn()],
        }
    }

    /// The protocol towards the gateway.
    #[must_use]
    pub fn leg(mut self, leg: Leg) -> Self {
        self.leg = leg;
        self
    }

    /// The protocol inside.
    #[must_use]
    pub fn http(mut self, http: Http) -> Self {
        self.offers = vec![http.alpn()];
        self
    }

    /// What the inner ClientHello offers.
    #[must_use]
    pub fn offers(mut self, alpn: &[&'static str]) -> Self {
        self.offers = alpn.to_vec();
        self
    }

    /// Through the explicit listener, with the token of `proxy.url`.
    #[must_use]
    pub fn explicit(mut self) -> Self {
        self.explicit = true;
        self
    }

    /// Through this address (a relay before the gateway).
    #[must_use]
    pub fn through(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Asks for this tunnel name.
    #[must_use]
    pub fn asking_for(mut self, gateway_name: &str) -> Self {
        gateway_name.clone_into(&mut self.gateway_name);
        self
    }

    /// With this client certificate, or none.
    #[must_use]
    pub fn with_certificate(mut self, chain: Option<Chain>) -> Self {
        self.chain = chain;
        self
    }

    /// How to reach the gateway.
    ///
    /// # Errors
    /// Where certificate or CA cannot be used.
    pub fn tunnel_to(&self) -> Result<TunnelTo, ClientError> {
        let trusted = &self.identity.tunnel_ca_pem;
        let chain = self.chain.as_ref();
        TunnelTo::new(self.address, &self.gateway_name, self.leg, trusted, chain)
    }

    /// # Errors
    /// As [`TunnelTo::connect`].
    pub async fn tunnel(&self) -> Result<Tunnel, ClientError> {
        self.tunnel_to()?.connect().await
    }

    /// How to reach the gateway by QUIC.
    ///
    /// # Errors
    /// Where certificate or CA cannot be used.
    pub fn quic_to(&self) -> Result<QuicTo, ClientError> {
        let trusted = &self.identity.tunnel_ca_pem;
        QuicTo::new(self.address, &self.gateway_name, trusted, self.chain.as_ref())
    }

    /// # Errors
    /// As [`QuicTo::connect`].
    pub async fn quic(&self) -> Result<QuicTunnel, ClientError> {
        self.quic_to()?.connect().await
    }

    /// The explicit listener's client.
    ///
    /// # Errors
    /// Where there is no `proxy.url`.
    pub fn explicit_client(&self) -> Result<Explicit, ClientError> {
        let missing = || ClientError::Unsupported("enroll wrote no proxy.url".to_owned());
        let mut explicit =
            Explicit::from_url(self.identity.proxy_url.as_deref().ok_or_else(missing)?)?;
        explicit.address = self.explicit_address;
        Ok(explicit)
    }

    /// A stream to `host:port`.
    ///
    /// # Errors
    /// As [`Tunnel::open`].
    pub async fn open(&self, authority: &str) -> Result<BoxStream, ClientError> {
        if self.explicit {
            return self.explicit_client()?.open(authority).await;
        }
        self.tunnel().await?.open(authority).await
    }

    /// The inner TLS over a stream of one's own.
    ///
    /// # Errors
    /// As [`Inner::tls`].
    pub async fn inner(&self, stream: BoxStream, authority: &str) -> Result<Inner, ClientError> {
        let config = tls::config(&self.identity.intercept_ca_pem, None, &self.offers)?;
        Inner::tls(stream, authority, Arc::new(config)).await
    }

    /// An inner connection to the URL's origin.
    ///
    /// # Errors
    /// Of any step.
    pub async fn connect(&self, url: &str) -> Result<Inner, ClientError> {
        let url = Url::parse(url)?;
        let stream = self.open(&url.authority).await?;
        if url.secure {
            self.inner(stream, &url.authority).await
        } else {
            Ok(Inner::plain(stream, &url.authority))
        }
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// Of any step.
    pub async fn send(&self, url: &str, mut request: Request) -> Result<Reply, ClientError> {
        request.path = Url::parse(url)?.path;
        self.connect(url).await?.send(request).await
    }

    /// # Errors
    /// Of any step.
    pub async fn get(&self, url: &str) -> Result<Reply, ClientError> {
        self.send(url, Request::get("/")).await
    }
}

/// The parts of a URL a client needs.
pub struct Url {
    pub secure: bool,
    /// Always with a port.
    pub authority: String,
    pub path: String,
}

impl Url {
    /// # Errors
    /// Where it is neither http nor https.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Unsupported(format!("`{url}` is no http(s) URL"));
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let default = if secure { 443 } else { 80 };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let authority =
            if has_port { authority.to_owned() } else { format!("{authority}:{default}") };
        Ok(Self { secure, authority, path: path.to_owned() })
    }
}
