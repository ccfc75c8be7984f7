//! `records`: a filtered page over a million call records, on either database (issue 3, must show 8).
//! Owns:  the records that it makes up, the questions, the inserts beside them.
//! Gives: p50, p95 and the slowest page per question, alone and with 200 inserts a second beside it.
//! Never: a shortcut: records go in and pages come out through the store that the gateway uses.
//! Holds: PostgreSQL runs with fsync on, with the settings that it comes with. Time is that of the
//!        store: HTTP and JSON come on top, a fraction of a millisecond for 50 records.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use controlplane::store::{
    Connections, Db, Match, RecordFilter, RecordSearch, RecordSort, Recording, RecordingState,
    Recordings, Records, SliceSearch,
};
use loadtest::host;
use loadtest::postgres::{Cluster, Fsync};
use shared::cdr::{CallStatus, Cdr, Direction, HangupReason, LegRole, LegTimeline, StreamQuality};
use shared::config::{Database, DatabasePool, DatabaseUrl};
use shared::ids::{CallId, Side};
use shared::time::WallMs;

/// 2026-09-01T00:00:00Z
const FIRST_MS: i64 = 1_788_220_800_000;
const BATCH: u64 = 2_000;
/// Calls that have a recording: one of so many.
const RECORDED: u64 = 500;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Which::Both)]
    database: Which,
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Pages per question.
    #[arg(long, default_value_t = 200)]
    pages: u64,
    /// Call records a second that come in beside the pages.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Where the SQLite file goes; it is removed at the end unless it is to be kept.
    #[arg(long, default_value = "target/records")]
    folder: PathBuf,
    /// Leaves the SQLite file there, for `calls pages`; the PostgreSQL server runs on until the standard
    /// input ends.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Both,
    Postgres,
    Sqlite,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("records: {} on {}", host::command(), host::describe());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("records: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("records: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.database != Which::Postgres {
        let show = |error: std::io::Error| format!("{}: {error}", arguments.folder.display());
        std::fs::create_dir_all(&arguments.folder).map_err(show)?;
        let file = arguments.folder.join(format!("records-{}.sqlite3", std::process::id()));
        let outcome = measure("SQLite", &Database::Sqlite(file.clone()), None, arguments).await;
        let ends: &[&str] = if arguments.keep { &[] } else { &["", "-wal", "-shm"] };
        for end in ends {
            let path = PathBuf::from(format!("{}{end}", file.display()));
            if path.exists() {
                std::fs::remove_file(&path).map_err(show)?;
            }
        }
        outcome?;
    }
    if arguments.database != Which::Sqlite {
        let cluster = Cluster::start(Fsync::On)?;
        let url = cluster.create("records")?;
        let pool = DatabasePool::default();
        let database = Database::Postgres { url: DatabaseUrl::new(&url), pool };
        measure("PostgreSQL", &database, Some(&cluster), arguments).await?;
        if arguments.keep {
            println!("PostgreSQL: {url} is there until the standard input ends");
            let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.map_err(|error| format!("the standard input: {error}"))?;
        }
    }
    Ok(())
}

async fn measure(
    name: &str,
    database: &Database,
    cluster: Option<&Cluster>,
    arguments: &Arguments,
) -> Result<(), String> {
    let db = Db::open(database).await.map_err(|error| error.to_string())?;
    let started = Instant::now();
    fill(&db, arguments.records).await?;
    let seconds = started.elapsed().as_secs_f64();
    let each = arguments.records as f64 / seconds;
    println!("{name}: {} records in {seconds:.1} s ({each:.0}/s)", arguments.records);
    if let Some(cluster) = cluster {
        // What autovacuum does by itself after so many inserts, some minutes later.
        cluster.run("records", "VACUUM ANALYZE")?;
    }
    let alone = ask_all(&db, arguments).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let inserts = tokio::spawn(insert(db.clone(), arguments.records, arguments.rate, stop.clone()));
    let beside = ask_all(&db, arguments).await?;
    stop.store(true, Ordering::Relaxed);
    let inserted = inserts.await.map_err(|error| error.to_string())??;
    println!(
        "{name}: {:<34} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}  ms, alone and with inserts",
        "question", "p50", "p95", "max", "p50", "p95", "max"
    );
    for ((question, mut alone), (_, mut beside)) in alone.into_iter().zip(beside) {
        let figures = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |share: f64| {
                let place = ((times.len() as f64 * share) as usize).min(times.len() - 1);
                times[place].as_secs_f64() * 1_000.0
            };
            format!("{:>8.1} {:>8.1} {:>8.1}", at(0.50), at(0.95), at(1.0))
        };
        println!("{name}: {question:<34} {}   {}", figures(&mut alone), figures(&mut beside));
    }
    println!(
        "{name}: beside the pages {} records came in at {:.0}/s; the slowest batch took {:.1} ms",
        inserted.records,
        inserted.records as f64 / inserted.time.as_secs_f64(),
        inserted.slowest.as_secs_f64() * 1_000.0
    );
    db.close().await;
    Ok(())
}

