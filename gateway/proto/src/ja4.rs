//! JA4: a name for what a TLS client is, from what its hello offers (FoxIO, "JA4 technical
//! details"; BSD 3-clause).

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};

use crate::client_hello::{ClientHello, Sni, extension, is_grease};

/// How the hello came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Quic,
    Dtls,
}

/// The fingerprint: `a_b_c`, 36 characters for TLS.
#[must_use]
pub fn ja4(hello: &ClientHello, transport: Transport) -> String {
    let ciphers: Vec<u16> = without_grease(&hello.cipher_suites);
    let extensions: Vec<u16> = without_grease(&hello.extensions);

    let mut text = String::with_capacity(36);
    text.push(match transport {
        Transport::Tcp => 't',
        Transport::Quic => 'q',
        Transport::Dtls => 'd',
    });
    text.push_str(version(hello));
    text.push(if hello.sni == Sni::Absent { 'i' } else { 'd' });
    push_count(&mut text, ciphers.len());
    push_count(&mut text, extensions.len());
    let (first, last) = alpn(hello);
    text.push(first);
    text.push(last);
    text.push('_');
    text.push_str(&hashed(&sorted_hex(ciphers)));
    text.push('_');
    text.push_str(&hashed(&extensions_and_signatures(hello, extensions)));
    text
}

fn version(hello: &ClientHello) -> &'static str {
    let offered = without_grease(&hello.supported_versions).into_iter().max();
    match offered.unwrap_or(hello.legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfefc => "d3",
        0xfefd => "d2",
        0xfeff => "d1",
        _ => "00",
    }
}

/// The first and last character of the first protocol, or of its hexadecimal form.
fn alpn(hello: &ClientHello) -> (char, char) {
    let Some((first, last)) = hello.alpn.first().and_then(|it| Some((*it.first()?, *it.last()?)))
    else {
        return ('0', '0');
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return (char::from(first), char::from(last));
    }
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    (digit(first >> 4), digit(last & 0xf))
}

fn extensions_and_signatures(hello: &ClientHello, mut extensions: Vec<u16>) -> String {
    extensions.retain(|kind| !matches!(*kind, extension::SERVER_NAME | extension::ALPN));
    let mut text = sorted_hex(extensions);
    let signatures = without_grease(&hello.signature_algorithms);
    if !signatures.is_empty() && !text.is_empty() {
        text.push('_');
        text.push_str(&hex(&signatures));
    }
    text
}

fn without_grease(values: &[u16]) -> Vec<u16> {
    values.iter().copied().filter(|value| !is_grease(*value)).collect()
}

fn push_count(text: &mut String, count: usize) {
    let count = u32::try_from(count.min(99)).unwrap_or(99);
    for digit in [count / 10, count % 10] {
        text.push(char::from_digit(digit, 10).unwrap_or('9'));
    }
}

fn sorted_hex(mut values: Vec<u16>) -> String {
    values.sort_unstable();
    hex(&values)
}

fn hex(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len() * 5);
    for value in values {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a String cannot fail.
        write!(text, "{value:04x}").unwrap_or_default();
    }
    text
}

/// The first 12 hexadecimal digits of the SHA-256, or zeros for nothing.
fn hashed(text: &str) -> String {
    let mut hashed = String::with_capacity(12);
    if text.is_empty() {
        hashed.push_str("000000000000");
        return hashed;
    }
    for byte in digest(&SHA256, text.as_bytes()).as_ref().iter().take(6) {
        write!(hashed, "{byte:02x}").unwrap_or_default();
    }
    hashed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example worked through in the JA4 technical details.
    #[test]
    fn published_example_gives_the_published_fingerprint() {
        let hello = ClientHello {
            legacy_version: 0x0303,
            cipher_suites: vec![
                0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x6a6a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005,
                0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            sni: Sni::Name("example.test".into()),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            supported_versions: vec![0xdada, 0x0304, 0x0303],
            signature_algorithms: vec![
                0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
            ],
            ..ClientHello::default()
        };
        assert_eq!(ja4(&hello, Transport::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn a_hello_that_offers_nothing_has_a_fingerprint() {
        let hello = ClientHello { legacy_version: 0x0303, ..ClientHello::default() };
        assert_eq!(ja4(&hello, Transport::Tcp), "t12i000000_000000000000_000000000000");
    }
}
