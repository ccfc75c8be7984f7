//! `mutate`: a storm of mutated messages against a gateway, then a good call (issue 2, must show 9).
//! Owns:  the command line and the verdict.
//! Gives: exit code 0 when nothing crashed, hung or grew and the call right after was good.
//! Never: a gateway that somebody else uses; it starts its own.
//! Holds: the printed seed repeats the run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::gateway::{Gateway, Plan};
use loadtest::host;
use loadtest::mutate::Mutator;
use loadtest::phone::Phone;
use loadtest::storm::{self, StormPlan};

#[derive(Debug, Parser)]
struct Arguments {
    /// Datagrams to send.
    #[arg(long, default_value_t = 200_000)]
    datagrams: u64,
    /// Memory is compared after each of so many parts.
    #[arg(long, default_value_t = 4)]
    passes: u64,
    #[arg(long, default_value_t = 5_000)]
    per_second: u64,
    /// Repeats an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of messages to mutate.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../dataplane/sip/tests/torture"))]
    set: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("mutate: {} on {}", host::command(), host::describe());
    println!("mutate: seed {seed}");
    let mut mutator = Mutator::new(Mutator::read_set(&arguments.set)?, seed);
    let plan = Plan { digest_algorithms: vec!["SHA-256", "MD5"], ..Plan::default() };
    let mut gateway = Gateway::start(plan)?;
    let storm_plan = StormPlan {
        datagrams: arguments.datagrams,
        passes: arguments.passes.max(1),
        per_second: arguments.per_second.max(1),
    };
    let storm = storm::blow(&mut gateway, &mut mutator, storm_plan)
        .map_err(|error| format!("seed {seed}: {error}"))?;
    println!("{storm}");
    good_call(&gateway).map_err(|error| format!("seed {seed}: the call after it: {error}"))?;
    println!("  a call right after: registered, answered, both tones heard, hung up");
    if !storm.is_flat() {
        return Err(format!("seed {seed}: memory grew from pass to pass"));
    }
    match gateway.stop() {
        Some(0) => Ok(()),
        other => Err(format!("seed {seed}: the gateway left with {other:?}")),
    }
}

fn good_call(gateway: &Gateway) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let bind = |user| Phone::bind(gateway.sip, user, gateway.password(user));
        let mut caller = bind("1001").map_err(|error| error.to_string())?;
        let mut callee = bind("1002").map_err(|error| error.to_string())?;
        callee.register(60).await.map_err(|error| error.to_string())?;
        let (placed, answered) =
            tokio::join!(caller.call("1002", 440.0), callee.answer_next(1_000.0));
        let placed = placed.map_err(|error| error.to_string())?;
        let answered = answered.map_err(|error| error.to_string())?;
        let heard = tokio::time::timeout(Duration::from_secs(10), async {
            let mut poll = tokio::time::interval(Duration::from_millis(20));
            while placed.heard().tone_hz != Some(1_000.0) || answered.heard().tone_hz != Some(440.0)
            {
                poll.tick().await;
            }
        });
        heard.await.map_err(|_| "the tones were not heard in 10 s".to_owned())?;
        placed.hang_up().await.map_err(|error| error.to_string())?;
        answered.ended(Duration::from_secs(10)).await.map_err(|error| error.to_string())?;
        Ok(())
    })
}
