//! The names of a session's addresses, as its own queries told them: a flow to an address has the name
//! that was asked for.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Addresses remembered: a day's browsing of one person. The oldest are forgotten first.
const REMEMBERED_MAX: usize = 2_048;

/// What one session has asked for.
#[derive(Default)]
pub struct Names(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    names: HashMap<IpAddr, Arc<str>>,
    order: VecDeque<IpAddr>,
}

impl Names {
    /// Notes that `name` was answered with these addresses.
    pub fn remember(&self, name: &str, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        let name: Arc<str> = name.into();
        let mut remembered = self.0.lock();
        for address in addresses {
            if remembered.names.insert(*address, Arc::clone(&name)).is_none() {
                remembered.order.push_back(*address);
            }
            if remembered.order.len() > REMEMBERED_MAX
                && let Some(oldest) = remembered.order.pop_front()
            {
                remembered.names.remove(&oldest);
            }
        }
    }

    /// The name last asked for that has this address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<Arc<str>> {
        self.0.lock().names.get(&address).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_counts_and_the_oldest_addresses_are_forgotten() {
        let names = Names::default();
        let address = |number: u32| IpAddr::V4(number.into());
        names.remember("one.test", &[address(1)]);
        names.remember("two.test", &[address(1), address(2)]);
        assert_eq!(names.of(address(1)).as_deref(), Some("two.test"));
        let many = u32::try_from(REMEMBERED_MAX).unwrap_or(0);
        (3..many + 3).for_each(|number| names.remember("many.test", &[address(number)]));
        assert_eq!((names.of(address(1)), names.of(address(2))), (None, None));
        assert_eq!(names.0.lock().names.len(), REMEMBERED_MAX);
    }
}
