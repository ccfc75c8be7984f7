//! `sim`: runs seeds of the test world and prints the first breach (`make sim SEEDS=2000`).
//! Owns:  the command line.
//! Gives: exit 0 when every seed passed, 1 with the failure, 2 for a wrong call.
//! Never: a decision about a run; that is the library's.
//! Holds: `--seed N` replays what the sweep printed, bit by bit.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use sim::broken::Broken;
use sim::finish::Summary;
use sim::scenario::{Options, run};

const USAGE: &str = "usage: sim [--seeds N] [--first N] [--seed N] [--loss PERCENT] \
                     [--dup PERCENT] [--trace] [--keep-going] [--broken NAME]";

struct Call {
    first: u64,
    seeds: u64,
    keep_going: bool,
    options: Options,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(call) => sweep(&call),
        Err(why) => {
            let names: Vec<&str> = Broken::ALL.iter().map(|broken| broken.name()).collect();
            eprintln!("{why}\n{USAGE}\nfaults: {}", names.join(" "));
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Call, String> {
    let mut call = Call { first: 0, seeds: 100, keep_going: false, options: Options::default() };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} wants a number"))?;
            value.parse().map_err(|_| format!("{word} {value}: not a number"))
        };
        match word.as_str() {
            "--seeds" => call.seeds = number()?,
            "--first" => call.first = number()?,
            "--seed" => (call.first, call.seeds) = (number()?, 1),
            "--loss" => call.options.weather.loss = percent(number()?)?,
            "--dup" => call.options.weather.duplication = percent(number()?)?,
            "--trace" => call.options.loud = true,
            "--keep-going" => call.keep_going = true,
            "--broken" => {
                let name = words.next().unwrap_or_default();
                let broken =
                    Broken::parse(&name).ok_or_else(|| format!("no fault is called {name:?}"))?;
                call.options.broken = Some(broken);
            }
            _ => return Err(format!("{word}: unknown option")),
        }
    }
    Ok(call)
}

fn percent(number: u64) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|n| *n <= 100)
        .ok_or_else(|| format!("{number} is no percentage"))
}

fn sweep(call: &Call) -> ExitCode {
    let began = Instant::now();
    let (mut total, mut failures) = (Summary::default(), 0_u64);
    for seed in call.first..call.first + call.seeds {
        match run(seed, call.options) {
            Ok(summary) => {
                total.add(&summary);
                if call.seeds == 1 {
                    println!("seed {seed}: hash {:016x}", summary.hash);
                }
            }
            Err(failure) if call.keep_going => {
                failures += 1;
                println!("seed {seed}: {}: {}", failure.breach.rule, failure.breach.facts);
            }
            Err(failure) => {
                println!("{failure}\nhash {:016x}", failure.hash);
                println!("replay: sim --seed {seed}{}", flags(call));
                return ExitCode::FAILURE;
            }
        }
    }
    let passed = call.seeds - failures;
    println!("{passed} of {} seeds passed in {:.1?}: {total}", call.seeds, began.elapsed());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The options that a replay needs.
fn flags(call: &Call) -> String {
    let Options { weather, broken, .. } = call.options;
    let broken = broken.map(|broken| format!(" --broken {}", broken.name())).unwrap_or_default();
    format!(" --loss {} --dup {}{broken}", weather.loss, weather.duplication)
}
