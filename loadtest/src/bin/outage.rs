//! `outage`: minutes in which nobody takes the webhooks (issue 3, must show 4; reliability.md DU9).
//! Owns:  the command line, the verdict.
//! Gives: exit code 0 when nothing was lost, memory stayed flat, and the backlog drained fast enough.
//! Never: a gateway that somebody else uses; it starts its own.
//! Holds: calls go on from before the outage until the backlog is gone.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::host;
use loadtest::outage::{OutagePlan, Seen, run};

/// A backlog drains at least so many times faster than it grew.
const DRAIN_MIN: f64 = 5.0;
/// Memory may grow by so much after it was warm: what tables of the calls and SQLite's cache take.
const GROWTH_MAX: u64 = 16 << 20;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What the receiver does meanwhile: refuse, hang, or a status.
    #[arg(long, default_value = "refuse")]
    fault: String,
    /// Calls per second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds that a call is held.
    #[arg(long, default_value_t = 5.0)]
    hold: f64,
    /// CPUs of the gateway's shards.
    #[arg(long, default_value = "0")]
    cores: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("outage: {} on {}", host::command(), host::describe());
    let plan = OutagePlan {
        outage: Duration::from_secs_f64(60.0 * arguments.minutes),
        fault: arguments.fault,
        rate: arguments.rate,
        hold: Duration::from_secs_f64(arguments.hold),
        cores: arguments.cores,
    };
    match run(&plan).and_then(|seen| verdict(&seen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outage: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict(seen: &Seen) -> Result<(), String> {
    println!("{seen}");
    if seen.failed_calls > 0 {
        return Err("calls failed".to_owned());
    }
    if seen.drain < DRAIN_MIN * seen.growth {
        return Err(format!("it drained less than {DRAIN_MIN} times as fast as it grew"));
    }
    if seen.most_bytes > seen.warm_bytes + GROWTH_MAX {
        return Err("memory grew with the backlog".to_owned());
    }
    Ok(())
}
