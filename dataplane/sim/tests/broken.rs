//! The checker finds what is deliberately broken, and the seed that it prints replays.
//! Owns:  one run for each fault that the world can make.
//! Gives: trust in a run that passes.
//! Never: a fault inside the core; the world breaks what passes between core and checker.
//! Holds: each fault is caught by the rule that is meant for it, twice in the same step.

use sim::broken::Broken;
use sim::scenario::{Options, run};
use sim::world::Failure;

fn first_failure(broken: Broken) -> Option<Failure> {
    let options = Options { broken: Some(broken), ..Options::default() };
    (0..20).find_map(|seed| run(seed, options).err())
}

#[test]
fn every_deliberate_fault_is_found_by_its_rule() {
    for broken in Broken::ALL {
        let name = broken.name();
        let failure = first_failure(broken).unwrap_or_else(|| panic!("{name} was not found"));
        let rule = failure.breach.rule;
        assert!(broken.caught_by().contains(&rule), "{name} was caught by {rule}:\n{failure}");
    }
}

#[test]
fn the_seed_of_a_failure_replays_it() {
    for broken in [Broken::DropRecord, Broken::StrayMedia, Broken::LeakPort] {
        let first = first_failure(broken).expect("it is found");
        let options = Options { broken: Some(broken), ..Options::default() };
        let second = run(first.seed, options).expect_err("it fails again");
        assert_eq!((first.step, first.hash), (second.step, second.hash));
        assert_eq!((first.breach, first.trace), (second.breach, second.trace));
    }
}

#[test]
fn a_failure_prints_its_seed_its_step_and_the_last_messages() {
    let failure = first_failure(Broken::WrongStatus).expect("it is found");
    let text = failure.to_string();
    assert!(text.contains(&format!("seed {} step {}", failure.seed, failure.step)), "{text}");
    assert!(failure.trace.len() <= 200 && text.contains("INVITE sip:"), "{text}");
}
