//! What happens, for programs that listen: calls, registrations, new snapshots.
//! Owns:  the ring of the newest events, and the numbers that they are resumed by.
//! Gives: `News::tell` to those who know, `Reader`s to those who listen.
//! Never: a queue per reader: all read the same ring, so a slow one costs nothing. One that falls out
//!        of the ring hears `Lagged` and nothing more. Not durable: what must arrive goes through the
//!        outbox.
//! Holds: a reader hears events in the order of their numbers, and never a gap without `Lagged`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;
use shared::cdr::{Direction, HangupReason};
use shared::event::{CallNews, CallStage, Registration};
use shared::ids::{CallId, ShardId, Side};
use shared::time::WallMs;
use tokio::sync::watch;

/// Some seconds of a busy gateway, hours of a quiet one.
const EVENTS_MAX: usize = 8_192;
const BYTES_MAX: usize = 8 << 20;
/// Each is a connection that stays open.
const READERS_MAX: usize = 64;

#[derive(Debug)]
pub struct News {
    /// Numbers of another start of the process mean nothing here.
    start: String,
    ring: Mutex<Ring>,
    /// The number of the newest event; closed at the end.
    newest: watch::Sender<u64>,
    readers: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Told>>,
    bytes: usize,
    closed: bool,
}

/// One event as every reader gets it.
#[derive(Debug)]
pub struct Told {
    /// From 1.
    pub number: u64,
    pub kind: &'static str,
    /// `{id, type, timestamp, data}`
    pub json: String,
}

/// What every event says, whichever it is; written for each stage of each call, so without a `Value`.
#[derive(Serialize)]
struct Envelope<'e, T> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: WallMs,
    data: &'e T,
}

#[derive(Serialize)]
struct OfCall<'n> {
    call_id: CallId,
    session_id: CallId,
    sip_call_id: &'n str,
    caller: &'n str,
    callee: &'n str,
    direction: Direction,
    shard: ShardId,
    #[serde(flatten)]
    end: Option<OfEnd>,
}

#[derive(Serialize)]
struct OfEnd {
    reason: HangupReason,
    hangup_by: &'static str,
    sip_status: u16,
}

impl News {
    pub fn new(start: WallMs) -> Self {
        Self {
            start: format!("{:x}", start.0),
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
            readers: AtomicUsize::new(0),
        }
    }

    pub fn call(&self, news: &CallNews) {
        let mut data = OfCall {
            call_id: news.call,
            session_id: news.call,
            sip_call_id: &news.sip_call_id,
            caller: &news.caller,
            callee: &news.callee,
            direction: news.direction,
            shard: news.shard,
            end: None,
        };
        let kind = match news.stage {
            CallStage::Created => "call_created",
            CallStage::Ringing => "call_ringing",
            CallStage::Answered => "call_answered",
            CallStage::Ended { reason, by, sip_status } => {
                let hangup_by = match by {
                    None => "system",
                    Some(Side::Caller) => "caller",
                    Some(Side::Callee) => "callee",
                };
                data.end = Some(OfEnd { reason, hangup_by, sip_status });
                "call_hangup"
            }
        };
        self.tell(kind, news.at, &data);
    }

    pub fn registration(&self, change: &Registration) {
        let data = json!({
            "aor": change.aor,
            "contact": change.contact,
            "destination": change.destination,
            "transport": change.transport.uri_word(),
            "user_agent": change.user_agent,
            "expires": change.expires_s,
        });
        self.tell(change.change.as_str(), change.at, &data);
    }

    /// Every shard serves what was published: users, trunks and routes of this generation.
    pub fn published(&self, at: WallMs, generation: u64, trunks: usize, users: usize) {
        let data = json!({ "generation": generation, "trunks": trunks, "users": users });
        self.tell("trunks_reloaded", at, &data);
    }

