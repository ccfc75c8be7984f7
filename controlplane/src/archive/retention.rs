//! Which recordings leave the disk because they are elsewhere, old, or too many.
//! Owns:  the sweep.
//! Gives: `Archive::sweep`, once a minute.
//! Never: takes a recording that an upload or a push still waits for, however old it is.
//! Holds: the oldest call goes first; each sweep is bounded.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use shared::ids::CallId;

use super::Archive;
use crate::store::{RecordingState, StoreError};

/// Recordings that one sweep removes at most; the next one goes on.
const REMOVED_AT_ONCE: u32 = 1_000;

impl Archive {
    /// Once a minute.
    pub async fn sweep(&self) {
        if let Err(error) = self.sweep_uploaded().await {
            tracing::error!(%error, "uploaded recordings stay");
        }
        if let Err(error) = self.sweep_old().await {
            tracing::error!(%error, "old recordings stay");
        }
        if let Err(error) = self.sweep_bulk().await {
            tracing::error!(%error, "surplus recordings stay");
        }
    }

    /// Those that could not go right after their upload: somebody needed them, their call record was
    /// not stored yet, or the process ended in between.
    async fn sweep_uploaded(&self) -> Result<(), StoreError> {
        if self.keep_uploaded {
            return Ok(());
        }
        for call in self.store.spent_recordings(REMOVED_AT_ONCE).await? {
            let _said_so = self.remove(call, RecordingState::Uploaded).await;
        }
        Ok(())
    }

    async fn sweep_old(&self) -> Result<(), StoreError> {
        let Some(keep) = self.retention.keep else { return Ok(()) };
        let Some(before) = SystemTime::now().checked_sub(keep) else { return Ok(()) };
        let since = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Call ids begin with the time at which the call began.
        let oldest_kept = CallId(since.as_millis() << 80);
        let gone = self.store.recordings_before(oldest_kept, REMOVED_AT_ONCE).await?;
        for (call, _) in gone {
            let _said_so = self.expire(call).await;
        }
        Ok(())
    }

    async fn sweep_bulk(&self) -> Result<(), StoreError> {
        let Some(most) = self.retention.keep_bytes else { return Ok(()) };
        let mut surplus = self.store.recording_bytes().await?.saturating_sub(most);
        if surplus == 0 {
            return Ok(());
        }
        let oldest = self.store.recordings_before(CallId(u128::MAX), REMOVED_AT_ONCE).await?;
        for (call, bytes) in oldest {
            if surplus == 0 {
                break;
            }
            if self.expire(call).await {
                surplus = surplus.saturating_sub(bytes);
            }
        }
        Ok(())
    }

    async fn expire(&self, call: CallId) -> bool {
        let uploaded = match self.store.uploads_of(call).await {
            Ok(done) => !done.is_empty(),
            Err(error) => {
                tracing::error!(%call, %error, "a recording stays");
                return false;
            }
        };
        let state = if uploaded { RecordingState::Uploaded } else { RecordingState::Expired };
        let removed = self.remove(call, state).await.is_ok();
        self.board.counts.recordings_expired.fetch_add(u64::from(removed), Ordering::Relaxed);
        removed
    }
}
