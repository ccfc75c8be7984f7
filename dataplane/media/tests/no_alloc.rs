//! The hot path allocates nothing: shown by an allocator that counts.
//! Owns:  the counting allocator of this test program.
//! Gives: the number of allocations of one thread.
//! Never: runs beside other tests: this program has one.
//! Holds: `handle_packet` allocates nothing for any kind of packet, latching included.

mod packets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use media::edit::Mute;
use media::relay::{Component, Relays, Verdict};
use packets::{CALLEE, CALLER, KEY, address, remote, rtcp, rtp, settings};
use shared::ids::Side;
use shared::metrics::Counters;
use shared::settings::MediaLock;
use shared::time::Instant;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only a
// thread-local without a destructor. Only a global allocator sees every allocation, so safe code
// would not do.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same here.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`, which is the same here.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn handling_a_packet_allocates_nothing() {
    let control = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1_u8; 10]));
    assert!(ALLOCATIONS.with(Cell::get) > control, "the allocator counts");

    let mut counters = Counters::default();
    let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    let datagrams: Vec<Vec<u8>> =
        (0..200).map(|n| rtp(7, n)).chain([rtcp(), stun.to_vec(), vec![0x80; 3_000]]).collect();
    for lock in [MediaLock::Strict, MediaLock::Relearn, MediaLock::Off] {
        let mut relays = Relays::new(settings(lock));
        relays.open(Instant::ZERO, KEY);
        relays.set_remote(Instant::ZERO, KEY, Side::Caller, remote(CALLER));
        relays.set_remote(Instant::ZERO, KEY, Side::Callee, remote(CALLEE));
        let sources = [address(CALLER), address("192.0.2.66:5000"), address(CALLEE)];
        let before = ALLOCATIONS.with(Cell::get);
        let mut forwarded = 0;
        for (n, datagram) in datagrams.iter().enumerate() {
            let mute = if n % 3 == 0 { Mute::Silence } else { Mute::Off };
            relays.set_mute(KEY, Side::Caller, mute);
            for source in sources {
                for side in Side::BOTH {
                    for component in [Component::Rtp, Component::Rtcp] {
                        let now = Instant::from_millis(20 * n as u64);
                        let verdict = relays.handle_packet(
                            now,
                            KEY,
                            side,
                            component,
                            source,
                            datagram,
                            &mut counters,
                        );
                        forwarded += u32::from(matches!(verdict, Verdict::Forward { .. }));
                    }
                }
            }
        }
        relays.sweep(Instant::from_millis(500_000), |_| ());
        assert_eq!(ALLOCATIONS.with(Cell::get), before, "{lock:?}");
        assert!(forwarded >= 400, "{lock:?}: {forwarded}");
    }
}
