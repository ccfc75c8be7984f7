//! The program while its database is locked and while its disk is full. Needs io_uring; the full disk is
//! a small tmpfs, which only root can mount.

mod stand_ins;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use loadtest::load::{Ends, Load, Plan, Report, Sdp};
use rustix::process::Signal;
use serde_json::Value;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use stand_ins::Folder;
use stand_ins::program::{Gate, spare_port, write_config};
use stand_ins::small_disk::SmallDisk;

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-of-this-test";

/// A gateway whose trunk is the callee of a load.
struct Bench {
    folder: Folder,
    port: u16,
    ends: Ends,
}

impl Bench {
    fn new(test: &str, more: &str) -> Self {
        let (folder, port) = (Folder::new(test), spare_port());
        let ends = Ends::bind(Ipv4Addr::LOCALHOST).expect("sockets");
        let trunk = ends.callee_address();
        let config = format!(
            "modules = [\"acl\", \"registrar\", \"call\"]\n[proxy.trunks.load]\n\
             dest = \"sip:{trunk}\"\n{more}\n[[console.api_tokens]]\n\
             token = \"{TOKEN}\"\nscopes = [\"cdr:read\"]\n"
        );
        write_config(folder.path(), port, &config);
        Self { folder, port, ends }
    }

    fn load(&self, rate: f64, calls: u32, hold: Duration) -> Load {
        let SocketAddr::V4(gateway) = SocketAddr::from(([127, 0, 0, 1], self.port)) else {
            unreachable!("an IPv4 address")
        };
        let clone = |socket: &std::net::UdpSocket| socket.try_clone().expect("a descriptor");
        let ends = Ends {
            caller: clone(&self.ends.caller),
            callee: clone(&self.ends.callee),
            caller_media: clone(&self.ends.caller_media),
            callee_media: clone(&self.ends.callee_media),
        };
        let plan = Plan { rate, calls, hold, sdp: Sdp::Refused, ..Plan::new(gateway) };
        Load::start(plan, ends).expect("a thread")
    }
}

fn finish(load: Load) -> Report {
    let report = load.finish().expect("the load runs");
    assert_eq!((report.failures(), report.completed), (0, report.offered), "{report}");
    report
}

/// Asks the gateway, which takes its time, until something holds.
fn wait_until(gate: &Gate, what: &str, mut holds: impl FnMut(&Gate) -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !holds(gate) {
        if Instant::now() >= give_up_at {
            let health = gate.get("/ami/v1/health").1;
            panic!("{what} did not happen: {}", health["callrecord"]);
        }
        assert_eq!(gate.get("/livez").0, 200);
    }
}

fn records(gate: &Gate) -> Value {
    gate.get("/ami/v1/health").1["callrecord"].clone()
}

fn stored(gate: &Gate) -> Option<u64> {
    gate.get_as(TOKEN, "/console/call-records").1["total_items"].as_u64()
}

/// Not ready, for the reason that records cannot be stored.
fn complains(gate: &Gate) -> bool {
    let (status, ready) = gate.get("/readyz");
    status == 503 && ready["reasons"].to_string().contains("call records cannot be stored")
}

/// The short form of reliability.md DU7; the minute is in `journal`, in virtual time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_holds_no_call_up_and_costs_no_record() {
    let bench = Bench::new("db-locked", "");
    let gate = Gate::start(bench.folder.path());
    let database = bench.folder.path().join("data/ringgate.sqlite3");
    let options = SqliteConnectOptions::new().filename(&database);
    let mut other = SqliteConnection::connect_with(&options).await.expect("it connects");
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.expect("the lock is free");
    let report = finish(bench.load(20.0, 160, Duration::from_millis(500)));
    assert!(report.set_up.p99_us < 1_000_000, "calls do not wait for a database: {report}");
    wait_until(&gate, "a complaint", complains);
    wait_until(&gate, "the backlog", |gate| records(gate)["backlog"] == 160);
    assert_eq!(stored(&gate), Some(0), "a reader is not held up");
    sqlx::query("COMMIT").execute(&mut other).await.expect("it was ours");
    other.close().await.expect("it closes");
    wait_until(&gate, "all records", |gate| records(gate)["processed"] == 160);
    wait_until(&gate, "readiness", |gate| gate.get("/readyz").0 == 200);
    assert_eq!((stored(&gate), &records(&gate)["backlog"]), (Some(160), &0.into()));
    gate.signal(Signal::TERM);
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
    let segments = fs::read_dir(bench.folder.path().join("data/journal")).expect("the folder");
    assert_eq!(segments.count(), 0, "a clean end leaves no segment");
}

/// reliability.md DU8.
#[test]
fn a_full_disk_holds_no_call_up_and_recovers_without_a_restart() {
    let bench = Bench::new("disk-full", "[dataplane]\njournal_segment_mb = 1\n");
    let disk = SmallDisk::mount(&bench.folder.path().join("data"));
    let mut gate = Gate::start(bench.folder.path());
    disk.fill();
    // More than the present segment and the spare one hold, so that records wait in memory as well.
    let load = bench.load(100.0, 1_500, Duration::from_millis(100));
    gate.wait_for("call records could not be stored");
    gate.wait_for("journal_no_spare");
    gate.wait_for("journal_full");
    assert!(complains(&gate));
    finish(load);
    wait_until(&gate, "records in memory", |gate| {
        let health = gate.get("/ami/v1/health").1;
        health["shards"][0]["counters"]["journal_waiting_bytes"].as_u64() > Some(0)
    });
    disk.free();
    gate.wait_for("journal_back");
    wait_until(&gate, "all records", |gate| records(gate)["processed"] == 1_500);
    wait_until(&gate, "readiness", |gate| gate.get("/readyz").0 == 200);
    assert_eq!(stored(&gate), Some(1_500));
    gate.signal(Signal::KILL);
    gate.end();
    gate = Gate::start(bench.folder.path());
    finish(bench.load(20.0, 20, Duration::from_millis(100)));
    wait_until(&gate, "the new records", |gate| stored(gate) >= Some(1_520));
    assert_eq!(stored(&gate), Some(1_520), "the kill neither lost nor doubled one");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}
