//! A small map that forgets what was used least recently; empty it costs nothing.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A bounded map in order of use. Not shared: put it behind a lock of its owner.
///
/// One instance per tenant and purpose is affordable because nothing is reserved up front, which
/// is what keeps one tenant's entries (and the time a lookup takes) out of another's sight.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    slots: HashMap<K, Slot<V>>,
    capacity: usize,
    clock: u64,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: u64,
}

/// Evicting one in eight at a time makes the scan for the oldest cost a few steps per insertion.
const EVICTED_SHARE: usize = 8;

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// An empty map of at most `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slots: HashMap::new(), capacity: capacity.max(1), clock: 0 }
    }

    /// The entry of `key`, which thereby becomes the most recently used.
    pub(crate) fn find<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.clock = self.clock.wrapping_add(1);
        let slot = self.slots.get_mut(key)?;
        slot.used = self.clock;
        Some(&mut slot.value)
    }

    /// Sets the entry of `key`, evicting the least recently used where the map is full.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.clock = self.clock.wrapping_add(1);
        if self.slots.len() >= self.capacity && !self.slots.contains_key(&key) {
            self.evict();
        }
        self.slots.insert(key, Slot { value, used: self.clock });
    }

    /// Takes the entry of `key` out.
    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.slots.remove(key).map(|slot| slot.value)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    fn evict(&mut self) {
        let mut ages: Vec<u64> = self.slots.values().map(|slot| slot.used).collect();
        let share = (ages.len() / EVICTED_SHARE).min(ages.len().saturating_sub(1));
        let (_, &mut threshold, _) = ages.select_nth_unstable(share);
        self.slots.retain(|_, slot| slot.used > threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_its_bound_and_keeps_what_is_used() {
        let mut map = Bounded::new(64);
        map.insert(0_u32, "kept");
        for key in 1..10_000 {
            map.insert(key, "passing");
            assert_eq!(map.find(&0), Some(&mut "kept"));
            assert!(map.len() <= 64);
        }
    }

    #[test]
    fn a_bound_of_one_holds_the_latest() {
        let mut map = Bounded::new(1);
        map.insert(1, 1);
        map.insert(2, 2);
        assert_eq!(map.find(&1), None);
        assert_eq!(map.len(), 1);
        assert_eq!(map.find(&2), Some(&mut 2));
    }
}
