//! Calls that the HTTP router decides about (surface.md section 3): in time, late, never, badly.
//! Owns:  the wait of an INVITE and what follows from each decision.
//! Gives: forward, reject, not handled, fallback; a caller that gives up while it waits.
//! Never: a call that waits longer than the budget allows.
//! Holds: one ask per call, one record per call, nothing waits afterwards.

use std::time::Duration;

use shared::ask::{Ask, Forward, Orders, Reject, RouteDecision, Strategy};
use shared::cdr::{Direction, HangupReason};
use shared::metrics::Counter;
use shared::snapshot::HttpRouterRules;
use sim::phone::Ending;
use sim::phone::plan::{Callee, CalleePlan, CallerPlan};
use sim::program::forward;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

const BUDGET: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(300);

fn world(fallback_to_static: bool) -> Result<World, Failure> {
    let router = Some(HttpRouterRules { budget: BUDGET, fallback_to_static });
    let settings = WorldSettings { http_router: router, ..WorldSettings::calm(70) };
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::user("1003")];
    World::started(settings, &phones)
}

fn to(users: &[&str], strategy: Strategy) -> Forward {
    let uris: Vec<String> = users.iter().map(|user| format!("sip:{user}@ringgate.test")).collect();
    forward(&uris, strategy)
}

fn decided(forward: Forward) -> RouteDecision {
    RouteDecision::Forward(Box::new(forward))
}

#[test]
fn the_router_sends_a_call_elsewhere() -> Result<(), Failure> {
    let mut world = world(true)?;
    world.program_mut().route_next(SOON, decided(to(&["1003"], Strategy::Sequential)));
    world.call(0, CallerPlan::to("sip:200@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let [Ask::Route(ask)] = world.noted().asked.as_slice() else { panic!("asked once") };
    assert_eq!((ask.caller.as_str(), ask.callee.as_str()), ("1001", "200"));
    assert_eq!(ask.direction, Direction::Internal);
    assert!(ask.body.starts_with("v=0"), "{}", ask.body);
    let names: Vec<_> = ask.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"Contact"), "{names:?}");
    assert!(!names.contains(&"Proxy-Authorization"), "{names:?}");
    assert!(world.phone(1).usages().is_empty());
    assert_eq!(world.phone(2).usage(0).report.final_status, Some(200));
    assert_eq!((world.noted().record().status_code, world.counter(Counter::RouteAsks)), (200, 1));
    world.finish().map(drop)
}

#[test]
fn not_handled_leaves_the_call_to_the_static_routes() -> Result<(), Failure> {
    let mut world = world(false)?;
    world.program_mut().route_next(SOON, RouteDecision::NotHandled);
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.noted().record().status_code, 200);
    assert_eq!(world.phone(1).usage(0).report.final_status, Some(200));
    world.finish().map(drop)
}

#[test]
fn a_rejection_is_heard_and_recorded() -> Result<(), Failure> {
    let mut world = world(true)?;
    let reason = "No Credit Left".to_owned();
    let reject = Reject { status: 402, reason, retry_after_s: None, spam: false };
    world.program_mut().route_next(SOON, RouteDecision::Reject(reject));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(10))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(402));
    let record = world.noted().record();
    assert_eq!((record.status_code, record.hangup_reason), (402, HangupReason::Rejected));
    let error = record.last_error.as_ref().expect("the reason");
    assert_eq!((error.code, error.reason.as_str()), (402, "No Credit Left"));
    assert!(world.phone(1).usages().is_empty());
    world.finish().map(drop)
}

/// The decision comes after the deadline: the call has gone on without it, and it changes nothing.
#[test]
fn a_late_decision_is_dropped() -> Result<(), Failure> {
    let mut world = world(true)?;
    let late = Duration::from_secs(4);
    world.program_mut().route_next(late, decided(to(&["1003"], Strategy::Sequential)));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert!(world.phone(2).usages().is_empty(), "the late decision was followed");
    assert_eq!(world.phone(1).usage(0).report.final_status, Some(200));
    let counted = [Counter::AsksTimedOut, Counter::RouteFallbacks, Counter::AsksLate]
        .map(|counter| world.counter(counter));
    assert_eq!(counted, [1, 1, 1]);
    world.finish().map(drop)
}

