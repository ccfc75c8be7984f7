//! The pump and the questions, on a plane without shards.

mod stand_ins;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use controlplane::board::{Board, Stage};
use controlplane::journal::Taps;
use controlplane::news::{Heard, News, Reader};
use controlplane::pump::Pump;
use controlplane::questions::{Questions, Unanswered};
use controlplane::supervisor::Publisher;
use shared::ask::{Ask, UserAsk};
use shared::cdr::Direction;
use shared::command::Question;
use shared::event::{
    Answer, CallNews, CallStage, CaptureClosed, Event, Registration, RegistrationChange,
};
use shared::ids::ShardId;
use shared::journal::Position;
use shared::metrics::{Counter, Counters};
use shared::net::Transport;
use shared::snapshot::Snapshot;
use stand_ins::{FakePlane, MORNING, call_id, call_view, deciding};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Running {
    plane: Arc<FakePlane>,
    board: Arc<Board>,
    questions: Arc<Questions>,
    taps: Taps,
    news: Reader,
    captures: mpsc::Receiver<CaptureClosed>,
    registrations: mpsc::Receiver<Box<Registration>>,
    pump: JoinHandle<std::io::Result<()>>,
}

fn capture(number: u64) -> CaptureClosed {
    CaptureClosed {
        call: call_id(number),
        path: "x".into(),
        packets: 1,
        bytes: 2,
        lost: 0,
        error: None,
    }
}

fn start(shards: u8, room: usize) -> Running {
    let plane = FakePlane::new(shards);
    let cpus: Vec<usize> = (0..usize::from(shards)).collect();
    let board = Arc::new(Board::new(&cpus));
    let questions = Arc::new(Questions::new(plane.clone()));
    let taps = Taps::new(shards);
    let (capture_sender, captures) = mpsc::channel(room);
    let (registration_sender, registrations) = mpsc::channel(room);
    let news = Arc::new(News::new(MORNING));
    let reader = news.listen(None).expect("there is room");
    let pump = Pump {
        plane: plane.clone(),
        board: Arc::clone(&board),
        questions: Arc::clone(&questions),
        news,
        journal: taps.clone(),
        captures: capture_sender,
        decider: deciding::decider(&plane, &board, "").0,
        registrations: registration_sender,
    };
    let pump = tokio::spawn(pump.run());
    Running { plane, board, questions, taps, news: reader, captures, registrations, pump }
}

#[tokio::test]
async fn every_event_reaches_whom_it_concerns_and_the_pump_ends_with_the_shards() {
    let mut running = start(2, 16);
    let plane = &running.plane;
    plane.report(Event::Started(ShardId(0)));
    plane.report(Event::Started(ShardId(1)));
    let journaled = |segment, offset, ends| Event::Journaled {
        shard: ShardId(1),
        position: Position { segment, offset },
        ends,
        last: false,
    };
    plane.report(journaled(1, 4_000, 1));
    let capture = capture(1);
    plane.report(Event::CaptureClosed(capture.clone()));
    let change = Registration {
        change: RegistrationChange::Registered,
        at: MORNING,
        aor: "sip:1001@pbx.example".to_owned(),
        contact: "<sip:1001@192.0.2.7>".to_owned(),
        destination: "192.0.2.7:5060".parse().expect("an address"),
        transport: Transport::Udp,
        user_agent: None,
        expires_s: 60,
    };
    plane.report(Event::Registration(Box::new(change.clone())));
    let mut counters = Counters::default();
    counters.set(Counter::Calls, 7);
    plane.report(Event::Counters { shard: ShardId(1), counters: Box::new(counters) });
    plane.report(Event::SnapshotLive { shard: ShardId(0), generation: 3 });
    assert_eq!(running.captures.recv().await, Some(capture));
    assert_eq!(running.registrations.recv().await.as_deref(), Some(&change));
    plane.report(Event::Stopped(ShardId(0)));
    plane.report(journaled(2, 40, 7));
    plane.report(Event::Stopped(ShardId(1)));
    running.pump.await.expect("no panic").expect("a clean end");
    let reached = *running.taps.subscribe(ShardId(1)).borrow();
    let last = Position { segment: 2, offset: 40 };
    assert_eq!((reached.position, reached.ends), (last, 7), "up to the last stop");
    let shards = running.board.shards();
    assert_eq!(shards[0].generation, 3);
    assert_eq!(shards[1].counters.of(Counter::Calls), 7);
    assert!(shards.iter().all(|shard| shard.stage == Stage::Stopped));
}

