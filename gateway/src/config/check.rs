//! Checks that need more than one key: what each value means beside the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use policy::Problem;
use policy::list::category_name;
use policy::yaml::Node;

use super::gateway::GatewayConfig;
use super::lists::Format;
use super::problem::problem;
use super::reader::position;
use super::suggest;
use super::tenant::{Named, Require, TenantConfig};

/// Collects problems of one file.
pub(super) struct Checks<'a> {
    file: &'a str,
    tree: &'a Node,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    pub(super) fn require(
        &mut self,
        holds: bool,
        path: &[&str],
        what: impl Into<String>,
        expected: &str,
    ) {
        if !holds {
            let at = position(self.tree, path);
            self.problems.push(problem(self.file, at, what, expected));
        }
    }
}

/// Checks gateway.yaml. Files it names are read elsewhere.
pub(crate) fn gateway(file: &str, tree: &Node, config: &GatewayConfig) -> Vec<Problem> {
    let mut checks = Checks { file, tree, problems: Vec::new() };
    let admin = &config.admin;
    checks.require(
        admin.listen.ip().is_loopback() || admin.token_file.is_some(),
        &["admin", "listen"],
        format!("`{}` is not loopback and there is no `admin.token_file`", admin.listen),
        "a token, or a loopback address",
    );
    let label = |text: &str| !text.is_empty() && !text.chars().any(char::is_whitespace);
    checks.require(
        label(&config.pop) && config.pop.len() <= 64,
        &["pop"],
        "not a name",
        "1 to 64 characters without blanks",
    );
    let events = &config.events;
    checks.require(
        (1..=10_000).contains(&events.flush_ms),
        &["events", "flush_ms"],
        format!("found `{}`", events.flush_ms),
        "1 to 10000 milliseconds",
    );
    const EVENTS_BYTES_MIN: u64 = 16 << 20;
    checks.require(
        events.max_bytes.0 >= EVENTS_BYTES_MIN,
        &["events", "max_bytes"],
        format!("found {} bytes", events.max_bytes.0),
        "at least `16MiB`",
    );
    super::sink::check(&mut checks, &events.sinks);
    let limits = &config.limits;
    for (name, value) in
        [("tunnels", limits.tunnels), ("streams_per_tunnel", limits.streams_per_tunnel)]
    {
        checks.require(value > 0, &["limits", name], "found `0`", "at least 1");
    }
    checks.require(
        limits.drain_s <= 3_600,
        &["limits", "drain_s"],
        format!("found `{}`", limits.drain_s),
        "at most 3600 seconds",
    );
    listeners(&mut checks, config);
    checks.problems
}

/// No two TCP listeners on one address.
fn listeners(checks: &mut Checks<'_>, config: &GatewayConfig) {
    let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    taken.insert(config.listen.tcp, "listen.tcp");
    if config.admin.listen.port() != 0
        && let Some(other) = taken.insert(config.admin.listen, "admin.listen")
    {
        let what = format!("`{}` is also `{other}`", config.admin.listen);
        checks.require(false, &["admin", "listen"], what, "an address of its own");
    }
    for address in config.listen.explicit.keys() {
        if let Some(other) = taken.get(address) {
            let (text, what) = (address.to_string(), format!("`{address}` is also `{other}`"));
            checks.require(false, &["listen", "explicit", &text], what, "an address of its own");
        }
    }
}

/// Checks tenant.yaml.
pub(crate) fn tenant(file: &str, tree: &Node, config: &TenantConfig) -> Vec<Problem> {
    let mut checks = Checks { file, tree, problems: Vec::new() };
    let identity = &config.identity;
    let tokens = identity.require != Require::Certificate;
    checks.require(
        !tokens || identity.jwks.is_some(),
        &["identity", "require"],
        "tokens are accepted but there are no keys to check them with",
        "`identity.jwks`",
    );
    for (name, given) in [("issuer", &identity.issuer), ("audience", &identity.audience)] {
        checks.require(
            identity.jwks.is_none() || given.as_ref().is_some_and(|text| !text.is_empty()),
            &["identity", "jwks"],
            format!("no `identity.{name}`"),
            "the value tokens must carry",
        );
    }
    checks.require(
        identity.leeway_s <= 300,
        &["identity", "leeway_s"],
        format!("found `{}`", identity.leeway_s),
        "at most 300 seconds",
    );
    for (index, token) in config.tokens.iter().enumerate() {
        let index = index.to_string();
        checks.require(
            crate::ident::valid_user(&token.user) && !token.user.contains(':'),
            &["tokens", &index, "user"],
            "not a user's name",
            "1 to 254 bytes without blanks or `:`",
        );
    }
    let limits = &config.limits;
    for (name, value) in
        [("tunnels", limits.tunnels), ("streams_per_tunnel", limits.streams_per_tunnel)]
    {
        checks.require(value != Some(0), &["limits", name], "found `0`", "at least 1");
    }
    checks.require(
        (1..=600_000).contains(&limits.hold_ms),
        &["limits", "hold_ms"],
        format!("found `{}`", limits.hold_ms),
        "1 to 600000 milliseconds",
    );
    restrictions(&mut checks, config);
    let privacy = &config.privacy;
    for (name, named) in [("user", privacy.user), ("client_ip", privacy.client_ip)] {
        checks.require(
            named != Named::Hash || privacy.key_file.is_some(),
            &["privacy", name],
            "pseudonyms without a key could be searched",
            "`privacy.key_file`",
        );
    }
    for (name, patterns) in [("paths", &privacy.paths), ("redact", &privacy.redact)] {
        for (index, pattern) in patterns.iter().enumerate() {
            checks.require(
                policy::Pattern::parse(pattern).is_some(),
                &["privacy", name, &index.to_string()],
                "`*` inside a pattern",
                "`*` at either end only",
            );
        }
    }
    categories(&mut checks, config);
    checks.problems
}

