//! tenant.yaml: who a tenant's users are, what is decrypted, and what is kept private.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::Decryption;
use super::lists::DomainListFile;
use super::restrict::Restrict;
use super::scalar::{ByteSize, TokenHash};

/// One tenant. The rules are in policy.yaml beside it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// How a tunnel's user is known.
    pub identity: Identity,
    /// What clients of the OpenConnect protocol may do that others may not.
    pub openconnect: Openconnect,
    /// Users of the explicit listeners, who show a name and a token.
    pub tokens: Vec<UserToken>,
    /// What happens when an origin's TLS is at fault.
    pub decryption: Decryption,
    /// Which flows are decrypted: rules over what is known before decryption.
    #[schemars(with = "policy::decrypt::DecryptSource")]
    #[serde(skip_serializing)]
    pub decrypt: Decrypt,
    /// Per app (catalog id): which of its instances are the company's own.
    pub instances: BTreeMap<String, Instances>,
    /// Lists of domains in files, for `category` in rules.
    pub lists: Vec<DomainListFile>,
    /// Categories of the tenant's own: per category its names, each for itself and all below it;
    /// `*.name` only for those below.
    pub categories: BTreeMap<String, Vec<String>>,
    /// What to look for in content.
    pub content: Content,
    /// What is kept out of events.
    pub privacy: Privacy,
    /// Bounds for this tenant.
    pub limits: TenantLimits,
    /// Tenant-restriction headers of vendors: which of their tenants users may sign in to.
    pub restrict: Restrict,
    /// The tenant's part of the event log.
    pub events: TenantEvents,
    /// What the block and coach pages say.
    pub notice: Notice,
    /// The tenant's own settings for reaching origins.
    pub origin: TenantOrigin,
}

/// How a tunnel's user is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// What a client must show before it gets a tunnel.
    pub require: Require,
    /// CSV file with the columns `user`, `groups` (separated by `;`), `device_class`, `os`.
    pub directory: Option<PathBuf>,
    /// JSON Web Key Set file (RFC 7517) that tokens are checked against.
    pub jwks: Option<PathBuf>,
    /// The `iss` that tokens must carry. Required with `jwks`.
    pub issuer: Option<String>,
    /// The `aud` that tokens must carry. Required with `jwks`.
    pub audience: Option<String>,
    /// Which claims of a token say what.
    pub claims: Claims,
    /// Whether tokens must be bound to the tunnel's TLS channel (RFC 9266).
    pub binding: Binding,
    /// Seconds by which clocks may differ when a token's times are checked.
    #[schemars(range(min = 0, max = 300))]
    pub leeway_s: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            require: Require::default(),
            directory: None,
            jwks: None,
            issuer: None,
            audience: None,
            claims: Claims::default(),
            binding: Binding::default(),
            leeway_s: 30,
        }
    }
}

/// What clients of the OpenConnect protocol may do that others may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Openconnect {
    /// Whether clients that cannot speak TLS 1.3 get a tunnel over TLS 1.2: with a client certificate
    /// always, forward secrecy and the extended master secret, and for this protocol alone.
    pub tls_1_2: bool,
}

/// What a client must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// A client certificate of the tenant's device CA.
    #[default]
    Certificate,
    /// A JWT in `Proxy-Authorization`.
    Token,
    /// Either of the two.
    Either,
}

/// Channel binding of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// A bound token must match its channel; an unbound one is taken too.
    #[default]
    Optional,
    /// Unbound tokens are refused.
    Required,
}

/// Names of claims.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// Text: the user.
    pub user: String,
    /// Text or list of texts: groups.
    pub groups: String,
    /// Text: the device's id.
    pub device: String,
    /// Text: the device's class.
    pub device_class: String,
    /// Text: the operating system.
    pub os: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            user: "email".to_owned(),
            groups: "groups".to_owned(),
            device: "device".to_owned(),
            device_class: "device_class".to_owned(),
            os: "os".to_owned(),
        }
    }
}

/// A user of the explicit listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserToken {
    /// The user's name.
    pub user: String,
    /// SHA-256 of the token as 64 hexadecimal digits; the token itself is kept nowhere.
    pub sha256: TokenHash,
    /// The device this token was made for.
    #[serde(default)]
    pub device: Option<String>,
}

