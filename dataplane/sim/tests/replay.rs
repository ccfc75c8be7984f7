//! A seed is a whole run: the same seed gives the same trace, bit by bit.
//! Owns:  the proof that a printed seed replays.
//! Gives: hashes over every message, packet, drop and event.
//! Never: a tolerance.
//! Holds: another seed gives another trace.

use sim::scenario::{Options, run};
use sim::world::Failure;

#[test]
fn the_same_seed_gives_the_same_trace() -> Result<(), Failure> {
    for seed in [3, 17, 4_711] {
        let (first, second) = (run(seed, Options::default())?, run(seed, Options::default())?);
        assert_eq!(first, second, "seed {seed}");
        assert!(first.steps > 100, "seed {seed} hardly did anything: {first}");
    }
    Ok(())
}

#[test]
fn another_seed_gives_another_trace() -> Result<(), Failure> {
    let (one, two) = (run(1, Options::default())?, run(2, Options::default())?);
    assert_ne!(one.hash, two.hash);
    Ok(())
}
