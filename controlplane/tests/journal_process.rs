//! The program while its database is locked, while its disk is full and while it stands still. Needs
//! io_uring; the disks are a small tmpfs and an image with ext4, which only root can mount.

mod stand_ins;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loadtest::load::{Ends, Load, Plan, Report, Sdp};
use rustix::process::Signal;
use serde_json::Value;
use shared::time::WallMs;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use stand_ins::Folder;
use stand_ins::disk_image::DiskImage;
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
        self.load_as("load", rate, calls, hold)
    }

    /// Whose name is in every record of a call.
    fn load_as(&self, caller: &str, rate: f64, calls: u32, hold: Duration) -> Load {
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
        let sdp = Sdp::Refused;
        // Nobody asks for the password.
        let credentials = Some((caller.to_owned(), String::new()));
        let plan = Plan { rate, calls, hold, sdp, credentials, ..Plan::new(gateway) };
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

/// Frames of the one shard's journal.
fn journaled(gate: &Gate) -> u64 {
    let health = gate.get("/ami/v1/health").1;
    health["shards"][0]["counters"]["journal_records_total"].as_u64().expect("a counter")
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
    let left = fs::read_dir(bench.folder.path().join("data/journal")).expect("the folder");
    assert_eq!(left.count(), 0, "a clean end leaves nothing");
}

/// reliability.md DU8.
#[test]
fn a_full_disk_holds_no_call_up_and_recovers_without_a_restart() {
    let bench = Bench::new("disk-full", "[dataplane]\njournal_segment_mb = 1\n");
    let disk = SmallDisk::of_mebibytes(96, &bench.folder.path().join("data"));
    let mut gate = Gate::start(bench.folder.path());
    disk.fill();
    // More than segments on the disk and fronts in memory hold, so that records wait in the shard as well.
    const CALLS: u32 = 2_600;
    // As long as fits into a datagram.
    let caller = "c".repeat(400);
    let load = bench.load_as(&caller, 100.0, CALLS, Duration::from_millis(100));
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
    wait_until(&gate, "all records", |gate| records(gate)["processed"] == CALLS);
    wait_until(&gate, "readiness", |gate| gate.get("/readyz").0 == 200);
    assert_eq!(stored(&gate), Some(CALLS.into()));
    gate.signal(Signal::KILL);
    gate.end();
    gate = Gate::start(bench.folder.path());
    finish(bench.load(20.0, 20, Duration::from_millis(100)));
    wait_until(&gate, "the new records", |gate| stored(gate) >= Some(u64::from(CALLS) + 20));
    assert_eq!(stored(&gate), Some(u64::from(CALLS) + 20), "the kill neither lost nor doubled one");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}

/// A disk that takes nothing for a while, as under a storm of deletions, and a kill meanwhile.
#[test]
fn a_disk_that_stands_still_holds_no_call_up_and_a_kill_meanwhile_costs_no_record() {
    const STANDING: u32 = 20;
    let bench = Bench::new("disk-still", "");
    let folder = bench.folder.path();
    let disk = DiskImage::mount(&folder.join("disk"), &folder.join("data"));
    let mut gate = Gate::start(folder);
    finish(bench.load(20.0, 20, Duration::from_millis(100)));
    wait_until(&gate, "the first records", |gate| records(gate)["processed"] == 20);
    let frozen = disk.freeze();
    let report = finish(bench.load(50.0, 250, Duration::from_millis(100)));
    assert!(report.set_up.p99_us < 1_000_000, "calls do not wait for a disk: {report}");
    let standing = bench.load(50.0, STANDING, Duration::from_secs(600));
    wait_until(&gate, "standing calls", |_| {
        standing.progress.talking.load(Ordering::Relaxed) == u64::from(STANDING)
    });
    // A beat every half second says that the shard lives.
    let before = journaled(&gate);
    wait_until(&gate, "beats", |gate| journaled(gate) >= before + 4);
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    gate.signal(Signal::KILL);
    drop(frozen);
    gate.end();
    gate = Gate::start(folder);
    let all = u64::from(20 + 250 + STANDING);
    wait_until(&gate, "all records", |gate| stored(gate) >= Some(all));
    assert_eq!(stored(&gate), Some(all), "each call has one record");
    let (status, page) = gate.get_as(TOKEN, "/api/v1/call-records?limit=500");
    assert_eq!(status, 200, "{page}");
    let cut: Vec<&Value> = page["data"]
        .as_array()
        .expect("a page")
        .iter()
        .filter(|record| record["hangup_reason"] == "systemCrash")
        .collect();
    assert_eq!(cut.len(), STANDING as usize, "{page}");
    for record in cut {
        let ended: WallMs = serde_json::from_value(record["ended_at"].clone()).expect("a time");
        let early = i64::try_from(killed.as_millis()).expect("not so late") - ended.0;
        assert!((-100..=1_500).contains(&early), "{early} ms before the kill: {record}");
    }
    gate.signal(Signal::TERM);
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
}
