//! What happens when an origin's certificate or TLS is at fault.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A setting for each fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decryption {
    /// The chain ends at an authority that is not trusted.
    pub untrusted_root: FaultAction,
    /// The certificate is signed by itself.
    pub self_signed: FaultAction,
    /// The certificate's time is over.
    pub expired: FaultAction,
    /// The certificate's time has not begun.
    pub not_yet_valid: FaultAction,
    /// The certificate is for other names.
    pub name_mismatch: FaultAction,
    /// The certificate was revoked.
    pub revoked: FaultAction,
    /// An intermediate certificate is missing.
    pub incomplete_chain: FaultAction,
    /// A key or signature is too weak for a current browser.
    pub weak: FaultAction,
    /// A TLS client names no host.
    pub no_sni: FrontingAction,
    /// The `Host` of a request is not the name of its TLS connection (domain fronting).
    pub sni_host_mismatch: FrontingAction,
    /// The name of the TLS connection does not resolve to the address asked for.
    pub sni_ip_mismatch: AddressAction,
    /// What is spoken on port 443 is not TLS.
    pub not_tls_on_443: BypassAction,
    /// The client refuses the gateway's certificate for this host.
    pub client_pinned: BypassAction,
    /// The origin asks for a client certificate.
    pub client_certificate_wanted: BypassAction,
    /// What is spoken is not well-formed HTTP.
    pub malformed_http: MalformedAction,
    /// QUIC (HTTP/3) inside a tunnel to what is to be decrypted.
    pub quic: QuicAction,
}

/// What to do about a faulty certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    #[default]
    Block,
    /// Shows a page on which the user may proceed.
    Warn,
    Allow,
}

/// What to do about a name that is missing or does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrontingAction {
    #[default]
    Block,
    Allow,
}

/// What to do when name and address disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddressAction {
    #[default]
    Decrypt,
    Block,
}

/// What to do about what cannot be decrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BypassAction {
    #[default]
    Block,
    /// Relays it undecrypted.
    Bypass,
}

/// What to do about what is not HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MalformedAction {
    #[default]
    Block,
}

/// What to do about QUIC that is to be decrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuicAction {
    /// Decrypts it as TLS; refuses it to clients that do not accept our certificate over QUIC.
    #[default]
    Inspect,
    /// Refuses it at once, so that clients take TLS.
    Refuse,
}
