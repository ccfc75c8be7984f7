//! `reload`: the configuration changes again and again while calls go on (issue 3, must show 9).
//! Owns:  the command line, the rules that are reloaded, the verdict.
//! Gives: exit code 0 when no call failed, every shard served every change, and none was too slow.
//! Never: a gateway that somebody else uses; it starts its own.
//! Holds: every call needs a rule of the files that are read again meanwhile.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use loadtest::gateway::{Gateway, Plan as GatewayPlan};
use loadtest::load::{Ends, Load, Plan, Quantiles, Sdp, Times, times};
use loadtest::{host, wait};
use serde_json::{Value, json};

/// A reload that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Issue 3: a reload is live on all shards within this time. A change over HTTP is live when it is
/// answered; how long that takes is the disk's.
const TARGET_MS: f64 = 100.0;

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Calls per second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Reloads, each with other rules, by every road in turn.
    #[arg(long, default_value_t = 100)]
    reloads: u32,
    /// Changes over HTTP, as many of each kind: create, change, remove.
    #[arg(long, default_value_t = 100)]
    changes: u32,
    /// Extensions in the database before anything is measured.
    #[arg(long, default_value_t = 0)]
    extensions: u32,
    /// CPUs of the gateway's shards.
    #[arg(long, default_value = "0-1")]
    cores: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("reload: {} on {}", host::command(), host::describe());
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let gateway = Gateway::start(GatewayPlan {
        trunks: vec![("load".to_owned(), format!("sip:{}", ends.callee_address()))],
        proxy_lines: vec!["routes_files = [\"routes/*.toml\"]".to_owned()],
        call_auth: false,
        cores: arguments.cores.clone(),
        ..GatewayPlan::default()
    })?;
    let mut bench = Bench { gateway, generation: 1, version: 0 };
    fill(&bench.gateway, arguments.extensions)?;
    bench.generation = bench.served()?;
    bench.reload(Road::Signal, &mut times())?;
    let load = calls(arguments, &bench.gateway, ends)?;
    let mut reloads = times();
    let mut changes = times();
    let rounds = arguments.reloads.max(arguments.changes);
    for round in 0..rounds {
        if round < arguments.reloads {
            bench.reload(Road::of(round), &mut reloads)?;
        }
        if round < arguments.changes {
            bench.change(round, &mut changes)?;
        }
    }
    bench.refuse_a_wrong_file()?;
    let during = load.progress.decided.load(Ordering::Relaxed);
    load.progress.enough.store(true, Ordering::Relaxed);
    let report = load.finish().map_err(|error| error.to_string())?;
    println!(
        "\n{} calls/s, {during} calls decided while the configuration changed",
        arguments.rate
    );
    println!("{report}");
    let [reloads, changes] = [Quantiles::from(&reloads), Quantiles::from(&changes)];
    println!("  SIGHUP or reload request to all shards: {reloads}");
    println!("  HTTP request to its answer, which is on all shards: {changes}");
    println!("  at the end every shard serves generation {}", bench.generation);
    if report.failures() > 0 || report.completed != report.offered {
        return Err(format!("calls failed: {:?}", report.failed));
    }
    let slowest = reloads.max_us as f64 / 1_000.0;
    println!(
        "  slowest reload {slowest:.1} ms; target {TARGET_MS} ms: {}",
        if slowest <= TARGET_MS { "met" } else { "NOT met" }
    );
    if slowest > TARGET_MS {
        return Err("a reload was too slow".to_owned());
    }
    Ok(())
}

/// Calls without media, which go on until they are told to stop.
fn calls(arguments: &Arguments, gateway: &Gateway, ends: Ends) -> Result<Load, String> {
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let plan = Plan {
        rate: arguments.rate,
        calls: u32::MAX,
        sdp: Sdp::Refused,
        dial: Some(gateway.sip),
        ..Plan::new(target)
    };
    let load = Load::start(plan, ends).map_err(|error| error.to_string())?;
    wait::until("the first calls", PATIENCE, || {
        (load.progress.decided.load(Ordering::Relaxed) >= 20).then_some(())
    })?;
    Ok(load)
}

/// Extensions as an operator makes them, one request each.
fn fill(gateway: &Gateway, count: u32) -> Result<(), String> {
    let started = Instant::now();
    for number in 0..count {
        let document = json!({ "extension": format!("7{number:05}"), "sip_password": "secret" });
        let (status, body) = gateway.send("POST", "/api/v1/extensions", &document)?;
        if status != 201 {
            return Err(format!("extension {number}: {status} {body}"));
        }
    }
    if count > 0 {
        let each = started.elapsed().as_secs_f64() * 1_000.0 / f64::from(count);
        println!("{count} extensions made one by one, {each:.2} ms each");
    }
    Ok(())
}

/// How a reload is asked for.
#[derive(Clone, Copy, Debug)]
enum Road {
    Signal,
    /// Over HTTP, of one part.
    Request(&'static str),
}

impl Road {
    const fn of(round: u32) -> Self {
        match round % 4 {
            0 => Self::Request("routes"),
            1 => Self::Request("trunks"),
            2 => Self::Request("acl"),
            _ => Self::Signal,
        }
    }
}

struct Bench {
    gateway: Gateway,
    /// That every shard serves.
    generation: u64,
    version: u32,
}

impl Bench {
    /// The generation, when all shards serve the same one.
    fn served(&self) -> Result<u64, String> {
        let generations = self.gateway.generations()?;
        match generations.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(*first),
            _ => Err(format!("shards serve different generations: {generations:?}")),
        }
    }

