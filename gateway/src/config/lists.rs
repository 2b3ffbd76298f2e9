//! Categories of a tenant's own: lists of domains in files, and names in tenant.yaml.

use std::path::PathBuf;

use policy::list::ListFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One list of domains in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainListFile {
    /// The file. Tenants that name the same content share one copy in memory.
    pub file: PathBuf,
    /// How it is written; null tells it by its first lines.
    #[serde(default)]
    pub format: Option<Format>,
    /// The category that its names are in, beside those that a `csv` gives them.
    #[serde(default)]
    pub category: Option<String>,
}

/// The formats in which lists are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A name on each line, for itself and all names below it.
    Plain,
    /// `address name…`, each name for itself alone.
    Hosts,
    /// `||name^` rules; exceptions with `@@`.
    Adblock,
    /// `name,category…`
    Csv,
}

impl From<Format> for ListFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Plain => Self::Plain,
            Format::Hosts => Self::Hosts,
            Format::Adblock => Self::Adblock,
            Format::Csv => Self::Csv,
        }
    }
}
