//! The data plane as the control plane sees it: commands in, events out.
//! Owns:  the trait `Plane`; `shard::Shards` is the one that serves calls.
//! Gives: a seam where tests put a plane of their own.
//! Never: waits for a shard.
//! Holds: the event descriptor is readable while events wait.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use shard::{Keys, Shards};
use shared::command::Command;
use shared::event::Event;
use shared::ids::ShardId;

pub trait Plane: fmt::Debug + Send + Sync + 'static {
    fn count(&self) -> u8;

    /// Gives the command back when the shard's queue is full.
    fn send(&self, shard: ShardId, command: Command) -> Result<(), Command>;

    /// New TLS connections are made with these keys; gives those from before.
    fn renew(&self, keys: &Arc<Keys>) -> Option<Arc<Keys>>;

    /// Takes at most `most` events; 0 when none wait.
    fn take_events(&self, most: usize, out: &mut Vec<Event>) -> usize;

    fn event_fd(&self) -> BorrowedFd<'_>;

    fn clear_event_fd(&self);
}

impl Plane for Shards {
    fn count(&self) -> u8 {
        Self::count(self)
    }

    fn send(&self, shard: ShardId, command: Command) -> Result<(), Command> {
        Self::send(self, shard, command)
    }

    fn renew(&self, keys: &Arc<Keys>) -> Option<Arc<Keys>> {
        Self::renew(self, keys)
    }

    fn take_events(&self, most: usize, out: &mut Vec<Event>) -> usize {
        Self::take_events(self, most, out)
    }

    fn event_fd(&self) -> BorrowedFd<'_> {
        Self::event_fd(self)
    }

    fn clear_event_fd(&self) {
        Self::clear_event_fd(self);
    }
}

/// Every shard of a plane.
pub fn shards(plane: &dyn Plane) -> impl Iterator<Item = ShardId> + use<> {
    (0..plane.count()).map(ShardId)
}