async fn fill(db: &Db, records: u64) -> Result<(), String> {
    let mut next = 0;
    while next < records {
        let until = records.min(next + BATCH);
        let batch: Vec<Cdr> = (next..until).map(made_up).collect();
        db.add_cdrs(&batch).await.map_err(|error| error.to_string())?;
        for cdr in batch.iter().filter(|cdr| cdr.recorded) {
            let recording = Recording {
                call: cdr.session_id,
                state: RecordingState::Ready,
                capture: "captures/gone.rgcap".into(),
                path: Some(format!("recordings/{}.wav", cdr.session_id).into()),
                duration_ms: Some(cdr.duration_ms),
                size: Some(16 * cdr.duration_ms),
                packets_lost: 0,
                error: None,
            };
            db.put_recording(&recording).await.map_err(|error| error.to_string())?;
        }
        next = until;
    }
    Ok(())
}

/// Scatters numbers, always in the same way.
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 20 000 callers, of which a few make most of the calls; 200 extensions; ten trunks.
fn caller(scatter: u64) -> String {
    let busy = scatter.is_multiple_of(4);
    let number = if busy { scatter / 4 % 20 } else { scatter / 4 % 20_000 };
    format!("+4930{number:07}")
}

fn made_up(number: u64) -> Cdr {
    let scatter = mix(number);
    let start = WallMs(FIRST_MS).add_ms(number * 7_000 + scatter % 7_000);
    let (status, code) = match scatter % 100 {
        0..70 => (CallStatus::Completed, 200),
        70..85 => (CallStatus::Missed, 487),
        85..95 => (CallStatus::Failed, 486),
        95..99 => (CallStatus::Failed, 404),
        _ => (CallStatus::Failed, 503),
    };
    let direction =
        [Direction::Inbound, Direction::Outbound, Direction::Internal][scatter as usize / 100 % 3];
    let answered = status == CallStatus::Completed;
    let duration_ms = if answered { scatter / 1_000 % 600_000 } else { 0 };
    let trunk = format!("carrier-{}", scatter / 7 % 10);
    let callee = (1_000 + scatter / 11 % 200).to_string();
    let caller = caller(scatter / 13);
    let call_id = format!("{scatter:016x}-{number}@198.51.100.7");
    let id = (u128::from(start.0.unsigned_abs()) << 80) | u128::from(number);
    Cdr {
        session_id: CallId(id),
        caller_uri: format!("sip:{caller}@carrier.example;user=phone"),
        callee_uri: format!("sip:{callee}@pbx.example"),
        caller,
        callee,
        direction,
        status,
        start_time: start,
        ring_time: Some(start.add_ms(180)),
        answer_time: answered.then(|| start.add_ms(4_000)),
        end_time: start.add_ms(4_000 + duration_ms),
        duration_ms,
        status_code: code,
        hangup_reason: if answered { HangupReason::ByCaller } else { HangupReason::NoAnswer },
        hangup_messages: Vec::new(),
        sip_leg_roles: vec![
            LegRole { call_id: call_id.clone(), role: Side::Caller },
            LegRole { call_id: format!("b-{call_id}"), role: Side::Callee },
        ],
        call_id,
        source_addr: "198.51.100.7:5060".to_owned(),
        sip_trunk: (direction == Direction::Inbound).then(|| trunk.clone()),
        outbound_trunk: (direction == Direction::Outbound).then_some(trunk),
        user_agent: Some("Desk Phone 4.2.1 build 4711".to_owned()),
        recorded: number.is_multiple_of(RECORDED),
        media_quality: vec![quality(Side::Caller), quality(Side::Callee)],
        last_error: None,
        leg_timeline: LegTimeline::default(),
        sip_flow: None,
        metadata: BTreeMap::new(),
        shard: 0,
    }
}

fn quality(side: Side) -> StreamQuality {
    StreamQuality { side: Some(side), packets: 15_000, bytes: 2_580_000, ..Default::default() }
}

#[derive(Clone, Copy, Debug)]
struct Inserted {
    records: u64,
    time: Duration,
    slowest: Duration,
}

/// `rate` records a second, as the gateway stores them: what came within 50 ms is one transaction.
async fn insert(db: Db, first: u64, rate: u64, stop: Arc<AtomicBool>) -> Result<Inserted, String> {
    const EVERY: Duration = Duration::from_millis(50);
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let each = (rate / 20).max(1);
    let started = Instant::now();
    let mut done = Inserted { records: 0, time: Duration::ZERO, slowest: Duration::ZERO };
    let mut ticks = tokio::time::interval(EVERY);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let from = first + NUMBER.fetch_add(each, Ordering::Relaxed);
        let batch: Vec<Cdr> = (from..from + each).map(made_up).collect();
        let before = Instant::now();
        db.add_cdrs(&batch).await.map_err(|error| error.to_string())?;
        done.slowest = done.slowest.max(before.elapsed());
        done.records += each;
    }
    done.time = started.elapsed();
    Ok(done)
}

