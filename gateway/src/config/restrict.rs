//! Vendors' tenant restrictions: headers that make a service refuse other companies' accounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Per vendor, the tenants that users may sign in to. An empty list inserts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restrict {
    /// Google Workspace domains (`X-GoogApps-Allowed-Domains`).
    pub google: Vec<String>,
    /// Microsoft Entra tenants, domains or ids (`Restrict-Access-To-Tenants`); the first that is
    /// an id is also the context (`Restrict-Access-Context`).
    pub microsoft: Vec<String>,
    /// Microsoft tenant restrictions v2: `<TenantId>:<policyGuid>`.
    pub microsoft_v2: Vec<String>,
    /// `restrict-msa` keeps users from consumer Microsoft accounts.
    pub microsoft_consumer: Vec<String>,
    /// Slack: the first id is the requester, all are allowed workspaces or organisations.
    pub slack: Vec<String>,
    /// Dropbox team ids (`X-Dropbox-allowed-Team-Ids`).
    pub dropbox: Vec<String>,
    /// GitHub enterprise slugs (`sec-GitHub-allowed-enterprise`).
    pub github: Vec<String>,
    /// `Strict` or `Moderate` (`YouTube-Restrict`).
    pub youtube: Vec<String>,
    /// Webex domains (`CiscoSpark-Allowed-Domains`).
    pub webex: Vec<String>,
    /// `ChatGPT` workspace ids (`ChatGPT-Allowed-Workspace-Id`).
    pub chatgpt: Vec<String>,
    /// Anthropic organisation ids (`anthropic-allowed-org-ids`).
    pub anthropic: Vec<String>,
}

impl Restrict {
    /// Every vendor by its key, with its tenants.
    pub fn by_vendor(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        [
            ("google", self.google.as_slice()),
            ("microsoft", &self.microsoft),
            ("microsoft_v2", &self.microsoft_v2),
            ("microsoft_consumer", &self.microsoft_consumer),
            ("slack", &self.slack),
            ("dropbox", &self.dropbox),
            ("github", &self.github),
            ("youtube", &self.youtube),
            ("webex", &self.webex),
            ("chatgpt", &self.chatgpt),
            ("anthropic", &self.anthropic),
        ]
        .into_iter()
    }
}

/// One vendor's rule: on these hosts, this header.
struct Insertion {
    vendor: &'static str,
    hosts: &'static [&'static str],
    header: &'static str,
    value: fn(&[String]) -> Option<String>,
}

/// Sign-in hosts of Microsoft Entra. Device registration hosts are other names: the vendor asks
/// that they be left alone.
const ENTRA: &[&str] = &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net"];

/// Headers as the vendors document them.
const INSERTIONS: &[Insertion] = &[
    Insertion {
        vendor: "google",
        hosts: &["*.google.com"],
        header: "X-GoogApps-Allowed-Domains",
        value: all,
    },
    Insertion {
        vendor: "microsoft",
        hosts: ENTRA,
        header: "Restrict-Access-To-Tenants",
        value: all,
    },
    Insertion {
        vendor: "microsoft",
        hosts: ENTRA,
        header: "Restrict-Access-Context",
        value: directory_id,
    },
    Insertion {
        vendor: "microsoft_v2",
        hosts: &[
            "login.microsoftonline.com",
            "login.microsoft.com",
            "login.windows.net",
            "login.live.com",
        ],
        header: "sec-Restrict-Tenant-Access-Policy",
        value: first,
    },
    Insertion {
        vendor: "microsoft_consumer",
        hosts: &["login.live.com"],
        header: "sec-Restrict-Tenant-Access-Policy",
        value: first,
    },
    Insertion {
        vendor: "slack",
        hosts: &["*.slack.com", "slack.com"],
        header: "X-Slack-Allowed-Workspaces-Requester",
        value: first,
    },
    Insertion {
        vendor: "slack",
        hosts: &["*.slack.com", "slack.com"],
        header: "X-Slack-Allowed-Workspaces",
        value: all,
    },
    Insertion {
        vendor: "dropbox",
        hosts: &["*.dropbox.com", "dropbox.com"],
        header: "X-Dropbox-allowed-Team-Ids",
        value: all,
    },
    Insertion {
        vendor: "github",
        hosts: &["github.com", "api.github.com", "*.githubcopilot.com"],
        header: "sec-GitHub-allowed-enterprise",
        value: all,
    },
    Insertion {
        vendor: "youtube",
        hosts: &[
            "*.youtube.com",
            "youtube.com",
            "youtubei.googleapis.com",
            "youtube.googleapis.com",
        ],
        header: "YouTube-Restrict",
        value: first,
    },
    Insertion {
        vendor: "webex",
        hosts: &["identity.webex.com", "idbroker*.webex.com", "atlas-a.wbx2.com"],
        header: "CiscoSpark-Allowed-Domains",
        value: all,
    },
    Insertion {
        vendor: "chatgpt",
        hosts: &["chatgpt.com"],
        header: "ChatGPT-Allowed-Workspace-Id",
        value: all,
    },
    Insertion {
        vendor: "anthropic",
        hosts: &["claude.ai", "api.anthropic.com", "claude.com", "anthropic.com"],
        header: "anthropic-allowed-org-ids",
        value: all,
    },
];

impl Restrict {
    /// The headers to set on requests to `host` (lower case, without port). They replace what the
    /// client sent under these names; no header is named twice.
    #[must_use]
    pub fn headers(&self, host: &str) -> Vec<(&'static str, String)> {
        let mut headers: Vec<(&'static str, String)> = Vec::new();
        for insertion in INSERTIONS {
            if !insertion.hosts.iter().any(|pattern| is_host(pattern, host)) {
                continue;
            }
            let tenants = self.by_vendor().find(|(vendor, _)| *vendor == insertion.vendor);
            let value = tenants.and_then(|(_, tenants)| (insertion.value)(tenants));
            let named = headers.iter().any(|(header, _)| *header == insertion.header);
            headers.extend(value.filter(|_| !named).map(|value| (insertion.header, value)));
        }
        headers
    }
}

/// Exact, or with one `*` for any text.
fn is_host(pattern: &str, host: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == host };
    host.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
}

fn all(tenants: &[String]) -> Option<String> {
    (!tenants.is_empty()).then(|| tenants.join(","))
}

fn first(tenants: &[String]) -> Option<String> {
    tenants.first().cloned()
}

/// The first tenant that is written as a directory id.
fn directory_id(tenants: &[String]) -> Option<String> {
    tenants.iter().find(|tenant| uuid::Uuid::try_parse(tenant).is_ok()).cloned()
}
