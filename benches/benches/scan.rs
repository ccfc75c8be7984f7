//! Scanning a 900-byte INVITE: time, allocations (issue 2, must show 6: at most 600 ns, none).
//! Owns:  nothing but the measurement.
//! Gives: criterion's figures, and a line with the allocations of a million scans.
//! Never: a scan that the compiler could drop.
//! Holds: the message is checked to be accepted before it is measured.

use std::hint::black_box;

use benches::{Counting, INVITE_900};
use criterion::{Criterion, criterion_group, criterion_main};
use sip::wire::{HeaderName, scan};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the core looks at before it decides anything: Call-ID, top Via, From, To, CSeq.
fn scan_and_steer(bytes: &[u8]) -> usize {
    let message = scan(bytes).expect("the message is well-formed");
    let branch = message.via().ok().and_then(|via| via.branch).map_or(0, <[u8]>::len);
    let from = message.from().ok().and_then(|from| from.tag()).map_or(0, <[u8]>::len);
    let to = message.to().ok().map_or(0, |to| to.uri.len());
    let cseq = message.cseq().map_or(0, |cseq| cseq.number as usize);
    let contact = message.first(HeaderName::Contact).map_or(0, <[u8]>::len);
    branch + from + to + cseq + contact + message.call_id().map_or(0, <[u8]>::len)
}

fn allocations_of(what: &str, rounds: u64, mut work: impl FnMut()) {
    let before = Counting::count();
    for _ in 0..rounds {
        work();
    }
    let made = Counting::count() - before;
    println!("{what}: {made} allocations in {rounds} rounds");
    assert_eq!(made, 0, "{what} must not allocate");
}

fn measure(criterion: &mut Criterion) {
    println!("scan: {} on {}", loadtest::host::command(), loadtest::host::describe());
    let bytes = INVITE_900.as_bytes();
    allocations_of("scan", 1_000_000, || {
        black_box(scan(black_box(bytes)).is_ok());
    });
    allocations_of("scan and steer", 1_000_000, || {
        black_box(scan_and_steer(black_box(bytes)));
    });
    criterion.bench_function("scan a 900-byte INVITE (target 600 ns)", |bencher| {
        bencher.iter(|| black_box(scan(black_box(bytes)).is_ok()));
    });
    criterion.bench_function("scan it and read Via, From, To, CSeq, Call-ID, Contact", |bencher| {
        bencher.iter(|| scan_and_steer(black_box(bytes)));
    });
}

criterion_group!(benches, measure);
criterion_main!(benches);
