//! Events on their way to the control plane: a moment in company, longer when its queue is full.
//! Owns:  the events that wait in the shard, in order, and when they are due.
//! Gives: how many wait, so that new calls are refused before memory runs out.
//! Never: drops the end of a capture or of the shard.
//! Holds: at most `limits::EVENT_BACKLOG_MAX` events, and beyond them only those that must be kept.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use shared::event::{Answer, Event};
use shared::limits;
use shared::time::Instant;

/// How long news may wait for more of them. Each wake-up of the control plane costs both sides more than
/// the news itself: at 500 calls/s there were 1 160 a second.
const COMPANY_WAIT: Duration = Duration::from_millis(10);
/// More than this is company enough.
const COMPANY_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: VecDeque<Event>,
    /// One of them is waited for.
    urgent: bool,
    /// The queue was full.
    stuck: bool,
    /// When news need not wait any longer.
    due: Instant,
}

impl Backlog {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { waiting: VecDeque::new(), urgent: false, stuck: false, due: now }
    }

    /// `false`: the event was dropped, for it can be and there is no room.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        if self.waiting.len() >= limits::EVENT_BACKLOG_MAX && !must_be_kept(&event) {
            return false;
        }
        self.urgent |= is_urgent(&event);
        self.waiting.push_back(event);
        true
    }

    /// Whether what waits, or is about to be pushed, should go now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.urgent || now >= self.due || self.waiting.len() > COMPANY_MAX
    }

    /// When what waits should go at the latest.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// The control plane does not keep up.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Moves what fits into the queue; `true` when something moved.
    pub(crate) fn flush(&mut self, now: Instant, queue: &ArrayQueue<Event>) -> bool {
        let mut moved = false;
        self.due = now + COMPANY_WAIT;
        while let Some(event) = self.waiting.pop_front() {
            if let Err(event) = queue.push(event) {
                self.waiting.push_front(event);
                break;
            }
            moved = true;
        }
        self.stuck = !self.waiting.is_empty();
        self.urgent &= self.stuck;
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

/// Somebody waits for these; the others are news, which may come together.
const fn is_urgent(event: &Event) -> bool {
    match event {
        Event::Answer { .. }
        | Event::Asked { .. }
        | Event::CaptureClosed(_)
        | Event::Drained(_)
        | Event::SnapshotLive { .. }
        | Event::Started(_)
        | Event::Stopped(_) => true,
        Event::Call(_)
        | Event::Counters { .. }
        | Event::Journaled { .. }
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
        let mut backlog = Backlog::new(Instant::ZERO);
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
        let now = Instant::ZERO;
        let mut backlog = Backlog::new(now);
        for number in 0..5 {
            backlog.push(notice(number));
        }
        assert!(backlog.flush(now, &queue));
        assert!(backlog.is_stuck());
        assert!(!backlog.flush(now, &queue), "the queue is full");
        let mut seen = Vec::new();
        while let Some(event) = queue.pop() {
            seen.push(event);
            backlog.flush(now, &queue);
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

    #[test]
    fn news_wait_for_company_and_what_is_waited_for_does_not() {
        let queue = ArrayQueue::new(8);
        let start = Instant::ZERO;
        let mut backlog = Backlog::new(start);
        backlog.push(notice(0));
        assert!(backlog.is_due(start), "the first one after silence goes at once");
        backlog.flush(start, &queue);
        backlog.push(notice(1));
        assert!(!backlog.is_due(start));
        assert!(backlog.is_due(start + COMPANY_WAIT));
        backlog.push(capture_closed(1));
        assert!(backlog.is_due(start));
        backlog.flush(start, &queue);
        assert!(!backlog.is_due(start), "nothing urgent is left");
        assert_eq!(queue.len(), 3, "in their order, all of them");
        for number in 0..=COMPANY_MAX as u32 {
            backlog.push(notice(number));
        }
        assert!(backlog.is_due(start), "a crowd goes at once");
    }
}