    fn tell(&self, kind: &'static str, timestamp: WallMs, data: &impl Serialize) {
        let mut ring = self.lock();
        let number = *self.newest.borrow() + 1;
        let told = Envelope { id: self.id(number), kind, timestamp, data };
        let json = serde_json::to_string(&told).expect("names are text");
        let told = Told { number, kind, json };
        ring.bytes += told.json.len();
        ring.events.push_back(Arc::new(told));
        while ring.events.len() > EVENTS_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= oldest.json.len();
        }
        // Inside the lock: numbers become known in their order.
        self.newest.send_replace(number);
    }

    /// The end: readers hear what is there and then nothing more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.newest.send_modify(|_| {});
    }

    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.start)
    }

    /// From behind `last_id`, or from now on. None: there are too many readers.
    pub fn listen(self: &Arc<Self>, last_id: Option<&str>) -> Option<Reader> {
        let taken = self.readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |readers| {
            (readers < READERS_MAX).then_some(readers + 1)
        });
        taken.ok()?;
        let mut newest = self.newest.subscribe();
        let ring = self.lock();
        let now = *newest.borrow_and_update();
        let oldest = ring.events.front().map_or(now + 1, |told| told.number);
        let asked = last_id.map(|id| {
            let number = id.strip_prefix(&self.start).and_then(|rest| rest.strip_prefix('-'));
            let number = number.and_then(|number| number.parse::<u64>().ok());
            number.filter(|number| (oldest - 1..=now).contains(number))
        });
        let (heard, missed) = match asked {
            None => (now, false),
            Some(Some(number)) => (number, false),
            // Gone from the ring, of an earlier start, or never given.
            Some(None) => (oldest - 1, true),
        };
        drop(ring);
        Some(Reader { news: Arc::clone(self), newest, heard, missed, over: false })
    }

    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // The ring is whole between any two statements that hold the lock.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader gets next.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Events are missing. `resumes`: those that are left follow; else this was the last.
    Lagged {
        newest: u64,
        resumes: bool,
    },
    Told(Arc<Told>),
}

#[derive(Debug)]
pub struct Reader {
    news: Arc<News>,
    newest: watch::Receiver<u64>,
    /// Number of the last event that was given out.
    heard: u64,
    /// It asked for events that are gone: it hears so before anything else.
    missed: bool,
    over: bool,
}

