//! `kills`: the gateway under load, killed and started again, then its books (reliability.md DU1).
//! Owns:  the command line.
//! Gives: exit 0 when every answered call has exactly one record, 1 with the first that has not.
//! Never: a verdict of its own; that is the ledger's.
//! Holds: the seed is printed, and repeats the moments of the kills.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::host;
use loadtest::kills::{KillPlan, run};

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Without one: a random one.
    #[arg(long)]
    seed: Option<u64>,
    /// Calls per second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds that a call is held.
    #[arg(long, default_value_t = 5.0)]
    hold: f64,
    /// Longest life of a gateway in seconds.
    #[arg(long, default_value_t = 2.5)]
    life: f64,
    /// Every so many kills a gateway lives longer, so that calls end and segments fill up.
    #[arg(long, default_value_t = 25)]
    long_every: u32,
    /// How long that is, in seconds.
    #[arg(long, default_value_t = 45.0)]
    long_life: f64,
    /// CPUs of the gateway's shards.
    #[arg(long, default_value = "0")]
    cores: String,
    /// Bad times of the receiver of webhooks: AT:FAULT:FOR, see `receiver --help`. May be given several times.
    #[arg(long)]
    fault: Vec<String>,
    /// Where the logs are left.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("kills: {} on {}, seed {seed}", host::command(), host::describe());
    let mut plan = KillPlan {
        rate: arguments.rate,
        hold: Duration::from_secs_f64(arguments.hold),
        life: (Duration::from_millis(20), Duration::from_secs_f64(arguments.life)),
        long_every: arguments.long_every,
        long_life: Duration::from_secs_f64(arguments.long_life),
        cores: arguments.cores,
        ..KillPlan::new(arguments.kills, seed)
    };
    plan.faults.extend(arguments.fault);
    match run(&plan, arguments.keep.as_deref()) {
        Ok((summary, report)) => {
            println!("{summary}\n{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kills: {error}");
            ExitCode::FAILURE
        }
    }
}