/// Most lists of a tenant: each is asked for each flow.
const LISTS_MAX: usize = 64;

/// Names of categories are those that rules can use.
fn categories(checks: &mut Checks<'_>, config: &TenantConfig) {
    let expected = "lower-case words joined by hyphens";
    let is_name = |name: &str| category_name(name).is_some_and(|named| *named == *name);
    for name in config.categories.keys() {
        let what = format!("`{name}` is no category's name");
        checks.require(is_name(name), &["categories", name], what, expected);
    }
    for (index, list) in config.lists.iter().enumerate() {
        let index = index.to_string();
        if let Some(name) = &list.category {
            let what = format!("`{name}` is no category's name");
            checks.require(is_name(name), &["lists", &index, "category"], what, expected);
        }
        let csv = matches!(list.format, None | Some(Format::Csv));
        checks.require(
            csv || list.category.is_some(),
            &["lists", &index],
            "a list without a category",
            "`category: NAME`",
        );
    }
    checks.require(
        config.lists.len() <= LISTS_MAX,
        &["lists"],
        format!("{} lists", config.lists.len()),
        "at most 64",
    );
}

/// Most ids that Anthropic reads of one header.
const ANTHROPIC_IDS_MAX: usize = 500;

/// Values become parts of header lists: a comma or a line break would make two of one.
fn restrictions(checks: &mut Checks<'_>, config: &TenantConfig) {
    checks.require(
        config.restrict.anthropic.len() <= ANTHROPIC_IDS_MAX,
        &["restrict", "anthropic"],
        format!("{} organisations", config.restrict.anthropic.len()),
        "at most 500, which is what the vendor reads",
    );
    for number in &config.restrict.google_cloud {
        checks.require(
            number.bytes().all(|byte| byte.is_ascii_digit()),
            &["restrict", "google_cloud"],
            format!("`{number}`"),
            "the number of an organisation",
        );
    }
    for (vendor, values) in config.restrict.by_vendor() {
        let Some((holds, expected)) = vendors_word(vendor) else { continue };
        for (index, value) in values.iter().enumerate() {
            let place = ["restrict", vendor, &index.to_string()];
            checks.require(
                holds(value),
                &place,
                format!("`{}`", suggest::shorten(value)),
                expected,
            );
        }
    }
    for (vendor, values) in config.restrict.by_vendor() {
        for (index, value) in values.iter().enumerate() {
            let graphic = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            checks.require(
                graphic && (1..=255).contains(&value.len()),
                &["restrict", vendor, &index.to_string()],
                "not a vendor's tenant",
                "1 to 255 visible ASCII characters without a comma",
            );
        }
    }
}

/// Whether a value is one that a vendor reads, and how those look.
type Word = (fn(&str) -> bool, &'static str);

/// What a vendor's header may say, where that is not any name: another word restricts nothing.
fn vendors_word(vendor: &str) -> Option<Word> {
    Some(match vendor {
        "youtube" => (|it| matches!(it, "Strict" | "Moderate"), "`Strict` or `Moderate`"),
        "google_drive_deny_anonymous" => (|it| it == "true", "`true`"),
        "microsoft_consumer" => (|it| it == "restrict-msa", "`restrict-msa`"),
        "microsoft_v2" => (
            |it| {
                it.split_once(':').is_some_and(|(id, policy)| !id.is_empty() && !policy.is_empty())
            },
            "`<TenantId>:<policyGuid>`",
        ),
        _ => return None,
    })
}
