//! What becomes of recordings: made from captures, uploaded, removed; and the look at their disk.
//! Owns:  these tasks.
//! Gives: `Keeping`, and where closed captures go.
//! Never: a shard's event; the pump hands captures over.
//! Holds: uploads and the look at the disk may end at any instant; the next start goes on.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use shared::event::CaptureClosed;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::prepared::Prepared;
use crate::archive::Archive;
use crate::board::Board;
use crate::disk::{DiskWatch, FileSystems};
use crate::plane::Plane;
use crate::recordings::Finalizer;

#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) archive: Arc<Archive>,
    finalizer: Finalizer,
    uploads: JoinHandle<()>,
    disk: JoinHandle<()>,
}

impl Keeping {
    /// With the captures of an earlier run as its first work.
    pub(super) fn start(
        prepared: &mut Prepared,
        plane: &Arc<dyn Plane>,
        board: &Arc<Board>,
    ) -> (Self, mpsc::Sender<CaptureClosed>) {
        let (config, store) = (&prepared.configured.config, &prepared.store);
        let archive = Archive::new(
            Arc::clone(store),
            Arc::clone(board),
            take(&mut prepared.targets),
            config.archive(),
        );
        let recordings = config.files().recordings().to_owned();
        let (finalizer, captures) = Finalizer::start(
            Arc::clone(store),
            Arc::clone(board),
            Arc::clone(&archive),
            recordings.clone(),
        );
        tokio::spawn(hand_over(take(&mut prepared.left), captures.clone()));
        let disk = DiskWatch {
            folders: vec![config.files().folder().to_owned(), recordings],
            messages: config.messages().map(|kept| kept.folder.clone()),
            gauge: Arc::new(FileSystems),
            rules: config.archive().disk(),
            plane: Arc::clone(plane),
            board: Arc::clone(board),
        };
        let (uploads, disk) = (archive.start(), disk.start());
        (Self { archive, finalizer, uploads, disk }, captures)
    }

    /// Waits for captures; an upload that is under way is due again at the next start.
    pub(super) async fn finish(self, patience: Duration) {
        self.finalizer.finish(patience).await;
        self.uploads.abort();
        self.disk.abort();
    }
}

/// Captures of an earlier run, at the pace of the finalizer.
async fn hand_over(left: Vec<CaptureClosed>, queue: mpsc::Sender<CaptureClosed>) {
    if !left.is_empty() {
        tracing::info!(captures = left.len(), "captures of an earlier run become recordings now");
    }
    for capture in left {
        if queue.send(capture).await.is_err() {
            return;
        }
    }
}