    /// Writes rules that differ from the last ones, and waits until every shard serves them.
    fn reload(&mut self, road: Road, times: &mut Times) -> Result<(), String> {
        self.version += 1;
        write_rules(self.gateway.folder(), self.version)?;
        let expected = self.generation + 1;
        let started = Instant::now();
        match road {
            Road::Signal => self.signal(expected)?,
            Road::Request(what) => self.request(what, expected)?,
        }
        note(times, started);
        self.generation = expected;
        Ok(())
    }

    /// The answer is there when every shard serves it.
    fn request(&self, what: &str, expected: u64) -> Result<(), String> {
        let path = format!("/ami/v1/reload/{what}");
        let (status, answer) = self.gateway.send("POST", &path, &Value::Null)?;
        let shards = answer["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = shards.iter().all(|shard| shard["generation"] == expected);
        if status == 200 && answer["generation"] == expected && all && !shards.is_empty() {
            return Ok(());
        }
        Err(format!("{path}: {status} {answer}, not generation {expected} everywhere"))
    }

    fn signal(&self, expected: u64) -> Result<(), String> {
        self.gateway.reload();
        let pause = Duration::from_millis(1);
        wait::until_every(&format!("generation {expected}"), PATIENCE, pause, || {
            (self.served().ok()? == expected).then_some(())
        })
        .map_err(|error| format!("{error}\n{}", self.gateway.log_tail()))
    }

    /// Makes, changes and removes one of a kind.
    fn change(&mut self, round: u32, times: &mut Times) -> Result<(), String> {
        let (path, document, patch) = match round % 3 {
            0 => (
                "/api/v1/extensions",
                json!({ "extension": format!("8{round}"), "sip_password": "secret" }),
                json!({ "display_name": "Somebody" }),
            ),
            1 => (
                "/api/v1/trunks",
                json!({ "name": format!("trunk-{round}"), "sip_server": "192.0.2.1" }),
                json!({ "max_concurrent": 5 }),
            ),
            _ => (
                "/api/v1/routes",
                json!({ "name": format!("rule {round}"), "match": { "to.user": "^00" },
                        "dest": "load", "priority": 50 }),
                json!({ "disabled": true }),
            ),
        };
        let made = self.timed("POST", path, &document, times)?;
        let one = format!("{path}/{}", made["id"]);
        self.timed("PATCH", &one, &patch, times)?;
        self.timed("DELETE", &one, &Value::Null, times)?;
        Ok(())
    }

    fn timed(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        times: &mut Times,
    ) -> Result<Value, String> {
        let started = Instant::now();
        let (status, answer) = self.gateway.send(method, path, body)?;
        note(times, started);
        if !(200..300).contains(&status) {
            return Err(format!("{method} {path}: {status} {answer}"));
        }
        self.generation += 1;
        let served = self.served()?;
        if answer["generation"] != self.generation || served != self.generation {
            let expected = self.generation;
            return Err(format!("{method} {path}: {answer}, shards {served}, not {expected}"));
        }
        Ok(answer)
    }

    /// A file with a mistake is named with its line on both roads, and what was served is served on.
    fn refuse_a_wrong_file(&self) -> Result<(), String> {
        let wrong = self.gateway.folder().join("routes/wrong.toml");
        write(
            &wrong,
            "[[routes]]\nname = \"w\"\ndest = \"load\"\nmatch = { \"to.user\" = \"(\" }\n",
        )?;
        self.gateway.reload();
        let refused = wait::until("the refusal in the log", PATIENCE, || {
            let log = self.gateway.log_tail();
            log.lines().find(|line| line.contains("reload refused")).map(str::to_owned)
        })?;
        for what in ["routes", "trunks", "acl", "all"] {
            let path = format!("/ami/v1/reload/{what}");
            let (status, answer) = self.gateway.send("POST", &path, &Value::Null)?;
            let error = &answer["errors"][0];
            if status != 422 || error["file"] != "routes/wrong.toml" || error["line"] != 4 {
                return Err(format!("{path}: {status} {answer}, not 422 with file and line"));
            }
        }
        fs::remove_file(&wrong).map_err(|error| error.to_string())?;
        if !refused.contains("routes/wrong.toml:4") {
            return Err(format!("the refusal does not name file and line: {refused}"));
        }
        match self.served()? {
            served if served == self.generation => Ok(()),
            served => Err(format!("generation {served} after a refused reload")),
        }
    }
}

fn note(times: &mut Times, started: Instant) {
    let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    times.saturating_record(us.max(1));
}

/// The rule that every call needs, and one that changes.
fn write_rules(folder: &Path, version: u32) -> Result<(), String> {
    let text = format!(
        "[[routes]]\nname = \"to the load\"\npriority = 10\ndest = \"load\"\n\
         match = {{ \"to.user\" = '^c\\d+$' }}\n\
         [[routes]]\nname = \"version {version}\"\nreject = 603\n"
    );
    fs::create_dir_all(folder.join("routes")).map_err(|error| error.to_string())?;
    // A reload must never see half a file.
    let part = folder.join("routes/rules.part");
    write(&part, &text)?;
    fs::rename(&part, folder.join("routes/rules.toml")).map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
