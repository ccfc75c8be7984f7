//! What happens when: one queue of future entries in virtual time.
//! Owns:  `Agenda`, entries by instant and, within one instant, by the order they were made in.
//! Gives: the next instant and the entries that are due.
//! Never: a clock; the world moves time to the next entry.
//! Holds: equal instants come out first in, first out, so a run has one order only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shared::time::Instant;

#[derive(Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    made: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    order: u64,
    what: T,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }
}

impl<T> Agenda<T> {
    pub fn push(&mut self, at: Instant, what: T) {
        self.heap.push(Reverse(Entry { at, order: self.made, what }));
        self.made += 1;
    }

    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }

    pub fn clear(&mut self) {
        self.heap.clear();
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_instant_keep_their_order() {
        let mut agenda = Agenda::default();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            agenda.push(Instant::from_millis(at), what);
        }
        assert_eq!(agenda.next_at(), Some(Instant::from_millis(1)));
        let mut order = String::new();
        while let Some(what) = agenda.pop_due(Instant::from_millis(9)) {
            order.push(what);
        }
        assert_eq!(order, "abcd");
    }

    #[test]
    fn what_lies_ahead_is_not_due() {
        let mut agenda = Agenda::default();
        agenda.push(Instant::from_millis(2), ());
        assert!(agenda.pop_due(Instant::from_millis(1)).is_none());
        assert!(agenda.pop_due(Instant::from_millis(2)).is_some());
    }
}
