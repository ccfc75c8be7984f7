//! What a shard tells of its trunks: calls, who is down or rests, the registration (`Question::Trunks`).
//! Owns:  the moments at which each part changes, and what a reload leaves.
//! Gives: one test per part.
//! Never: real time.
//! Holds: no view holds a name or a password of the account.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::account::{Account, REGISTER_EXPIRES_DEFAULT, Registering};
use shared::command::{Command, Question};
use shared::event::{Answer, Event};
use shared::ids::ShardId;
use shared::net::Transport;
use shared::snapshot::{HealthChecks, Snapshot, Trunk};
use shared::trunk_view::{RegistrationState, TrunkView};
use world::{ANN, Bench, CARRIER, answer, from_ann, header, sdp, settings, snapshot, tag};

const S: Duration = Duration::from_secs(1);

fn with(trunk: Trunk) -> Snapshot {
    Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() }
}

fn plain() -> Trunk {
    let carrier = CARRIER.parse().expect("an address");
    Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp)
}

fn registering() -> Trunk {
    let account = Account::new("4930", "hush-hush").expect("both are plain");
    let registers = Registering { expires: REGISTER_EXPIRES_DEFAULT, headers: Vec::new() };
    let account = Account { registers: Some(registers), ..account };
    Trunk { account: Some(Arc::new(account)), ..plain() }
}

fn view(bench: &mut Bench) -> TrunkView {
    let names: Arc<[Box<str>]> = ["carrier".into(), "nobody".into()].into();
    bench.input(Input::Command(Command::Ask { id: 9, question: Question::Trunks(names) }));
    let Some(Event::Answer { answer: Answer::Trunks(mut views), .. }) = bench.events.pop() else {
        panic!("no answer: {:?}", bench.events);
    };
    assert_eq!(views.len(), 1, "of those that there are: {views:?}");
    assert!(!format!("{views:?}").contains("hush-hush"));
    views.pop().expect("one")
}

fn next_message(bench: &mut Bench) -> String {
    for _ in 0..10_000 {
        if let Some(text) = bench.heard(CARRIER).pop() {
            return text;
        }
        bench.pass(S / 10);
    }
    panic!("the carrier hears nothing");
}

fn publish(bench: &mut Bench, trunk: Trunk) {
    let snapshot = Snapshot { generation: 2, ..with(trunk) };
    bench.input(Input::Command(Command::Publish(Arc::new(snapshot))));
}

#[test]
fn calls_are_counted_while_they_stand() {
    let target = "sip:0123456@carrier.test";
    let mut bench = Bench::with(settings(), with(plain()));
    assert_eq!(view(&mut bench).calls, 0);
    bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(view(&mut bench).calls, 1);
    bench.say(CARRIER, &answer(&invite, "486 Busy Here", "car", "", ""));
    let last = bench.heard(ANN).pop().expect("an answer");
    let ours = tag(&header(&last, "To"));
    bench.say(ANN, &from_ann("ACK", target, 1, "a1", &ours, ""));
    assert_eq!(view(&mut bench).calls, 0);
    bench.assert_quiet();
}

#[test]
fn a_rest_is_told_with_its_end() {
    let target = "sip:0123456@carrier.test";
    let mut bench = Bench::with(settings(), with(plain()));
    bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(CARRIER, "INVITE");
    let refusal = answer(&invite, "503 Service Unavailable", "car", "", "");
    let refusal = refusal.replace("Content-Length", "Retry-After: 20\r\nContent-Length");
    bench.say(CARRIER, &refusal);
    let last = bench.heard(ANN).pop().expect("an answer");
    let ours = tag(&header(&last, "To"));
    bench.say(ANN, &from_ann("ACK", target, 1, "a1", &ours, ""));
    let rests_until = view(&mut bench).destinations[0].rests_until.expect("it rests");
    bench.pass(5 * S);
    publish(&mut bench, plain());
    assert_eq!(view(&mut bench).destinations[0].rests_until, Some(rests_until), "after a reload");
    bench.pass(16 * S);
    assert_eq!(view(&mut bench).destinations[0].rests_until, None);
    bench.assert_quiet();
}

/// Another shard asks the trunk: this one hears of it over the mesh.
#[test]
fn up_and_down_are_told_with_the_time_of_the_change() {
    let trunk = || Trunk { health: Some(HealthChecks::default()), ..plain() };
    let mut bench = Bench::with(settings(), with(trunk()));
    let told = |bench: &mut Bench, is_down| {
        let at = CARRIER.parse().expect("an address");
        let message = MeshMessage::TrunkHealth { trunk: "carrier".into(), at, is_down };
        bench.input(Input::Mesh { from: ShardId(1), message });
        let view = view(bench).destinations[0];
        (view.is_checked, view.is_down, view.changed_at)
    };
    assert_eq!(told(&mut bench, false), (true, false, None), "nothing has changed yet");
    let (_, is_down, first) = told(&mut bench, true);
    assert!(is_down && first.is_some());
    bench.pass(2 * S);
    assert_eq!(told(&mut bench, true), (true, true, first), "said again");
    publish(&mut bench, trunk());
    assert_eq!(told(&mut bench, true).2, first, "after a reload");
    let (_, is_down, last) = told(&mut bench, false);
    assert!(!is_down && last > first);
    publish(&mut bench, plain());
    assert!(!view(&mut bench).destinations[0].is_checked);
}

#[test]
fn a_registration_is_told_from_the_first_try_to_its_end() {
    let mut bench = Bench::with(settings(), with(registering()));
    let state = |bench: &mut Bench| view(bench).registration.expect("it registers");
    assert_eq!(state(&mut bench).state, RegistrationState::Trying);
    let first = next_message(&mut bench);
    bench.say(CARRIER, &answer(&first, "403 Go Away", "reg", "", ""));
    let failed = state(&mut bench);
    assert_eq!((failed.state, failed.status), (RegistrationState::Failed, Some(403)));
    assert_eq!(failed.reason.as_deref(), Some("Go Away"));
    assert_eq!(failed.until, None);
    let second = next_message(&mut bench);
    let ok = answer(&second, "200 OK", "reg", "", "");
    bench.say(CARRIER, &ok.replace("Content-Length", "Expires: 100\r\nContent-Length"));
    let registered = state(&mut bench);
    assert_eq!(registered.state, RegistrationState::Registered);
    assert_eq!((registered.status, &registered.reason), (None, &None), "that is over");
    assert!(registered.changed_at > failed.changed_at);
    bench.pass(10 * S);
    publish(&mut bench, registering());
    assert_eq!(state(&mut bench), registered, "after a reload");
    publish(&mut bench, Trunk { enabled: false, ..registering() });
    bench.heard(CARRIER);
    assert_eq!(state(&mut bench).state, RegistrationState::Unregistering);
    bench.pass(5 * S);
    assert_eq!(view(&mut bench).registration, None);
    bench.assert_quiet();
}
