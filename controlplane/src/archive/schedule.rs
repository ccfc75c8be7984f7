//! When a failed upload is tried again.
//! Owns:  the waits.
//! Gives: a pure function of the number of failures.
//! Never: gives up: what is not uploaded stays on the disk and is tried until it is.
//! Holds: waits rise to ten minutes, so that a bucket that comes back is found within them.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(5);
/// No wait is longer.
pub(super) const LAST: Duration = Duration::from_mins(10);

/// `failures`: how often it has failed, this time included.
pub fn wait_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    LAST.min(FIRST * 2_u32.pow(doublings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes() {
        let waits: Vec<u64> = (0..10).map(|failures| wait_after(failures).as_secs()).collect();
        assert_eq!(waits, [5, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(wait_after(u32::MAX), LAST);
    }
}
