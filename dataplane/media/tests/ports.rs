//! Ports: never twice while in use or resting, even, not guessable, nothing lost.
//! Owns:  the tests of `Ports`, one of them against a plain model.
//! Gives: virtual time.
//! Never: binds a port.
//! Holds: free, in use and resting always add up to the slice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use media::ports::Ports;
use proptest::prelude::*;
use shared::limits;
use shared::settings::PortSlice;
use shared::time::Instant;

const REST: Duration = Duration::from_millis(limits::PORT_REST_MS);

fn drain(ports: &mut Ports, now: Instant) -> Vec<u16> {
    std::iter::from_fn(|| ports.take(now)).collect()
}

#[test]
fn every_pair_of_the_slice_is_given_once_and_then_none() {
    for (first, last, expected) in [
        (12_000, 12_009, 5),
        (12_001, 12_009, 4), // 12_001 has no even partner below it in the slice.
        (12_000, 12_008, 4), // 12_008 has no odd partner in the slice.
        (65_534, 65_535, 1),
        (65_535, 65_535, 0),
        (12_000, 11_999, 0),
        (0, 65_535, 32_768),
    ] {
        let mut ports = Ports::new(PortSlice { first, last }, 1);
        let given = drain(&mut ports, Instant::ZERO);
        let distinct: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!((given.len(), distinct.len()), (expected, expected), "{first}..={last}");
        assert!(given.iter().all(|&p| p % 2 == 0 && p >= first && p < last), "{first}..={last}");
        assert_eq!(ports.in_use(), expected);
    }
}

#[test]
fn the_order_differs_with_the_secret_and_does_not_count_up() {
    let slice = PortSlice { first: 12_000, last: 41_999 };
    let orders: Vec<Vec<u16>> = (0..8)
        .map(|secret| {
            let mut ports = Ports::new(slice, secret);
            (0..100).filter_map(|_| ports.take(Instant::ZERO)).collect()
        })
        .collect();
    let starts: BTreeSet<u16> = orders.iter().map(|order| order[0]).collect();
    assert!(starts.len() >= 7, "{starts:?}");
    for order in &orders {
        let steps = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 2).count();
        assert!(steps <= 2, "neighbours follow each other {steps} times");
        let spread = order.iter().max().unwrap() - order.iter().min().unwrap();
        assert!(spread > 25_000, "{spread}");
    }
}

#[test]
fn a_returned_port_rests_before_it_serves_again() {
    let mut ports = Ports::new(PortSlice { first: 12_000, last: 12_001 }, 1);
    let start = Instant::from_millis(7);
    assert_eq!(ports.take(start), Some(12_000));
    assert_eq!((ports.in_use(), ports.resting(start)), (1, 0));
    ports.give_back(start, 12_000);
    assert_eq!((ports.in_use(), ports.resting(start)), (0, 1));
    let nearly = start + (REST - Duration::from_nanos(1));
    assert_eq!((ports.take(nearly), ports.resting(nearly)), (None, 1));
    let rested = start + REST;
    assert_eq!(ports.resting(rested), 0);
    assert_eq!(ports.take(rested), Some(12_000));
}

#[test]
fn what_is_not_in_use_cannot_be_given_back() {
    let mut ports = Ports::new(PortSlice { first: 12_000, last: 12_003 }, 1);
    let port = ports.take(Instant::ZERO).expect("one is free");
    for wrong in [11_998, 12_001, port + 1, port ^ 2, 12_004, 0, 65_535] {
        ports.give_back(Instant::ZERO, wrong);
        assert_eq!((ports.in_use(), ports.resting(Instant::ZERO)), (1, 0), "{wrong}");
    }
    ports.give_back(Instant::ZERO, port);
    ports.give_back(Instant::ZERO, port);
    assert_eq!((ports.in_use(), ports.resting(Instant::ZERO)), (0, 1));
    assert_eq!(drain(&mut ports, Instant::ZERO + REST).len(), 2);
}

/// A burst of calls that end together does not make one `take` slow or fail.
#[test]
fn all_ports_come_back_after_a_burst() {
    let mut ports = Ports::new(PortSlice { first: 10_000, last: 29_999 }, 9);
    let all = drain(&mut ports, Instant::ZERO);
    assert_eq!(all.len(), 10_000);
    for &port in &all {
        ports.give_back(Instant::ZERO, port);
    }
    assert_eq!(ports.take(Instant::ZERO), None);
    assert_eq!(drain(&mut ports, Instant::ZERO + REST).len(), 10_000);
}

#[derive(Clone, Debug)]
enum Step {
    GiveBack(prop::sample::Index),
    Take,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Take),
        4 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        3 => (0..20_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn a_port_is_never_given_while_in_use_or_resting(
        first in 1_000..1_004_u16,
        length in 0..24_u16,
        secret in any::<u64>(),
        steps in prop::collection::vec(any_step(), 1..400),
    ) {
        let slice = PortSlice { first, last: first + length };
        let pairs = usize::from((slice.last + 1 - first.next_multiple_of(2)) / 2);
        let (mut ports, mut now) = (Ports::new(slice, secret), Instant::ZERO);
        let (mut in_use, mut resting) = (Vec::new(), BTreeMap::<u16, Instant>::new());
        for step in steps {
            match step {
                Step::GiveBack(index) if !in_use.is_empty() => {
                    let port = in_use.swap_remove(index.index(in_use.len()));
                    ports.give_back(now, port);
                    resting.insert(port, now);
                }
                Step::GiveBack(_) => {}
                Step::Take => match ports.take(now) {
                    Some(port) => {
                        prop_assert!(port % 2 == 0 && port >= first && port < slice.last);
                        prop_assert!(!in_use.contains(&port));
                        if let Some(since) = resting.remove(&port) {
                            prop_assert!(now - since >= REST);
                        }
                        in_use.push(port);
                    }
                    None => {
                        let tired = resting.values().filter(|&&since| now - since < REST).count();
                        prop_assert_eq!(in_use.len() + tired, pairs, "none, though one was free");
                    }
                },
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
            }
            let tired = resting.values().filter(|&&since| now - since < REST).count();
            prop_assert_eq!((ports.in_use(), ports.resting(now)), (in_use.len(), tired));
        }
    }
}
