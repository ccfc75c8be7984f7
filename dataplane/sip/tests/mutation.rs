//! Broken on purpose: the torture set with bytes changed, through every reader of the wire layer.
//! Owns:  the mutations, drawn from a fixed seed.
//! Gives: proof that no received byte makes the wire layer panic.
//! Never: a mutation that another run could not repeat: number n is always the same bytes.
//! Holds: RINGGATE_MUTATIONS=n runs n of them; without it, 8 000: a debug build takes its time.

mod samples;

use std::panic::{AssertUnwindSafe, catch_unwind};

use samples::{PHONES, Random, read_all, torture};
use sip::wire::frame::{Frame, next_frame};
use sip::wire::{reply, scan};

const MUTATIONS: u64 = 8_000;

fn mutate(random: &mut Random, set: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = set[random.below(set.len())].clone();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            2 => bytes.truncate(at),
            3 => {
                let other = &set[random.below(set.len())];
                let from = random.below(other.len());
                let until = from + random.below(other.len() - from);
                bytes.splice(at..at, other[from..until].iter().copied());
            }
            4 => {
                let until = at + random.below(bytes.len() - at).min(64);
                let piece = bytes[at..until].repeat(1 + random.below(200));
                bytes.splice(at..at, piece);
            }
            5 => {
                let until = at + random.below(bytes.len() - at).min(40);
                bytes.drain(at..until);
            }
            6 => blow_up_digits(random, &mut bytes, at),
            _ => {
                let odd: [&[u8]; 9] =
                    [b"\r\n", b"\n", b"\r", b"\0", b"\"", b"<", b">", b",", b"\r\n "];
                bytes.splice(at..at, odd[random.below(odd.len())].iter().copied());
            }
        }
    }
    bytes
}

/// The next number behind `at` becomes one that no integer of ours holds, or nearly none.
fn blow_up_digits(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    const NUMBERS: [&[u8]; 8] = [
        b"-1",
        b"0",
        b"65536",
        b"2147483648",
        b"4294967296",
        b"18446744073709551616",
        b"00000000000000000000000000000000000007",
        b"99999999999999999999999999999999999999",
    ];
    let Some(first) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + first;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[random.below(NUMBERS.len())];
    bytes.splice(start..start + length, number.iter().copied());
}

fn exercise(bytes: &[u8]) {
    let peer = "[2001:db8::7]:5099".parse().expect("an address");
    if let Ok(message) = scan(bytes) {
        read_all(&message);
        let mut out = Vec::new();
        reply(&mut out, &message, 400, Some(b"t"), peer).end();
        let limits = out.len() <= 60_000 && message.lines().count() <= 120;
        let long = message.lines().any(|(_, _, value)| value.len() > 8_000);
        if limits && !long {
            assert!(scan(&out).is_ok(), "a reply that does not scan");
        }
    }
    let mut rest = bytes;
    while let Frame::Message { length } | Frame::KeepAlive { length, .. } = next_frame(rest) {
        assert!((1..=rest.len()).contains(&length), "a frame of {length} bytes");
        rest = &rest[length..];
    }
}

#[test]
fn no_mutation_of_the_torture_set_panics() {
    let wanted = std::env::var("RINGGATE_MUTATIONS").ok();
    let count =
        wanted.map_or(MUTATIONS, |text| text.parse().expect("RINGGATE_MUTATIONS: a number"));
    let mut set: Vec<_> = torture().into_iter().map(|(_, bytes)| bytes).collect();
    set.extend(PHONES.iter().map(|bytes| bytes.to_vec()));
    let mut scanned = 0_u64;
    for number in 0..count {
        // Each mutation has its own seed, so that one can be looked at alone.
        let seed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes = mutate(&mut Random(seed), &set);
        scanned += u64::from(scan(&bytes).is_ok());
        let outcome = catch_unwind(AssertUnwindSafe(|| exercise(&bytes)));
        assert!(outcome.is_ok(), "mutation {number}: {:?}", bytes.escape_ascii().to_string());
    }
    println!("{count} mutations, {scanned} of them scan");
    assert!(scanned > count / 10, "the mutations are too coarse: {scanned} of {count} scan");
}
