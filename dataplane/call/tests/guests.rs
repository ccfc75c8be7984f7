//! Callers without an account, and users who let them call (guide 1.2: `allow_guest_calls`).
//! Owns:  who is let in without credentials, and how far.
//! Gives: users of the snapshot, users that only a backend knows, users of another shard.
//! Never: real time.
//! Holds: no test asks a backend about a guest.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::ask::{Ask, Decision, UserDecision};
use shared::command::Command;
use shared::event::Event;
use shared::ids::ShardId;
use shared::settings::ShardSettings;
use shared::snapshot::{RemoteUsers, Secret, Snapshot, User};
use world::{
    ANN, BEN, Bench, CARRIER, answer, from_ann, from_ben, header, register, sdp, settings,
    snapshot, tag,
};

/// Whom nobody knows.
const GUEST: &str = "10.0.0.66:5060";

fn authenticating() -> ShardSettings {
    ShardSettings { call_auth: true, ..settings() }
}

/// A user that only the backends know.
fn remote(name: &str, allow_guest_calls: bool) -> User {
    User {
        username: name.into(),
        secret: Secret::Plain(format!("secret-{name}").into()),
        display_name: None,
        enabled: true,
        allow_guest_calls,
        forwarding: None,
        backend: 0,
    }
}

/// 1002 takes guests, 1001 does not.
fn listed() -> Bench {
    let mut snapshot = snapshot();
    let users = Arc::make_mut(&mut snapshot.users);
    let ben = User { allow_guest_calls: true, ..(*users["1002"]).clone() };
    users.insert("1002".into(), Arc::new(ben));
    let mut bench = Bench::with(authenticating(), snapshot);
    bench.register("1002", BEN);
    bench.register("1001", ANN);
    bench
}

/// The same, but nobody is in the snapshot.
fn unlisted(settings: ShardSettings, takes_guests: bool) -> Bench {
    let remote_users = Some(RemoteUsers { first: 0, budget: Duration::from_secs(1) });
    let users = Arc::default();
    let mut bench = Bench::with(settings, Snapshot { remote_users, users, ..snapshot() });
    register_remote(&mut bench, "1002", 1, takes_guests);
    bench
}

