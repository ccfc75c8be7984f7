//! Session timers between phones that keep time themselves (RFC 4028).
//! Owns:  both choices of who refreshes, with and without UPDATE, on either leg.
//! Gives: calls that outlive many intervals, and calls whose dead end is noticed.
//! Never: a refresh that reaches the other phone.
//! Holds: no timer, transaction or leg is left when the call is over, whatever the network does.

use std::time::Duration;

use shared::cdr::HangupReason;
use shared::metrics::Counter;
use shared::settings::{SessionTimerMode, SessionTimers};
use sim::network::Weather;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Step};
use sim::phone::timers::TimerPlan;
use sim::scenario::{self, Options};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn settings(seed: u64, mode: SessionTimerMode) -> WorldSettings {
    let mut settings = WorldSettings::calm(seed);
    settings.timers.session = SessionTimers { mode, expires_s: 90 };
    settings
}

fn started(settings: WorldSettings, timers: [Option<TimerPlan>; 2]) -> Result<World, Failure> {
    let phone = |user, timer| PhoneSpec { timer, ..PhoneSpec::user(user) };
    let [caller, callee] = timers;
    World::started(settings, &[phone("1001", caller), phone("1002", callee)])
}

fn lasting(seconds: u32) -> CallerPlan {
    let hang_up_after = Some(seconds * SECOND);
    CallerPlan { hang_up_after, ..CallerPlan::to("sip:1002@ringgate.test") }
}

fn counts(world: &World, phone: usize) -> (u32, u32) {
    let report = &world.phone(phone).usage(0).report;
    assert!(!report.expired, "phone {phone} missed a refresh");
    (report.refreshes_made, report.refreshes_heard)
}

/// Whoever refreshes, by whatever method, on both legs: a refresh every 45 s, none of them relayed.
#[test]
fn a_long_call_is_refreshed_on_both_legs_by_whoever_was_chosen() -> Result<(), Failure> {
    for (refreshes, updates) in [(true, true), (true, false), (false, true), (false, false)] {
        let plan = TimerPlan { refreshes, updates, ..TimerPlan::default() };
        let mut world = started(settings(1, SessionTimerMode::Supported), [Some(plan); 2])?;
        world.call(0, lasting(400));
        world.run_for(450 * SECOND)?;
        // 400 s hold eight refreshes of 45 s; one more stands for the INVITE itself.
        let expected = if refreshes { [(9, 0), (8, 1)] } else { [(1, 8), (0, 9)] };
        let found = [counts(&world, 0), counts(&world, 1)];
        assert_eq!(found, expected, "refreshes {refreshes}, updates {updates}");
        let ours = if refreshes { 0 } else { 16 };
        assert_eq!(world.counter(Counter::SessionRefreshes), ours);
        let (method, first) = if updates { ("UPDATE", 0) } else { ("INVITE", 1) };
        let sent = world.noted().requests(method).count();
        assert_eq!(sent as u64, ours + first, "nothing is relayed");
        assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCaller);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn each_leg_has_its_own_timer_and_a_phone_without_one_is_left_alone() -> Result<(), Failure> {
    let plan = TimerPlan { refreshes: false, ..TimerPlan::default() };
    for timers in [[Some(plan), None], [None, Some(plan)], [None, None]] {
        for (mode, per_phone) in [(SessionTimerMode::Supported, 0), (SessionTimerMode::Always, 4)] {
            let mut world = started(settings(2, mode), timers)?;
            world.call(0, lasting(200));
            world.run_for(250 * SECOND)?;
            let with = timers.iter().flatten().count() as u64;
            let refreshes = 4 * with + per_phone * (2 - with);
            assert_eq!(world.counter(Counter::SessionRefreshes), refreshes, "{mode:?} {timers:?}");
            assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCaller);
            world.finish()?;
        }
    }
    Ok(())
}

#[test]
fn intervals_that_are_too_short_are_made_longer_both_ways() -> Result<(), Failure> {
    let caller = TimerPlan { asks_s: 60, ..TimerPlan::default() };
    let callee = TimerPlan { min_s: 200, ..TimerPlan::default() };
    let mut world =
        started(settings(3, SessionTimerMode::Supported), [Some(caller), Some(callee)])?;
    world.call(0, lasting(320));
    world.run_for(400 * SECOND)?;
    assert_eq!(world.noted().answers("INVITE", 422).count(), 1);
    // Ann every 45 s; Ben every 100 s.
    assert_eq!([counts(&world, 0), counts(&world, 1)], [(8, 0), (3, 1)]);
    assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCaller);
    world.finish().map(drop)
}

