//! Which source addresses a client may use: its own, and nobody else's.

use std::net::IpAddr;

use parking_lot::Mutex;

/// The addresses of one client.
#[derive(Debug)]
pub struct Sources(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    given: Vec<IpAddr>,
    /// Whether the client may choose for itself, and what it has chosen: nothing on its tunnel tells
    /// it an address, so the first of each family stays.
    chosen: Option<Vec<IpAddr>>,
}

impl Sources {
    /// Of a client that is given its addresses.
    #[must_use]
    pub fn assigned(given: Vec<IpAddr>) -> Self {
        Self(Mutex::new(Known { given, chosen: None }))
    }

    /// Of a client that chooses its own.
    #[must_use]
    pub fn chosen() -> Self {
        Self(Mutex::new(Known { given: Vec::new(), chosen: Some(Vec::new()) }))
    }

    /// Gives a client that chose its own these too: one that comes back another way is told them, and
    /// may use either.
    pub fn give(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut known = self.0.lock();
        let new: Vec<_> = addresses.into_iter().filter(|it| !known.given.contains(it)).collect();
        known.given.extend(new);
    }

    /// Whether the client may send from `address`.
    #[must_use]
    pub fn may_send(&self, address: IpAddr) -> bool {
        let mut known = self.0.lock();
        if known.given.contains(&address) {
            return true;
        }
        let Some(chosen) = &mut known.chosen else { return false };
        match chosen.iter().find(|known| known.is_ipv4() == address.is_ipv4()) {
            Some(known) => *known == address,
            None => {
                chosen.push(address);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_keeps_to_what_it_was_given_or_chose_first() {
        let given = Sources::assigned(vec![at("100.96.0.7")]);
        assert!(given.may_send(at("100.96.0.7")));
        assert!(!given.may_send(at("100.96.0.8")) && !given.may_send(at("fd00::7")));
        let chosen = Sources::chosen();
        assert!(chosen.may_send(at("10.77.0.2")) && chosen.may_send(at("10.77.0.2")));
        assert!(!chosen.may_send(at("10.77.0.3")));
        assert!(chosen.may_send(at("fd00::7")) && !chosen.may_send(at("fd00::8")));
    }

    #[test]
    fn one_that_comes_back_another_way_may_use_what_it_is_told_there() {
        let sources = Sources::chosen();
        assert!(sources.may_send(at("10.77.0.2")));
        sources.give([at("100.96.0.7"), at("fd00:1::7")]);
        assert!(sources.may_send(at("100.96.0.7")) && sources.may_send(at("fd00:1::7")));
        assert!(sources.may_send(at("10.77.0.2")) && !sources.may_send(at("100.96.0.8")));
        assert!(sources.may_send(at("fd00::7")) && !sources.may_send(at("fd00::8")));
    }
}
