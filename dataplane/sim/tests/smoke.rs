//! Fifty random evenings over a bad network: what `make sim` does with thousands.
//! Owns:  the seeds 0 to 49.
//! Gives: a failure that prints its seed and the last 200 messages.
//! Never: a fixed scenario.
//! Holds: the evenings are not empty: calls are answered, media flows, messages change shards.

use sim::finish::Summary;
use sim::scenario::{Options, run};
use sim::world::Failure;

#[test]
fn fifty_seeds_pass() -> Result<(), Failure> {
    let mut total = Summary::default();
    for seed in 0..50 {
        total.add(&run(seed, Options::default())?);
    }
    assert!(total.calls > 200 && total.answered > 100, "{total}");
    assert!(total.forwarded > 2_000 && total.moved > 500 && total.repelled > 50, "{total}");
    assert!(total.glares > 0 && total.silent > 0 && total.sent_on > 10, "{total}");
    Ok(())
}
