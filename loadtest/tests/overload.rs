//! A few calls a second beside standing ones: the tool counts what happened.
//! Owns:  the short form of the measuring of overload; `overload` is the long one.
//! Gives: proof that every call is counted once, and the standing calls end when they are told to.
//! Never: a figure: the build is not an optimised one, and the host may be busy.
//! Holds: bounded by the plan.

use std::time::Duration;

use loadtest::overload::{OverloadPlan, run};

#[test]
fn every_call_of_every_load_is_counted_once_beside_standing_calls() {
    let plan = OverloadPlan {
        capacity: Some(10.0),
        loads: vec![(1.0, 0.0), (3.0, 0.0)],
        hold: Duration::from_secs(3),
        standing: 4,
        generator_cpu: None,
        ..OverloadPlan::default()
    };
    let mut said = 0;
    let summary = run(&plan, |_| said += 1).expect("a summary");
    assert!(said >= 2 && summary.held.len() == 2, "{summary}");
    for (held, rate) in summary.held.iter().zip([10, 30]) {
        let report = &held.phase.report;
        // The last INVITE is due when the time is over, give or take a late look.
        assert!((3 * rate - rate..=3 * rate + rate).contains(&report.offered), "{report}");
        assert_eq!(report.completed + report.failures(), report.offered, "{report}");
        assert_eq!(report.retry_after, held.phase.refused(), "{report}");
        assert!(held.media.sent > 4 * 2 * 50 && held.media.received > 0, "{summary}");
    }
}
