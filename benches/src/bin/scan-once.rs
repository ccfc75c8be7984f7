//! `scan-once`: ten thousand scans and nothing else, for instruction counts.
//! Owns:  nothing.
//! Gives: under `valgrind --tool=callgrind` (see `instructions.sh`) a count that no load disturbs.
//! Never: a clock.
//! Holds: the first argument is the number of scans, so that two runs give the difference.

use std::hint::black_box;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(10_000u32);
    for _ in 0..rounds {
        black_box(sip::wire::scan(black_box(benches::INVITE_900.as_bytes())).is_ok());
    }
}