#[test]
fn without_fallback_an_undecided_call_is_503() -> Result<(), Failure> {
    for never in [true, false] {
        let mut world = world(false)?;
        if never {
            world.program_mut().ignore_next_route();
        } else {
            world.program_mut().route_next(SOON, RouteDecision::Unavailable);
        }
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.run_for(Duration::from_secs(10))?;
        assert_eq!(world.phone(0).usage(0).report.final_status, Some(503));
        let record = world.noted().record();
        assert_eq!(record.hangup_reason, HangupReason::ServerUnavailable);
        assert_eq!(world.counter(Counter::RouteUndecided), 1);
        assert!(world.phone(1).usages().is_empty());
        world.finish()?;
    }
    Ok(())
}

/// RFC 3261 9.2: the INVITE waits for the router when its CANCEL comes.
#[test]
fn a_caller_that_gives_up_while_the_router_thinks_hears_487() -> Result<(), Failure> {
    let mut world = world(true)?;
    let slow = Duration::from_millis(1_500);
    world.program_mut().route_next(slow, decided(to(&["1003"], Strategy::Sequential)));
    let cancel_after = Some(Duration::from_millis(500));
    world.call(0, CallerPlan { cancel_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(10))?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::Cancelled));
    assert!(world.phone(2).usages().is_empty());
    let record = world.noted().record();
    assert_eq!((record.status_code, record.hangup_reason), (487, HangupReason::Canceled));
    assert_eq!(world.counter(Counter::AsksLate), 1, "the decision found nobody");
    world.finish().map(drop)
}

/// Every datagram comes twice: the INVITE, its repeats and its ACK; the router is asked once.
#[test]
fn a_repeated_invite_is_asked_about_once() -> Result<(), Failure> {
    let router = Some(HttpRouterRules { budget: BUDGET, fallback_to_static: true });
    let mut settings = WorldSettings { http_router: router, ..WorldSettings::calm(71) };
    settings.weather.duplication = 100;
    let mut world = World::started(settings, &[PhoneSpec::user("1001"), PhoneSpec::user("1002")])?;
    world.program_mut().route_next(Duration::from_millis(1_800), RouteDecision::NotHandled);
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!((world.noted().asked.len(), world.noted().record().status_code), (1, 200));
    world.finish().map(drop)
}

/// A call that waits holds up nothing: another one is set up and ended meanwhile.
#[test]
fn a_waiting_call_delays_no_other() -> Result<(), Failure> {
    let mut world = world(true)?;
    world.program_mut().ignore_next_route();
    world.program_mut().route_next(Duration::ZERO, RouteDecision::NotHandled);
    world.phone_mut(1).expect_call(CalleePlan::refuse(486));
    world.call(0, CallerPlan::to("sip:1003@ringgate.test"));
    world.run_for(Duration::from_millis(100))?;
    world.call(2, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_millis(1_500))?;
    assert_eq!(world.phone(2).usage(0).report.final_status, Some(486));
    assert_eq!(world.phone(0).usage(0).report.final_status, None, "still waiting");
    world.run_for(Duration::from_secs(30))?;
    world.finish().map(drop)
}

#[test]
fn the_longest_duration_ends_the_call() -> Result<(), Failure> {
    let mut world = world(true)?;
    let orders = Orders {
        max_duration: Some(Duration::from_secs(5)),
        extensions: vec![("tenant".to_owned(), "acme".to_owned())],
        ..Orders::default()
    };
    let sequential = to(&["1002"], Strategy::Sequential);
    world.program_mut().route_next(SOON, decided(Forward { orders, ..sequential }));
    let plan = CallerPlan { hang_up_after: None, ..CallerPlan::to("sip:1002@ringgate.test") };
    world.call(0, plan);
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.hangup_reason, record.duration_ms), (HangupReason::Autohangup, 5_000));
    assert_eq!(record.metadata.get("tenant").map(String::as_str), Some("acme"));
    world.finish().map(drop)
}

/// A trunk that the router names is dialled even for what came from a trunk.
#[test]
fn the_router_may_send_a_trunk_call_back_out() -> Result<(), Failure> {
    let router = Some(HttpRouterRules { budget: BUDGET, fallback_to_static: true });
    let settings = WorldSettings { http_router: router, ..WorldSettings::calm(72) };
    let callee = Callee::Always(CalleePlan::answer());
    let trunk = PhoneSpec { callee, ..PhoneSpec::trunk() };
    let mut world = World::started(settings, &[PhoneSpec::user("1001"), trunk])?;
    let out = forward(&["sip:+4930@carrier.test".to_owned()], Strategy::Sequential);
    world.program_mut().route_next(SOON, decided(out));
    world.call(1, CallerPlan::to("sip:1001@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.direction), (200, Direction::Inbound));
    let trunks = (record.sip_trunk.as_deref(), record.outbound_trunk.as_deref());
    assert_eq!(trunks, (Some("carrier"), Some("carrier")));
    world.finish().map(drop)
}
