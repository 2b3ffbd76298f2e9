//! Names and ids that every stage passes along.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// A tenant's name: `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`, neither `backup` nor `backup-…`
/// (those would collide with `gateway-backup-<tenant>`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(Arc<str>);

/// Longest tenant name: `gateway-backup-` and the name must fit one 63-byte DNS label.
const TENANT_NAME_BYTES_MAX: usize = 40;

/// Why a tenant name is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantNameError {
    #[error("`{0}` is no tenant name: 1 to 40 of a-z, 0-9 and `-`, neither first nor last a `-`")]
    Malformed(String),
    #[error("`{0}` is reserved: a tenant name is neither `backup` nor begins with `backup-`")]
    Reserved(String),
}

impl TenantName {
    /// Parses a name.
    ///
    /// # Errors
    /// Where the name is malformed or reserved.
    pub fn parse(name: &str) -> Result<Self, TenantNameError> {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let well_formed = (1..=TENANT_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(inside)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !well_formed {
            return Err(TenantNameError::Malformed(name.to_owned()));
        }
        if name == "backup" || name.starts_with("backup-") {
            return Err(TenantNameError::Reserved(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl std::borrow::Borrow<str> for TenantName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for TenantName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TenantName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(|_| {
            let expected = "a tenant's name: 1 to 40 of a-z, 0-9 and `-`, not `backup…`";
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&name), &expected)
        })
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a client's traffic reached the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessMethod {
    Tls,
    Quic,
    Dtls,
    Openconnect,
    Explicit,
}

impl AccessMethod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Dtls => "dtls",
            Self::Openconnect => "openconnect",
            Self::Explicit => "explicit",
        }
    }
}

/// The person and device behind a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub user: Arc<str>,
    pub groups: Arc<[Arc<str>]>,
    pub device: Option<Arc<str>>,
    pub device_class: Option<Arc<str>>,
    pub os: Option<Arc<str>>,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Client,
    Origin,
    Gateway,
}

impl Blame {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Origin => "origin",
            Self::Gateway => "gateway",
        }
    }
}

/// One tunnel's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Uuid);

/// One inner stream's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub Uuid);

impl SessionId {
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl FlowId {
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}
