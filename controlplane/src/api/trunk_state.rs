//! `state` of a trunk: what the shards know of it now, put together.
//! Owns:  the shape of `state`, and how the parts of several shards become one.
//! Gives: trunks with their state; `available` is false when a shard did not answer.
//! Never: a name or password of the account; a failure of the whole request for want of a state.
//! Holds: calls are the sum; who is down for one shard is down; the registration is its one shard's.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shared::command::Question;
use shared::event::Answer;
use shared::time::WallMs;
use shared::trunk_view::{DestinationView, RegistrationView, TrunkView};

use super::App;

pub(super) async fn with_states(app: &App, trunks: Vec<Map<String, Value>>) -> Vec<Value> {
    let name = |shown: &Map<String, Value>| -> Box<str> {
        shown.get("name").and_then(Value::as_str).unwrap_or_default().into()
    };
    let names: Arc<[Box<str>]> = trunks.iter().map(name).collect();
    let views = if names.is_empty() { Ok(Vec::new()) } else { views(app, names).await };
    let with = |mut shown: Map<String, Value>| {
        let name = name(&shown);
        let own = views.iter().flatten().filter(|view| *view.name == *name);
        let mut state = state(own);
        state["available"] = views.is_ok().into();
        state["error"] = json!(views.as_ref().err());
        shown.insert("state".to_owned(), state);
        Value::Object(shown)
    };
    trunks.into_iter().map(with).collect()
}

async fn views(app: &App, names: Arc<[Box<str>]>) -> Result<Vec<TrunkView>, String> {
    let answers = app.questions.ask(Question::Trunks(names)).await;
    let answers = answers.map_err(|unanswered| unanswered.to_string())?;
    let views = answers.into_iter().flat_map(|answer| match answer {
        Answer::Trunks(views) => views,
        _ => Vec::new(),
    });
    Ok(views.collect())
}

/// Of the views of one trunk, a shard each. Shards that serve another snapshot may know of another
/// destination for a moment.
fn state<'v>(views: impl Iterator<Item = &'v TrunkView>) -> Value {
    let (mut calls, mut registration) = (0, None);
    let mut destinations: Vec<DestinationView> = Vec::new();
    for view in views {
        calls += view.calls;
        registration = registration.or(view.registration.as_ref());
        for one in &view.destinations {
            match destinations.iter_mut().find(|known| known.address == one.address) {
                None => destinations.push(*one),
                Some(known) => {
                    known.is_down |= one.is_down;
                    known.changed_at = known.changed_at.max(one.changed_at);
                    known.rests_until = known.rests_until.max(one.rests_until);
                }
            }
        }
    }
    let turned = destinations.iter().filter_map(|one| one.changed_at);
    let changed_at = turned.chain(registration.map(|one| one.changed_at)).max();
    json!({
        "calls": calls,
        "destinations": destinations.iter().map(destination).collect::<Vec<_>>(),
        "registration": registration.map(registered),
        "changed_at": changed_at,
    })
}

/// `up` is null where nobody asks.
fn destination(one: &DestinationView) -> Value {
    json!({
        "address": one.address.to_string(),
        "transport": one.transport.uri_word(),
        "up": one.is_checked.then_some(!one.is_down),
        "rests_until": one.rests_until,
        "changed_at": one.changed_at,
    })
}

fn registered(one: &RegistrationView) -> Value {
    json!({
        "state": one.state.as_str(),
        "until": one.until,
        "status": one.status,
        "reason": one.reason,
        "changed_at": one.changed_at,
    })
}

pub(super) fn example() -> Value {
    const MORNING: WallMs = WallMs(1_795_000_000_000);
    json!({
        "available": true,
        "calls": 3,
        "destinations": [{
            "address": "192.0.2.20:5070",
            "transport": "udp",
            "up": true,
            "rests_until": MORNING,
            "changed_at": MORNING,
        }],
        "registration": {
            "state": "registered",
            "until": MORNING,
            "status": 403,
            "reason": "Forbidden",
            "changed_at": MORNING,
        },
        "changed_at": MORNING,
        "error": "shard 1 did not answer in time",
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use shared::net::Transport;
    use shared::trunk_view::RegistrationState;

    use super::*;

    fn view(calls: u32, is_down: bool, rests_until: Option<WallMs>) -> TrunkView {
        let destination = DestinationView {
            address: SocketAddr::from(([192, 0, 2, 20], 5_060)),
            transport: Transport::Udp,
            is_checked: true,
            is_down,
            changed_at: is_down.then_some(WallMs(5)),
            rests_until,
        };
        let destinations = vec![destination];
        TrunkView { name: "t".to_owned(), calls, destinations, registration: None }
    }

    #[test]
    fn the_parts_of_several_shards_become_one_state() {
        let registration = RegistrationView {
            state: RegistrationState::Failed,
            until: None,
            status: Some(403),
            reason: Some("Forbidden".to_owned()),
            changed_at: WallMs(7),
        };
        let third = TrunkView { registration: Some(registration), ..view(1, false, None) };
        let views = [view(2, false, Some(WallMs(9))), view(0, true, None), third];
        let state = state(views.iter());
        assert_eq!(state["calls"], 3);
        assert_eq!(state["destinations"].as_array().map(Vec::len), Some(1));
        assert_eq!(state["destinations"][0]["up"], false);
        assert_eq!(state["destinations"][0]["rests_until"], json!(WallMs(9)));
        assert_eq!(state["registration"]["state"], "failed");
        assert_eq!(state["registration"]["status"], 403);
        assert_eq!(state["changed_at"], json!(WallMs(7)));
    }

    #[test]
    fn a_trunk_that_nobody_serves_has_an_empty_state() {
        let state = state(std::iter::empty());
        assert_eq!((&state["calls"], &state["registration"]), (&json!(0), &Value::Null));
        assert_eq!(state["destinations"], json!([]));
    }
}
