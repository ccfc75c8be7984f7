//! Reading a message costs no memory.
//! Owns:  an allocator that counts what this thread asks for.
//! Gives: proof that scan and the readers of routing do not allocate.
//! Never: counts other threads: the test harness has its own needs.
//! Holds: the counter works, which the second test shows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

mod samples;

use samples::INVITE;
use sip::wire::{Method, scan};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Counting;

// SAFETY: every call goes to `System` unchanged; the counter is a plain thread-local cell without a
// destructor, so touching it never allocates. A safe way to watch an allocator does not exist.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the contract of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn scanning_and_reading_an_invite_allocates_nothing() {
    assert!((850..=950).contains(&INVITE.len()), "{} bytes", INVITE.len());
    let count = allocations(|| {
        for _ in 0..100 {
            let message = scan(black_box(INVITE)).expect("it scans");
            let via = message.via().expect("Via");
            let (from, to) = (message.from().expect("From"), message.to().expect("To"));
            let call_id = message.call_id().expect("Call-ID");
            assert_eq!(message.cseq().expect("CSeq").method, Method::Invite);
            let _ = black_box((via, from, to, call_id, from.tag(), from.parsed_uri()));
            message.check_request().expect("well-formed");
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 64]))), 1);
}
