//! Limits of the process (`getrlimit(2)`): locked memory and open files.
//! Owns:  the two system calls.
//! Gives: the limit in force, after asking for as much as is allowed.
//! Never: a limit beyond the hard one.
//! Holds: raising a limit that cannot be raised leaves it as it was.

/// The limits that a shard depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    LockedMemory,
    OpenFiles,
}

/// Raises the soft limit to the hard one and returns what is in force now; `u64::MAX` is no limit.
pub(crate) fn raise(limit: Limit) -> u64 {
    let Some(mut now) = read(limit) else { return u64::MAX };
    if now.rlim_cur < now.rlim_max {
        let before = now.rlim_cur;
        now.rlim_cur = now.rlim_max;
        if !write(limit, &now) {
            return before;
        }
    }
    now.rlim_cur
}

#[allow(unsafe_code)]
fn read(limit: Limit) -> Option<libc::rlimit> {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one `rlimit`, which is ours. The standard library does not offer it.
    let outcome = unsafe { libc::getrlimit(resource(limit), &raw mut value) };
    (outcome == 0).then_some(value)
}

#[allow(unsafe_code)]
fn write(limit: Limit, value: &libc::rlimit) -> bool {
    // SAFETY: the call reads one `rlimit`. The standard library does not offer it.
    unsafe { libc::setrlimit(resource(limit), value) == 0 }
}

const fn resource(limit: Limit) -> libc::__rlimit_resource_t {
    match limit {
        Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
        Limit::OpenFiles => libc::RLIMIT_NOFILE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_limit_stays_raised() {
        let files = raise(Limit::OpenFiles);
        assert!(files > 0);
        assert_eq!(raise(Limit::OpenFiles), files);
    }
}
