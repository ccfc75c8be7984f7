//! A gateway that nobody uses: when it has come to rest, and what it costs then.
//! Owns:  how long that is waited for.
//! Gives: `Gateway::await_quiet` and `idle_share`.
//! Never: looks more often than twice a second, since each look costs the gateway some.
//! Holds: transactions are over 32 s after their answers (RFC 3261 Timers F, H and J).

use std::time::{Duration, Instant};

use crate::gateway::Gateway;
use crate::wait;

/// 32 s and slack.
pub const DRAIN: Duration = Duration::from_secs(60);
/// Between two looks at /metrics.
pub const LOOK: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(3);

impl Gateway {
    /// Until the last transaction is over.
    pub fn await_quiet(&self) -> Result<(), String> {
        let mut left = 0.0;
        wait::until_every("transactions gone", DRAIN, LOOK, || {
            left = self.metric("transactions").ok()?;
            (left == 0.0).then_some(())
        })
        .map_err(|error| format!("{error}, {left} left"))
    }

    /// The share of a CPU that the gateway uses when nobody calls.
    pub fn idle_share(&self) -> Result<f64, String> {
        let (before, started) = (self.usage()?, Instant::now());
        wait::until_every("idle seconds", 4 * IDLE, LOOK, || {
            (started.elapsed() >= IDLE).then_some(())
        })?;
        let used = self.usage()?.process_ns - before.process_ns;
        Ok(used as f64 / started.elapsed().as_nanos() as f64)
    }
}
