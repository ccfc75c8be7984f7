//! Whose relay is it: from a relay key to its call.
//! Owns:  the slots that relay keys are made of.
//! Gives: O(1) from a media event to the call.
//! Never: a port, a packet.
//! Holds: a relay key is reused only with a new generation.

use shared::ids::RelayKey;
use shared::limits::{CALLS_PER_SHARD_MAX, RELAYS_PER_CALL_MAX};

use crate::slots::{Key, Slots};

#[derive(Debug)]
pub(crate) struct RelayOwners {
    calls: Slots<Key>,
}

impl RelayOwners {
    pub(crate) fn new() -> Self {
        Self { calls: Slots::new(CALLS_PER_SHARD_MAX * RELAYS_PER_CALL_MAX) }
    }

    pub(crate) fn insert(&mut self, call: Key) -> Option<RelayKey> {
        let key = self.calls.insert(call).ok()?;
        Some(RelayKey { slot: key.slot, generation: key.generation })
    }

    pub(crate) fn call_of(&self, relay: RelayKey) -> Option<Key> {
        self.calls.find(slot_key(relay)).copied()
    }

    pub(crate) fn remove(&mut self, relay: RelayKey) -> Option<Key> {
        self.calls.remove(slot_key(relay))
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

fn slot_key(relay: RelayKey) -> Key {
    Key { slot: relay.slot, generation: relay.generation }
}
