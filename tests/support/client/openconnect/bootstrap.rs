//! The OpenConnect bootstrap: a certificate for a cookie, a cookie for a tunnel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::parameters::Parameters;
use crate::BoxStream;
use crate::client::error::ClientError;
use crate::client::message::{Reply, Request};
use crate::client::packet::Addresses;
use crate::client::tls;
use crate::client::wire::Wire;

/// What the stock client of Debian 12 calls itself.
const USER_AGENT: &str = "Open AnyConnect VPN Agent v9.01-3";
/// The label under which both sides export the data channel's key
/// (draft-mavrogiannopoulos-openconnect section 2.2.3).
const KEY_LABEL: &[u8] = b"EXPORTER-openconnect-psk";
/// What the stock client offers for its data channel.
const DATAGRAM_SUITES: &str = "PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM:OC-DTLS1_2-AES128-GCM";

/// Where and as whom to connect.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// SNI and `Host`.
    pub(crate) name: String,
    pub(crate) config: Arc<ClientConfig>,
}

/// A tunnel that has just been opened.
pub(crate) struct Opened {
    pub(crate) parameters: Parameters,
    pub(crate) cookie: String,
    pub(crate) stream: BoxStream,
    /// What was read behind the answer.
    pub(crate) ahead: BytesMut,
}

impl Door {
    /// Opens a tunnel: with `cookie` where there is one that still holds, else with the certificate.
    pub(crate) async fn open(
        &self,
        cookie: Option<String>,
        wished: Option<Addresses>,
    ) -> Result<Opened, ClientError> {
        if let Some(cookie) = cookie {
            match self.connect(&cookie, wished).await {
                Err(error) if error.status() == Some(401) => {}
                other => return other,
            }
        }
        let cookie = self.authenticate().await?;
        self.connect(&cookie, wished).await
    }

    /// Shows the certificate and gets a cookie. There is no form to fill in.
    pub(crate) async fn authenticate(&self) -> Result<String, ClientError> {
        let (stream, _) = self.dial().await?;
        let mut wire = Wire::new(stream);
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"init\" \
             aggregate-auth-version=\"2\"><version who=\"vpn\">v9.01-3</version>\
             <device-id>linux-64</device-id><group-access>https://{}/</group-access></config-auth>",
            self.name
        );
        let request = self
            .request(Request::post("/", body))
            .field("X-Transcend-Version", "1")
            .field("X-Aggregate-Auth", "1")
            .field("Content-Type", "application/xml; charset=utf-8");
        wire.write_head(&request, "/", &self.name).await?;
        wire.write_body(&request).await?;
        let (reply, framing) = wire.read_head("POST").await?;
        let reply = wire.finish(reply, framing).await?;
        if reply.status != 200 {
            return Err(refused(reply));
        }
        if !reply.text().contains("<auth id=\"success\">") {
            return Err(ClientError::Malformed(format!("no success in `{}`", reply.text())));
        }
        let cookies =
            reply.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let token = cookies
            .filter_map(|(_, value)| value.strip_prefix("webvpn=")?.split(';').next())
            .find(|token| !token.is_empty());
        let missing = || ClientError::Malformed("no cookie `webvpn`".to_owned());
        token.map(str::to_owned).ok_or_else(missing)
    }

    /// Gives the cookie for a tunnel.
    pub(crate) async fn connect(
        &self,
        cookie: &str,
        wished: Option<Addresses>,
    ) -> Result<Opened, ClientError> {
        let (stream, key) = self.dial().await?;
        let mut request = self
            .request(Request::new("CONNECT", "/CSCOSSLC/tunnel"))
            .field("Cookie", &format!("webvpn={cookie}"))
            .field("X-CSTP-Version", "1")
            .field("X-CSTP-Hostname", "synthetic")
            .field("X-CSTP-Base-MTU", "1500")
            .field("X-CSTP-MTU", "1400")
            .field("X-CSTP-Address-Type", "IPv6,IPv4")
            .field("X-CSTP-Full-IPv6-Capability", "true")
            .field("X-DTLS-CipherSuite", DATAGRAM_SUITES)
            .field("X-DTLS12-CipherSuite", DATAGRAM_SUITES);
        let wished =
            wished.into_iter().flat_map(|it| [it.v4.map(IpAddr::V4), it.v6.map(IpAddr::V6)]);
        for address in wished.flatten() {
            request = request.field("X-CSTP-Address", &address.to_string());
        }
        let mut wire = Wire::new(stream);
        wire.write_head(&request, "/CSCOSSLC/tunnel", &self.name).await?;
        let (reply, framing) = wire.read_head("CONNECT").await?;
        if reply.status != 200 {
            return Err(refused(wire.finish(reply, framing).await?));
        }
        let parameters = Parameters::read(&reply, key)?;
        let (stream, ahead) = (wire.stream, wire.buffer);
        Ok(Opened { parameters, cookie: cookie.to_owned(), stream, ahead })
    }

    fn request(&self, request: Request) -> Request {
        request.field("Host", &self.name).field("User-Agent", USER_AGENT)
    }

    /// A TLS connection without ALPN, and the key that it exports.
    async fn dial(&self) -> Result<(BoxStream, [u8; 32]), ClientError> {
        let tcp = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        let stream = tls::connect(Box::new(tcp), &self.name, Arc::clone(&self.config)).await?;
        let exported = stream.get_ref().1.export_keying_material([0; 32], KEY_LABEL, None);
        let key = exported.map_err(|error| ClientError::Tls(std::io::Error::other(error)))?;
        Ok((Box::new(stream), key))
    }
}

fn refused(reply: Reply) -> ClientError {
    ClientError::Refused { status: reply.status, fields: reply.fields, body: reply.body }
}
