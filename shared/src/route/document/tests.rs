//! Rules as people write them: both forms, and every way to get one wrong.
//! Owns:  the samples.
//! Gives: what a rule becomes, and where a flaw is said to be.
//! Never: a call; the engine has its own tests.
//! Holds: a flaw names the place that the writer has to look at.

use serde_json::json;

use super::*;

fn read(value: &Value) -> (Option<Route>, Vec<(String, &'static str)>) {
    let mut flaws = Flaws::default();
    let route = check(value, &Path::default(), &mut flaws);
    let flaws = flaws.0.iter().map(|flaw| (flaw.path.pointer(), flaw.kind.as_str())).collect();
    (route, flaws)
}

fn good(value: &Value) -> Route {
    let (route, flaws) = read(value);
    assert_eq!(flaws, [], "{value}");
    route.expect("nothing is wrong with it")
}

fn dests(route: &Route) -> Vec<(&str, Option<u32>)> {
    match &route.action {
        Action::Forward { dests, .. } => {
            dests.iter().map(|dest| (&*dest.trunk, dest.weight)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_form_of_the_files_and_of_the_rest_api_mean_the_same() {
    let file = good(&json!({
        "name": "out", "priority": 10, "direction": "outbound", "source_trunks": ["a"],
        "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "{1}" },
        "action": "forward", "dest": ["x", "y"], "select": "hash", "hash_key": "call-id",
    }));
    let rest = good(&json!({
        "id": 7, "name": "out", "priority": 10, "direction": "outbound", "sourceTrunk": "a",
        "match": { "to": { "user": "^9(\\d+)$" } }, "rewrite": { "to": { "user": "{1}" } },
        "action": { "select": "hash", "hashKey": "call-id", "targetType": "sip_trunk",
                    "trunks": [{ "name": "x" }, { "name": "y", "weight": 5 }],
                    "queueFile": "", "ivr_file": null },
        "notes": [], "description": null,
    }));
    assert_eq!(dests(&file), [("x", None), ("y", None)]);
    assert_eq!(dests(&rest), [("x", None), ("y", Some(5))]);
    for route in [&file, &rest] {
        assert_eq!(route.source_trunks, ["a".into()]);
        assert_eq!(route.conditions[0].field, Field::ToUser);
        assert_eq!(route.rewrites[0].template.source, Some(0));
        assert_eq!((route.priority, route.direction), (10, RouteDirection::Outbound));
        let Action::Forward { select, .. } = &route.action else { panic!("it forwards") };
        assert_eq!(*select, Select::Hash(HashKey::CallId));
    }
}

#[test]
fn actions_follow_from_their_fields() {
    let action = |value: Value| good(&value).action;
    assert_eq!(
        action(json!({ "name": "a", "match": {} })),
        Action::Forward { dests: Vec::new(), select: Select::RoundRobin }
    );
    assert_eq!(action(json!({ "name": "a", "action": "busy" })), Action::Busy);
    let refuse =
        |status, reason: Option<&str>| Action::Reject { status, reason: reason.map(Into::into) };
    assert_eq!(action(json!({ "name": "a", "action": "reject" })), refuse(403, None));
    assert_eq!(action(json!({ "name": "a", "reject": 603 })), refuse(603, None));
    assert_eq!(
        action(json!({ "name": "a", "action": "reject",
                       "reject": { "code": 480, "reason": "Closed" } })),
        refuse(480, Some("Closed"))
    );
}

#[test]
fn what_is_not_built_is_taken_and_named() {
    for (value, pointer, what) in [
        (json!({ "name": "q", "action": "queue", "queue": "sales" }), "/action", "queue"),
        (json!({ "name": "q", "app": "ivr" }), "/action", "application"),
        (
            json!({ "name": "q", "action": { "target_type": "ivr", "ivr_file": "m.toml" } }),
            "/action/action",
            "ivr",
        ),
    ] {
        let (route, flaws) = read(&value);
        assert_eq!(flaws, [(pointer.to_owned(), "not_used_yet")], "{value}");
        assert_eq!(route.map(|route| route.action), Some(Action::NotBuilt(what.into())));
    }
    let (route, flaws) =
        read(&json!({ "name": "c", "dest": "x", "codecs": ["pcmu"], "select": "parallel" }));
    let names: Vec<_> = flaws.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(names, ["/select", "/codecs"]);
    assert!(route.is_some(), "it serves without them");
}

#[test]
fn a_flaw_says_where_it_is() {
    for (value, pointer, word) in [
        (json!([]), "", "kind"),
        (json!({}), "/name", "missing"),
        (json!({ "name": " " }), "/name", "value"),
        (json!({ "name": "a", "priority": "high" }), "/priority", "kind"),
        (json!({ "name": "a", "match": { "to.user": "(" } }), "/match/to.user", "value"),
        (json!({ "name": "a", "match": { "to": { "user": "(" } } }), "/match/to/user", "value"),
        (json!({ "name": "a", "match": { "to.usr": "1" } }), "/match/to.usr", "value"),
        (json!({ "name": "a", "match": { "dest": "x" } }), "/match/dest", "value"),
        (json!({ "name": "a", "rewrite": { "to.user": "{1}" } }), "/rewrite/to.user", "value"),
        (
            json!({ "name": "a", "match": { "to.user": "^(1)$" }, "rewrite": { "to.user": "{2}" } }),
            "/rewrite/to.user",
            "value",
        ),
        (json!({ "name": "a", "rewrite": { "header.Via": "x" } }), "/rewrite/header.Via", "value"),
        (json!({ "name": "a", "source_trunk_ids": [3] }), "/source_trunk_ids", "value"),
        (json!({ "name": "a", "source_ips": ["10.0.0.0/40"] }), "/source_ips/0", "value"),
        (json!({ "name": "a", "action": "forwrad" }), "/action", "value"),
        (json!({ "name": "a", "dest": "sip:x@y" }), "/dest", "value"),
        (json!({ "name": "a", "dest": [{ "weight": 3 }] }), "/dest/0", "missing"),
        (json!({ "name": "a", "select": "best" }), "/select", "value"),
        (json!({ "name": "a", "select": "hash", "hash_key": "moon" }), "/hash_key", "value"),
        (json!({ "name": "a", "reject": 200 }), "/reject", "value"),
        (json!({ "name": "a", "max_ring_time": -1 }), "/max_ring_time", "value"),
    ] {
        let (route, flaws) = read(&value);
        assert_eq!(flaws, [(pointer.to_owned(), word)], "{value}");
        assert!(route.is_none(), "{value}");
    }
    let (route, flaws) = read(&json!({ "name": "a", "prioritty": 3 }));
    assert_eq!(flaws, [("/prioritty".to_owned(), "unknown")]);
    assert!(route.is_some(), "whether an unknown field refuses is the reader's choice");
}

#[test]
fn a_template_draws_from_its_own_field_or_from_the_only_expression() {
    let source = |matches: Value, field: &str| {
        let value = json!({ "name": "a", "match": matches, "rewrite": { field: "{1}" } });
        good(&value).rewrites[0].template.source
    };
    let both = json!({ "from.user": "^(1)", "to.user": "^(2)" });
    assert_eq!(source(both.clone(), "from.user"), Some(0));
    assert_eq!(source(both, "to.user"), Some(1));
    let one = json!({ "from.user": "17", "request_uri.user": "^(2)" });
    assert_eq!(source(one, "header.X-Number"), Some(1));
}
