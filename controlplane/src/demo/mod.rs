//! `ringgate demo`: a recorded call between two built-in soft phones, for somebody without phones.
//! Owns:  the play: start, register, call, talk, hang up, look at what is left.
//! Gives: the ladder, the call record, the recording, and what is heard on which side of it.
//! Never: touches a running gateway: ports and folder are its own.
//! Holds: exit 0 only when everything that it prints is as it should be.

mod ear;
mod stage;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use loadtest::phone::{CallReport, LadderLine, Phone, PhoneError, merge};
use shared::cdr::{Cdr, HangupReason};
use tokio::time::{Instant, sleep, timeout};

use crate::cli::{say, say_err};
use crate::exit::Exit;
use crate::store::{CallRecord, RecordingState, Store};
use crate::supervisor::Gateway;
use ear::Heard;
use stage::Stage;

const CALLER: &str = "1001";
const CALLEE: &str = "1002";
const CALLER_TONE_HZ: f32 = 440.0;
const CALLEE_TONE_HZ: f32 = 1_000.0;
/// For everything but the talking: a call on one machine is set up in milliseconds.
const PLAY_DEADLINE: Duration = Duration::from_secs(20);
/// For the call record, and then for the recording.
const LEFT_DEADLINE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const DRAIN: Duration = Duration::from_secs(5);
/// How far the recorded talk may be from what the phones did.
const DURATION_TOLERANCE_MS: u64 = 500;

/// Runs the demo in this process.
pub fn run(talk: Duration) -> Exit {
    let stage = match Stage::build() {
        Ok(stage) => stage,
        Err(reason) => {
            say_err(&reason);
            return Exit::Failed;
        }
    };
    let runtime = stage.runtime();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(perform(&stage, talk));
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        }
        Err(error) => Err(format!("the runtime: {error}")),
    };
    match outcome {
        Ok(true) => Exit::Ok,
        Ok(false) => Exit::Failed,
        Err(reason) => {
            say_err(&reason);
            Exit::Failed
        }
    }
}

/// `Ok(false)`: it ran, and something was not as it should be.
async fn perform(stage: &Stage, talk: Duration) -> Result<bool, String> {
    let gateway = stage.start().await?;
    say(&format!("A gateway runs at {} with its files in {}.", stage.sip, stage.folder.display()));
    let done = tokio::select! {
        done = play(stage, &gateway, talk) => done,
        _ = gateway.ending().asked() => Err("a program asked for the end".to_owned()),
    };
    gateway.drain(DRAIN).await;
    gateway.stop().await;
    done
}

/// What the phones know of the call when it is over.
struct Played {
    ladder: Vec<LadderLine>,
    call_id: String,
    caller: CallReport,
    callee: CallReport,
}

async fn play(stage: &Stage, gateway: &Gateway, talk: Duration) -> Result<bool, String> {
    let played = timeout(PLAY_DEADLINE + talk, phones(stage, talk)).await;
    let played = played.map_err(|_| "the phones got stuck".to_owned())??;
    say("\nThe ladder, as the two phones saw it:");
    for line in &played.ladder {
        say(&format!("  {line}"));
    }
    let record = left(&**gateway.store(), &played.call_id).await?;
    say("\nThe call record:");
    let json = serde_json::to_string_pretty(&record.cdr).map_err(|error| error.to_string())?;
    say(&json);
    let mut verdicts = judge_record(&record.cdr, &played);
    let recording = record.recording.as_ref().and_then(|recording| recording.path.clone());
    verdicts.extend(match recording {
        Some(path) => judge_recording(path, &played).await?,
        None => vec![Verdict::new(false, "there is no recording")],
    });
    say("\nWhat was checked:");
    for Verdict { good, text } in &verdicts {
        say(&format!("  {} {text}", if *good { "ok    " } else { "WRONG " }));
    }
    let good = verdicts.iter().all(|verdict| verdict.good);
    let folder = stage.folder.display();
    say(&format!("\nThe folder stays for you to listen; throw it away with: rm -r {folder}"));
    Ok(good)
}

