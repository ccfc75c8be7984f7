//! A hundred and twenty commands on twenty calls: each is answered, and each answer is true.
//! Owns:  the short form of issue 3's tenth proof; `commands` is the long one.
//! Gives: the seed with the first untruth.
//! Never: a command that is only counted.
//! Holds: `COMMANDS_SEED` repeats the commands of a run.

use loadtest::commands::{CommandPlan, run};

#[test]
fn every_command_on_a_standing_call_is_answered_with_what_the_phones_saw() {
    let seed = std::env::var("COMMANDS_SEED").ok().and_then(|seed| seed.parse().ok());
    let plan = CommandPlan::new(20, 120, seed.unwrap_or_else(rand::random));
    let summary = run(&plan).unwrap_or_else(|untruth| panic!("{untruth}"));
    println!("seed {}: {summary}", plan.seed);
    assert_eq!(summary.total(), 120);
    for name in ["hold", "unhold", "mute", "unmute", "transfer"] {
        assert!(summary.count(name, 200) > 0, "no {name} was done: {summary}");
    }
    assert!(summary.count("hangup", 200) > 0, "no call was hung up: {summary}");
}
