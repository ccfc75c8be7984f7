//! The outbox in the database: order, repeats, outcomes, another try. The same promises on both databases.

mod stand_ins;

use controlplane::store::{
    Db, DeliverySearch, DeliveryState, EndpointState, JournalMark, Journals, Keep, NewEvent, Next,
    Outbox, OutboxList, RecordSearch, Records, Settlement, Tried, Waiting,
};
use shared::config::Database;
use shared::ids::ShardId;
use shared::journal::{Position, Stream};
use shared::time::WallMs;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, PgConnection};
use stand_ins::{Folder, call_id, cdr, postgres};

/// Every promise is a test on each database, with a database of its own.
macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let db = super::Db::in_memory().await.expect("a database in memory");
                super::$promise(db).await;
            })*
        }

        mod postgresql {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::postgres::db().await).await;
            })*
        }
    };
}

on_both! {
    events_come_out_in_order_and_twice_is_once,
    a_call_record_and_its_event_are_stored_together,
    outcomes_move_rows_and_those_behind_them,
    a_row_behind_another_waits_as_long,
    a_spared_row_keeps_its_attempts,
    endpoints_do_not_see_each_other,
    the_log_of_attempts_is_kept,
    dead_rows_are_replayed_with_their_id,
    a_sweep_keeps_what_is_wanted,
    the_switch_of_an_endpoint_is_kept,
    the_list_pages_and_filters,
    a_backlog_is_counted,
}

/// Far ahead of every row's time.
const LATER: WallMs = WallMs(i64::MAX / 2);

fn event(number: u32, key: &str) -> NewEvent {
    NewEvent {
        event_id: format!("msg_{number}"),
        endpoint: "locator".to_owned(),
        key: key.to_owned(),
        kind: "registered".to_owned(),
        payload: format!("{{\"n\":{number},\"odd\":\"\\u0000 ü\"}}"),
    }
}

async fn add(db: &Db, keys: &[&str]) {
    let events: Vec<NewEvent> = (1..).zip(keys).map(|(number, key)| event(number, key)).collect();
    db.add_events(&events).await.expect("they are stored");
}

async fn due(db: &Db, at: WallMs) -> Vec<Waiting> {
    db.due("locator", at, 100).await.expect("it is read").rows
}

fn ids(rows: &[Waiting]) -> Vec<&str> {
    rows.iter().map(|row| row.event_id.as_str()).collect()
}

async fn settle(db: &Db, outcomes: &[Settlement]) {
    db.settle("locator", outcomes, "target").await.expect("it is written");
}

fn attempt(row: &Waiting, next: Next, error: Option<&str>) -> Settlement {
    let tried = Tried {
        at: WallMs(5_000),
        took_ms: 12,
        status: error.map(|_| 500),
        error: error.map(str::to_owned),
        answer: error.map(|_| "sorry".to_owned()),
    };
    Settlement::Attempt { id: row.id, key: row.key.clone(), tried, next }
}

async fn events_come_out_in_order_and_twice_is_once(db: Db) {
    add(&db, &["a", "b", "a"]).await;
    add(&db, &["a", "b", "a", "c"]).await;
    let rows = due(&db, LATER).await;
    assert_eq!(ids(&rows), ["msg_1", "msg_2", "msg_3", "msg_4"]);
    let after: Vec<Option<i64>> = rows.iter().map(|row| row.after).collect();
    assert_eq!(after, [None, None, Some(rows[0].id), None]);
    assert_eq!(rows[2].payload, event(3, "a").payload);
    assert_eq!(
        ids(&db.due("locator", LATER, 2).await.expect("it is read").rows),
        ["msg_1", "msg_2"]
    );
    let early = db.due("locator", WallMs(0), 100).await.expect("it is read");
    assert!(early.rows.is_empty());
    assert_eq!(early.next_due, Some(rows[0].queued_at));
}

