//! An archive at work on a store and a board of a test.
//! Owns:  the task of it, until it is dropped.
//! Gives: `Running`; waits for what the board or the store says.
//! Never: sleeps blindly: a deadline is for a hang and not a measure of speed.
//! Holds: nothing works on after the test.

use std::sync::Arc;
use std::time::Duration;

use controlplane::archive::{Archive, Targets};
use controlplane::board::{Board, Counts};
use controlplane::store::Store;
use shared::config::Archive as Rules;
use tokio::task::JoinHandle;

/// An archive that works until this is dropped.
pub(crate) struct Running {
    pub(crate) archive: Arc<Archive>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(
        store: Arc<dyn Store>,
        board: &Arc<Board>,
        targets: Targets,
        rules: &Rules,
    ) -> Self {
        let archive = Archive::new(store, Arc::clone(board), targets, rules);
        let task = archive.start();
        Self { archive, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the board says so.
pub(crate) async fn until(board: &Board, what: &str, done: impl Fn(&Counts) -> bool) {
    until_so(what, async || done(&board.counts)).await;
}

/// Waits until something is so.
pub(crate) async fn until_so(what: &str, is_so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !is_so().await {
            look.tick().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within a minute: {what}"));
}
