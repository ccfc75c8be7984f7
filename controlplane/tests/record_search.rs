//! Lists of call records by mark: every filter, both directions, a bounded cost, and what people add.

mod stand_ins;

use std::collections::BTreeSet;

use controlplane::store::{
    Db, Exchange, Exchanges, Mark, Match, RecordChange, RecordFilter, RecordSearch, RecordSlice,
    RecordSort, Recording, RecordingState, Recordings, Records, SliceSearch,
};
use shared::cdr::{CallStatus, Cdr, Direction};
use stand_ins::{MORNING, call_id, cdr, on_both};

on_both! {
    marks_lead_through_all_records_and_back,
    a_record_that_comes_later_shifts_nothing,
    every_filter_finds_what_fits_and_nothing_else,
    a_question_that_an_index_answers_is_right_for_many_and_for_few,
    a_walk_that_finds_little_stops_and_goes_on,
    the_total_is_exact_when_it_can_be_and_near_otherwise,
    tags_and_note_are_kept_and_found,
    a_deleted_record_leaves_nothing,
}

/// Different in everything that a filter looks at. Two calls start in each millisecond.
fn varied(number: u64) -> Cdr {
    let mut cdr = cdr(number);
    cdr.start_time = MORNING.add_ms(number / 2);
    cdr.caller = format!("+4930{:03}", number % 100);
    cdr.callee = format!("{}", 1_000 + number % 7);
    cdr.status =
        [CallStatus::Completed, CallStatus::Missed, CallStatus::Failed][number as usize % 3];
    cdr.status_code = [200, 486, 503][number as usize % 3];
    cdr.direction =
        [Direction::Inbound, Direction::Internal, Direction::Outbound][number as usize / 3 % 3];
    cdr.duration_ms = number % 11 * 1_000;
    cdr.sip_trunk = number.is_multiple_of(5).then(|| "carrier-a".to_owned());
    cdr.outbound_trunk = number.is_multiple_of(13).then(|| "carrier-b".to_owned());
    cdr
}

async fn fill(db: &Db, count: u64) {
    let batch: Vec<Cdr> = (0..count).map(varied).collect();
    db.add_cdrs(&batch).await.expect("it is stored");
}

async fn slice(db: &Db, search: &SliceSearch) -> RecordSlice {
    db.record_slice(search).await.expect("it is read")
}

fn numbers(slice: &RecordSlice) -> Vec<u64> {
    // The number of `varied` is the low half of the session id.
    let number = |id: u128| u64::try_from(id & u128::from(u64::MAX)).expect("64 bits");
    slice.records.iter().map(|record| number(record.cdr.session_id.0)).collect()
}

/// Everything from a mark on, slice by slice.
async fn walk(db: &Db, search: &SliceSearch) -> (Vec<u64>, usize) {
    let (mut search, mut found, mut slices) = (search.clone(), Vec::new(), 0);
    loop {
        let got = slice(db, &search).await;
        slices += 1;
        let backwards = search.mark.is_some_and(|mark| mark.backwards);
        if backwards {
            found.splice(0..0, numbers(&got));
        } else {
            found.extend(numbers(&got));
        }
        match if backwards { got.previous } else { got.next } {
            Some(mark) => search.mark = Some(mark),
            None => return (found, slices),
        }
    }
}

fn of(filter: RecordFilter) -> SliceSearch {
    SliceSearch { filter, limit: 50, with_total: true, ..Default::default() }
}

