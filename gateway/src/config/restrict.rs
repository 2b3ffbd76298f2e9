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
