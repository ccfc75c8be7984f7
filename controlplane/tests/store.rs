//! The store: what it keeps, how it pages and searches. The same promises on both databases.

mod stand_ins;

use controlplane::store::{
    Db, Exchange, Exchanges, Extension, Extensions, JournalMark, Journals, Match, RecordSearch,
    RecordSort, Recording, RecordingState, Recordings, Records,
};
use shared::cdr::{CallStatus, Cdr, Direction};
use shared::ids::ShardId;
use shared::journal::{Position, Stream};
use shared::snapshot::Secret;
use stand_ins::{MORNING, call_id, cdr, on_both};

on_both! {
    a_record_comes_back_as_it_was_and_twice_is_once,
    a_record_is_found_by_number_session_and_either_call_id,
    a_call_id_that_two_calls_had_means_the_newer_one,
    pages_follow_each_other_without_gap_or_repeat,
    every_filter_narrows,
    the_first_start_happens_once,
    a_recording_is_part_of_its_record,
    a_record_with_odd_text_is_stored,
    a_big_batch_is_stored,
    text_of_any_length_is_stored_and_found,
    a_journal_is_taken_with_its_mark_and_may_come_twice,
    an_exchange_is_kept_with_its_call,
}

async fn fill(store: &Db, count: u64) {
    let batch: Vec<Cdr> = (0..count).map(cdr).collect();
    store.add_cdrs(&batch).await.expect("it is stored");
}

fn page(page: u32, per_page: u32) -> RecordSearch {
    RecordSearch { page, per_page, ..Default::default() }
}

async fn numbers(store: &Db, search: &RecordSearch) -> Vec<i64> {
    let found = store.records(search).await.expect("it is read");
    found.records.iter().map(|record| record.id).collect()
}

async fn a_record_comes_back_as_it_was_and_twice_is_once(store: Db) {
    fill(&store, 3).await;
    store.add_cdrs(&[cdr(1), cdr(3)]).await.expect("a repeat is no error");
    let all = store.records(&page(1, 10)).await.expect("it is read");
    assert_eq!(all.total, 4);
    let one = store.record(&call_id(1).to_string()).await.expect("it is read").expect("known");
    assert_eq!(one.cdr, cdr(1));
    assert!(one.recording.is_none());
}

async fn a_record_is_found_by_number_session_and_either_call_id(store: Db) {
    fill(&store, 5).await;
    let own_id = call_id(3).to_string();
    for id in ["4", own_id.as_str(), "a-leg-3@phone", "b-leg-3@gate"] {
        let found = store.record(id).await.expect("it is read").expect(id);
        assert_eq!(found.cdr.session_id, call_id(3), "{id}");
    }
    for id in ["0", "99", "", "a-leg-3", "' OR 1=1 --"] {
        assert!(store.record(id).await.expect("it is read").is_none(), "{id}");
    }
}

async fn a_call_id_that_two_calls_had_means_the_newer_one(store: Db) {
    let (old, mut new) = (cdr(1), cdr(2));
    new.call_id.clone_from(&old.call_id);
    store.add_cdrs(&[old.clone(), new]).await.expect("it is stored");
    let found = store.record(&old.call_id).await.expect("it is read").expect("known");
    assert_eq!(found.cdr.session_id, call_id(2));
}

async fn pages_follow_each_other_without_gap_or_repeat(store: Db) {
    fill(&store, 23).await;
    let mut seen = Vec::new();
    for number in 1..=3 {
        seen.extend(numbers(&store, &page(number, 10)).await);
    }
    assert_eq!(seen, (1..=23).rev().collect::<Vec<i64>>());
    assert!(numbers(&store, &page(4, 10)).await.is_empty());
    let ascending = RecordSearch { sort: RecordSort::StartedAscending, ..page(1, 3) };
    assert_eq!(numbers(&store, &ascending).await, [1, 2, 3]);
}

