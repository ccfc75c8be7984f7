//! The load generator against itself: caller and callee without a gateway between them.
//! Owns:  the check of the measuring tool before anything is measured with it.
//! Gives: proof that it loses nothing by itself and that its figures add up.
//! Never: a gateway.
//! Holds: bounded by the plan.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use loadtest::load::{Ends, Plan, run};

#[test]
fn fifty_calls_with_rtp_lose_nothing_on_the_way_from_the_generator_to_itself() {
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).expect("sockets");
    let SocketAddr::V4(callee) = ends.callee_address() else { panic!("IPv4") };
    let plan = Plan {
        rate: 50.0,
        calls: 50,
        hold: Duration::from_secs(1),
        media: true,
        ..Plan::new(callee)
    };
    let report = run(plan, ends).expect("the load runs");
    assert_eq!((report.offered, report.answered, report.completed), (50, 50, 50), "{report}");
    assert!(report.failed.is_empty(), "{report}");
    let media = report.media.as_ref().expect("media was asked for");
    // 1 s of 50 packets each way per call, give or take the edges.
    assert!((4_500..=5_500).contains(&media.sent), "{report}");
    assert_eq!((media.lost, media.repeated), (0, 0), "{report}");
    assert!(media.latency.count > 4_000 && media.latency.p50_us < 5_000, "{report}");
}
