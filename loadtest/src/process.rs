//! Child processes and what the kernel tells about a process.
//! Owns:  `Running`, a child that is ended by its id; `Usage`, read from /proc.
//! Gives: exit codes with a deadline, CPU time in nanoseconds, resident memory.
//! Never: ends a process by name, or one that this program did not start.
//! Holds: a dropped `Running` leaves no child behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// How long a child may take to leave after SIGTERM before it gets SIGKILL.
const LEAVE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Running {
    child: Child,
    pub name: String,
    pub log: PathBuf,
}

impl Running {
    /// Starts `command` with stdout and stderr in `log` and nothing on stdin.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, String> {
        let out = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let err = out.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        match command.spawn() {
            Ok(child) => Ok(Self { child, name: name.to_owned(), log: log.to_owned() }),
            Err(error) => Err(format!("{name}: cannot start {command:?}: {error}")),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit status, or an error with the end of the log when it does not leave in time.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let name = format!("end of {}", self.name);
        wait::until(&name, limit, || self.child.try_wait().ok().flatten())
            .map_err(|error| format!("{error}\n{}", self.tail()))
    }

    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("process ids fit pid_t");
        // SAFETY: a plain system call; the child was not reaped, so the id is still its own. std
        // has no call for signals other than SIGKILL.
        unsafe { libc::kill(pid, signal) };
    }

    /// SIGTERM, then SIGKILL when that is not enough.
    pub fn end(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        self.signal(libc::SIGTERM);
        if let Ok(status) = self.wait(LEAVE) {
            return Some(status);
        }
        self.child.kill().and_then(|()| self.child.wait()).ok()
    }

    /// The last lines of the log, for a failure message.
    pub fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU time of a whole process and of its threads by name, and its memory.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Of all threads, ended ones included, in clock ticks of /proc/PID/stat turned into ns.
    pub process_ns: u64,
    /// Time on a CPU per thread: name, nanoseconds (/proc/PID/task/TID/schedstat).
    pub threads: Vec<(u32, String, u64)>,
    /// Resident set in bytes.
    pub rss_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in brackets may hold blanks; fields are counted from behind it.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let field = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok());
        let ticks = field(11).unwrap_or(0) + field(12).unwrap_or(0);
        // SAFETY: plain queries of two constants of the kernel.
        let (hertz, page) =
            unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let tid = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            // A thread may end between the listing and the reading.
            if let (Some(tid), Ok(name), Ok(schedstat)) = (
                tid,
                fs::read_to_string(path.join("comm")),
                fs::read_to_string(path.join("schedstat")),
            ) {
                let ns = schedstat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                threads.push((tid, name.trim().to_owned(), ns));
            }
        }
        Ok(Self {
            process_ns: ticks * 1_000_000_000 / u64::try_from(hertz).unwrap_or(100),
            threads,
            rss_bytes: field(21).unwrap_or(0) * u64::try_from(page).unwrap_or(4_096),
        })
    }

    /// Sum over the threads that live now: finer than the ticks of the process.
    pub fn threads_ns(&self) -> u64 {
        self.threads.iter().map(|(_, _, ns)| ns).sum()
    }

    /// Puts these threads ahead of everybody else's, as far as we may.
    pub fn prefer(&self) {
        for (thread, _, _) in &self.threads {
            // SAFETY: a plain system call about a thread. One that has ended, and a right that we lack,
            // are errors that change nothing. std has no call for it.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, *thread, -10) };
        }
    }

    /// Of the threads whose name starts with `prefix`.
    pub fn named_ns(&self, prefix: &str) -> u64 {
        self.threads.iter().filter(|(_, name, _)| name.starts_with(prefix)).map(|t| t.2).sum()
    }
}
