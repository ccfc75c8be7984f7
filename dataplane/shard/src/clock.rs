//! The data plane's only clock: read once per turn, handed to everything else as `Now`.
//! Owns:  the origin of the process's monotonic time.
//! Gives: `Now`: monotonic nanoseconds since the origin, wall time in milliseconds.
//! Never: sleeps; decides anything by wall time.
//! Holds: clocks copied from one origin agree on every shard.

use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::{Instant, Now, WallMs};

/// So that "a moment ago" is still after `Instant::ZERO` right after the start.
const ORIGIN: Instant = Instant::from_millis(60_000);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        // A wall clock before 1970 is nobody's; zero is as good as any answer.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Now { mono: ORIGIN + self.origin.elapsed(), wall: WallMs(wall_ms) }
    }
}