async fn every_filter_narrows(store: Db) {
    let mut missed = cdr(2);
    missed.status = CallStatus::Missed;
    missed.duration_ms = 0;
    let mut inbound = cdr(3);
    inbound.direction = Direction::Inbound;
    inbound.caller = "+49 30 100%_x".to_owned();
    let mut long = cdr(4);
    long.duration_ms = 99_000;
    long.callee = "1003".to_owned();
    store.add_cdrs(&[cdr(1), missed, inbound, long]).await.expect("it is stored");

    let base = page(1, 10);
    let search = |change: fn(&mut RecordSearch)| {
        let mut search = base.clone();
        change(&mut search);
        search
    };
    let missed = search(|s| s.filter.status = Some(CallStatus::Missed));
    assert_eq!(numbers(&store, &missed).await, [2]);
    let inbound = search(|s| s.filter.direction = Some(Direction::Inbound));
    assert_eq!(numbers(&store, &inbound).await, [3]);
    let caller = search(|s| s.filter.caller = Some(Match::Part("100".to_owned())));
    assert_eq!(numbers(&store, &caller).await, [4, 3, 2, 1]);
    let literal = search(|s| s.filter.caller = Some(Match::Part("0%_".to_owned())));
    assert_eq!(numbers(&store, &literal).await, [3], "wildcards mean themselves");
    let callee = search(|s| s.filter.callee = Some(Match::Part("1003".to_owned())));
    assert_eq!(numbers(&store, &callee).await, [4]);
    for part in ["a-leg-2", "A-LEG-2"] {
        let mut text = base.clone();
        text.filter.text = Some(part.to_owned());
        assert_eq!(numbers(&store, &text).await, [2], "{part}");
    }
    let times = search(|s| {
        s.filter.from = Some(MORNING.add_ms(2_000));
        s.filter.until = Some(MORNING.add_ms(4_000));
    });
    assert_eq!(numbers(&store, &times).await, [3, 2], "the start counts, the end does not");
    let longest = search(|s| s.sort = RecordSort::DurationDescending);
    assert_eq!(numbers(&store, &longest).await, [4, 3, 1, 2]);
}

async fn the_first_start_happens_once(store: Db) {
    let extension = |name: &str| Extension {
        extension: name.to_owned(),
        display_name: Some("Demo".to_owned()),
        secret: Secret::Plain("secret".into()),
        enabled: true,
        allow_guest_calls: false,
    };
    assert!(!store.started_before().await.expect("it is answered"));
    let first = store.first_start(&[extension("1001"), extension("1002")]).await;
    assert!(first.expect("it is stored"));
    assert!(store.started_before().await.expect("it is answered"));
    let second = store.first_start(&[extension("1003")]).await;
    assert!(!second.expect("it is answered"));
    let extensions = store.extensions().await.expect("they are read");
    let names: Vec<_> = extensions.iter().map(|extension| extension.extension.as_str()).collect();
    assert_eq!(names, ["1001", "1002"]);
    assert_eq!(extensions[0].secret, Secret::Plain("secret".into()));
}

async fn a_recording_is_part_of_its_record(store: Db) {
    fill(&store, 1).await;
    let mut recording = Recording {
        call: call_id(0),
        state: RecordingState::Pending,
        capture: "captures/x.rgcap".into(),
        path: None,
        duration_ms: None,
        size: None,
        packets_lost: 3,
        error: None,
    };
    store.put_recording(&recording).await.expect("it is stored");
    recording.state = RecordingState::Ready;
    recording.path = Some("recordings/x.wav".into());
    recording.duration_ms = Some(10_000);
    recording.size = Some(320_044);
    store.put_recording(&recording).await.expect("it is replaced");
    let record = store.record("1").await.expect("it is read").expect("known");
    assert_eq!(record.recording.as_ref(), Some(&recording));
    assert_eq!(store.recording(call_id(0)).await.expect("it is read"), Some(recording));
    assert_eq!(store.recording(call_id(9)).await.expect("it is read"), None);
}

/// PostgreSQL refuses NUL in text; nothing that a phone sends may keep a record out.
async fn a_record_with_odd_text_is_stored(store: Db) {
    let mut odd = cdr(1);
    odd.caller = "nul \0, quote ', Ω, \u{1f4de}".to_owned();
    odd.call_id = "\0@phone".to_owned();
    odd.sip_leg_roles[0].call_id = "\0@phone".to_owned();
    store.add_cdrs(std::slice::from_ref(&odd)).await.expect("it is stored");
    let found = store.record("\0@phone").await.expect("it is read").expect("known");
    assert_eq!(found.cdr, odd);
}

