//! The kill loop: a gateway under load that is killed at random moments and started again.
//! Owns:  the load, the kills, a receiver of webhooks, the logs of all three.
//! Gives: `run`: books that the ledger has checked, or the first broken promise.
//! Never: a clean stop between two kills.
//! Holds: the same folder, ports and callers through all kills; the seed decides the moments.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::time::WallMs;

use crate::gateway::{Folder, Gateway, Plan as GatewayPlan};
use crate::ledger::{self, Books, Delivery, Kill, Summary};
use crate::load::{Ends, Heard, Load, Plan, Report, Sdp};
use crate::receiver::{self, Program};
use crate::wait;

/// After the last kill: records of cut calls, and of those that go on.
const SETTLED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub struct KillPlan {
    pub kills: u32,
    pub seed: u64,
    /// Calls per second, and how long each is held.
    pub rate: f64,
    pub hold: Duration,
    /// A gateway lives at least and at most this long after its health said `running`.
    pub life: (Duration, Duration),
    /// Every so many kills one comes this long after the start, so that segments fill up. 0: never.
    pub long_every: u32,
    pub long_life: Duration,
    pub cores: String,
    /// What the host may hold a process up: milliseconds. 0 on a host that does nothing else.
    pub stalls_ms: i64,
    /// Bad times of the receiver of webhooks, see `receiver --help`.
    pub faults: Vec<String>,
}

impl KillPlan {
    pub fn new(kills: u32, seed: u64) -> Self {
        Self {
            kills,
            seed,
            rate: 20.0,
            hold: Duration::from_secs(5),
            life: (Duration::from_millis(20), Duration::from_millis(2_500)),
            long_every: 0,
            long_life: Duration::from_secs(45),
            cores: "0".to_owned(),
            stalls_ms: 0,
            // Short ones: a gateway that is killed does not remember that its receiver is down.
            faults: ["4:refuse:3", "20:500:2"].map(str::to_owned).to_vec(),
        }
    }
}

/// Runs the plan. `keep`: where the logs are written, for the checker or for a look.
pub fn run(plan: &KillPlan, keep: Option<&Path>) -> Result<(Summary, Report), String> {
    // Before half an hour of work, not after it.
    if let Some(folder) = keep {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let trunk = ("load".to_owned(), format!("sip:{}", ends.callee_address()));
    let folder = Folder::new("receiver")?;
    let receiver = Program::start(&folder.path, &plan.faults)?;
    let push =
        format!("\n[callrecord]\ntype = \"http\"\nurl = \"http://{}/cdr\"\n", receiver.address);
    let mut gateway = Gateway::start(GatewayPlan {
        trunks: vec![trunk],
        call_auth: false,
        cores: plan.cores.clone(),
        rtp_ports: 8_000,
        dataplane_lines: vec!["journal_segment_mb = 1".to_owned()],
        sections: vec![push],
        ..GatewayPlan::default()
    })?;
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let (log, lines) = channel();
    let load = Load::start(
        Plan {
            rate: plan.rate,
            calls: u32::MAX,
            hold: plan.hold,
            sdp: Sdp::Audio,
            log: Some(log),
            ..Plan::new(target)
        },
        ends,
    )
    .map_err(|error| error.to_string())?;
    let killed = kill_again_and_again(plan, &mut gateway);
    load.progress.enough.store(true, Ordering::Relaxed);
    let report = load.finish().map_err(|error| error.to_string())?;
    let kills = killed?;
    let heard: Vec<Heard> = lines.into_iter().collect();
    let mut books = Books { heard, kills, stalls_ms: plan.stalls_ms, ..Books::default() };
    let verdict = settle(&gateway, &receiver, &mut books);
    if let Some(folder) = keep {
        ledger::write_lines(&folder.join("heard.jsonl"), &books.heard)?;
        ledger::write_lines(&folder.join("kills.jsonl"), &books.kills)?;
        ledger::write_lines(&folder.join("records.jsonl"), &books.records)?;
        ledger::write_lines(&folder.join("deliveries.jsonl"), &receiver.heard()?)?;
    }
    verdict
        .map(|summary| (summary, report))
        .map_err(|broken| format!("seed {}: {broken}\n{}", plan.seed, gateway.log_tail()))
}

fn kill_again_and_again(plan: &KillPlan, gateway: &mut Gateway) -> Result<Vec<Kill>, String> {
    let mut random = Random(plan.seed);
    let mut kills = Vec::new();
    for number in 1..=plan.kills {
        let (least, most) = plan.life;
        let long = plan.long_every > 0 && number.is_multiple_of(plan.long_every);
        let life =
            if long { plan.long_life } else { least + (most - least).mul_f64(random.next()) };
        let until = Instant::now() + life;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            wait::pause(left);
            if !gateway.is_running() {
                return Err(format!("the gateway ended by itself:\n{}", gateway.log_tail()));
            }
        }
        let at = wall();
        gateway.kill()?;
        kills.push(Kill { at, gone_at: wall() });
        gateway.restart().map_err(|error| format!("start {number} after a kill: {error}"))?;
    }
    Ok(kills)
}

/// Records and deliveries follow their calls within moments; the promises must hold then, and not before.
pub(crate) fn settle(
    gateway: &Gateway,
    receiver: &Program,
    books: &mut Books,
) -> Result<Summary, String> {
    let mut verdict = Err("nothing was looked at".to_owned());
    let settled = wait::until_every("all records", SETTLED, LOOK, || {
        let records = ledger::fetch(gateway.http, Some(&gateway.token));
        verdict = records.and_then(|records| {
            books.records = records;
            books.deliveries = Some(deliveries(receiver)?);
            ledger::check(books)
        });
        verdict.is_ok().then_some(())
    });
    settled.ok();
    verdict
}

fn deliveries(receiver: &Program) -> Result<Vec<Delivery>, String> {
    let taken = receiver.heard()?.into_iter().filter(receiver::Delivery::is_accepted);
    let of_call = |one: receiver::Delivery| Some(Delivery { id: one.id, session_id: one.call? });
    Ok(taken.filter_map(of_call).collect())
}

fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// SplitMix64: the same seed, the same moments.
struct Random(u64);

impl Random {
    /// From 0 up to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