async fn phones(stage: &Stage, talk: Duration) -> Result<Played, String> {
    let io = |error: std::io::Error| format!("a phone: {error}");
    let mut caller = Phone::bind(stage.sip, CALLER, &stage.passwords[0]).map_err(io)?;
    let mut callee = Phone::bind(stage.sip, CALLEE, &stage.passwords[1]).map_err(io)?;
    caller.register(300).await.map_err(failed("1001 registers"))?;
    callee.register(300).await.map_err(failed("1002 registers"))?;
    say(&format!("{CALLER} and {CALLEE} are registered; {CALLER} calls {CALLEE}."));
    let (called, answered) =
        tokio::join!(caller.call(CALLEE, CALLER_TONE_HZ), callee.answer_next(CALLEE_TONE_HZ));
    let called = called.map_err(failed("1001 calls 1002"))?;
    let answered = answered.map_err(failed("1002 answers"))?;
    let call_id = called.call_id().to_owned();
    say(&format!(
        "They talk for {} s: {CALLER} sends {CALLER_TONE_HZ} Hz, {CALLEE} {CALLEE_TONE_HZ} Hz.",
        talk.as_secs()
    ));
    sleep(talk).await;
    let (caller_report, callee_report) =
        tokio::join!(called.hang_up(), answered.ended(Duration::from_secs(5)));
    Ok(Played {
        ladder: merge([caller.ladder(), callee.ladder()]),
        call_id,
        caller: caller_report.map_err(failed("1001 hangs up"))?,
        callee: callee_report.map_err(failed("1002 hears the end"))?,
    })
}

fn failed(step: &'static str) -> impl Fn(PhoneError) -> String {
    move |error| format!("{step}: {error}")
}

/// The record with its recording, which follows the hang-up within a moment.
async fn left(store: &dyn Store, call_id: &str) -> Result<CallRecord, String> {
    let give_up_at = Instant::now() + LEFT_DEADLINE;
    loop {
        let found = store.record(call_id).await.map_err(|error| error.to_string())?;
        let settled = found.as_ref().is_some_and(|record| {
            record.recording.as_ref().is_some_and(|r| r.state != RecordingState::Pending)
        });
        match found {
            Some(record) if settled => return Ok(record),
            Some(record) if Instant::now() >= give_up_at => return Ok(record),
            None if Instant::now() >= give_up_at => {
                return Err("there is no call record".to_owned());
            }
            _ => sleep(LOOK_AGAIN).await,
        }
    }
}

struct Verdict {
    good: bool,
    text: String,
}

impl Verdict {
    fn new(good: bool, text: impl Display) -> Self {
        Self { good, text: text.to_string() }
    }
}

fn judge_record(cdr: &Cdr, played: &Played) -> Vec<Verdict> {
    let talked_ms = played.caller.talked_ms;
    let near = cdr.duration_ms.abs_diff(talked_ms) <= DURATION_TOLERANCE_MS;
    let parties = cdr.caller == CALLER && cdr.callee == CALLEE;
    let times = cdr.ring_time.is_some() && cdr.answer_time.is_some();
    vec![
        Verdict::new(parties, format!("the record says {} called {}", cdr.caller, cdr.callee)),
        Verdict::new(cdr.status_code == 200, format!("its status is {}", cdr.status_code)),
        Verdict::new(times, "it has the times of ringing and of the answer"),
        Verdict::new(
            cdr.hangup_reason == HangupReason::ByCaller,
            format!("it says who hung up: {:?}", cdr.hangup_reason),
        ),
        Verdict::new(
            near,
            format!("its duration is {} ms, the phones talked {talked_ms} ms", cdr.duration_ms),
        ),
    ]
}

async fn judge_recording(path: PathBuf, played: &Played) -> Result<Vec<Verdict>, String> {
    say(&format!("\nThe recording: {}", path.display()));
    let heard = tokio::task::spawn_blocking(move || ear::listen(&path));
    let heard = heard.await.map_err(|error| error.to_string())??;
    let talked_ms = played.caller.talked_ms;
    let near = heard.duration_ms.abs_diff(talked_ms) <= DURATION_TOLERANCE_MS;
    let Heard { left_hz, right_hz, duration_ms } = heard;
    let tone =
        |hz: Option<f32>| hz.map_or_else(|| "nothing clear".to_owned(), |hz| format!("{hz} Hz"));
    let packets = |report: &CallReport| report.heard.packets_received > 0;
    Ok(vec![
        Verdict::new(
            packets(&played.caller) && packets(&played.callee),
            "both phones heard the other one",
        ),
        Verdict::new(
            left_hz == Some(CALLER_TONE_HZ),
            format!("left is the caller: {} ({CALLER} sent {CALLER_TONE_HZ})", tone(left_hz)),
        ),
        Verdict::new(
            right_hz == Some(CALLEE_TONE_HZ),
            format!("right is the callee: {} ({CALLEE} sent {CALLEE_TONE_HZ})", tone(right_hz)),
        ),
        Verdict::new(near, format!("the recording lasts {duration_ms} ms")),
    ])
}
