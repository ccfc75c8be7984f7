//! The ladder of a phone: which message went where, when.
//! Owns:  `LadderLine`, the clock that all phones of a process share.
//! Gives: lines that can be merged over several phones by their time.
//! Never: message bodies or credentials.
//! Holds: `at_ms` counts from the first phone of the process.

use std::fmt;
use std::sync::OnceLock;

use serde::Serialize;
use tokio::time::Instant;

/// One message on the wire, as the phone saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LadderLine {
    pub at_ms: u64,
    pub from: String,
    pub to: String,
    /// `INVITE sip:1002@127.0.0.1` or `200 OK (INVITE)`.
    pub text: String,
}

impl fmt::Display for LadderLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, from, to, text } = self;
        write!(f, "{:>7.3} s  {from:<8} -> {to:<8}  {text}", *at_ms as f64 / 1_000.0)
    }
}

/// Merges the ladders of several phones into one, oldest line first.
pub fn merge(ladders: impl IntoIterator<Item = Vec<LadderLine>>) -> Vec<LadderLine> {
    let mut lines: Vec<LadderLine> = ladders.into_iter().flatten().collect();
    lines.sort_by_key(|line| line.at_ms);
    lines
}

pub(super) fn now_ms() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed().as_millis() as u64
}
