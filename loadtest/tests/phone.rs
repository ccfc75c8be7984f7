//! Our soft phone against itself, without a gateway: what it shows of others must hold of itself.
//! Owns:  two phones on loopback, one the other's server.
//! Gives: proof of call, tone, loss count, hang-up.
//! Never: a gateway.
//! Holds: bounded by deadlines, no fixed sleeps.

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::phone::{HungUpBy, Phone};
use tokio::time::{Instant, interval};

#[tokio::test]
async fn two_phones_call_each_other_and_each_hears_the_others_tone() {
    let nowhere: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    let mut callee = Phone::bind(nowhere, "1002", "").expect("a port");
    let mut caller = Phone::bind(callee.local_addr(), "1001", "").expect("a port");
    let (placed, answered) = tokio::join!(caller.call("1002", 440.0), callee.answer_next(1000.0));
    let (placed, answered) = (placed.expect("a 200"), answered.expect("an ACK"));

    let deadline = Instant::now() + Duration::from_secs(10);
    let mut poll = interval(Duration::from_millis(10));
    while placed.heard().packets_received < 50 || answered.heard().packets_received < 50 {
        assert!(Instant::now() < deadline, "{:?} {:?}", placed.heard(), answered.heard());
        poll.tick().await;
    }
    assert_eq!(placed.heard().tone_hz, Some(1000.0));
    assert_eq!(answered.heard().tone_hz, Some(440.0));
    assert!(answered.tone_share(440.0) > 0.9 && answered.tone_share(1000.0) < 0.1);

    let report = placed.hang_up().await.expect("BYE is answered");
    let other = answered.ended(Duration::from_secs(5)).await.expect("BYE arrives");
    assert_eq!((report.hung_up_by, other.hung_up_by), (HungUpBy::Me, HungUpBy::Other));
    assert_eq!((report.heard.packets_lost, other.heard.packets_lost), (0, 0));
    let ladder: Vec<String> = caller.ladder().into_iter().map(|line| line.text).collect();
    let starts = ["INVITE", "180", "200", "ACK", "BYE", "200"];
    assert_eq!(ladder.len(), starts.len(), "{ladder:#?}");
    for (line, start) in ladder.iter().zip(starts) {
        assert!(line.starts_with(start), "{ladder:#?}");
    }
}
