//! Twenty-five kills at random moments under 20 calls a second: each answered call has one record, and the
//! receiver of webhooks got each record under one id.
//! Owns:  the short form of reliability.md DU1 and DU3; `kills` is the long one.
//! Gives: the seed with the first broken promise.
//! Never: a clean stop.
//! Holds: `KILLS_SEED` repeats the moments of a run.

use std::time::Duration;

use loadtest::kills::{KillPlan, run};

#[test]
fn every_answered_call_has_exactly_one_record_through_twenty_five_kills() {
    let seed = std::env::var("KILLS_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut plan = KillPlan::new(25, seed.unwrap_or_else(rand::random));
    (plan.long_every, plan.long_life) = (6, Duration::from_secs(9));
    // Tests share their host; that each call has one record does not depend on it.
    plan.stalls_ms = 20_000;
    let (summary, report) = run(&plan, None).unwrap_or_else(|broken| panic!("{broken}"));
    println!("seed {}: {summary}\n{report}", plan.seed);
    assert!(summary.ended > 50 && summary.cut > 50, "calls ended and were cut: {summary}");
    assert_eq!(summary.delivered, summary.records, "{summary}");
}
