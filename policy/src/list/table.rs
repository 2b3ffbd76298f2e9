//! Names in one block of memory, found by a hash that grows label by label from the right.
//!
//! A million names of 20 bytes take about 35 MB: 4 bytes beside each name, and 5 bytes for each of
//! two places to look.

use super::name::Covers;
use super::{ListError, NAMES_MAX};

/// Bytes before each name: its set (2), what it covers, its length.
const HEAD: usize = 4;

/// Places looked at before a name counts as absent. Half the places are free, so chance needs some
/// sixty among millions; more was made on purpose.
const PROBES_MAX: usize = 256;

/// Times a table is laid out anew, under another seed, before it is given up.
const SEEDS_MAX: u64 = 4;

/// Places of an empty table.
const PLACES_MIN: usize = 16;

#[derive(Debug)]
pub(super) struct Table {
    /// Entries, one after the other.
    arena: Vec<u8>,
    /// Where each place's entry begins; only where `tags` has one.
    places: Vec<u32>,
    /// Some bits of each place's hash; 0 is free.
    tags: Vec<u8>,
    names: usize,
    seed: u64,
}

/// One entry as it lies in the arena.
#[derive(Clone, Copy)]
struct Entry<'t> {
    at: usize,
    set: u16,
    covers: Covers,
    name: &'t [u8],
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            arena: Vec::new(),
            places: vec![0; PLACES_MIN],
            tags: vec![0; PLACES_MIN],
            names: 0,
            seed: 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity() + self.places.capacity() * 4 + self.tags.capacity()
    }

    /// Adds a name of at most 255 bytes; `merge` makes the set of a name that is there already.
    pub(super) fn add(
        &mut self,
        name: &str,
        covers: Covers,
        set: u16,
        merge: impl FnOnce(u16) -> Result<u16, ListError>,
    ) -> Result<(), ListError> {
        let Ok(length) = u8::try_from(name.len()) else { return Ok(()) };
        if self.names >= NAMES_MAX {
            return Err(ListError::TooManyNames);
        }
        let hash = hash_of(self.seed, name.as_bytes());
        if let Some(entry) = self.seek(hash, name.as_bytes()) {
            let (at, covers) = (entry.at, entry.covers.with(covers));
            let set = merge(entry.set)?;
            self.write_head(at, set, covers, length);
            return Ok(());
        }
        if (self.names + 1) * 2 > self.places.len() {
            self.lay_out(self.places.len() * 2)?;
        }
        let at = self.arena.len();
        let place = u32::try_from(at).map_err(|_| ListError::TooManyNames)?;
        self.arena.extend_from_slice(&[0; HEAD]);
        self.arena.extend_from_slice(name.as_bytes());
        self.write_head(at, set, covers, length);
        self.names += 1;
        // The seed may have changed while places were made.
        let hash = hash_of(self.seed, name.as_bytes());
        if self.put(hash, place) { Ok(()) } else { self.lay_out(self.places.len()) }
    }

    /// Lets go of memory that was only needed while it grew.
    pub(super) fn finish(&mut self) -> Result<(), ListError> {
        self.arena.shrink_to_fit();
        self.lay_out((self.names * 2).next_power_of_two().max(PLACES_MIN))
    }

    /// The set of the longest name that covers the host.
    pub(super) fn find(&self, host: &str) -> Option<u16> {
        let host = host.as_bytes();
        let mut hash = begin(self.seed);
        let mut found = None;
        for (at, &byte) in host.iter().enumerate().rev() {
            hash = grow(hash, byte);
            let whole = at == 0;
            if !whole && host.get(at - 1) != Some(&b'.') {
                continue;
            }
            let wanted = if whole { Covers::SELF } else { Covers::BELOW };
            let suffix = host.get(at..).unwrap_or_default();
            if let Some(entry) = self.seek(finish(hash), suffix)
                && entry.covers.has(wanted)
            {
                found = (!entry.covers.is_exception()).then_some(entry.set);
            }
        }
        found
    }

    fn seek(&self, hash: u64, name: &[u8]) -> Option<Entry<'_>> {
        let tag = tag_of(hash);
        let mask = self.places.len().wrapping_sub(1);
        let mut place = place_of(hash, mask);
        for _ in 0..PROBES_MAX {
            match self.tags.get(place) {
                None | Some(0) => return None,
                Some(&there) if there == tag => {
                    let entry = self.entry(self.places.get(place).copied()?)?;
                    if entry.name == name {
                        return Some(entry);
                    }
                }
                Some(_) => {}
            }
            place = (place + 1) & mask;
        }
        None
    }

    fn entry(&self, at: u32) -> Option<Entry<'_>> {
        let at = usize::try_from(at).ok()?;
        let (head, rest) = self.arena.get(at..)?.split_first_chunk::<HEAD>()?;
        let [low, high, covers, length] = *head;
        let name = rest.get(..usize::from(length))?;
        Some(Entry { at, set: u16::from_le_bytes([low, high]), covers: Covers(covers), name })
    }

    fn write_head(&mut self, at: usize, set: u16, covers: Covers, length: u8) {
        let [low, high] = set.to_le_bytes();
        if let Some(head) = self.arena.get_mut(at..at + HEAD) {
            head.copy_from_slice(&[low, high, covers.0, length]);
        }
    }

    /// Takes the first free place; `false` where there is none near enough.
    fn put(&mut self, hash: u64, at: u32) -> bool {
        let mask = self.places.len().wrapping_sub(1);
        let mut place = place_of(hash, mask);
        for _ in 0..PROBES_MAX {
            if let (Some(tag @ 0), Some(slot)) =
                (self.tags.get_mut(place), self.places.get_mut(place))
            {
                *tag = tag_of(hash);
                *slot = at;
                return true;
            }
            place = (place + 1) & mask;
        }
        false
    }

    /// Gives every entry its place among so many (a power of two).
    fn lay_out(&mut self, places: usize) -> Result<(), ListError> {
        for seed in self.seed..self.seed + SEEDS_MAX {
            self.seed = seed;
            self.places = vec![0; places];
            self.tags = vec![0; places];
            if self.place_all() {
                return Ok(());
            }
        }
        Err(ListError::Collisions)
    }

    fn place_all(&mut self) -> bool {
        let mut at = 0;
        while let Some(entry) = u32::try_from(at).ok().and_then(|at| self.entry(at)) {
            let next = at + HEAD + entry.name.len();
            let hash = hash_of(self.seed, entry.name);
            if !u32::try_from(at).is_ok_and(|at| self.put(hash, at)) {
                return false;
            }
            at = next;
        }
        true
    }
}

/// The hash of a name read from its end: each suffix's hash is on the way to the whole name's.
fn hash_of(seed: u64, name: &[u8]) -> u64 {
    finish(name.iter().rev().fold(begin(seed), |hash, &byte| grow(hash, byte)))
}

/// FNV-1a's multiplier and offset.
fn begin(seed: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xcbf2_9ce4_8422_2325
}

fn grow(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads what the last bytes did to the high bits over all (MurmurHash3's finaliser).
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// 1 to 255, of bits that do not choose the place.
fn tag_of(hash: u64) -> u8 {
    let [tag, ..] = hash.to_be_bytes();
    tag.max(1)
}

fn place_of(hash: u64, mask: usize) -> usize {
    // The low bits are the place; a machine of 32 bits has no table that needs more.
    usize::try_from(hash & mask as u64).unwrap_or(0)
}
