//! Which source addresses a client may use: its own, and nobody else's.

use std::net::IpAddr;

use parking_lot::Mutex;

/// The addresses of one client.
#[derive(Debug)]
pub enum Sources {
    /// Given to it.
    Assigned(Vec<IpAddr>),
    /// Chosen by it, since nothing on its tunnel tells it one: the first of each family stays.
    Chosen(Mutex<Vec<IpAddr>>),
}

impl Sources {
    #[must_use]
    pub fn chosen() -> Self {
        Self::Chosen(Mutex::default())
    }

    /// Whether the client may send from `address`.
    #[must_use]
    pub fn may_send(&self, address: IpAddr) -> bool {
        match self {
            Self::Assigned(assigned) => assigned.contains(&address),
            Self::Chosen(chosen) => {
                let mut chosen = chosen.lock();
                let of_family = chosen.iter().find(|known| known.is_ipv4() == address.is_ipv4());
                match of_family {
                    Some(known) => *known == address,
                    None => {
                        chosen.push(address);
                        true
                    }
                }
            }
        }
    }
}
