//! What a record does not say and its address or user agent tells: country, network, browser.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use maxminddb::{MaxMindDbError, path};

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

/// Country and network of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) country: Option<Box<str>>,
    pub(super) asn: Option<u32>,
}

/// Looks things up for records.
#[derive(Default)]
pub(super) struct Enrichment {
    agents: DashMap<Box<str>, Arc<Agent>>,
    geo: ArcSwap<Geo>,
}

/// Address databases in MaxMind's format, asked in order.
#[derive(Default)]
struct Geo(Vec<maxminddb::Reader<Vec<u8>>>);

impl Enrichment {
    /// Reads the databases anew. Where one cannot be read, those in force stay.
    pub(super) fn set_geo(&self, paths: &[PathBuf]) -> Result<(), MaxMindDbError> {
        let read = |path: &PathBuf| maxminddb::Reader::open_readfile(Path::new(path));
        let databases: Vec<_> = paths.iter().map(read).collect::<Result<_, _>>()?;
        self.geo.store(Arc::new(Geo(databases)));
        Ok(())
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

    pub(super) fn place(&self, address: Option<IpAddr>) -> Place {
        let geo = self.geo.load();
        let mut place = Place::default();
        let Some(address) = address.filter(|_| !geo.0.is_empty()) else { return place };
        for database in &geo.0 {
            let Ok(found) = database.lookup(address.to_canonical()) else { continue };
            if place.country.is_none() {
                let code: Result<Option<&str>, _> =
                    found.decode_path(&path!["country", "iso_code"]);
                place.country = code.ok().flatten().map(Into::into);
            }
            if place.asn.is_none() {
                let number = found.decode_path(&path!["autonomous_system_number"]);
                place.asn = number.ok().flatten();
            }
        }
        place
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

    use super::{AGENTS_MAX, Enrichment, Place};

    /// Made for tests: 198.51.100.0/24 is in DE and AS64500, 2001:db8::/32 in US.
    const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/event/tests/places.mmdb");

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

    #[test]
    fn an_address_has_country_and_network_where_a_database_is_given() {
        let enrichment = Enrichment::default();
        let address = Some([198, 51, 100, 7].into());
        assert_eq!(enrichment.place(address), Place::default());
        enrichment.set_geo(&[DATABASE.into()]).unwrap();
        let place = enrichment.place(address);
        assert_eq!((place.country.as_deref(), place.asn), (Some("DE"), Some(64500)));
        let six = "2001:db8::1".parse().unwrap();
        assert_eq!(enrichment.place(Some(six)).country.as_deref(), Some("US"));
        assert_eq!(enrichment.place(Some([10, 0, 0, 1].into())), Place::default());
        assert!(enrichment.set_geo(&[file!().into()]).is_err());
        assert_eq!(enrichment.place(address).asn, Some(64500));
    }
}
