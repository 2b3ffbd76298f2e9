//! What a finished handshake agreed on, in the words of the events.

use rustls::{CipherSuite, CommonState, NamedGroup, ProtocolVersion};

/// `1.3` or `1.2`.
pub(crate) fn version(connection: &CommonState) -> &'static str {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "other",
    }
}

/// The group's name, the same for tunnels and for origins.
pub(crate) fn key_exchange(connection: &CommonState) -> Option<&'static str> {
    Some(match connection.negotiated_key_exchange_group()?.name() {
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        _ => "other",
    })
}

/// The cipher suite's name in the IANA registry.
pub(crate) fn suite(connection: &CommonState) -> &'static str {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(other) => other.as_str().unwrap_or("other"),
        None => "other",
    }
}
