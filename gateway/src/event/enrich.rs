//! What a record does not say and its address or user agent tells: country, network, browser.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use crate::snapshot::Places;

/// User agents remembered: there are few in one place at a time, and each takes some ten
/// microseconds to take apart. Beyond, all are forgotten.
const AGENTS_MAX: usize = 8192;
/// Longest user agent looked at; what is written is cut there too.
const AGENT_BYTES_MAX: usize = super::line::TEXT_BYTES_MAX;

/// What a user agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) browser: Option<Box<str>>,
    pub(super) version: Option<Box<str>>,
    pub(super) os: Option<Box<str>>,
    /// `pc`, `smartphone`, `mobilephone`, `appliance`, `crawler` or `misc`.
    pub(super) device: Option<Box<str>>,
}

/// Looks things up for records.
#[derive(Default)]
pub(super) struct Enrichment {
    agents: DashMap<Box<str>, Arc<Agent>>,
    places: ArcSwap<Places>,
}

impl Enrichment {
    pub(super) fn set_places(&self, places: Arc<Places>) {
        self.places.store(places);
    }

    pub(super) fn agent(&self, text: &str) -> Option<Arc<Agent>> {
        if text.is_empty() || text.len() > AGENT_BYTES_MAX {
            return None;
        }
        if let Some(known) = self.agents.get(text) {
            return Some(Arc::clone(&known));
        }
        let agent = Arc::new(taken_apart(text));
        if self.agents.len() >= AGENTS_MAX {
            self.agents.clear();
        }
        self.agents.insert(text.into(), Arc::clone(&agent));
        Some(agent)
    }

    /// Country and network of an address.
    pub(super) fn place(&self, address: Option<IpAddr>) -> (Option<Box<str>>, Option<u32>) {
        let places = self.places.load();
        let country = address.and_then(|address| places.country(address).map(Into::into));
        (country, address.and_then(|address| places.network(address)))
    }
}

fn taken_apart(text: &str) -> Agent {
    let Some(found) = woothee::parser::Parser::new().parse(text) else { return Agent::default() };
    let known = |value: &str| {
        let told = !value.is_empty() && value != woothee::woothee::VALUE_UNKNOWN;
        told.then(|| Box::from(value))
    };
    Agent {
        browser: known(found.name),
        version: known(found.version),
        os: known(found.os),
        device: known(found.category),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{AGENTS_MAX, Enrichment};

    #[test]
    fn a_user_agent_names_browser_system_and_device() {
        let text = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let enrichment = Enrichment::default();
        let agent = enrichment.agent(text).unwrap();
        assert_eq!(agent.browser.as_deref(), Some("Firefox"));
        assert_eq!(agent.version.as_deref(), Some("140.0"));
        assert_eq!((agent.os.as_deref(), agent.device.as_deref()), (Some("Linux"), Some("pc")));
        assert_eq!(enrichment.agent("nonsense").unwrap().browser, None);
        assert!(enrichment.agent(&"x".repeat(2000)).is_none());
    }

    #[test]
    fn user_agents_remembered_are_bounded() {
        let enrichment = Enrichment::default();
        for number in 0..AGENTS_MAX * 2 + 10 {
            enrichment.agent(&format!("agent {number}"));
        }
        assert!(enrichment.agents.len() <= AGENTS_MAX);
    }
}