/// More rows than one statement takes.
async fn a_big_batch_is_stored(store: Db) {
    let batch: Vec<Cdr> = (0..1_234).map(cdr).collect();
    store.add_cdrs(&batch).await.expect("it is stored");
    assert_eq!(store.records(&page(1, 1)).await.expect("it is read").total, 1_234);
}

/// An index of PostgreSQL takes keys below 2 704 bytes.
async fn text_of_any_length_is_stored_and_found(store: Db) {
    let call_id = |last: &str| format!("{}{last}@phone", "é".repeat(4_000));
    for (number, last) in [(1, "a"), (2, "b")] {
        let mut long = cdr(number);
        long.caller = "1".repeat(6_000);
        long.call_id = call_id(last);
        long.sip_leg_roles[0].call_id = call_id(last);
        store.add_cdrs(&[long]).await.expect("it is stored");
    }
    let found = store.record(&call_id("a")).await.expect("it is read").expect("known");
    assert_eq!(found.cdr.session_id, stand_ins::call_id(1));
    assert_eq!(found.cdr.caller.len(), 6_000);
}

async fn a_journal_is_taken_with_its_mark_and_may_come_twice(store: Db) {
    let stream = |shard| Stream { run: 0xffff_0000_0000_0001, shard: ShardId(shard) };
    let mark = |shard, offset, finished| JournalMark {
        stream: stream(shard),
        position: Position { segment: 7, offset },
        finished,
    };
    let batch: Vec<Cdr> = (0..3).map(cdr).collect();
    assert_eq!(store.journal_marks().await.expect("it is read"), []);
    for offset in [900, 1_800] {
        store.take_journal(&batch, &[], mark(1, offset, false)).await.expect("it is stored");
    }
    store.take_journal(&[], &[], mark(2, 40, true)).await.expect("a mark alone is stored");
    assert_eq!(store.records(&page(1, 10)).await.expect("it is read").total, 3);
    let mut marks = store.journal_marks().await.expect("they are read");
    marks.sort_by_key(|mark| mark.stream);
    assert_eq!(marks, [mark(1, 1_800, false), mark(2, 40, true)]);
    store.forget_journal(stream(1)).await.expect("it is forgotten");
    store.forget_journal(stream(9)).await.expect("nothing to forget is no error");
    assert_eq!(store.journal_marks().await.expect("they are read"), [mark(2, 40, true)]);
}

async fn an_exchange_is_kept_with_its_call(store: Db) {
    let exchange = |number: u64, outcome: &'static str| Exchange {
        call: call_id(number),
        asked_at: MORNING.0,
        latency_ms: 12,
        outcome,
        status: (outcome == "forward").then_some(200),
        request: "{\"call_id\": \"'; DROP TABLE route_exchanges; --\"}".to_owned(),
        answer: (outcome == "forward").then(|| "{\"targets\": []}".to_owned()),
        notes: vec!["one".to_owned(), "two".to_owned()],
    };
    let batch = [exchange(1, "forward"), exchange(2, "timed_out")];
    store.add_exchanges(&batch).await.expect("they are stored");
    store.add_exchanges(&[exchange(1, "reject")]).await.expect("the first one stays");
    let found = store.exchange(call_id(1)).await.expect("it is read").expect("it is there");
    assert_eq!((found.outcome.as_str(), found.status), ("forward", Some(200)));
    assert_eq!((found.asked_at, found.latency_ms), (MORNING.0, 12));
    assert_eq!((&found.request, &found.answer), (&batch[0].request, &batch[0].answer));
    assert_eq!(found.notes, ["one", "two"]);
    let found = store.exchange(call_id(2)).await.expect("it is read").expect("it is there");
    assert_eq!((found.outcome.as_str(), found.status, found.answer), ("timed_out", None, None));
    assert_eq!(store.exchange(call_id(3)).await.expect("it is read"), None);
}
