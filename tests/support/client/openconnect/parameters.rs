//! What a gateway tells an OpenConnect client about its tunnel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use crate::client::error::ClientError;
use crate::client::message::Reply;
use crate::client::packet::{Addresses, MTU};

/// The answer to CONNECT, read as strictly as the stock client does: names by their case.
#[derive(Clone)]
pub struct Parameters {
    pub addresses: Addresses,
    pub name_servers: Vec<IpAddr>,
    /// How often each channel is asked whether it lives; `None` never.
    pub tls_patience: Option<Duration>,
    pub datagram_patience: Option<Duration>,
    pub keepalive: Option<Duration>,
    /// `None` where no data channel is offered.
    pub datagram: Option<DatagramOffer>,
    /// The `X-` fields as they came.
    pub fields: Vec<(String, String)>,
}

/// The DTLS 1.2 channel that goes with the tunnel.
#[derive(Clone, PartialEq, Eq)]
pub struct DatagramOffer {
    pub port: u16,
    /// The session id that leads its handshake to this tunnel.
    pub app_id: [u8; 32],
    pub key: [u8; 32],
}

impl Parameters {
    pub(crate) fn read(reply: &Reply, key: [u8; 32]) -> Result<Self, ClientError> {
        let fields = Fields(&reply.fields);
        let mtu = ["X-CSTP-MTU", "X-DTLS-MTU"].into_iter().filter_map(|name| fields.parsed(name));
        let mut addresses = Addresses { v4: None, v6: None, mtu: mtu.max().unwrap_or(MTU) };
        for address in fields.all("X-CSTP-Address") {
            match address.parse() {
                Ok(IpAddr::V4(v4)) => addresses.v4 = Some(v4),
                Ok(IpAddr::V6(v6)) => addresses.v6 = Some(v6),
                Err(_) => return Err(malformed("X-CSTP-Address", address)),
            }
        }
        if let Some(both) = fields.one("X-CSTP-Address-IP6") {
            let address = both.split('/').next().unwrap_or_default();
            let v6 = address.parse::<Ipv6Addr>();
            addresses.v6 = Some(v6.map_err(|_| malformed("X-CSTP-Address-IP6", both))?);
        }
        let seconds = |name| fields.parsed(name).filter(|it| *it > 0).map(Duration::from_secs);
        Ok(Self {
            addresses,
            name_servers: fields.all("X-CSTP-DNS").filter_map(|it| it.parse().ok()).collect(),
            tls_patience: seconds("X-CSTP-DPD"),
            datagram_patience: seconds("X-DTLS-DPD"),
            keepalive: seconds("X-CSTP-Keepalive"),
            datagram: offer(&fields, key)?,
            fields: reply
                .fields
                .iter()
                .filter(|(name, _)| name.starts_with("X-"))
                .cloned()
                .collect(),
        })
    }

    /// The first name server of a family the tunnel has.
    #[must_use]
    pub fn name_server(&self) -> Option<std::net::SocketAddr> {
        let reachable = |it: &&IpAddr| self.addresses.towards(**it).is_some();
        self.name_servers.iter().find(reachable).map(|address| (*address, 53).into())
    }

    /// The IPv4 address, which every tunnel is expected to have.
    #[must_use]
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.v4
    }
}

fn offer(fields: &Fields<'_>, key: [u8; 32]) -> Result<Option<DatagramOffer>, ClientError> {
    let (Some(suite), Some(app_id)) =
        (fields.one("X-DTLS-CipherSuite"), fields.one("X-DTLS-App-ID"))
    else {
        return Ok(None);
    };
    if suite != "PSK-NEGOTIATE" {
        return Err(malformed("X-DTLS-CipherSuite", suite));
    }
    let port = fields.parsed("X-DTLS-Port").ok_or_else(|| malformed("X-DTLS-Port", ""))?;
    let app_id = bytes(app_id).ok_or_else(|| malformed("X-DTLS-App-ID", app_id))?;
    Ok(Some(DatagramOffer { port, app_id, key }))
}

/// 32 bytes in hex.
fn bytes(hex: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

fn malformed(name: &str, value: &str) -> ClientError {
    ClientError::Malformed(format!("`{name}: {value}`"))
}

struct Fields<'a>(&'a [(String, String)]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn parsed<T: FromStr>(&self, name: &'a str) -> Option<T> {
        self.one(name)?.parse().ok()
    }
}

/// Keys are shown to nobody.
impl fmt::Debug for DatagramOffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DatagramOffer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Parameters");
        shown.field("addresses", &self.addresses).field("name_servers", &self.name_servers);
        shown.field("datagram", &self.datagram).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(fields: &[(&str, &str)]) -> Reply {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Reply { status: 200, fields: fields.iter().map(pair).collect(), ..Reply::default() }
    }

    #[test]
    fn a_whole_answer_is_read() {
        let id = "0102".repeat(16);
        let fields = [
            ("X-CSTP-Version", "1"),
            ("X-CSTP-Address", "10.99.0.7"),
            ("X-CSTP-Address-IP6", "fd00::7/128"),
            ("X-CSTP-DNS", "10.99.0.1"),
            ("X-CSTP-MTU", "1300"),
            ("X-DTLS-MTU", "1390"),
            ("X-CSTP-DPD", "30"),
            ("X-CSTP-Keepalive", "0"),
            ("X-DTLS-App-ID", &id),
            ("X-DTLS-Port", "8443"),
            ("X-DTLS-CipherSuite", "PSK-NEGOTIATE"),
        ];
        let read = Parameters::read(&reply(&fields), [9; 32]).unwrap();
        assert_eq!((read.addresses.mtu, read.v4()), (1_390, "10.99.0.7".parse().ok()));
        assert_eq!(read.addresses.v6, "fd00::7".parse().ok());
        assert_eq!(read.name_server(), "10.99.0.1:53".parse().ok());
        assert_eq!((read.tls_patience, read.keepalive), (Some(Duration::from_secs(30)), None));
        let offer = read.datagram.unwrap();
        assert_eq!(
            (offer.port, offer.app_id[..2].to_vec(), offer.key),
            (8_443, vec![1, 2], [9; 32])
        );
    }

    #[test]
    fn names_count_by_their_case_and_half_an_offer_is_none() {
        let lower = Parameters::read(&reply(&[("x-cstp-address", "10.0.0.1")]), [0; 32]).unwrap();
        assert_eq!(lower.v4(), None);
        let half = reply(&[("X-DTLS-CipherSuite", "PSK-NEGOTIATE")]);
        assert_eq!(Parameters::read(&half, [0; 32]).unwrap().datagram, None);
        for wrong in [("X-DTLS-App-ID", "0102"), ("X-CSTP-Address", "nowhere")] {
            let fields = [("X-DTLS-CipherSuite", "PSK-NEGOTIATE"), ("X-DTLS-Port", "1"), wrong];
            let read = Parameters::read(&reply(&fields), [0; 32]);
            assert!(read.is_err(), "{wrong:?}");
        }
    }
}