fn register_remote(bench: &mut Bench, user: &str, cseq: u32, takes_guests: bool) {
    bench.say(BEN, &register(user, BEN, cseq, ""));
    let challenge = bench.only(BEN, "SIP/2.0 401");
    let line = header(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let secret = format!("secret-{user}");
    let own = sip::auth::answer(&parsed, user, &secret, "REGISTER", "sip:pbx.test", 1, "abc");
    bench.say(BEN, &register(user, BEN, cseq + 1, &format!("Authorization: {own}\r\n")));
    let asked = bench.events.iter().find_map(|event| match event {
        Event::Asked { id, ask, .. } if matches!(&**ask, Ask::User(_)) => Some(*id),
        _ => None,
    });
    let known = UserDecision::Known(remote(user, takes_guests));
    let decision = Box::new(Decision::User(known));
    bench.input(Input::Command(Command::Decided { id: asked.expect("an ask"), decision }));
    bench.only(BEN, "SIP/2.0 200");
    bench.events.clear();
}

/// An INVITE of somebody who says that this is his name.
fn invite_as(name: &str, to: &str) -> String {
    from_ann("INVITE", &format!("sip:{to}@pbx.test"), 1, "g1", "", &sdp("10.0.0.66", 4000))
        .replace(ANN, GUEST)
        .replace("\"Ann\" <sip:1001@pbx.test>", &format!("<sip:{name}@far.test>"))
        .replace("Contact: <sip:1001@", "Contact: <sip:guest@")
}

fn asked_anybody(bench: &Bench) -> bool {
    bench.events.iter().any(|event| matches!(event, Event::Asked { .. }))
}

/// The guest's call arrives at Ben, who refuses it.
fn assert_arrives(bench: &mut Bench) {
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", "", ""));
    bench.only(BEN, "ACK");
    let heard = bench.heard(GUEST);
    assert!(heard.last().is_some_and(|last| last.starts_with("SIP/2.0 486")), "{heard:?}");
    assert!(!asked_anybody(bench));
}

fn assert_challenged(bench: &mut Bench) {
    let heard = bench.heard(GUEST);
    assert!(heard.last().is_some_and(|last| last.starts_with("SIP/2.0 407")), "{heard:?}");
    assert!(bench.heard(BEN).is_empty() && bench.heard(CARRIER).is_empty());
    assert!(!asked_anybody(bench));
}

#[test]
fn a_guest_reaches_who_takes_guests_and_nobody_else() {
    for mut bench in [listed(), unlisted(authenticating(), true)] {
        bench.say(GUEST, &invite_as("guest", "1002"));
        assert_arrives(&mut bench);
        for other in ["1001", "1003", "5550100", "carrier"] {
            let text = invite_as("guest", other).replace("call-ann", &format!("call-{other}"));
            bench.say(GUEST, &text.replace("z9hG4bKg1", &format!("z9hG4bK{other}")));
            assert_challenged(&mut bench);
        }
    }
    let mut bench = unlisted(authenticating(), false);
    bench.say(GUEST, &invite_as("guest", "1002"));
    assert_challenged(&mut bench);
}

/// What the backend says at the next REGISTER holds from then on.
#[test]
fn a_user_who_takes_guests_no_more_is_closed() {
    let mut bench = unlisted(authenticating(), true);
    register_remote(&mut bench, "1002", 3, false);
    bench.say(GUEST, &invite_as("guest", "1002"));
    assert_challenged(&mut bench);
}

/// A program that stands before our own users has the last word about them.
#[test]
fn the_backend_that_stands_first_decides_about_a_user_that_is_here_too() {
    for (backend, arrives) in [(0, false), (1, true)] {
        let remote_users = Some(RemoteUsers { first: 0, budget: Duration::from_secs(1) });
        let users = [("1002".into(), Arc::new(User { backend, ..remote("1002", false) }))];
        let users = Arc::new(users.into_iter().collect());
        let snapshot = Snapshot { remote_users, users, ..snapshot() };
        let mut bench = Bench::with(authenticating(), snapshot);
        if arrives {
            register_remote(&mut bench, "1002", 1, true);
        } else {
            bench.register("1002", BEN);
        }
        bench.say(GUEST, &invite_as("guest", "1002"));
        if arrives {
            assert_arrives(&mut bench);
        } else {
            assert_challenged(&mut bench);
        }
    }
}

/// A name of ours is a claim that has to be proved.
#[test]
fn who_calls_under_the_name_of_a_user_is_no_guest() {
    let mut bench = listed();
    bench.say(GUEST, &invite_as("1003", "1002"));
    assert_challenged(&mut bench);
}

/// A guest would send whoever let it call to a trunk, at our expense.
#[test]
fn a_guest_refers_nobody() {
    let mut bench = listed();
    bench.say(GUEST, &invite_as("guest", "1002"));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let heard = bench.heard(GUEST);
    let ours = tag(&header(heard.last().expect("200"), "To"));
    let inside = |method: &str, cseq: u32, branch: &str, extra: &str| {
        from_ann(method, "sip:1002@pbx.test", cseq, branch, &ours, "")
            .replace(ANN, GUEST)
            .replace("\"Ann\" <sip:1001@pbx.test>", "<sip:guest@far.test>")
            .replace("X-Case: 42", &format!("X-Case: 42{extra}"))
    };
    bench.say(GUEST, &inside("ACK", 1, "gack", ""));
    bench.say(GUEST, &inside("REFER", 2, "g2", "\r\nRefer-To: <sip:+4930@carrier.test>"));
    bench.only(GUEST, "SIP/2.0 403");
    assert!(bench.heard(CARRIER).is_empty());
    // Ben may send the guest on, as any user may.
    bench.register("1001", ANN);
    let refer = from_ben("REFER", &invite, 7, "b7", "");
    let refer = refer.replace("Content-Length", "Refer-To: <sip:1001@pbx.test>\r\nContent-Length");
    bench.say(BEN, &refer);
    assert!(bench.heard(BEN).iter().any(|text| text.starts_with("SIP/2.0 202")));
    bench.only(ANN, "INVITE");
}

/// The shard that keeps the bindings knows; until it has said so the INVITE waits, and may be taken back.
#[test]
fn another_shard_is_asked_who_takes_guests() {
    let two = ShardSettings { shards: 2, ..authenticating() };
    // The bench is shard 0; a user of shard 1 and a call of shard 0.
    let far = (1_000..).map(|n| n.to_string()).find(|n| ShardId::of_name(n.as_bytes(), 2).0 == 1);
    let far = far.expect("one of two");
    let own = (0..).map(|n| format!("call-{n}"));
    let own: Vec<String> =
        own.filter(|n| ShardId::of_name(n.as_bytes(), 2).0 == 0).take(4).collect();
    let remote_users = Some(RemoteUsers { first: 0, budget: Duration::from_secs(1) });
    let users = Arc::default();
    let mut bench = Bench::with(two, Snapshot { remote_users, users, ..snapshot() });
    let ask = |bench: &mut Bench, number: usize| {
        let text = invite_as("guest", &far).replace("call-ann", &own[number]);
        bench.say(GUEST, &text.replace("z9hG4bKg1", &format!("z9hG4bKg{number}x")));
        match bench.mesh.pop() {
            Some((ShardId(1), MeshMessage::AskGuests { ask, aor })) => {
                assert_eq!(*aor, *far);
                ask
            }
            other => panic!("{other:?}"),
        }
    };
    let told = |bench: &mut Bench, ask: u64, welcome: bool| {
        let message = MeshMessage::Guests { ask, welcome };
        bench.input(Input::Mesh { from: ShardId(1), message });
    };
    let no = ask(&mut bench, 0);
    // Who has heard 100 repeats nothing, and we would have to repeat the challenge to a stranger.
    assert!(bench.heard(GUEST).is_empty());
    told(&mut bench, no, false);
    assert_challenged(&mut bench);
    let silent = ask(&mut bench, 1);
    bench.pass(Duration::from_secs(3));
    assert_challenged(&mut bench);
    told(&mut bench, silent, true);
    assert!(bench.heard(GUEST).is_empty(), "too late");
    let yes = ask(&mut bench, 2);
    told(&mut bench, yes, true);
    bench.only(GUEST, "SIP/2.0 100");
    assert!(
        bench.mesh.iter().any(|(_, message)| matches!(message, MeshMessage::AskBindings { .. })),
        "the call looks for who is registered"
    );
    assert!(!asked_anybody(&bench));
}

#[test]
fn the_shard_of_a_user_says_whether_it_takes_guests() {
    let mut bench = unlisted(authenticating(), true);
    for (ask, aor, welcome) in [(1, "1002", true), (2, "1001", false)] {
        let message = MeshMessage::AskGuests { ask, aor: aor.into() };
        bench.input(Input::Mesh { from: ShardId(1), message });
        let told = bench.mesh.pop();
        assert!(
            matches!(told, Some((ShardId(1), MeshMessage::Guests { ask: of, welcome: is }))
                if (of, is) == (ask, welcome)),
            "{told:?}"
        );
    }
}
