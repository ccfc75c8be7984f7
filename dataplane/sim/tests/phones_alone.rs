//! Two phones of the test world back to back, without a gateway, over a lossy line.
//! Owns:  a mouse-sized network.
//! Gives: trust in the phones: what they find later lies with the gateway.
//! Never: the core.
//! Holds: every call ends on both sides and neither phone finds fault with the other.

use std::time::Duration;

use shared::ids::Side;
use shared::net::Transport;
use shared::time::Instant;
use sim::agenda::Agenda;
use sim::phone::plan::{AckPlan, Callee, CalleePlan, CallerPlan, Outcome, PhoneSettings, Step};
use sim::phone::reliable::Reliability;
use sim::phone::{Ending, Output, Phase, Phone};
use sim::random::Random;
use sim::speech::Dialect;
use sim::speech::digest::Hash;

fn phone(number: u8, peer: u8, seed: u64) -> Phone {
    let at = |number| format!("10.0.0.{number}:5060").parse().expect("an address");
    let settings = PhoneSettings {
        carrier: None,
        user: format!("100{number}"),
        password: String::new(),
        domain: format!("10.0.0.{peer}:5060"),
        home: at(number),
        gateway: at(peer),
        transport: Transport::Udp,
        dialect: Dialect::Long,
        hashes: vec![Hash::Md5],
        registers: None,
        voice_every: Duration::from_millis(500),
        timer: None,
        reliability: if seed.is_multiple_of(2) { Reliability::Supported } else { Reliability::Off },
        callee: Callee::Random,
    };
    Phone::new(settings, Random::new(seed + u64::from(number)))
}

/// Runs two phones for `seconds`; `loss` in per cent.
fn run(phones: &mut [Phone; 2], seed: u64, loss: u32, seconds: u64) {
    let mut random = Random::new(seed);
    let mut line: Agenda<(usize, Output)> = Agenda::default();
    let mut now = Instant::ZERO;
    let end = Instant::from_millis(seconds * 1_000);
    loop {
        for (number, phone) in phones.iter_mut().enumerate() {
            while let Some(output) = phone.poll_output() {
                for _ in 0..=usize::from(random.percent(5)) {
                    if !random.percent(loss) {
                        line.push(now + random.millis(1, 200), (1 - number, output.clone()));
                    }
                }
            }
            // A forked 2xx, or media from a port that a re-INVITE is about to name, is a fault of a
            // B2BUA and none of a plain phone.
            let mut breaches = phone.take_breaches();
            breaches.retain(|what| !what.contains("another To tag") && !what.contains("no SDP"));
            assert_eq!(breaches, Vec::<String>::new(), "seed {seed}");
        }
        let next = phones.iter().filter_map(Phone::deadline).chain(line.next_at()).min();
        match next.filter(|next| *next <= end) {
            Some(next) => now = now.max(next),
            None => return,
        }
        while let Some((to, output)) = line.pop_due(now) {
            let from = phones[1 - to].settings().home;
            match output {
                Output::Sip { bytes, .. } => phones[to].handle_sip(now, from, &bytes),
                Output::Rtp { from, to: there, bytes } => {
                    phones[to].handle_rtp(there.port(), from, &bytes);
                }
            }
        }
        for phone in phones.iter_mut() {
            phone.handle_timeout(now);
        }
    }
}

fn pair(seed: u64) -> [Phone; 2] {
    [phone(1, 2, seed), phone(2, 1, seed)]
}

#[test]
fn an_ordinary_call_is_answered_talked_and_hung_up() {
    let mut phones = pair(1);
    phones[1].expect_call(CalleePlan::answer());
    phones[0].call(Instant::ZERO, CallerPlan::to("sip:1002@10.0.0.2:5060"));
    run(&mut phones, 1, 0, 60);
    let [caller, callee] = phones.each_ref().map(|phone| phone.usage(0));
    assert_eq!(caller.report.ending, Some(Ending::LocalBye));
    assert_eq!(callee.report.ending, Some(Ending::RemoteBye));
    assert_eq!((caller.report.role, callee.report.role), (Side::Caller, Side::Callee));
    assert!(caller.report.packets_heard > 10 && callee.report.packets_heard > 10);
    assert!(caller.talking().heard_from.contains(&callee.report.mark));
}

#[test]
fn a_caller_that_never_acknowledges_is_hung_up_on_after_64_t1() {
    let mut phones = pair(2);
    phones[1].expect_call(CalleePlan::answer());
    let plan = CallerPlan { ack: AckPlan::Never, ..CallerPlan::to("sip:1002@10.0.0.2:5060") };
    phones[0].call(Instant::ZERO, plan);
    run(&mut phones, 2, 0, 120);
    assert_eq!(phones[0].usage(0).report.ending, Some(Ending::RemoteBye));
    let ended = phones[1].usage(0).report.ended_at.expect("it ended");
    let answered = phones[1].usage(0).report.answered_at.expect("it was answered");
    assert_eq!(ended - answered, Duration::from_secs(32));
}

/// One hold each, three seconds into the call: over ten lines of other delays some of them cross.
#[test]
fn crossing_holds_meet_491_and_both_come_through() {
    let mut glares = 0;
    for seed in 0..10 {
        let mut phones = pair(seed);
        let hold = vec![(Duration::from_secs(3), Step::Hold { old: false })];
        phones[1].expect_call(CalleePlan {
            steps: hold.clone(),
            outcome: Outcome::Answer(Duration::from_millis(1)),
            ..CalleePlan::answer()
        });
        let hang_up_after = Some(Duration::from_secs(30));
        let plan =
            CallerPlan { steps: hold, hang_up_after, ..CallerPlan::to("sip:1@10.0.0.2:5060") };
        phones[0].call(Instant::ZERO, plan);
        run(&mut phones, seed, 0, 90);
        glares += phones.iter().map(|phone| phone.usage(0).report.glares).sum::<u32>();
        assert_eq!(phones[0].usage(0).report.ending, Some(Ending::LocalBye), "seed {seed}");
        // Both wanted to hold, so in the end nothing flows.
        let held = |phone: &Phone| !phone.usage(0).talking().receives;
        assert!(phones.iter().all(held), "seed {seed}");
    }
    assert!(glares > 0);
}

#[test]
fn random_calls_end_on_both_sides_under_loss() {
    let (mut answered, mut talked) = (0, 0);
    for seed in 0..300 {
        let mut phones = pair(seed);
        let mut random = Random::new(seed ^ 0x5eed);
        for _ in 0..2 {
            for (number, phone) in phones.iter_mut().enumerate() {
                let other = 2 - number;
                let target = format!("sip:100{other}@10.0.0.{other}:5060");
                phone.call(Instant::ZERO, CallerPlan::draw(&mut random, target));
            }
        }
        run(&mut phones, seed, 10, 400);
        for phone in &phones {
            for usage in phone.usages() {
                // A ringing phone whose caller gave up in silence rings on; so does its plan.
                let rings = usage.phase() == Phase::Inviting;
                let fork = usage.report.role == Side::Callee && usage.report.ending.is_none();
                assert!(usage.phase() == Phase::Over || rings || fork, "seed {seed}: {usage:#?}");
                answered += usize::from(usage.report.answered_at.is_some());
                talked += usize::from(usage.report.packets_heard > 0);
            }
        }
    }
    assert!(answered > 500 && talked > 300, "{answered} answered, {talked} talked");
}
