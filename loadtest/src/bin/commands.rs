//! `commands`: a thousand commands on two hundred calls, each held against the wire.
//! Owns:  the command line.
//! Gives: exit 0 when every answer was true, 1 with the first that was not.
//! Never: a verdict of its own.
//! Holds: the seed is printed, and repeats the commands.

use std::process::ExitCode;

use clap::Parser;
use loadtest::commands::{CommandPlan, run};
use loadtest::host;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 200)]
    calls: u32,
    #[arg(long, default_value_t = 1_000)]
    commands: u32,
    /// Commands that are under way at a time.
    #[arg(long, default_value_t = 16)]
    workers: u32,
    /// Without one: a random one.
    #[arg(long)]
    seed: Option<u64>,
    /// CPUs of the gateway's shards.
    #[arg(long, default_value = "auto")]
    cores: String,
}

fn main() -> ExitCode {
    let Arguments { calls, commands, workers, seed, cores } = Arguments::parse();
    let seed = seed.unwrap_or_else(rand::random);
    println!("commands: {} on {}, seed {seed}", host::command(), host::describe());
    match run(&CommandPlan { calls, commands, workers, seed, cores }) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("commands: {error}");
            ExitCode::FAILURE
        }
    }
}