async fn a_call_record_and_its_event_are_stored_together(db: Db) {
    let event = |number: u64| NewEvent {
        event_id: format!("cdr_{}", call_id(number)),
        endpoint: "callrecord".to_owned(),
        key: call_id(number).to_string(),
        kind: "cdr".to_owned(),
        payload: "{}".to_owned(),
    };
    db.add_cdrs_with(&[cdr(1), cdr(2)], &[event(1), event(2)]).await.expect("they are stored");
    db.add_cdrs_with(&[cdr(2), cdr(3)], &[event(2), event(3)]).await.expect("a repeat is no error");
    let search = RecordSearch { page: 1, per_page: 10, ..Default::default() };
    assert_eq!(db.records(&search).await.expect("it is read").total, 3);
    let rows = db.due("callrecord", LATER, 100).await.expect("it is read").rows;
    assert_eq!(rows.len(), 3);
    // What does not fit stores neither of them.
    let odd = NewEvent { payload: "\0".to_owned(), ..event(4) };
    if db.add_cdrs_with(&[cdr(4)], &[odd]).await.is_err() {
        assert_eq!(db.records(&search).await.expect("it is read").total, 3);
    }
}

/// A batch of the journal, its events and its mark are one: with the outbox broken none of them is stored.
async fn assert_all_or_nothing(db: Db, break_it: impl AsyncFnOnce()) {
    let stream = Stream { run: 7, shard: ShardId(0) };
    let mark =
        |offset| JournalMark { stream, position: Position { segment: 1, offset }, finished: false };
    let event = NewEvent { endpoint: "callrecord".to_owned(), ..event(1, "a") };
    for _ in 0..2 {
        let taken = db.take_journal(&[cdr(1)], std::slice::from_ref(&event), mark(10)).await;
        taken.expect("a batch may come twice");
    }
    assert_eq!(ids(&db.due("callrecord", LATER, 9).await.expect("it is read").rows), ["msg_1"]);
    break_it().await;
    let second = NewEvent { event_id: "msg_2".to_owned(), ..event };
    assert!(db.take_journal(&[cdr(2)], &[second], mark(20)).await.is_err());
    let search = RecordSearch { page: 1, per_page: 10, ..Default::default() };
    assert_eq!(db.records(&search).await.expect("it is read").total, 1);
    assert_eq!(db.journal_marks().await.expect("they are read"), [mark(10)]);
}

const BREAK: [&str; 2] = ["DROP TABLE outbox_attempts", "DROP TABLE outbox"];

#[tokio::test]
async fn a_journal_batch_is_stored_with_its_events_or_not_at_all_on_sqlite() {
    let folder = Folder::new("outbox-all");
    let path = folder.path().join("gate.sqlite3");
    let db = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
    let options = SqliteConnectOptions::new().filename(&path);
    let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
    assert_all_or_nothing(db, async || {
        for statement in BREAK {
            sqlx::query(statement).execute(&mut other).await.expect("the table goes");
        }
    })
    .await;
}

#[tokio::test]
async fn a_journal_batch_is_stored_with_its_events_or_not_at_all_on_postgresql() {
    let url = postgres::empty_database();
    let db = Db::open(&postgres::at(&url)).await.expect("it opens");
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    assert_all_or_nothing(db, async || {
        for statement in BREAK {
            sqlx::query(statement).execute(&mut other).await.expect("the table goes");
        }
    })
    .await;
}

async fn outcomes_move_rows_and_those_behind_them(db: Db) {
    add(&db, &["a", "a", "b", "c"]).await;
    let rows = due(&db, LATER).await;
    let at = WallMs(LATER.0 + 1);
    settle(
        &db,
        &[
            attempt(&rows[0], Next::DueAt(at), Some("answered 500")),
            attempt(&rows[2], Next::Delivered, None),
            attempt(&rows[3], Next::Dead, Some("answered 500")),
        ],
    )
    .await;
    assert!(due(&db, LATER).await.is_empty(), "the second of `a` waits as long as the first");
    let rows = due(&db, at).await;
    assert_eq!(ids(&rows), ["msg_1", "msg_2"]);
    assert_eq!((rows[0].attempts, rows[1].attempts), (1, 0));
    settle(&db, &[attempt(&rows[0], Next::Delivered, None)]).await;
    let rows = due(&db, at).await;
    assert_eq!(ids(&rows), ["msg_2"]);
    assert!(rows[0].is_head());
    let later = Settlement::Later { id: rows[0].id, key: "a".to_owned(), until: WallMs(at.0 + 5) };
    settle(&db, &[later]).await;
    assert!(due(&db, at).await.is_empty());
    assert_eq!(due(&db, WallMs(at.0 + 5)).await[0].attempts, 0, "that was no attempt");
}