async fn marks_lead_through_all_records_and_back(db: Db) {
    fill(&db, 101).await;
    for sort in [
        RecordSort::StartedDescending,
        RecordSort::StartedAscending,
        RecordSort::DurationDescending,
        RecordSort::DurationAscending,
    ] {
        let search = SliceSearch { sort, limit: 10, ..Default::default() };
        let (forward, slices) = walk(&db, &search).await;
        assert_eq!(slices, 11, "{sort:?}");
        assert_eq!(forward.iter().collect::<BTreeSet<_>>().len(), 101, "{sort:?}");
        let by_page = RecordSearch { page: 1, per_page: 200, sort, ..Default::default() };
        let page = db.records(&by_page).await.expect("it is read");
        let same =
            RecordSlice { records: page.records, next: None, previous: None, total_estimate: None };
        assert_eq!(forward, numbers(&same), "{sort:?}: the order of pages is the order of marks");

        // From the last record back to the first.
        let last = same.records.last().expect("there are some");
        let key = match sort {
            RecordSort::StartedAscending | RecordSort::StartedDescending => last.cdr.start_time.0,
            _ => i64::try_from(last.cdr.duration_ms).expect("it is small"),
        };
        let mark = Some(Mark { key, id: last.id, backwards: true });
        let (back, _) = walk(&db, &SliceSearch { mark, ..search }).await;
        assert_eq!(back, forward[..100], "{sort:?}");
    }
}

async fn a_record_that_comes_later_shifts_nothing(db: Db) {
    fill(&db, 30).await;
    let mut search = SliceSearch { limit: 10, ..Default::default() };
    let first = slice(&db, &search).await;
    let mut later = varied(90);
    later.start_time = MORNING.add_ms(60_000);
    db.add_cdrs(&[later]).await.expect("it is stored");
    search.mark = first.next;
    let second = slice(&db, &search).await;
    assert_eq!(numbers(&second), (10..20).rev().collect::<Vec<u64>>());
    search.mark = second.previous;
    let back = slice(&db, &search).await;
    assert_eq!(numbers(&back), numbers(&first));
    assert!(back.previous.is_some(), "the new one is before them");
}

