//! `overload`: the capacity of a gateway with one shard, then two and five times as many calls.
//! Owns:  the command line.
//! Gives: exit code 0 when goodput, set-up times and the RTP of standing calls are what they should be.
//! Never: a figure without the command and the host.
//! Holds: generator and shard are on different CPUs; a generator that was the limit is a failure.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loadtest::host;
use loadtest::overload::{OverloadPlan, run};

#[derive(Debug, Parser)]
struct Arguments {
    /// Calls per second where the ramp begins.
    #[arg(long, default_value_t = 500.0)]
    first_rate: f64,
    /// Seconds of one step of the ramp.
    #[arg(long, default_value_t = 6.0)]
    step: f64,
    /// Seconds for which the rate that the ramp found has to be carried.
    #[arg(long, default_value_t = 60.0)]
    confirm: f64,
    /// Calls per second that are known to be the capacity: no ramp.
    #[arg(long)]
    capacity: Option<f64>,
    /// Seconds for each of C, 2 C and 5 C.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Calls with RTP that stand meanwhile.
    #[arg(long, default_value_t = 100)]
    standing: u32,
    /// CPU of the one shard.
    #[arg(long, default_value_t = 0)]
    shard_cpu: usize,
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("overload: {} on {}", host::command(), host::describe());
    let plan = OverloadPlan {
        first_rate: arguments.first_rate,
        step: Duration::from_secs_f64(arguments.step),
        confirm: Duration::from_secs_f64(arguments.confirm),
        capacity: arguments.capacity,
        hold: Duration::from_secs_f64(arguments.seconds),
        standing: arguments.standing,
        shard_cpu: arguments.shard_cpu,
        generator_cpu: Some(arguments.generator_cpu),
        ..OverloadPlan::default()
    };
    match run(&plan, |line| println!("{line}")) {
        Ok(summary) => {
            println!("\n{summary}");
            let breaches = summary.breaches();
            for breach in &breaches {
                println!("  {breach}");
            }
            if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("overload: {error}");
            ExitCode::FAILURE
        }
    }
}
