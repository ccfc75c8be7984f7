//! When a delivery that failed is tried again.
//! Owns:  the ten attempts and the gaps between them, 75.6 hours in all.
//! Gives: the gap after an attempt, or that there is no other one.
//! Never: reads a clock or draws a random number; the caller brings both.
//! Holds: gaps grow; jitter changes a gap by at most a fifth.

use std::time::Duration;

/// Seconds before each attempt, counted from the one before it.
const GAPS_S: [u32; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
const JITTER: f64 = 0.2;

/// An event that was never tried by then is dead too: its endpoint was down or disabled all the time.
/// All ten attempts with the longest gaps fit before it.
pub const AGE_MAX: Duration = Duration::from_secs(96 * 3_600);

/// The wait after the `made`-th attempt; `None` after the last one. `jitter` lies in -1..=1.
pub fn gap_after(made: u32, jitter: f64) -> Option<Duration> {
    let gap_s = *GAPS_S.get(usize::try_from(made).ok()?)?;
    let factor = 1.0 + JITTER * jitter.clamp(-1.0, 1.0);
    Some(Duration::from_secs_f64(f64::from(gap_s) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(jitter: f64) -> Duration {
        (0..).map_while(|made| gap_after(made, jitter)).sum()
    }

    #[test]
    fn ten_attempts_over_three_days() {
        assert_eq!((0..).map_while(|made| gap_after(made, 0.0)).count(), 10);
        assert_eq!(gap_after(1, 0.0), Some(Duration::from_secs(5)));
        assert_eq!(gap_after(9, 0.0), Some(Duration::from_secs(86_400)));
        assert_eq!(gap_after(10, 0.0), None);
        assert_eq!(total(0.0), Duration::from_secs(272_105));
        assert!(total(1.0) < AGE_MAX);
    }

    #[test]
    fn jitter_is_a_fifth_at_most() {
        let gap = |jitter| gap_after(2, jitter).expect("there is a third attempt");
        assert_eq!(gap(-1.0), Duration::from_secs(240));
        assert_eq!(gap(1.0), Duration::from_secs(360));
        assert_eq!(gap(7.0), gap(1.0));
    }
}