type Fits = fn(&Cdr) -> bool;
type Questions = Vec<(&'static str, RecordFilter, Fits)>;

fn questions_for_numbers() -> Questions {
    let whole = |text: &str| Some(Match::Whole(text.to_owned()));
    let start = |text: &str| Some(Match::Start(text.to_owned()));
    let part = |text: &str| Some(Match::Part(text.to_owned()));
    let none = RecordFilter::default;
    vec![
        ("caller", RecordFilter { caller: whole("+4930042"), ..none() }, |c| {
            c.caller == "+4930042"
        }),
        ("caller start", RecordFilter { caller: start("+493004"), ..none() }, |c| {
            c.caller.starts_with("+493004")
        }),
        ("caller part", RecordFilter { caller: part("004"), ..none() }, |c| {
            c.caller.contains("004")
        }),
        ("callee", RecordFilter { callee: whole("1003"), ..none() }, |c| c.callee == "1003"),
        ("number", RecordFilter { number: whole("1003"), ..none() }, |c| c.callee == "1003"),
        ("number start", RecordFilter { number: start("+49300"), ..none() }, |c| {
            c.caller.starts_with("+49300")
        }),
        ("not a pattern", RecordFilter { caller: start("%"), ..none() }, |_| false),
    ]
}

fn other_questions() -> Questions {
    let none = RecordFilter::default;
    vec![
        ("status", RecordFilter { status: Some(CallStatus::Failed), ..none() }, |c| {
            c.status == CallStatus::Failed
        }),
        ("code", RecordFilter { sip_code: Some(486), ..none() }, |c| c.status_code == 486),
        ("direction", RecordFilter { direction: Some(Direction::Outbound), ..none() }, |c| {
            c.direction == Direction::Outbound
        }),
        ("trunk in", RecordFilter { trunk: Some("carrier-a".to_owned()), ..none() }, |c| {
            c.sip_trunk.is_some()
        }),
        ("trunk out", RecordFilter { trunk: Some("carrier-b".to_owned()), ..none() }, |c| {
            c.outbound_trunk.is_some()
        }),
        ("duration", RecordFilter { duration_min_ms: Some(9_000), ..none() }, |c| {
            c.duration_ms >= 9_000
        }),
        ("from", RecordFilter { from: Some(MORNING.add_ms(90)), ..none() }, |c| {
            c.start_time >= MORNING.add_ms(90)
        }),
        ("until", RecordFilter { until: Some(MORNING.add_ms(3)), ..none() }, |c| {
            c.start_time < MORNING.add_ms(3)
        }),
        ("call id", RecordFilter { call_id: Some("b-leg-17@gate".to_owned()), ..none() }, |c| {
            c.session_id == call_id(17)
        }),
        ("text", RecordFilter { text: Some("LEG-17".to_owned()), ..none() }, |c| {
            c.call_id.contains("leg-17")
        }),
        (
            "several",
            RecordFilter {
                status: Some(CallStatus::Missed),
                direction: Some(Direction::Internal),
                caller: Some(Match::Start("+4930".to_owned())),
                duration_min_ms: Some(5_000),
                ..none()
            },
            |c| {
                c.status == CallStatus::Missed
                    && c.direction == Direction::Internal
                    && c.duration_ms >= 5_000
            },
        ),
    ]
}

async fn every_filter_finds_what_fits_and_nothing_else(db: Db) {
    fill(&db, 200).await;
    let all: Vec<Cdr> = (0..200).rev().map(varied).collect();
    for (name, filter, fits) in questions_for_numbers().into_iter().chain(other_questions()) {
        let expected: Vec<u64> = all
            .iter()
            .filter(|cdr| fits(cdr))
            .map(|cdr| u64::try_from(cdr.session_id.0 & u128::from(u64::MAX)).expect("64 bits"))
            .collect();
        let (found, _) = walk(&db, &of(filter.clone())).await;
        assert_eq!(found, expected, "{name}");
        let page = RecordSearch { page: 1, per_page: 200, filter, ..Default::default() };
        let page = db.records(&page).await.expect("it is read");
        assert_eq!(page.total, expected.len() as u64, "{name}: pages agree");
        assert_eq!(page.records.len(), expected.len(), "{name}: pages agree");
    }
}

/// Above two thousand an index is no short cut any more, and the answer must be the same.
async fn a_question_that_an_index_answers_is_right_for_many_and_for_few(db: Db) {
    fill(&db, 2_500).await;
    let asked = |number: &str| {
        of(RecordFilter { number: Some(Match::Start(number.to_owned())), ..Default::default() })
    };
    let (many, _) = walk(&db, &asked("+4930")).await;
    assert_eq!(many, (0..2_500).rev().collect::<Vec<u64>>());
    let (few, _) = walk(&db, &asked("+4930007")).await;
    assert_eq!(few, (0..25).rev().map(|n| n * 100 + 7).collect::<Vec<u64>>());
}

/// The slice ends where the walk does, shorter than asked, and its mark goes on.
async fn a_walk_that_finds_little_stops_and_goes_on(db: Db) {
    let mut batch: Vec<Cdr> = (0..1_005).map(cdr).collect();
    for number in [2, 400, 1_004] {
        batch[number].status = CallStatus::Failed;
    }
    db.add_cdrs(&batch).await.expect("it is stored");
    let filter = RecordFilter { status: Some(CallStatus::Failed), ..Default::default() };
    let mut search = SliceSearch { filter, limit: 10, walk_max: 500, ..Default::default() };
    let first = slice(&db, &search).await;
    assert_eq!(numbers(&first), [1_004]);
    search.mark = first.next;
    let second = slice(&db, &search).await;
    assert_eq!(numbers(&second), [400]);
    search.mark = second.next;
    let third = slice(&db, &search).await;
    assert_eq!(numbers(&third), [2]);
    assert_eq!(third.next, None);
    // And back again, in as many steps; the one in the middle finds nothing.
    search.mark = third.previous;
    let (back, slices) = walk(&db, &search).await;
    assert_eq!((back, slices), (vec![1_004, 400], 3));
}

async fn the_total_is_exact_when_it_can_be_and_near_otherwise(db: Db) {
    fill(&db, 1_000).await;
    let total = async |filter: RecordFilter| {
        slice(&db, &of(filter)).await.total_estimate.expect("it was asked for")
    };
    assert_eq!(total(RecordFilter::default()).await, 1_000);
    let until = RecordFilter { until: Some(MORNING.add_ms(250)), ..Default::default() };
    assert_eq!(total(until).await, 500);
    let number = Some(Match::Whole("1003".to_owned()));
    assert_eq!(total(RecordFilter { number, ..Default::default() }).await, 143);
    let one = RecordFilter { call_id: Some("a-leg-7@phone".to_owned()), ..Default::default() };
    assert_eq!(total(one).await, 1);
    let failed = RecordFilter { status: Some(CallStatus::Failed), ..Default::default() };
    let estimate = total(failed).await;
    assert!((300..370).contains(&estimate), "a third of them: {estimate}");
    assert_eq!(total(RecordFilter { trunk: Some("x".to_owned()), ..Default::default() }).await, 0);
    let silent = SliceSearch { limit: 5, ..Default::default() };
    assert_eq!(slice(&db, &silent).await.total_estimate, None, "nobody asked");
}

async fn tags_and_note_are_kept_and_found(db: Db) {
    fill(&db, 5).await;
    let id = db.record("a-leg-3@phone").await.expect("it is read").expect("known").id;
    let tags = vec!["vip".to_owned(), "say \"hi\", 100%".to_owned()];
    let change = RecordChange { tags: Some(tags.clone()), note: Some(Some("called back".into())) };
    assert!(db.change_record(id, &change).await.expect("it is stored"));
    let changed = db.record("a-leg-3@phone").await.expect("it is read").expect("known");
    assert_eq!((changed.tags, changed.note.as_deref()), (tags.clone(), Some("called back")));
    assert_eq!(changed.cdr, varied(3), "the record itself stays as it was");
    for (asked, expected) in [
        (vec!["vip".to_owned()], vec![3]),
        (tags, vec![3]),
        (vec!["vi".to_owned()], vec![]),
        (vec!["vip".to_owned(), "other".to_owned()], vec![]),
    ] {
        let filter = RecordFilter { tags: asked.clone(), ..Default::default() };
        assert_eq!(walk(&db, &of(filter)).await.0, expected, "{asked:?}");
    }
    let only_note = RecordChange { tags: None, note: Some(None) };
    assert!(db.change_record(id, &only_note).await.expect("it is stored"));
    let left = db.record("a-leg-3@phone").await.expect("it is read").expect("known");
    assert_eq!((left.tags.len(), left.note), (2, None));
    assert!(!db.change_record(99, &only_note).await.expect("it is answered"), "no such record");
}

async fn a_deleted_record_leaves_nothing(db: Db) {
    fill(&db, 5).await;
    let recording = Recording {
        call: call_id(3),
        state: RecordingState::Ready,
        capture: "captures/3.rgcap".into(),
        path: Some("recordings/3.wav".into()),
        duration_ms: Some(1),
        size: Some(1),
        packets_lost: 0,
        error: None,
    };
    db.put_recording(&recording).await.expect("it is stored");
    let exchange = Exchange {
        call: call_id(3),
        asked_at: 1,
        latency_ms: 1,
        outcome: "forward",
        status: Some(200),
        request: "{}".to_owned(),
        answer: None,
        notes: Vec::new(),
    };
    db.add_exchanges(&[exchange]).await.expect("it is stored");
    let recorded = RecordFilter { has_recording: Some(true), ..Default::default() };
    assert_eq!(walk(&db, &of(recorded.clone())).await.0, [3]);
    let others = RecordFilter { has_recording: Some(false), ..Default::default() };
    assert_eq!(walk(&db, &of(others)).await.0, [4, 2, 1, 0]);
    let record = db.record("a-leg-3@phone").await.expect("it is read").expect("known");
    assert!(db.delete_record(&record).await.expect("it is done"));
    for id in ["a-leg-3@phone", "b-leg-3@gate", call_id(3).to_string().as_str()] {
        assert!(db.record(id).await.expect("it is read").is_none(), "{id}");
    }
    assert_eq!(db.recording(call_id(3)).await.expect("it is read"), None);
    assert_eq!(db.exchange(call_id(3)).await.expect("it is read"), None);
    assert!(walk(&db, &of(recorded)).await.0.is_empty());
    assert!(db.record("a-leg-2@phone").await.expect("it is read").is_some(), "others stay");
    assert!(!db.delete_record(&record).await.expect("it is answered"), "it is gone already");
}
