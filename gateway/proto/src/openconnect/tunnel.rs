//! The request that turns a TLS connection into a packet tunnel, and its answer (sections 2.1 and 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::fields::Fields;

/// What the client CONNECTs to; no authority, unlike every other CONNECT.
pub const TUNNEL_TARGET: &[u8] = b"/CSCOSSLC/tunnel";

/// The answer to the first request of a client whose certificate has been checked already: there is
/// nothing to fill in.
pub const AUTH_COMPLETE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <config-auth client=\"vpn\" type=\"complete\"><version who=\"sg\">0.1(1)</version>\
    <auth id=\"success\"><title>SSL VPN Service</title></auth></config-auth>";

/// The 32 bytes by which a DTLS client points at its TLS connection: its ClientHello's session id.
pub type AppId = [u8; 32];

/// MTUs that a client may ask for: below, IPv6 does not work (RFC 8200 section 5); above, no path does.
const MTU_MIN: u16 = 1_280;
const MTU_MAX: u16 = 9_000;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelRequest {
    /// From the cookie `webvpn`: what the first connection was given.
    pub token: Option<String>,
    /// The packet size the client thinks fits.
    pub mtu: Option<u16>,
    /// The packet size of the path between client and gateway.
    pub base_mtu: Option<u16>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// The client can speak DTLS 1.2 with a key from its TLS connection.
    pub psk_negotiate: bool,
    /// The addresses that the client has had.
    pub previous: Vec<IpAddr>,
}

impl TunnelRequest {
    /// Reads the header fields of a tunnel request. What makes no sense is taken as not said.
    #[must_use]
    pub fn read(fields: &Fields) -> Self {
        let types = fields.text("x-cstp-address-type").unwrap_or("IPv4");
        let has = |family: &str| types.split(',').any(|it| it.trim().eq_ignore_ascii_case(family));
        let suites = fields.text("x-dtls-ciphersuite").unwrap_or_default();
        let mtu = |name| -> Option<u16> {
            let asked: u16 = fields.text(name)?.trim().parse().ok()?;
            (MTU_MIN..=MTU_MAX).contains(&asked).then_some(asked)
        };
        let previous = fields.all("x-cstp-address").filter_map(|value| {
            let text = std::str::from_utf8(value).ok()?.trim();
            text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
        });
        Self {
            token: cookie(fields, "webvpn"),
            mtu: mtu("x-cstp-mtu"),
            base_mtu: mtu("x-cstp-base-mtu"),
            ipv4: has("IPv4"),
            ipv6: has("IPv6"),
            psk_negotiate: suites.split(':').any(|it| it == "PSK-NEGOTIATE"),
            previous: previous.take(2).collect(),
        }
    }
}

/// The value of one cookie (RFC 6265 section 4.2.1).
fn cookie(fields: &Fields, name: &str) -> Option<String> {
    fields
        .all("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(it, value)| (it == name).then(|| value.to_owned()))
}

/// What a client is given. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelReply {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// Who answers the client's name queries.
    pub dns: Vec<IpAddr>,
    pub mtu: u16,
    pub base_mtu: u16,
    pub dpd_s: u32,
    pub keepalive_s: u32,
    /// A new TLS connection is due after this.
    pub rekey_s: u32,
    /// How long the client may be away and come back with its cookie.
    pub disconnected_s: u32,
    pub dtls: Option<DtlsOffer>,
}

/// Where the DTLS channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtlsOffer {
    pub app_id: AppId,
    pub port: u16,
    pub mtu: u16,
}

impl TunnelReply {
    /// The header fields. Clients compare these names with their case, so they are written as they are
    /// here.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        let mut put = |name: &'static str, value: String| fields.push(name, value);
        put("X-CSTP-Version", "1".to_owned());
        if let Some(address) = self.ipv4 {
            put("X-CSTP-Address", address.to_string());
            put("X-CSTP-Netmask", Ipv4Addr::BROADCAST.to_string());
        }
        if let Some(address) = self.ipv6 {
            put("X-CSTP-Address-IP6", format!("{address}/128"));
        }
        for server in &self.dns {
            put("X-CSTP-DNS", server.to_string());
        }
        put("X-CSTP-Tunnel-All-DNS", "true".to_owned());
        put("X-CSTP-MTU", self.mtu.to_string());
        put("X-CSTP-Base-MTU", self.base_mtu.to_string());
        put("X-CSTP-DPD", self.dpd_s.to_string());
        put("X-CSTP-Keepalive", self.keepalive_s.to_string());
        put("X-CSTP-Rekey-Method", "new-tunnel".to_owned());
        put("X-CSTP-Rekey-Time", self.rekey_s.to_string());
        put("X-CSTP-Disconnected-Timeout", self.disconnected_s.to_string());
        if let Some(offer) = &self.dtls {
            put("X-DTLS-App-ID", hex(&offer.app_id));
            put("X-DTLS-Port", offer.port.to_string());
            put("X-DTLS-CipherSuite", "PSK-NEGOTIATE".to_owned());
            put("X-DTLS-MTU", offer.mtu.to_string());
            put("X-DTLS-DPD", self.dpd_s.to_string());
            put("X-DTLS-Keepalive", self.keepalive_s.to_string());
            put("X-DTLS-Rekey-Method", "new-tunnel".to_owned());
            put("X-DTLS-Rekey-Time", self.rekey_s.to_string());
        }
        fields
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in pairs {
            fields.push(*name, *value);
        }
        fields
    }

    #[test]
    fn a_request_of_openconnect_9_is_read() {
        let request = TunnelRequest::read(&fields(&[
            ("Cookie", "webvpncontext=a; webvpn=0badcafe"),
            ("X-CSTP-Version", "1"),
            ("X-CSTP-Base-MTU", "1500"),
            ("X-CSTP-MTU", "1390"),
            ("X-CSTP-Address-Type", "IPv6,IPv4"),
            ("X-CSTP-Address", "100.96.0.7"),
            ("X-DTLS-CipherSuite", "PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM"),
        ]));
        let expected = TunnelRequest {
            token: Some("0badcafe".to_owned()),
            mtu: Some(1390),
            base_mtu: Some(1500),
            ipv4: true,
            ipv6: true,
            psk_negotiate: true,
            previous: vec![IpAddr::V4(Ipv4Addr::new(100, 96, 0, 7))],
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn what_makes_no_sense_is_not_said() {
        let request = TunnelRequest::read(&fields(&[
            ("Cookie", "webvpn"),
            ("X-CSTP-MTU", "99999"),
            ("X-CSTP-Base-MTU", "12"),
            ("X-CSTP-Address", "somewhere"),
        ]));
        assert_eq!(request, TunnelRequest { ipv4: true, ..TunnelRequest::default() });
    }
}
