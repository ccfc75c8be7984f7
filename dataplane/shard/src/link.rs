//! What one shard and the control plane share: bounded queues and the wake-ups of both ends.
//! Owns:  the command queue and the event queue of one shard, and the place for its next keys.
//! Gives: pushes that never wait; a full queue is the pusher's answer.
//! Never: a lock.
//! Holds: commands and events arrive in the order they were pushed.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use shared::command::Command;
use shared::event::Event;
use shared::limits;

use crate::bell::{Bell, Buzzer};
use crate::keys::Keys;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) commands: ArrayQueue<Command>,
    pub(crate) events: ArrayQueue<Event>,
    /// What new TLS flows shall be made with, until the shard takes it; newer ones replace it.
    pub(crate) keys: ArrayQueue<Arc<Keys>>,
    /// Wakes the shard.
    pub(crate) bell: Arc<Bell>,
    /// Wakes the control plane; one for all shards.
    pub(crate) buzzer: Arc<Buzzer>,
}

impl Link {
    pub(crate) fn new(bell: Arc<Bell>, buzzer: Arc<Buzzer>) -> Self {
        Self {
            commands: ArrayQueue::new(limits::COMMAND_QUEUE_LEN),
            events: ArrayQueue::new(limits::EVENT_QUEUE_LEN),
            keys: ArrayQueue::new(1),
            bell,
            buzzer,
        }
    }

    /// The command comes back when the shard has too many.
    pub(crate) fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.push(command)?;
        self.bell.ring();
        Ok(())
    }
}
