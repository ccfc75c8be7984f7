//! What the threads beside the shards have in common: the journal's keeper, the writer of the SIP flow.
//! Owns:  `Outcome` (does something work, when is it tried or told again), `Trouble` for the operator.
//! Gives: troubles to a shard, which tells them; a thread that stays off the shards' CPUs.
//! Never: a lock; a word to the log, which is the control plane's.
//! Holds: a trouble that lasts is told once a minute, and its end once.

use std::io;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use shared::event::{Notice, Severity};
use shared::ids::ShardId;

/// Troubles that wait for the shard's next second; more of one kind say nothing new.
const TROUBLES: usize = 8;
/// A trouble that lasts is told again after this.
const REMIND: Duration = Duration::from_secs(60);
/// A disk without room is asked again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What an operator should hear of such a thread's work.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Or over.
    pub(crate) failed: bool,
    pub(crate) code: &'static str,
    pub(crate) text: String,
}

impl Trouble {
    pub(crate) fn into_notice(self, shard: ShardId) -> Notice {
        let severity = if self.failed { Severity::Error } else { Severity::Info };
        Notice { shard, severity, code: self.code, detail: self.text, suppressed: 0 }
    }
}

pub(crate) type Troubles = ArrayQueue<Trouble>;

pub(crate) fn troubles() -> Troubles {
    ArrayQueue::new(TROUBLES)
}

/// Whether something works, and when it is to be said or tried again.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    failing: bool,
    told_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl Outcome {
    pub(crate) const fn new() -> Self {
        Self { failing: false, told_at: None, tried_at: None }
    }

    pub(crate) fn may_try(&self) -> bool {
        !self.failing || self.tried_at.is_none_or(|at| at.elapsed() >= RETRY)
    }

    /// As if it had not been tried yet.
    #[cfg(test)]
    pub(crate) const fn forget_try(&mut self) {
        self.tried_at = None;
    }

    pub(crate) fn tell(
        &mut self,
        troubles: &Troubles,
        code: &'static str,
        what: &str,
        outcome: io::Result<()>,
    ) {
        let now = Instant::now();
        self.tried_at = Some(now);
        let trouble = match outcome {
            Ok(()) if std::mem::take(&mut self.failing) => {
                Trouble { failed: false, code, text: format!("it is over that {what}") }
            }
            Ok(()) => return,
            Err(error) => {
                let remind = self.told_at.is_none_or(|at| now.duration_since(at) >= REMIND);
                if std::mem::replace(&mut self.failing, true) && !remind {
                    return;
                }
                Trouble { failed: true, code, text: format!("{what}: {error}") }
            }
        };
        self.told_at = Some(now);
        // A full queue holds the same words already.
        drop(troubles.push(trouble));
    }
}

/// Keeps this thread off the shards' CPUs, when it may use others.
#[allow(unsafe_code)]
pub(crate) fn leave_cpus(shards: &[usize]) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the set is plain bits, for which all zeros is a value; both calls get its true size and
    // the thread that makes them; the macros take CPUs below the size of the set, which `spawn`
    // checked. The standard library knows no CPUs.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size, &raw mut set) != 0 {
            return;
        }
        for cpu in shards {
            libc::CPU_CLR(*cpu, &mut set);
        }
        if libc::CPU_COUNT(&set) > 0 {
            // A refusal costs a shard a moment now and then, and nothing else.
            libc::sched_setaffinity(0, size, &raw const set);
        }
    }
}