async fn kind(reader: &mut Reader) -> &'static str {
    match reader.next().await {
        Some(Heard::Told(told)) => told.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn calls_and_registrations_are_told_to_those_who_listen() {
    let mut running = start(1, 4);
    running.plane.report(Event::Call(Box::new(CallNews {
        call: call_id(1),
        shard: ShardId(0),
        stage: CallStage::Created,
        at: MORNING,
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        sip_call_id: "a-leg-1@phone".to_owned(),
        direction: Direction::Internal,
    })));
    running.plane.report(Event::Registration(Box::new(Registration {
        change: RegistrationChange::Registered,
        at: MORNING,
        aor: "sip:1001@pbx.example".to_owned(),
        contact: "sip:1001@192.0.2.1".to_owned(),
        destination: "192.0.2.1:5060".parse().expect("an address"),
        transport: Transport::Udp,
        user_agent: None,
        expires_s: 300,
    })));
    assert_eq!(kind(&mut running.news).await, "call_created");
    assert_eq!(kind(&mut running.news).await, "registered");
}

#[tokio::test]
async fn a_full_finalizer_leaves_events_with_the_shards_and_loses_none() {
    let mut running = start(1, 2);
    for number in 0..5_000 {
        running.plane.report(Event::CaptureClosed(capture(number)));
        if number == 0 {
            // The pump has work before the rest arrives.
            assert_eq!(running.captures.recv().await, Some(capture(0)));
        }
    }
    for number in 1..5_000 {
        let next = running.captures.recv().await;
        assert_eq!(next, Some(capture(number)), "in order, none missing");
    }
    running.plane.report(Event::Stopped(ShardId(0)));
    running.pump.await.expect("no panic").expect("a clean end");
    assert_eq!(running.plane.waiting(), 0);
}

/// No program is configured: the shard hears so at once and need not wait for its deadline.
#[tokio::test]
async fn an_ask_is_answered_though_nobody_can_decide() {
    let running = start(2, 4);
    let ask = UserAsk {
        username: "1001".to_owned(),
        realm: "pbx.test".to_owned(),
        request_uri: "sip:pbx.test".to_owned(),
        method: "REGISTER",
        call_id: "one".to_owned(),
        source: "192.0.2.1:5060".parse().expect("an address"),
        known_at: None,
        headers: Vec::new(),
    };
    let ask = Box::new(Ask::User(ask));
    running.plane.report(Event::Asked { shard: ShardId(1), id: 7, ask });
    let (shard, id, _) = deciding::decided(&running.plane).await;
    assert_eq!((shard, id), (ShardId(1), 7));
    running.plane.report(Event::Stopped(ShardId(0)));
    running.plane.report(Event::Stopped(ShardId(1)));
    running.pump.await.expect("no panic").expect("a clean end");
    let commands = running.plane.commands.lock().expect("no panic");
    assert_eq!(*commands, [(ShardId(1), "decided")]);
}

#[tokio::test]
async fn a_question_collects_the_answer_of_every_shard() {
    let running = start(3, 4);
    running.plane.calls.lock().expect("no panic").extend([
        call_view(1, 0, true),
        call_view(2, 2, false),
        call_view(3, 2, true),
    ]);
    let answers = running.questions.ask(Question::Calls).await.expect("all answer");
    assert_eq!(answers.len(), 3);
    let count = |answer: &Answer| match answer {
        Answer::Calls(calls) => calls.len(),
        _ => panic!("calls were asked for"),
    };
    assert_eq!(answers.iter().map(count).sum::<usize>(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_silent_shard_is_named_after_a_second() {
    let plane = FakePlane::new(2);
    let questions = Questions::new(plane.clone());
    plane.silent.store(true, Ordering::Relaxed);
    let asked_at = tokio::time::Instant::now();
    let unanswered = questions.ask(Question::Dialogs).await.expect_err("nobody answers");
    assert_eq!(unanswered, Unanswered::Late(vec![ShardId(0), ShardId(1)]));
    assert_eq!(asked_at.elapsed().as_secs(), 1);
    plane.full.store(true, Ordering::Relaxed);
    let unanswered = questions.ask(Question::Dialogs).await.expect_err("no room");
    assert_eq!(unanswered, Unanswered::QueueFull(ShardId(0)));
    // Late answers find nobody and do no harm.
    questions.answer(1, ShardId(0), Answer::Calls(Vec::new()));
}

#[tokio::test]
async fn a_snapshot_is_published_when_every_shard_serves_it() {
    let running = start(2, 4);
    let news = Arc::new(News::new(MORNING));
    let mut reader = news.listen(None).expect("there is room");
    let (plane, board) = (running.plane.clone(), Arc::clone(&running.board));
    let publisher = Publisher::new(plane, board).telling(Arc::clone(&news));
    let snapshot = Arc::new(Snapshot { generation: 2, ..Default::default() });
    publisher.publish(snapshot).await.expect("both serve it");
    assert_eq!(kind(&mut reader).await, "trunks_reloaded");
    assert!(running.board.shards().iter().all(|shard| shard.generation == 2));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_take_a_snapshot_is_named() {
    let plane = FakePlane::new(2);
    plane.full.store(true, Ordering::Relaxed);
    let board = Arc::new(Board::new(&[0, 1]));
    let news = Arc::new(News::new(MORNING));
    let mut reader = news.listen(None).expect("there is room");
    let publisher = Publisher::new(plane, board).telling(Arc::clone(&news));
    let late = tokio::time::timeout(
        Duration::from_secs(10),
        publisher.publish(Arc::new(Snapshot { generation: 2, ..Default::default() })),
    );
    let late = late.await.expect("it has a deadline of its own").expect_err("nobody took it");
    assert_eq!(late, [ShardId(0), ShardId(1)]);
    news.close();
    assert!(reader.next().await.is_none(), "nobody was told of it");
}