/// A power cut at either end, whoever was to refresh that leg: the other phone is let go.
#[test]
fn a_dead_peer_on_either_side_ends_the_call() -> Result<(), Failure> {
    for (dead, refreshes) in [(0, true), (0, false), (1, true), (1, false)] {
        let plan = TimerPlan { refreshes, ..TimerPlan::default() };
        let mut settings = settings(4, SessionTimerMode::Supported);
        settings.rtp_timeout = 3_600 * SECOND;
        let mut world = started(settings, [Some(plan); 2])?;
        world.call(0, lasting(3_000));
        world.after(62 * SECOND, Act::Vanish(dead));
        world.run_for(200 * SECOND)?;
        let record = world.noted().record();
        assert_eq!(record.hangup_reason, HangupReason::BySystem);
        // Answered after 2 s and refreshed after 45 s: 60 s from then, or our refresh at 90 s and its
        // 32 s of silence.
        let lasted = Duration::from_millis(record.duration_ms).as_secs();
        let expected = if refreshes { 104..=106 } else { 121..=123 };
        assert!(expected.contains(&lasted), "{lasted} s, dead {dead}, refreshes {refreshes}");
        let other = &world.phone(1 - dead).usage(0).report;
        assert_eq!(other.ending, Some(Ending::RemoteBye));
        assert_eq!(world.counter(Counter::SessionsExpired), 1);
        world.finish()?;
    }
    Ok(())
}

/// Our re-INVITE of 45 s and the phone's own, which is on its way at that moment.
#[test]
fn a_refresh_that_crosses_a_re_invite_meets_491_and_both_come_through() -> Result<(), Failure> {
    let plan = TimerPlan { refreshes: false, updates: false, ..TimerPlan::default() };
    let mut met = 0;
    for early_ms in [0, 4, 8, 12, 16, 20, 24, 28] {
        let settings = settings(5, SessionTimerMode::Supported);
        let mut world = started(settings, [None, Some(plan)])?;
        let at = Duration::from_millis(45_030 - early_ms);
        world.phone_mut(1).expect_call(CalleePlan {
            outcome: Outcome::Answer(Duration::from_millis(1)),
            rings: Vec::new(),
            steps: vec![(at, Step::MoveMedia)],
            ..CalleePlan::answer()
        });
        world.call(0, lasting(200));
        world.run_for(250 * SECOND)?;
        met += world.phone(1).usage(0).report.glares;
        counts(&world, 1);
        let talking = world.phone(1).usage(0).talking();
        assert_eq!(talking.audio().port() % 40, 4, "it moved in the end");
        assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCaller);
        world.finish()?;
    }
    assert!(met >= 1, "nobody heard 491");
    Ok(())
}

/// Loss, repeats and other orders: every refresh comes through in time, and nothing is left behind.
#[test]
fn refreshes_survive_a_rough_network() -> Result<(), Failure> {
    for seed in 0..40 {
        let (refreshes, updates) = (seed % 2 == 0, seed % 4 < 2);
        let plan = TimerPlan { refreshes, updates, ..TimerPlan::default() };
        let mut settings = settings(seed, SessionTimerMode::Supported);
        settings.weather = Weather::ROUGH;
        let mut world = started(settings, [Some(plan); 2])?;
        world.run_for(30 * SECOND)?;
        world.call(0, lasting(240));
        world.run_for(400 * SECOND)?;
        for phone in 0..2 {
            let expired = world.phone(phone).usages().iter().any(|usage| usage.report.expired);
            assert!(!expired, "seed {seed}: phone {phone} missed a refresh");
        }
        world.finish()?;
    }
    Ok(())
}

/// Whole evenings, half of which have timers.
#[test]
fn evenings_with_timers_keep_every_rule() -> Result<(), Failure> {
    for seed in 4_000..4_040 {
        scenario::run(seed, Options::default())?;
    }
    Ok(())
}
