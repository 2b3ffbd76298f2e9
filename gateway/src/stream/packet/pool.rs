//! The inner addresses that clients are given: one of each family for each session.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use parking_lot::Mutex;

/// Addresses of a network that are the gateway's own: it answers name queries at the first, and shows
/// its pages there.
const OWN: u32 = 1;

/// The pool of a point of presence. The first address of each network is the gateway's own.
pub struct AddressPool {
    v4: Ipv4Net,
    v6: Ipv6Net,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    numbers: HashSet<u32>,
    last: u32,
}

/// The addresses of one session; they go back when it is dropped.
pub struct Lease {
    pool: Arc<AddressPool>,
    number: u32,
}

impl AddressPool {
    #[must_use]
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Self {
        Self { v4, v6, used: Mutex::default() }
    }

    /// The addresses at which the gateway itself answers.
    #[must_use]
    pub fn own(&self) -> [IpAddr; 2] {
        [self.ipv4(OWN).into(), self.ipv6(OWN).into()]
    }

    /// Sessions it has addresses for.
    #[must_use]
    pub fn size(&self) -> u32 {
        let bits = (32 - self.v4.prefix_len()).min(128 - self.v6.prefix_len()).min(31);
        // The network's own address, its broadcast address and ours.
        (1_u32 << bits).saturating_sub(3)
    }

    /// Addresses for one session: those it had before where they are free. `None` where all are taken.
    #[must_use]
    pub fn lease(self: &Arc<Self>, before: &[IpAddr]) -> Option<Lease> {
        let size = self.size();
        let mut used = self.used.lock();
        let wanted = before.iter().find_map(|address| self.number(*address));
        let number = match wanted {
            Some(number) if !used.numbers.contains(&number) => number,
            _ => {
                if used.numbers.len() >= size as usize {
                    return None;
                }
                let start = used.last;
                let free = (1..=size).map(|step| OWN + 1 + (start + step) % size);
                free.into_iter().find(|number| !used.numbers.contains(number))?
            }
        };
        used.numbers.insert(number);
        used.last = number - OWN - 1;
        drop(used);
        Some(Lease { pool: Arc::clone(self), number })
    }

    /// The number of an address that can be leased.
    fn number(&self, address: IpAddr) -> Option<u32> {
        let number = match address {
            IpAddr::V4(v4) if self.v4.contains(&v4) => u32::from(v4) - u32::from(self.v4.network()),
            IpAddr::V6(v6) if self.v6.contains(&v6) => {
                u32::try_from(u128::from(v6) - u128::from(self.v6.network())).ok()?
            }
            _ => return None,
        };
        (OWN + 1..=OWN + self.size()).contains(&number).then_some(number)
    }

    fn ipv4(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.v4.network()).wrapping_add(number))
    }

    fn ipv6(&self, number: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.v6.network()).wrapping_add(number.into()))
    }
}

impl Lease {
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.pool.ipv4(self.number)
    }

    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.pool.ipv6(self.number)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.used.lock().numbers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn pool(v4: &str) -> Arc<AddressPool> {
        Arc::new(AddressPool::new(v4.parse().unwrap(), "fd00::/64".parse().unwrap()))
    }

    #[test]
    fn no_two_sessions_have_an_address_and_a_session_gets_its_own_back() {
        let pool = pool("100.96.0.0/28");
        let own = pool.own();
        let leases: Vec<_> = std::iter::from_fn(|| pool.lease(&[])).collect();
        assert_eq!(leases.len(), 13);
        let mut addresses: Vec<IpAddr> = leases.iter().map(|it| it.ipv4().into()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 13);
        assert!(!addresses.contains(&own[0]));
        assert!(!addresses.contains(&"100.96.0.15".parse().unwrap()));
        let mut leases = leases;
        let before = leases.remove(3);
        let (v4, v6) = (before.ipv4(), before.ipv6());
        drop(before);
        let again = pool.lease(&[v6.into()]).unwrap();
        assert_eq!((again.ipv4(), again.ipv6()), (v4, v6));
    }

    #[test]
    fn somebody_elses_or_a_strange_address_is_not_given() {
        let pool = pool("100.96.0.0/16");
        let first = pool.lease(&[]).unwrap();
        for wanted in ["192.0.2.1", "100.96.0.1", "100.96.0.0", "100.96.255.255"] {
            let lease = pool.lease(&[wanted.parse().unwrap()]).unwrap();
            assert_ne!(lease.ipv4().to_string(), wanted);
        }
        let second = pool.lease(&[first.ipv4().into()]).unwrap();
        assert_ne!(second.ipv4(), first.ipv4());
    }
}