async fn a_row_behind_another_waits_as_long(db: Db) {
    add(&db, &["a"]).await;
    let at = WallMs(LATER.0 + 1);
    let rows = due(&db, LATER).await;
    settle(&db, &[attempt(&rows[0], Next::DueAt(at), Some("no"))]).await;
    // It comes after the failure, so nothing pushed it back yet.
    db.add_events(&[event(2, "a")]).await.expect("it is stored");
    let rows = due(&db, LATER).await;
    assert_eq!((ids(&rows), rows[0].is_head()), (vec!["msg_2"], false));
    settle(&db, &[Settlement::Behind { key: "a".to_owned() }]).await;
    assert!(due(&db, LATER).await.is_empty());
    assert_eq!(ids(&due(&db, at).await), ["msg_1", "msg_2"]);
}

async fn a_spared_row_keeps_its_attempts(db: Db) {
    add(&db, &["a", "a", "b"]).await;
    let rows = due(&db, LATER).await;
    let at = WallMs(LATER.0 + 1);
    settle(&db, &[attempt(&rows[0], Next::Spared(at), Some("answered 503"))]).await;
    assert_eq!(ids(&due(&db, LATER).await), ["msg_3"], "the second of `a` waits with the first");
    let attempts: Vec<u32> = due(&db, at).await.iter().map(|row| row.attempts).collect();
    assert_eq!(attempts, [0, 0, 0]);
    let (delivery, log) = db.delivery(rows[0].id).await.expect("it is read").expect("it is there");
    assert_eq!((delivery.last_error.as_deref(), log.len()), (Some("answered 503"), 1));
}

async fn endpoints_do_not_see_each_other(db: Db) {
    let other = NewEvent { endpoint: "callrecord".to_owned(), ..event(1, "a") };
    db.add_events(&[event(1, "a"), other]).await.expect("one each");
    let rows = due(&db, LATER).await;
    assert_eq!(rows.len(), 1);
    settle(&db, &[attempt(&rows[0], Next::Delivered, None)]).await;
    assert!(due(&db, LATER).await.is_empty());
    assert_eq!(db.due("callrecord", LATER, 9).await.expect("it is read").rows.len(), 1);
}

async fn the_log_of_attempts_is_kept(db: Db) {
    add(&db, &["a"]).await;
    let rows = due(&db, LATER).await;
    settle(&db, &[attempt(&rows[0], Next::DueAt(LATER), Some("answered 500"))]).await;
    settle(&db, &[attempt(&rows[0], Next::Delivered, None)]).await;
    let (delivery, attempts) =
        db.delivery(rows[0].id).await.expect("it is read").expect("it is there");
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 2));
    assert_eq!((delivery.finished_at, delivery.last_error), (Some(WallMs(5_000)), None));
    assert_eq!(attempts.len(), 2);
    assert_eq!((attempts[0].status, attempts[0].answer.as_deref()), (Some(500), Some("sorry")));
    assert_eq!((attempts[1].status, attempts[1].took_ms), (None, 12));
    assert!(db.delivery(999).await.expect("it is read").is_none());
}

async fn dead_rows_are_replayed_with_their_id(db: Db) {
    add(&db, &["a", "b", "c"]).await;
    let rows = due(&db, LATER).await;
    let dead = |row| attempt(row, Next::Dead, Some("no"));
    settle(&db, &[dead(&rows[0]), dead(&rows[1]), attempt(&rows[2], Next::Delivered, None)]).await;
    assert!(db.replay(rows[0].id).await.expect("it is written"));
    assert!(!db.replay(rows[0].id).await.expect("it is pending now"));
    assert!(!db.replay(999).await.expect("there is none"));
    let again = due(&db, LATER).await;
    assert_eq!((ids(&again), again[0].attempts), (vec!["msg_1"], 0));
    assert_eq!(db.replay_dead("locator", WallMs(5_001)).await.expect("it is written"), 0);
    assert_eq!(db.replay_dead("locator", WallMs(5_000)).await.expect("it is written"), 1);
    assert_eq!(ids(&due(&db, LATER).await), ["msg_1", "msg_2"]);
    assert!(db.replay(rows[2].id).await.expect("a delivered one may be asked for again"));
}

