//! A table by name of which a copy with one entry changed shares almost all the rest.
//! Owns:  the entries, in parts that are chosen by the hash of a name.
//! Gives: look-up in O(1); a copy costs the list of parts, a change the one part that it is in.
//! Never: an order; a part that somebody else still reads is not written.
//! Holds: `len` is the number of entries.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

/// Of ten thousand entries a change copies some twenty. A power of two, as the hash is cut to it.
const PARTS: usize = 512;

type Part<V> = HashMap<Box<str>, V>;

#[derive(Clone, Debug)]
pub struct ByName<V> {
    /// Empty as long as there is no entry.
    parts: Vec<Arc<Part<V>>>,
    len: usize,
}

/// FNV-1a: names are chosen by the operator, and the parts need not be safe from anybody.
fn part_of(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from((hash ^ (hash >> 32)) % PARTS as u64).expect("below the number of parts")
}

impl<V> ByName<V> {
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, name: &str) -> Option<&V> {
        self.parts.get(part_of(name))?.get(name)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Box<str>, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    pub fn keys(&self) -> impl Iterator<Item = &Box<str>> {
        self.iter().map(|(name, _)| name)
    }

    /// How many entries stand in parts that another table does not have as well.
    pub fn unshared(&self, other: &Self) -> usize {
        let pairs = self.parts.iter().enumerate();
        let own = pairs.filter(|(place, part)| {
            other.parts.get(*place).is_none_or(|other| !Arc::ptr_eq(part, other))
        });
        own.map(|(_, part)| part.len()).sum()
    }
}

impl<V: Clone> ByName<V> {
    pub fn insert(&mut self, name: Box<str>, value: V) -> Option<V> {
        let before = self.part_mut(&name).insert(name, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub fn remove(&mut self, name: &str) -> Option<V> {
        if !self.contains_key(name) {
            return None; // nothing is copied for it
        }
        let before = self.part_mut(name).remove(name);
        self.len -= usize::from(before.is_some());
        before
    }

    fn part_mut(&mut self, name: &str) -> &mut Part<V> {
        if self.parts.is_empty() {
            // One empty part stands in every place until something is put there.
            self.parts = std::iter::repeat_n(Arc::new(Part::new()), PARTS).collect();
        }
        Arc::make_mut(&mut self.parts[part_of(name)])
    }
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone> FromIterator<(Box<str>, V)> for ByName<V> {
    fn from_iter<I: IntoIterator<Item = (Box<str>, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        for (name, value) in entries {
            table.insert(name, value);
        }
        table
    }
}

impl<V: Clone, const N: usize> From<[(Box<str>, V); N]> for ByName<V> {
    fn from(entries: [(Box<str>, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<V> Index<&str> for ByName<V> {
    type Output = V;

    fn index(&self, name: &str) -> &V {
        self.get(name).expect("whoever indexes knows that it is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd() -> ByName<u32> {
        (0..10_000).map(|number| (number.to_string().into(), number)).collect()
    }

    #[test]
    fn what_was_put_in_is_found_and_counted() {
        let mut table = crowd();
        assert_eq!((table.len(), table.iter().count()), (10_000, 10_000));
        assert!((0..10_000).all(|number| table.get(&number.to_string()) == Some(&number)));
        assert_eq!(table.insert("7".into(), 70), Some(7));
        assert_eq!((table["7"], table.len()), (70, 10_000));
        assert_eq!((table.remove("7"), table.remove("7"), table.len()), (Some(70), None, 9_999));
        assert!(!table.contains_key("7") && ByName::<u32>::new().is_empty());
    }

    #[test]
    fn a_changed_copy_shares_all_but_one_part() {
        let before = crowd();
        let mut after = before.clone();
        after.insert("10000".into(), 10_000);
        let own = after.unshared(&before);
        assert!((1..100).contains(&own), "{own} entries were copied");
        assert_eq!((before.len(), after.len()), (10_000, 10_001));
        assert!(!before.contains_key("10000"));
        let mut same = before.clone();
        same.remove("nobody");
        assert_eq!(same.unshared(&before), 0);
    }
}
