//! Events on their way to the control plane, when its queue is full.
//! Owns:  the events that wait in the shard, in order.
//! Gives: how many wait, so that new calls are refused before memory runs out.
//! Never: drops the end of a capture or of the shard.
//! Holds: at most `limits::EVENT_BACKLOG_MAX` events, and beyond them only those that must be kept.

use std::collections::VecDeque;

use crossbeam::queue::ArrayQueue;
use shared::event::{Answer, Event};
use shared::limits;

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: VecDeque<Event>,
}

impl Backlog {
    /// `false`: the event was dropped, for it can be and there is no room.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        if self.waiting.len() >= limits::EVENT_BACKLOG_MAX && !must_be_kept(&event) {
            return false;
        }
        self.waiting.push_back(event);
        true
    }

    /// Moves what fits into the queue; `true` when something moved.
    pub(crate) fn flush(&mut self, queue: &ArrayQueue<Event>) -> bool {
        let mut moved = false;
        while let Some(event) = self.waiting.pop_front() {
            if let Err(event) = queue.push(event) {
                self.waiting.push_front(event);
                break;
            }
            moved = true;
        }
        moved
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Events that nothing repeats and that something outside counts on: bounded by calls, captures and
/// commands, all of which are bounded themselves.
const fn must_be_kept(event: &Event) -> bool {
    match event {
        Event::Answer { answer: Answer::Acted(_), .. }
        | Event::CaptureClosed(_)
        | Event::Drained(_)
        | Event::Journaled { .. }
        | Event::SnapshotLive { .. }
        | Event::Started(_)
        | Event::Stopped(_) => true,
        Event::Answer { .. }
        | Event::Asked { .. }
        | Event::Call(_)
        | Event::Counters { .. }
        | Event::Notice(_)
        | Event::Registration(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::event::{CaptureClosed, Notice, Severity};
    use shared::ids::{CallId, ShardId};

    fn notice(number: u32) -> Event {
        Event::Notice(Notice {
            shard: ShardId(0),
            severity: Severity::Info,
            code: "test",
            detail: String::new(),
            suppressed: number,
        })
    }

    fn capture_closed(number: u128) -> Event {
        Event::CaptureClosed(CaptureClosed {
            call: CallId(number),
            path: "capture".into(),
            packets: 0,
            bytes: 0,
            lost: 0,
            error: None,
        })
    }

    #[test]
    fn a_full_backlog_still_takes_what_must_not_be_lost() {
        let mut backlog = Backlog::default();
        for number in 0..limits::EVENT_BACKLOG_MAX as u32 {
            assert!(backlog.push(notice(number)));
        }
        assert!(!backlog.push(notice(0)), "a notice is not worth the memory");
        assert!(backlog.push(capture_closed(1)));
        assert!(backlog.push(Event::Stopped(ShardId(0))));
        assert_eq!(backlog.len(), limits::EVENT_BACKLOG_MAX + 2);
    }

    #[test]
    fn events_keep_their_order_across_a_full_queue() {
        let queue = ArrayQueue::new(3);
        let mut backlog = Backlog::default();
        for number in 0..5 {
            backlog.push(notice(number));
        }
        assert!(backlog.flush(&queue));
        assert!(!backlog.flush(&queue), "the queue is full");
        let mut seen = Vec::new();
        while let Some(event) = queue.pop() {
            seen.push(event);
            backlog.flush(&queue);
        }
        let numbers: Vec<u32> = seen
            .iter()
            .map(|event| match event {
                Event::Notice(notice) => notice.suppressed,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert!(backlog.is_empty());
    }
}