async fn a_sweep_keeps_what_is_wanted(db: Db) {
    add(&db, &["a", "b", "c", "d", "e"]).await;
    let rows = due(&db, LATER).await;
    let done = |row, next| attempt(row, next, None);
    settle(
        &db,
        &[
            done(&rows[0], Next::Dead),
            done(&rows[1], Next::Delivered),
            done(&rows[2], Next::Delivered),
            done(&rows[3], Next::Delivered),
        ],
    )
    .await;
    let nothing = WallMs(0);
    let keep = Keep {
        pending_since: nothing,
        delivered_since: nothing,
        dead_since: nothing,
        delivered_max: 10,
        rows_max: 100,
    };
    let swept = db.sweep("locator", keep).await.expect("it is written");
    assert_eq!((swept.expired, swept.removed), (0, 0));
    let left = |search| {
        let db = db.clone();
        async move { db.deliveries(&search).await.expect("it is read").len() }
    };
    let of = |state| DeliverySearch { state: Some(state), limit: 100, ..Default::default() };
    db.sweep("locator", Keep { delivered_max: 2, ..keep }).await.expect("it is written");
    assert_eq!(left(of(DeliveryState::Delivered)).await, 2, "the newest two");
    db.sweep("locator", Keep { delivered_since: WallMs(5_001), ..keep }).await.expect("done");
    assert_eq!(left(of(DeliveryState::Delivered)).await, 0);
    assert_eq!(left(of(DeliveryState::Dead)).await, 1);
    db.sweep("locator", Keep { dead_since: WallMs(5_001), ..keep }).await.expect("done");
    assert_eq!(left(of(DeliveryState::Dead)).await, 0);
    let swept = db.sweep("locator", Keep { pending_since: LATER, ..keep }).await.expect("done");
    assert_eq!(swept.expired, 1);
    let search = of(DeliveryState::Dead);
    let dead = db.deliveries(&search).await.expect("it is read");
    assert_eq!(dead[0].last_error.as_deref(), Some("it was never tried"));
    db.sweep("callrecord", Keep { dead_since: LATER, ..keep }).await.expect("another endpoint");
    assert_eq!(left(of(DeliveryState::Dead)).await, 1);
}

async fn the_switch_of_an_endpoint_is_kept(db: Db) {
    assert!(db.endpoint_state("locator").await.expect("it is read").is_none());
    let state = EndpointState {
        name: "locator".to_owned(),
        enabled: true,
        reason: None,
        changed_at: WallMs(7),
        target: "t".to_owned(),
    };
    db.put_endpoint_state(&state).await.expect("it is written");
    assert_eq!(db.endpoint_state("locator").await.expect("it is read"), Some(state));
    settle(&db, &[Settlement::Disable { reason: "gone" }]).await;
    let state = db.endpoint_state("locator").await.expect("it is read").expect("it is there");
    assert_eq!((state.enabled, state.reason.as_deref()), (false, Some("gone")));
    assert_eq!(state.target, "target");
}

async fn the_list_pages_and_filters(db: Db) {
    add(&db, &["a", "b", "a", "b", "a"]).await;
    let rows = due(&db, LATER).await;
    settle(&db, &[attempt(&rows[0], Next::Dead, Some("no"))]).await;
    let list = |search: DeliverySearch| {
        let db = db.clone();
        async move {
            let found = db.deliveries(&search).await.expect("it is read");
            found.into_iter().map(|one| one.event_id).collect::<Vec<_>>()
        }
    };
    let first = DeliverySearch { limit: 2, ..Default::default() };
    assert_eq!(list(first.clone()).await, ["msg_5", "msg_4"]);
    let next = DeliverySearch { before: Some(rows[3].id), ..first };
    assert_eq!(list(next).await, ["msg_3", "msg_2"]);
    let of_a = DeliverySearch { key: Some("a".to_owned()), limit: 9, ..Default::default() };
    assert_eq!(list(of_a).await, ["msg_5", "msg_3", "msg_1"]);
    let dead = DeliverySearch { state: Some(DeliveryState::Dead), limit: 9, ..Default::default() };
    assert_eq!(list(dead).await, ["msg_1"]);
    let elsewhere =
        DeliverySearch { endpoint: Some("callrecord".to_owned()), limit: 9, ..Default::default() };
    assert!(list(elsewhere).await.is_empty());
}

async fn a_backlog_is_counted(db: Db) {
    let nothing = db.backlog("locator").await.expect("it is read");
    assert_eq!((nothing.pending, nothing.dead, nothing.oldest_pending), (0, 0, None));
    add(&db, &["a", "b", "c"]).await;
    let rows = due(&db, LATER).await;
    settle(&db, &[attempt(&rows[0], Next::Dead, None)]).await;
    let some = db.backlog("locator").await.expect("it is read");
    assert_eq!((some.pending, some.dead), (2, 1));
    assert_eq!(some.oldest_pending, Some(rows[1].queued_at));
}
