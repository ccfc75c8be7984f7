//! The program while the disk of its recordings is full. Needs io_uring, and root for a small tmpfs.

mod stand_ins;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use loadtest::load::{Ends, Load, Plan, Report};
use rustix::process::Signal;
use serde_json::Value;
use stand_ins::Folder;
use stand_ins::program::{Gate, spare_port, write_config};
use stand_ins::small_disk::SmallDisk;

/// A recording that had no room is made from its capture half a minute later.
const PATIENCE: Duration = Duration::from_secs(90);

fn calls(port: u16, ends: &Ends, calls: u32, hold: Duration) -> Load {
    let SocketAddr::V4(gateway) = SocketAddr::from(([127, 0, 0, 1], port)) else {
        unreachable!("an IPv4 address")
    };
    let clone = |socket: &std::net::UdpSocket| socket.try_clone().expect("a descriptor");
    let ends = Ends {
        caller: clone(&ends.caller),
        callee: clone(&ends.callee),
        caller_media: clone(&ends.caller_media),
        callee_media: clone(&ends.callee_media),
    };
    let plan = Plan { rate: 20.0, calls, hold, media: true, ..Plan::new(gateway) };
    Load::start(plan, ends).expect("a thread")
}

fn finish(load: Load) -> Report {
    load.finish().expect("the load runs")
}

fn wait_until(gate: &Gate, what: &str, mut holds: impl FnMut(&Value) -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let health = gate.get("/ami/v1/health").1;
        if holds(&health) {
            return;
        }
        assert!(Instant::now() < give_up_at, "{what} did not happen: {health}");
    }
}

/// reliability.md DU8, with the policy that no call goes unrecorded.
#[test]
fn a_full_disk_refuses_new_calls_keeps_standing_ones_and_recovers_without_a_restart() {
    let (folder, port) = (Folder::new("disk-policy"), spare_port());
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).expect("sockets");
    let trunk = ends.callee_address();
    let config = format!(
        "modules = [\"acl\", \"registrar\", \"call\"]\n[proxy.trunks.load]\n\
         dest = \"sip:{trunk}\"\n[dataplane]\njournal_segment_mb = 1\n\
         [recording]\nenabled = true\non_disk_full = \"reject\"\n"
    );
    write_config(folder.path(), port, &config);
    let disk = SmallDisk::mount(&folder.path().join("data"));
    let mut gate = Gate::start(folder.path());
    let short = Duration::from_millis(500);
    let report = finish(calls(port, &ends, 4, short));
    assert_eq!((report.failures(), report.completed), (0, 4), "{report}");
    wait_until(&gate, "four recordings", |health| health["recordings"]["ready"] == 4);
    assert_eq!(gate.get("/ami/v1/health").1["disk"]["level"], "fine");

    let standing = calls(port, &ends, 2, Duration::from_secs(6));
    wait_until(&gate, "two calls", |health| health["calls_talking"] == 2);
    disk.fill();
    gate.wait_for("the disk is full: new calls are refused");
    wait_until(&gate, "the alarm", |health| health["disk"]["level"] == "full");
    let report = finish(standing);
    assert_eq!((report.failures(), report.completed), (0, 2), "standing calls go on: {report}");
    let report = finish(calls(port, &ends, 5, short));
    assert_eq!(report.failed.get(&503), Some(&5), "{report}");

    disk.free();
    gate.wait_for("the disk has room again");
    // The shard was told before the log was, and hears it when it gets a turn.
    let give_up_at = Instant::now() + PATIENCE;
    while finish(calls(port, &ends, 1, short)).failures() > 0 {
        assert!(Instant::now() < give_up_at, "calls are still refused");
    }
    let report = finish(calls(port, &ends, 4, short));
    assert_eq!((report.failures(), report.completed), (0, 4), "{report}");
    // The two that stood while it was full have what reached the disk, which may be nothing.
    wait_until(&gate, "all recordings", |health| {
        let recordings = &health["recordings"];
        recordings["ready"].as_u64() >= Some(9) && recordings["backlog"] == 0
    });
    let left = std::fs::read_dir(folder.path().join("data/captures")).expect("the folder");
    assert_eq!(left.count(), 0, "no capture is left behind");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}
