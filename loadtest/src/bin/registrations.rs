//! `registrations`: 20 000 phones that register and refresh with digest over UDP.
//! Owns:  the command line.
//! Gives: exit code 0 when no REGISTER failed, and memory and CPU are within their targets.
//! Never: a figure without the command and the host.
//! Holds: phones and shard are on different CPUs.

use std::process::ExitCode;

use clap::Parser;
use loadtest::host;
use loadtest::registrations::{RegistrationPlan, Summary, run};

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 20_000)]
    users: u32,
    /// The users are extensions, made one by one over HTTP first, which takes minutes. Otherwise
    /// they stand in the configuration; to a shard both are the same.
    #[arg(long)]
    in_database: bool,
    /// First registrations per second.
    #[arg(long, default_value_t = 500.0)]
    register_rate: f64,
    /// Refreshes per second.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Every so many refreshes one has a stale nonce, which is answered and tried again. 0: none.
    #[arg(long, default_value_t = 50)]
    stale_every: u64,
    /// CPU of the one shard.
    #[arg(long, default_value_t = 0)]
    shard_cpu: usize,
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("registrations: {} on {}", host::command(), host::describe());
    let plan = RegistrationPlan {
        users: arguments.users,
        in_database: arguments.in_database,
        register_rate: arguments.register_rate,
        refresh_rate: arguments.rate,
        refreshes: (arguments.rate * f64::from(arguments.seconds)) as u64,
        stale_every: arguments.stale_every,
        settle: true,
        shard_cpu: arguments.shard_cpu,
        generator_cpu: Some(arguments.generator_cpu),
    };
    match run(&plan, |line| println!("{line}")) {
        Ok(summary) => {
            println!("\n{summary}");
            if holds(&summary) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("registrations: {error}");
            ExitCode::FAILURE
        }
    }
}

fn holds(summary: &Summary) -> bool {
    summary.failures() == 0 && summary.growth_bytes() <= 40_000_000 && summary.process_ms <= 0.1
}
