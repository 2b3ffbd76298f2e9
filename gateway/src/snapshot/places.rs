//! Where an address is: country and network, from databases in MaxMind's format.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use maxminddb::{MaxMindDbError, Reader, WithinOptions, path};
use policy::fact::{Fact, Unobtainable, Value};

/// Networks that are looked at to see whether a database names countries at all: those that do, do so
/// for nearly every one.
const LOOKED_AT: usize = 1000;

/// Databases of `events.geoip`, asked in order: the first that knows, answers.
#[derive(Default)]
pub struct Places {
    databases: Vec<Reader<Vec<u8>>>,
    names_countries: bool,
}

impl Places {
    /// Reads them whole. The error names the file by its index.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, (usize, MaxMindDbError)> {
        let mut databases = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            databases.push(Reader::open_readfile(path).map_err(|error| (index, error))?);
        }
        let names_countries = databases.iter().any(names_countries);
        Ok(Self { databases, names_countries })
    }

    /// Whether any of them names countries; one of networks alone does not.
    #[must_use]
    pub fn names_countries(&self) -> bool {
        self.names_countries
    }

    /// ISO 3166-1 alpha-2, upper case.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        self.databases.iter().find_map(|database| {
            let found = database.lookup(address).ok()?;
            found.decode_path(&path!["country", "iso_code"]).ok().flatten()
        })
    }

    /// The number of the autonomous system.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Option<u32> {
        let address = address.to_canonical();
        self.databases.iter().find_map(|database| {
            let found = database.lookup(address).ok()?;
            found.decode_path(&path!["autonomous_system_number"]).ok().flatten()
        })
    }

    /// The country as rules see it. An address that is in none, as private ones are, has none; where no
    /// database names countries it cannot be had, and rules over it fail closed.
    #[must_use]
    pub fn fact(&self, address: IpAddr) -> Fact<'_> {
        if !self.names_countries {
            return Fact::Unobtainable(Unobtainable::EngineDown);
        }
        self.country(address).map_or(Fact::Inapplicable, |code| Fact::Known(Value::Text(code)))
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = self.databases.iter().map(|database| &database.metadata().database_type);
        formatter.debug_list().entries(types).finish()
    }
}

fn names_countries(database: &Reader<Vec<u8>>) -> bool {
    let Ok(mut networks) = database.networks(WithinOptions::default()) else { return false };
    networks.by_ref().take(LOOKED_AT).flatten().any(|found| {
        let code: Result<Option<&str>, _> = found.decode_path(&path!["country", "iso_code"]);
        code.is_ok_and(|code| code.is_some())
    })
}

/// The database that tests have: 198.51.100.0/24 is in DE and AS64500, 2001:db8::/32 in US.
#[cfg(test)]
const OF_TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/event/tests/places.mmdb");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) fn of_tests() -> Places {
    Places::load(&[OF_TESTS.into()]).unwrap()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_has_country_and_network_where_a_database_says_so() {
        let places = of_tests();
        let address = "::ffff:198.51.100.7".parse().unwrap();
        assert_eq!((places.country(address), places.network(address)), (Some("DE"), Some(64500)));
        assert_eq!(places.country("2001:db8::1".parse().unwrap()), Some("US"));
        assert_eq!(places.fact([198, 51, 100, 7].into()), Fact::Known(Value::Text("DE")));
        assert_eq!(places.fact([10, 0, 0, 1].into()), Fact::Inapplicable);
        assert_eq!(Places::load(&[OF_TESTS.into(), file!().into()]).unwrap_err().0, 1);
    }

    #[test]
    fn without_a_database_of_countries_none_can_be_had() {
        let unknown = Fact::Unobtainable(Unobtainable::EngineDown);
        assert_eq!(Places::default().fact([198, 51, 100, 7].into()), unknown);
    }
}