/// What is asked, with another value each time.
type Questions = Vec<(&'static str, fn(u64, u64) -> SliceSearch)>;

fn of(filter: RecordFilter) -> SliceSearch {
    SliceSearch { filter, limit: 50, with_total: true, ..SliceSearch::default() }
}

fn moment(records: u64, scatter: u64) -> WallMs {
    WallMs(FIRST_MS).add_ms(scatter % records.max(1) * 7_000)
}

fn plain_questions() -> Questions {
    vec![
        ("newest", |_, _| of(RecordFilter::default())),
        ("an hour", |records, scatter| {
            let from = moment(records, scatter);
            let until = Some(from.add_ms(3_600_000));
            of(RecordFilter { from: Some(from), until, ..RecordFilter::default() })
        }),
        ("number, rare", |_, scatter| {
            let number = Some(Match::Whole(caller(4 * (scatter % 20_000) + 1)));
            of(RecordFilter { number, ..RecordFilter::default() })
        }),
        ("number, busy", |_, scatter| {
            let number = Some(Match::Whole(caller(4 * (scatter % 20_000))));
            of(RecordFilter { number, ..RecordFilter::default() })
        }),
        ("number, start", |_, scatter| {
            let number = Some(Match::Start(format!("+4930{:05}", scatter % 200)));
            of(RecordFilter { number, ..RecordFilter::default() })
        }),
        ("extension", |_, scatter| {
            let callee = Some(Match::Whole((1_000 + scatter % 200).to_string()));
            of(RecordFilter { callee, ..RecordFilter::default() })
        }),
        ("trunk", |_, scatter| {
            let trunk = Some(format!("carrier-{}", scatter % 10));
            of(RecordFilter { trunk, ..RecordFilter::default() })
        }),
        ("failed", |_, _| {
            of(RecordFilter { status: Some(CallStatus::Failed), ..RecordFilter::default() })
        }),
    ]
}

/// Those that look at much, or find little.
fn hard_questions() -> Questions {
    vec![
        ("sip_code 503, a week", |records, scatter| {
            let from = moment(records, scatter);
            let until = Some(from.add_ms(7 * 86_400_000));
            let sip_code = Some(503);
            of(RecordFilter { sip_code, from: Some(from), until, ..RecordFilter::default() })
        }),
        ("missed, inbound, long: nothing", |_, _| {
            of(RecordFilter {
                status: Some(CallStatus::Missed),
                direction: Some(Direction::Inbound),
                duration_min_ms: Some(60_000),
                ..RecordFilter::default()
            })
        }),
        ("has_recording", |_, _| {
            of(RecordFilter { has_recording: Some(true), ..RecordFilter::default() })
        }),
        ("call_id", |records, scatter| {
            let number = scatter % records.max(1);
            let call_id = Some(made_up(number).call_id);
            of(RecordFilter { call_id, ..RecordFilter::default() })
        }),
        ("q, three digits", |_, scatter| {
            let text = Some(format!("{:03}", scatter % 1_000));
            of(RecordFilter { text, ..RecordFilter::default() })
        }),
        ("q, found nowhere", |_, scatter| {
            of(RecordFilter { text: Some(format!("zz{scatter}")), ..RecordFilter::default() })
        }),
        ("longest, a trunk", |_, scatter| SliceSearch {
            sort: RecordSort::DurationDescending,
            ..of(RecordFilter {
                trunk: Some(format!("carrier-{}", scatter % 10)),
                ..RecordFilter::default()
            })
        }),
    ]
}

type Times = Vec<(String, Vec<Duration>)>;

async fn ask_all(db: &Db, arguments: &Arguments) -> Result<Times, String> {
    let mut all = Vec::new();
    for (name, question) in plain_questions().into_iter().chain(hard_questions()) {
        let mut times = Vec::new();
        while (times.len() as u64) < arguments.pages {
            let scatter = mix(times.len() as u64 + 77);
            let mut search = question(arguments.records, scatter);
            // The first page and the one behind it.
            for _ in 0..2 {
                let before = Instant::now();
                let slice = db.record_slice(&search).await.map_err(|error| error.to_string())?;
                times.push(before.elapsed());
                match slice.next {
                    Some(mark) => search.mark = Some(mark),
                    None => break,
                }
            }
        }
        all.push((name.to_owned(), times));
    }
    let mut times = Vec::new();
    for number in 0..arguments.pages {
        // The older prefixes: page 1 to 50, with the exact total.
        let page = u32::try_from(mix(number) % 50).unwrap_or(0) + 1;
        let filter = RecordFilter { status: Some(CallStatus::Failed), ..RecordFilter::default() };
        let search = RecordSearch { page, per_page: 20, filter, ..RecordSearch::default() };
        let before = Instant::now();
        db.records(&search).await.map_err(|error| error.to_string())?;
        times.push(before.elapsed());
    }
    all.push(("older page with total: failed".to_owned(), times));
    Ok(all)
}
