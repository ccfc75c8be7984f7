//! Waiting for something to become true: poll, with a deadline.
//! Owns:  the pause between two looks.
//! Gives: what the condition gave, or a sentence with the name of what did not come.
//! Never: waits longer than it was told to (one look more at most).
//! Holds: the condition is looked at once even when the limit is zero.

use std::time::{Duration, Instant};

/// Between two looks: short against any time that a test compares.
const PAUSE: Duration = Duration::from_millis(10);

pub fn until<T>(what: &str, limit: Duration, poll: impl FnMut() -> Option<T>) -> Result<T, String> {
    until_every(what, limit, PAUSE, poll)
}

/// The same with longer pauses, where looking itself costs what is being measured.
pub fn until_every<T>(
    what: &str,
    limit: Duration,
    pause_between: Duration,
    mut poll: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let give_up_at = Instant::now() + limit;
    loop {
        if let Some(value) = poll() {
            return Ok(value);
        }
        if Instant::now() >= give_up_at {
            return Err(format!("{what}: not within {limit:?}"));
        }
        pause(pause_between);
    }
}

/// Gives the processor away; a spurious early return only means one more look.
pub fn pause(wait: Duration) {
    std::thread::park_timeout(wait);
}

/// Lets time pass, all of it.
pub fn pass(time: Duration) {
    let over_at = Instant::now() + time;
    while let Some(left) =
        over_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        pause(left);
    }
}
