//! One upload: what it is called, where it goes, and what its outcome means.
//! Owns:  the names of objects.
//! Gives: `Archive::attempt`, one try with its row.
//! Never: decides when to try again.
//! Holds: a try that is repeated stores the same object under the same key.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::cdr::Cdr;
use shared::ids::CallId;
use tokio::time::timeout;

use super::schedule::wait_after;
use super::target::{Label, NotStored, Source, hex};
use super::{Archive, worker};
use crate::recordings::day_of;
use crate::store::{Load, StoreError, Upload, Uploaded};

/// A call record comes with the next batch of the journal, a moment after the recording; later only when
/// the database does not take it, or with the journal of a run that crashed.
const RECORD_LOOK: Duration = Duration::from_millis(100);
const RECORD_LOOKS: u32 = 20;

/// What a try tells about its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored,
    TargetFailed,
    /// It was not the target that failed.
    Failed,
}

/// Why an upload did not succeed this time.
enum NotUploaded {
    /// It never will.
    Lost(String),
    Source(String),
    Target(String),
}

impl From<StoreError> for NotUploaded {
    fn from(error: StoreError) -> Self {
        Self::Source(error.to_string())
    }
}

impl Archive {
    pub(super) async fn attempt(&self, upload: &Upload) -> Outcome {
        let done = self.upload(upload).await;
        let counts = &self.board.counts;
        let (outcome, noted) = match done {
            Ok(done) => {
                counts.uploads_done.fetch_add(1, Ordering::Relaxed);
                (Outcome::Stored, self.store.upload_done(upload.id, &done).await)
            }
            Err(NotUploaded::Lost(reason)) => {
                tracing::error!(call = %upload.call, reason, "an upload can never succeed");
                (Outcome::Failed, self.store.upload_lost(upload.id, &reason).await)
            }
            Err(NotUploaded::Source(reason)) => {
                (Outcome::Failed, self.put_off(upload, &reason).await)
            }
            Err(NotUploaded::Target(reason)) => {
                (Outcome::TargetFailed, self.put_off(upload, &reason).await)
            }
        };
        if let Err(error) = noted {
            // Its lease runs out, and it is done once more under the same key.
            tracing::error!(call = %upload.call, %error, "the outcome of an upload has no row");
            return outcome;
        }
        if upload.load == Load::Recording && !self.keep_uploaded && outcome == Outcome::Stored {
            self.remove_uploaded(upload.call).await;
        }
        outcome
    }

    async fn put_off(&self, upload: &Upload, reason: &str) -> Result<(), StoreError> {
        self.board.counts.upload_failures.fetch_add(1, Ordering::Relaxed);
        let wait = wait_after(upload.attempts.saturating_add(1));
        let (call, section) = (upload.call, upload.section.as_str());
        tracing::warn!(
            %call, section, reason, retry_in_s = wait.as_secs(),
            "an upload failed; what it uploads stays"
        );
        self.store.upload_failed(upload.id, worker::millis(wait), reason).await
    }

    async fn upload(&self, upload: &Upload) -> Result<Uploaded, NotUploaded> {
        let Some(target) = self.targets.of_section(upload.section) else {
            return Err(NotUploaded::Source("its section names no target".to_owned()));
        };
        let (name, mut source) = match upload.load {
            Load::Record => self.record(upload.call).await?,
            Load::Recording => self.recording(upload.call).await?,
        };
        if target.wants_label() {
            source.label = Some(self.label(upload.call).await?);
        }
        let key = target.key_for(&name);
        let stored = timeout(LONGEST, target.store(&key, &source)).await;
        let stored = stored.unwrap_or_else(|_| {
            Err(NotStored::Target(format!("not done within {} h", LONGEST.as_secs() / 3_600)))
        });
        let key = stored.map_err(|error| match error {
            // Whether it is gone for good shows when it is opened the next time.
            NotStored::Source(_) | NotStored::Corrupt(_) => NotUploaded::Source(error.to_string()),
            NotStored::Target(_) => NotUploaded::Target(error.to_string()),
        })?;
        let sha256 = hex(&source.sha256);
        Ok(Uploaded { section: upload.section, key, size: source.size, sha256 })
    }

    async fn label(&self, call: CallId) -> Result<Label, NotUploaded> {
        let session_id = call.to_string();
        for _ in 0..RECORD_LOOKS {
            if let Some(found) = self.store.record(&session_id).await? {
                return Ok(Label { session_id, call_id: found.cdr.call_id });
            }
            tokio::time::sleep(RECORD_LOOK).await;
        }
        Err(NotUploaded::Source("its call record is not stored yet".to_owned()))
    }

    /// `YYYYMMDD/CALLID.json`; a Call-ID that comes a second time does not replace the first.
    async fn record(&self, call: CallId) -> Result<(String, Source), NotUploaded> {
        let found = self.store.record(&call.to_string()).await?;
        let Some(found) = found else {
            return Err(NotUploaded::Lost("the call record was deleted".to_owned()));
        };
        let json = serde_json::to_vec(&found.cdr);
        let json = json.map_err(|error| NotUploaded::Lost(error.to_string()))?;
        let repeated = self.store.is_call_id_repeated(found.id).await?;
        let name = if repeated { call.to_string() } else { safe_name(&found.cdr) };
        let name = format!("{}/{name}.json", day_of(call));
        Ok((name, Source::of_bytes(json, "application/json")))
    }

    /// `YYYYMMDD/SESSION.wav`
    async fn recording(&self, call: CallId) -> Result<(String, Source), NotUploaded> {
        let found = self.store.recording(call).await?;
        let path = found.and_then(|recording| recording.path);
        let Some(path) = path else {
            return Err(NotUploaded::Lost("the recording has no file any more".to_owned()));
        };
        let read = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Source::of_file(&path, "audio/wav")
        });
        match read.await.map_err(|error| NotUploaded::Source(error.to_string()))? {
            Ok(source) => Ok((format!("{}/{call}.wav", day_of(call)), source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(NotUploaded::Lost(format!("{}: {error}", path.display())))
            }
            Err(error) => Err(NotUploaded::Source(format!("{}: {error}", path.display()))),
        }
    }
}

/// The longest that one upload may take, however steadily it goes on.
pub(super) const LONGEST: Duration = Duration::from_hours(6);

/// The Call-ID where it can be the name of a file; it is the caller's text.
fn safe_name(cdr: &Cdr) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let name = &cdr.call_id;
    let usable = !name.is_empty() && name.len() <= 128 && !name.starts_with('.');
    if usable && name.chars().all(fits) { name.clone() } else { cdr.session_id.to_string() }
}
