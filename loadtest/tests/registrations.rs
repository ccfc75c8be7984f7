//! Sixty phones register, refresh with their nonces, and with some that the gateway does not know.
//! Owns:  the short form of the measuring of registrations; `registrations` is the long one.
//! Gives: proof that the tool counts what happened.
//! Never: a figure: the build is not an optimised one.
//! Holds: bounded by the plan.

use loadtest::registrations::{RegistrationPlan, run};

#[test]
fn sixty_phones_register_and_refresh_and_stale_nonces_are_answered() {
    let plan = RegistrationPlan {
        users: 60,
        in_database: true,
        register_rate: 60.0,
        refresh_rate: 60.0,
        refreshes: 120,
        stale_every: 10,
        settle: false,
        generator_cpu: None,
        ..RegistrationPlan::default()
    };
    let summary = run(&plan, |_| ()).expect("a summary");
    let (first, again) = (&summary.registered, &summary.refreshed);
    assert_eq!((summary.bindings, summary.failures()), (60, 0), "{summary}");
    assert_eq!((first.done, first.challenged, first.stale), (60, 60, 0), "{summary}");
    // Only who showed a nonce of nobody is challenged again: the count of the others goes on.
    assert_eq!((again.done, again.challenged, again.stale), (120, 12, 12), "{summary}");
    assert!(summary.shard_ms > 0.0, "{summary}");
}
