//! Limits of trunks: calls at a time, and calls that begin within a second.
//! Owns:  one caller, trunk A with few calls a second, trunk B with one call at a time.
//! Gives: the call that is one too many goes to the next trunk, then hears 503.
//! Never: a limit that a refused call counts against.
//! Holds: a share that was taken comes back.

use std::time::Duration;

use shared::snapshot::Trunk;
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

#[test]
fn limits_pass_a_call_on_and_then_answer_503() -> Result<(), Failure> {
    let limited = |trunk: Trunk| match &*trunk.name {
        "a" => Trunk { max_cps: Some(2), ..trunk },
        _ => Trunk { max_calls: Some(1), ..trunk },
    };
    let document = serde_json::json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "{1}" },
        "dest": ["a", "b"], "select": "sequential",
    });
    let mut flaws = shared::document::Flaws::default();
    let rule = shared::route::check(&document, &Default::default(), &mut flaws);
    let routes = vec![rule.expect("a rule")];
    let settings = WorldSettings { routes, trunk_terms: limited, ..WorldSettings::calm(305) };
    let [a, b] = ["a", "b"].map(PhoneSpec::trunk_named);
    let mut world = World::started(settings, &[PhoneSpec::user("1001"), a, b])?;
    for call in 0..5 {
        let plan = CallerPlan::to("sip:94930@ringgate.test");
        world.after(Duration::from_millis(100 * call), Act::Call(0, plan));
    }
    world.after(Duration::from_millis(1_500), Act::Call(0, CallerPlan::to("sip:91@ringgate.test")));
    world.run_for(Duration::from_secs(40))?;
    let statuses: Vec<_> =
        (0..6).map(|call| world.phone(0).usage(call).report.final_status).collect();
    let expected = [200, 200, 200, 503, 503, 200].map(Some);
    assert_eq!(statuses, expected);
    let carried = [1, 2].map(|phone| world.phone(phone).usages().len());
    assert_eq!(carried, [3, 1], "two in the first second, one later; b has room for one");
    world.finish().map(drop)
}