/// The place of the decrypt rules. They are kept compiled, beside the rest of the tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decrypt;

impl<'de> Deserialize<'de> for Decrypt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The company's own and its users' private instances of one app: ids, domains or accounts as the
/// app shows them, exact or with `*` at either end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// Instances of the company.
    pub corporate: Vec<String>,
    /// Instances known to be private; an instance in neither list is `personal` where the app
    /// shows which it is, else `unknown`.
    pub personal: Vec<String>,
}

/// What to look for in content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Profiles by the name that a rule's `dlp` uses.
    pub profiles: BTreeMap<String, Profile>,
}

/// One kind of content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Built-in entities, such as `payment-card`.
    pub entities: Vec<String>,
    /// Words and phrases, whatever their case.
    pub terms: Vec<String>,
    /// Regular expressions.
    pub patterns: Vec<String>,
    /// Fewest hits that count.
    pub min_count: Option<u32>,
}

/// What is kept out of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Query keys whose values are redacted, in addition to the built-in list; `*` at either end.
    pub redact: Vec<String>,
    /// URLs whose path and query are redacted: `host/path`, exact or with `*` at either end.
    pub paths: Vec<String>,
    /// How users are named.
    pub user: Named,
    /// How clients' addresses are named.
    pub client_ip: Named,
    /// File with the key of pseudonyms: at least 16 characters, the same at each point of presence.
    pub key_file: Option<PathBuf>,
}

/// How much an event says of who it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// As they are.
    #[default]
    Keep,
    /// By a pseudonym made with `key_file`.
    Hash,
    /// Not at all.
    Drop,
}

/// Bounds for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Tunnels open at once; null is the gateway's limit alone.
    #[schemars(range(min = 1))]
    pub tunnels: Option<u32>,
    /// Streams open at once in one tunnel; never above the gateway's limit.
    #[schemars(range(min = 1))]
    pub streams_per_tunnel: Option<u32>,
    /// Most of one body that is held back while a rule waits for it.
    pub hold_bytes: ByteSize,
    /// Longest time, in milliseconds, that a body is held back.
    #[schemars(range(min = 1, max = 600_000))]
    pub hold_ms: u64,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            tunnels: None,
            streams_per_tunnel: None,
            hold_bytes: ByteSize(16 << 20),
            hold_ms: 60_000,
        }
    }
}

/// The tenant's part of the event log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantEvents {
    /// Disk space of this tenant's events; null is an equal share of the gateway's.
    pub max_bytes: Option<ByteSize>,
    /// Who may pull this tenant's events from `/api/v2/events/dataexport`.
    pub tokens: Vec<EventToken>,
}

/// A collector of events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventToken {
    /// Whose token it is, for people.
    pub name: String,
    /// SHA-256 of the token as 64 hexadecimal digits; the token itself is kept nowhere.
    pub sha256: TokenHash,
}

/// What the block and coach pages say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notice {
    /// Whom to ask: a mail address, a URL or a phone number.
    pub contact: Option<String>,
    /// The company's name.
    pub organization: Option<String>,
}

/// The tenant's own settings for reaching origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantOrigin {
    /// Source addresses of this tenant's connections; empty means the gateway's.
    pub egress: Vec<IpAddr>,
    /// PEM files with authorities this tenant trusts in addition to the gateway's.
    pub extra_roots: Vec<PathBuf>,
    /// Fetch an intermediate certificate that an origin did not send, as browsers do, from where the
    /// origin's certificate says.
    pub fetch_intermediates: bool,
}

impl TenantConfig {
    /// Makes every relative path relative to the tenant's folder.
    pub(crate) fn anchor(&mut self, dir: &Path) {
        let mut anchor = |path: &mut PathBuf| *path = dir.join(&*path);
        self.identity.directory.iter_mut().for_each(&mut anchor);
        self.identity.jwks.iter_mut().for_each(&mut anchor);
        self.privacy.key_file.iter_mut().for_each(&mut anchor);
        self.origin.extra_roots.iter_mut().for_each(&mut anchor);
        self.lists.iter_mut().map(|list| &mut list.file).for_each(&mut anchor);
    }
}