impl Reader {
    /// Waits for the next event. None: there will be none. Can be dropped while it waits.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.take() {
                return Some(heard);
            }
            if self.over || self.newest.changed().await.is_err() {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Heard> {
        if self.over {
            return None;
        }
        // What comes after this look makes `changed` return.
        let newest = *self.newest.borrow_and_update();
        let ring = self.news.lock();
        let oldest = ring.events.front().map_or(newest + 1, |told| told.number);
        if std::mem::take(&mut self.missed) {
            self.heard = oldest - 1;
            return Some(Heard::Lagged { newest: self.heard, resumes: true });
        }
        if self.heard + 1 < oldest {
            self.over = true;
            return Some(Heard::Lagged { newest, resumes: false });
        }
        let place = usize::try_from(self.heard + 1 - oldest).unwrap_or(usize::MAX);
        let Some(told) = ring.events.get(place) else {
            self.over = ring.closed;
            return None;
        };
        self.heard = told.number;
        Some(Heard::Told(Arc::clone(told)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.news.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::cdr::HangupReason;
    use shared::ids::{CallId, ShardId, Side};

    fn news() -> Arc<News> {
        Arc::new(News::new(WallMs(0xabc)))
    }

    fn tell(news: &News, count: u64) {
        for _ in 0..count {
            news.published(WallMs(0), 7, 1, 2);
        }
    }

    async fn numbers(reader: &mut Reader, count: usize) -> Vec<u64> {
        let mut found = Vec::new();
        while found.len() < count {
            match reader.next().await {
                Some(Heard::Told(told)) => found.push(told.number),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[tokio::test]
    async fn a_reader_hears_what_comes_and_can_resume() {
        let news = news();
        tell(&news, 3);
        let mut now = news.listen(None).expect("there is room");
        let mut resumed = news.listen(Some("abc-1")).expect("there is room");
        tell(&news, 2);
        assert_eq!(numbers(&mut now, 2).await, [4, 5]);
        assert_eq!(numbers(&mut resumed, 4).await, [2, 3, 4, 5]);
        let later = tokio::spawn(async move { numbers(&mut now, 1).await });
        tokio::task::yield_now().await;
        tell(&news, 1);
        assert_eq!(later.await.expect("it ends"), [6]);
    }

    #[tokio::test]
    async fn an_id_that_is_gone_or_foreign_is_said_first_and_the_rest_follows() {
        let news = news();
        tell(&news, EVENTS_MAX as u64 + 10);
        for id in ["abc-1", "abc-99999", "fff-20", "nonsense", ""] {
            let mut reader = news.listen(Some(id)).expect("there is room");
            let first = reader.next().await;
            assert!(
                matches!(first, Some(Heard::Lagged { newest: 10, resumes: true })),
                "{first:?}"
            );
            assert_eq!(numbers(&mut reader, 2).await, [11, 12], "{id}");
        }
        let mut fits = news.listen(Some("abc-10")).expect("there is room");
        assert_eq!(numbers(&mut fits, 1).await, [11]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_and_costs_nothing() {
        let news = news();
        let mut slow = news.listen(None).expect("there is room");
        tell(&news, EVENTS_MAX as u64);
        assert_eq!(numbers(&mut slow, 1).await, [1], "it just keeps up");
        tell(&news, 2);
        let newest = EVENTS_MAX as u64 + 2;
        let last = slow.next().await;
        assert!(
            matches!(last, Some(Heard::Lagged { newest: n, resumes: false }) if n == newest),
            "{last:?}"
        );
        assert!(slow.next().await.is_none());
        assert_eq!(news.lock().events.len(), EVENTS_MAX, "the ring is what there is");
    }

    #[tokio::test]
    async fn readers_are_counted_and_the_end_is_heard() {
        let news = news();
        let readers: Vec<_> = (0..READERS_MAX).map(|_| news.listen(None)).collect();
        assert!(readers.iter().all(Option::is_some));
        assert!(news.listen(None).is_none(), "one too many");
        drop(readers);
        let mut reader = news.listen(None).expect("there is room again");
        assert_eq!(news.readers(), 1);
        tell(&news, 1);
        news.close();
        assert_eq!(numbers(&mut reader, 1).await, [1], "what is there comes first");
        assert!(reader.next().await.is_none());
        assert!(news.listen(None).expect("there is room").next().await.is_none());
    }

    #[tokio::test]
    async fn a_call_is_told_in_the_words_of_the_original() {
        let news = news();
        let mut reader = news.listen(None).expect("there is room");
        let mut call = CallNews {
            call: CallId(1),
            shard: ShardId(0),
            stage: CallStage::Created,
            at: WallMs(1_795_514_400_000),
            caller: "1001".into(),
            callee: "1002".into(),
            sip_call_id: "a@phone".into(),
            direction: Direction::Internal,
        };
        news.call(&call);
        let (reason, by) = (HangupReason::ByCallee, Some(Side::Callee));
        call.stage = CallStage::Ended { reason, by, sip_status: 200 };
        news.call(&call);
        let Some(Heard::Told(told)) = reader.next().await else { panic!("nothing was told") };
        let told: serde_json::Value = serde_json::from_str(&told.json).expect("JSON");
        let expected = json!({
            "id": "abc-1",
            "type": "call_created",
            "timestamp": "2026-11-24T10:00:00.000Z",
            "data": {
                "call_id": CallId(1), "session_id": CallId(1), "sip_call_id": "a@phone",
                "caller": "1001", "callee": "1002", "direction": "internal", "shard": 0,
            },
        });
        assert_eq!(told, expected);
        let Some(Heard::Told(told)) = reader.next().await else { panic!("nothing was told") };
        let told: serde_json::Value = serde_json::from_str(&told.json).expect("JSON");
        assert_eq!(told["type"], "call_hangup");
        let data = &told["data"];
        assert_eq!((&data["reason"], &data["hangup_by"]), (&json!("byCallee"), &json!("callee")));
        assert_eq!(data["sip_status"], 200);
    }
}
