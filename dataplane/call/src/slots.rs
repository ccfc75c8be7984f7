//! A slot table with generations: keys stay valid for exactly one tenant.
//! Owns:  the free list and the generation of each slot.
//! Gives: O(1) insert, look-up, remove; a stale key finds nothing.
//! Never: more slots than its limit; a full table hands the value back.
//! Holds: `len()` is the number of values that were inserted and not removed.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub slot: u32,
    pub generation: u32,
}

impl Key {
    /// As a number that can travel.
    pub(crate) const fn to_bits(self) -> u64 {
        ((self.slot as u64) << 32) | self.generation as u64
    }

    pub(crate) fn of_bits(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("masked to 32 bits");
        Self { slot: half(bits >> 32), generation: half(bits) }
    }
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
    most: usize,
}

/// A stretch of a table. Free slots cost a look as well as full ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub keys: Vec<Key>,
    pub looked_at: usize,
    /// Where the next one begins; `None` at the end of the table.
    pub next: Option<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0, most }
    }

    /// The key that the next `insert` will give, or `None` when the table is full.
    pub(crate) fn next_key(&self) -> Option<Key> {
        if self.len >= self.most {
            return None;
        }
        Some(match self.free.last() {
            Some(&slot) => Key { slot, generation: self.slots[slot as usize].generation },
            None => Key { slot: u32::try_from(self.slots.len()).ok()?, generation: 0 },
        })
    }

    /// # Errors
    /// Gives the value back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<Key, T> {
        let Some(key) = self.next_key() else { return Err(value) };
        if self.free.pop().is_none() {
            self.slots.push(Slot { generation: 0, value: None });
        }
        self.slots[key.slot as usize].value = Some(value);
        self.len += 1;
        Ok(key)
    }

    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    /// Whoever is in this slot now.
    pub(crate) fn at(&self, slot: u32) -> Option<(Key, &T)> {
        let found = self.slots.get(slot as usize)?;
        let key = Key { slot, generation: found.generation };
        found.value.as_ref().map(|value| (key, value))
    }

    pub(crate) fn find_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key { slot: u32::try_from(index).ok()?, generation: slot.generation };
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    /// The keys of the values in at most `most` slots from this one on.
    pub(crate) fn keys_from(&self, slot: u32, most: usize) -> Stretch {
        let begin = (slot as usize).min(self.slots.len());
        let end = begin.saturating_add(most).min(self.slots.len());
        let key = |(slot, found): (u32, &Slot<T>)| {
            found.value.as_ref().map(|_| Key { slot, generation: found.generation })
        };
        let keys = (slot..).zip(&self.slots[begin..end]).filter_map(key).collect();
        let next = u32::try_from(end).ok().filter(|_| end < self.slots.len());
        Stretch { keys, looked_at: end - begin, next }
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_and_a_full_table_gives_the_value_back() {
        let mut slots = Slots::new(1);
        let first = slots.insert("a").expect("there is room");
        assert_eq!(slots.insert("b"), Err("b"));
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("c").expect("there is room again");
        assert_eq!(first.slot, second.slot);
        assert_eq!((slots.find(first), slots.find(second)), (None, Some(&"c")));
        assert_eq!((slots.remove(first), slots.len()), (None, 1));
    }

    #[test]
    fn a_stretch_of_free_slots_is_no_longer_than_one_of_full_ones() {
        let mut slots = Slots::new(10);
        let keys: Vec<Key> = (0..10).map(|_| slots.insert(()).expect("there is room")).collect();
        for key in &keys[..9] {
            slots.remove(*key);
        }
        let free = |next| Stretch { keys: Vec::new(), looked_at: 4, next: Some(next) };
        assert_eq!((slots.keys_from(0, 4), slots.keys_from(4, 4)), (free(4), free(8)));
        let last = Stretch { keys: vec![keys[9]], looked_at: 2, next: None };
        assert_eq!(slots.keys_from(8, 4), last);
        let beyond = Stretch { keys: Vec::new(), looked_at: 0, next: None };
        assert_eq!(slots.keys_from(11, 4), beyond);
    }
}
