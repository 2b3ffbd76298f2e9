//! Vendors' tenant restrictions: headers that make a service refuse other companies' accounts.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Per vendor, the tenants that users may sign in to. An empty list inserts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restrict {
    /// Google Workspace domains (`X-GoogApps-Allowed-Domains`).
    pub google: Vec<String>,
    /// `true` keeps users who are not signed in out of Google Drive
    /// (`X-GoogApps-Drive-Deny-Anonymous`).
    pub google_drive_deny_anonymous: Vec<String>,
    /// Google Cloud organisation numbers (`X-Goog-Allowed-Resources`).
    pub google_cloud: Vec<String>,
    /// Domains that may use Gemini Code Assist (`X-GeminiCodeAssist-Allowed-Domains`).
    pub gemini_code_assist: Vec<String>,
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
    /// Zoom policy tokens; the first counts (`X-ZoomApps-Policy`).
    pub zoom: Vec<String>,
    /// IBM Cloud accounts (`IBM-Cloud-Tenant`).
    pub ibm_cloud: Vec<String>,
    /// Asana: the first id is the requester, all are allowed domains
    /// (`Asana-Allowed-Domains-Requester-Id`, `Asana-Allowed-Domain-Ids`).
    pub asana: Vec<String>,
    /// `ChatGPT` workspace ids (`ChatGPT-Allowed-Workspace-Id`).
    pub chatgpt: Vec<String>,
    /// `OpenAI` API organisation ids (`OpenAI-Allowed-Organization-Ids`).
    pub openai: Vec<String>,
    /// Anthropic organisation ids (`anthropic-allowed-org-ids`), at most 500.
    pub anthropic: Vec<String>,
}

impl Restrict {
    /// Every vendor by its key, with its tenants.
    pub fn by_vendor(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        [
            ("google", self.google.as_slice()),
            ("google_drive_deny_anonymous", &self.google_drive_deny_anonymous),
            ("google_cloud", &self.google_cloud),
            ("gemini_code_assist", &self.gemini_code_assist),
            ("microsoft", &self.microsoft),
            ("microsoft_v2", &self.microsoft_v2),
            ("microsoft_consumer", &self.microsoft_consumer),
            ("slack", &self.slack),
            ("dropbox", &self.dropbox),
            ("github", &self.github),
            ("youtube", &self.youtube),
            ("webex", &self.webex),
            ("zoom", &self.zoom),
            ("ibm_cloud", &self.ibm_cloud),
            ("asana", &self.asana),
            ("chatgpt", &self.chatgpt),
            ("openai", &self.openai),
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
        vendor: "google_drive_deny_anonymous",
        hosts: &["*.google.com"],
        header: "X-GoogApps-Drive-Deny-Anonymous",
        value: first,
    },
    Insertion {
        vendor: "google_cloud",
        hosts: &["*.googleapis.com", "*.google.com"],
        header: "X-Goog-Allowed-Resources",
        value: organisations,
    },
    Insertion {
        vendor: "gemini_code_assist",
        hosts: &["cloudcode-pa.googleapis.com", "cloudaicompanion.googleapis.com"],
        header: "X-GeminiCodeAssist-Allowed-Domains",
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
        vendor: "zoom",
        hosts: &["zoom.us", "*.zoom.us", "zoom.com", "*.zoom.com"],
        header: "X-ZoomApps-Policy",
        value: first,
    },
    Insertion {
        vendor: "ibm_cloud",
        hosts: &["cloud.ibm.com", "*.cloud.ibm.com"],
        header: "IBM-Cloud-Tenant",
        value: all,
    },
    Insertion {
        vendor: "asana",
        hosts: &["asana.com", "*.asana.com"],
        header: "Asana-Allowed-Domains-Requester-Id",
        value: first,
    },
    Insertion {
        vendor: "asana",
        hosts: &["asana.com", "*.asana.com"],
        header: "Asana-Allowed-Domain-Ids",
        value: all,
    },
    Insertion {
        vendor: "chatgpt",
        hosts: &["chatgpt.com"],
        header: "ChatGPT-Allowed-Workspace-Id",
        value: all,
    },
    Insertion {
        vendor: "openai",
        hosts: &["api.openai.com"],
        header: "OpenAI-Allowed-Organization-Ids",
        value: all,
    },
    Insertion {
        vendor: "anthropic",
        hosts: &["claude.ai", "api.anthropic.com", "claude.com", "anthropic.com"],
        header: "anthropic-allowed-org-ids",
        value: all,
    },
];

/// The headers of all vendors in force, made once.
#[derive(Debug, Default)]
pub struct Restrictions(Box<[Restriction]>);

/// One header, on these hosts.
#[derive(Debug)]
struct Restriction {
    hosts: &'static [&'static str],
    header: &'static str,
    value: Option<Bytes>,
}

impl Restrictions {
    /// The headers of requests to `host` (lower case, without port): what each is set to, or `None`
    /// where a client's own copy is only taken out. Of two that name the same header the first with a
    /// value stands.
    pub fn on(&self, host: &str) -> impl Iterator<Item = (&'static str, Option<&Bytes>)> {
        let here = self.0.iter().filter(move |it| it.hosts.iter().any(|on| is_host(on, host)));
        here.map(|it| (it.header, it.value.as_ref()))
    }
}

impl Restrict {
    /// Makes the headers.
    #[must_use]
    pub fn compile(&self) -> Restrictions {
        let made = self.in_force().map(|(insertion, tenants)| Restriction {
            hosts: insertion.hosts,
            header: insertion.header,
            value: (insertion.value)(tenants).map(Bytes::from),
        });
        Restrictions(made.collect())
    }

    /// Hosts that each vendor in force wants its headers on: a name, or one below it for a
    /// pattern.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.in_force().flat_map(|(insertion, _)| {
            insertion.hosts.iter().map(|host| (insertion.vendor, host.replace('*', "www")))
        })
    }

    /// Vendors in force that want their headers on this host.
    pub(crate) fn on<'h>(&'h self, host: &'h str) -> impl Iterator<Item = &'static str> + 'h {
        let here = |(insertion, _): &(&'static Insertion, _)| {
            insertion.hosts.iter().any(|on| is_host(on, host))
        };
        self.in_force().filter(here).map(|(insertion, _)| insertion.vendor)
    }

    fn in_force(&self) -> impl Iterator<Item = (&'static Insertion, &[String])> {
        self.by_vendor().filter(|(_, tenants)| !tenants.is_empty()).flat_map(|(vendor, tenants)| {
            INSERTIONS.iter().filter(move |it| it.vendor == vendor).map(move |it| (it, tenants))
        })
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

/// The vendor's document that names organisations by number, as base64 of its URL alphabet.
fn organisations(tenants: &[String]) -> Option<String> {
    use base64::Engine as _;
    let resources: Vec<String> =
        tenants.iter().map(|number| format!("organizations/{number}")).collect();
    let document = serde_json::json!({ "resources": resources, "options": "strict" });
    Some(base64::engine::general_purpose::URL_SAFE.encode(document.to_string()))
}
