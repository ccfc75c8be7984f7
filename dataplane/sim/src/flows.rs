//! TCP in the world: reliable, ordered flows of whole messages that can break (RFC 3261 18).
//! Owns:  open flows, their keys, and when the last message on them arrives.
//! Gives: arrival times that never overtake each other; the flow between a phone and a shard.
//! Never: bytes; a message is handed over whole.
//! Holds: a key is never given twice, a broken flow carries nothing more.

use std::net::SocketAddr;
use std::time::Duration;

use shared::ids::{FlowKey, ShardId};
use shared::time::Instant;

#[derive(Clone, Debug)]
pub struct Flow {
    pub key: FlowKey,
    pub phone: usize,
    /// The phone's end, as the gateway sees it.
    pub peer: SocketAddr,
    pub is_open: bool,
    last_in: Instant,
    last_out: Instant,
}

#[derive(Debug, Default)]
pub struct Flows {
    all: Vec<Flow>,
}

impl Flows {
    pub fn open(&mut self, shard: ShardId, phone: usize, peer: SocketAddr) -> FlowKey {
        let slot = u32::try_from(self.all.len()).expect("few flows");
        let key = FlowKey { shard, slot, generation: 1 };
        let (last_in, last_out) = (Instant::ZERO, Instant::ZERO);
        self.all.push(Flow { key, phone, peer, is_open: true, last_in, last_out });
        key
    }

    pub fn find(&self, key: FlowKey) -> Option<&Flow> {
        self.all.get(key.slot as usize).filter(|flow| flow.key == key && flow.is_open)
    }

    pub fn of_phone(&self, phone: usize) -> Option<FlowKey> {
        let mut open = self.all.iter().rev().filter(|flow| flow.is_open);
        open.find(|flow| flow.phone == phone).map(|flow| flow.key)
    }

    /// An open flow of this shard to that peer: what a shell would reuse.
    pub fn to_peer(&self, shard: ShardId, peer: SocketAddr) -> Option<FlowKey> {
        let mut open = self.all.iter().rev().filter(|flow| flow.is_open);
        open.find(|flow| flow.peer == peer && flow.key.shard == shard).map(|flow| flow.key)
    }

    pub fn close(&mut self, key: FlowKey) -> Option<Flow> {
        let flow = self.all.get_mut(key.slot as usize).filter(|flow| flow.key == key)?;
        std::mem::replace(&mut flow.is_open, false).then(|| flow.clone())
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// When a message that leaves now arrives: never before the one ahead of it.
    pub fn arrival(
        &mut self,
        key: FlowKey,
        inward: bool,
        now: Instant,
        delay: Duration,
    ) -> Instant {
        let flow = &mut self.all[key.slot as usize];
        let last = if inward { &mut flow.last_in } else { &mut flow.last_out };
        *last = (now + delay).max(*last + Duration::from_nanos(1));
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_a_flow_keep_their_order() {
        let mut flows = Flows::default();
        let key = flows.open(ShardId(0), 0, "10.0.0.9:40000".parse().expect("an address"));
        let now = Instant::from_millis(10);
        let slow = flows.arrival(key, true, now, Duration::from_millis(100));
        let quick = flows.arrival(key, true, now, Duration::from_millis(1));
        assert!(slow < quick);
    }

    #[test]
    fn a_broken_flow_is_not_found_again() {
        let mut flows = Flows::default();
        let peer = "10.0.0.9:40000".parse().expect("an address");
        let key = flows.open(ShardId(1), 3, peer);
        assert_eq!((flows.of_phone(3), flows.to_peer(ShardId(1), peer)), (Some(key), Some(key)));
        assert!(flows.close(key).is_some());
        assert!(flows.close(key).is_none());
        assert_eq!((flows.of_phone(3), flows.to_peer(ShardId(1), peer)), (None, None));
    }
}
