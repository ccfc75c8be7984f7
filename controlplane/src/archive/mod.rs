//! Uploads: recordings and call records leave this machine, and only then may they leave its disk.
//! Owns:  the targets, the removal of what was uploaded.
//! Gives: `Archive`; `sections` for whoever finishes a recording; reading back for the API.
//! Never: removes a file that anybody still waits for.
//! Holds: an upload is tried until it is stored and verified; a restart goes on where it was.

mod folder;
mod form;
mod retention;
#[cfg(feature = "s3")]
mod s3;
mod schedule;
mod target;
mod upload;
mod worker;

use std::io;
use std::path::Path;
use std::sync::Arc;

use shared::config::{Archive as Rules, RecordingsArchive, RecordsArchive, Retention};
use shared::ids::CallId;
use tokio::sync::Notify;

pub use folder::Folder;
pub use form::Form;
#[cfg(feature = "s3")]
pub use s3::{PART_BYTES, REQUEST_TIMEOUT, S3};
pub use schedule::wait_after;
pub use target::{Content, Label, NotStored, Object, Source, Storing, Target};

use crate::board::Board;
use crate::store::{Found, RecordingState, Section, Store, StoreError};
use crate::webhooks::Client;

/// Where each section's uploads go.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub call_records: Option<Arc<dyn Target>>,
    /// Whether recordings go beside the call records.
    pub recordings_beside: bool,
    pub recordings: Option<Arc<dyn Target>>,
}

#[derive(Debug)]
pub struct Archive {
    store: Arc<dyn Store>,
    board: Arc<Board>,
    targets: Targets,
    retention: Retention,
    keep_uploaded: bool,
    /// One per section.
    wakes: [Notify; Section::ALL.len()],
}

impl Targets {
    /// The error is one line for the operator.
    pub fn of(rules: &Rules, client: &Arc<Client>) -> Result<Self, String> {
        let call_records: Option<Arc<dyn Target>> = match rules.records() {
            None => None,
            Some(RecordsArchive::Local(root)) => Some(Arc::new(Folder::new(root.clone()))),
            Some(RecordsArchive::S3(bucket)) => Some(of_bucket(bucket)?),
        };
        let recordings: Option<Arc<dyn Target>> = match rules.recordings() {
            None => None,
            Some(RecordingsArchive::Http(target)) => {
                Some(Arc::new(Form::new(Arc::clone(client), target)))
            }
            Some(RecordingsArchive::S3(bucket)) => Some(of_bucket(bucket)?),
        };
        let recordings_beside = matches!(rules.records(), Some(RecordsArchive::S3(_)));
        Ok(Self { call_records, recordings_beside, recordings })
    }

    fn of_section(&self, section: Section) -> Option<&Arc<dyn Target>> {
        match section {
            Section::CallRecord => self.call_records.as_ref(),
            Section::Recording => self.recordings.as_ref(),
        }
    }

    /// The sections that want every finished recording.
    pub fn sections(&self) -> Vec<Section> {
        let beside = self.recordings_beside.then_some(Section::CallRecord);
        let own = self.recordings.is_some().then_some(Section::Recording);
        beside.into_iter().chain(own).collect()
    }
}

#[cfg(feature = "s3")]
fn of_bucket(bucket: &shared::config::Bucket) -> Result<Arc<dyn Target>, String> {
    Ok(Arc::new(S3::new(bucket, REQUEST_TIMEOUT)))
}

#[cfg(not(feature = "s3"))]
fn of_bucket(_bucket: &shared::config::Bucket) -> Result<Arc<dyn Target>, String> {
    Err("type = \"s3\": this build has no S3; build it with the feature \"s3\"".to_owned())
}

impl Archive {
    pub fn new(
        store: Arc<dyn Store>,
        board: Arc<Board>,
        targets: Targets,
        rules: &Rules,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            board,
            targets,
            retention: rules.retention(),
            keep_uploaded: rules.keep_uploaded(),
            wakes: Default::default(),
        })
    }

    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Something became due.
    pub fn wake(&self) {
        self.wakes.iter().for_each(Notify::notify_one);
    }

    fn is_woken(&self, section: Section) -> impl Future<Output = ()> + '_ {
        self.wakes[section as usize].notified()
    }

    /// The local copy goes when every section that wants it has it, and nobody else reads it.
    async fn remove_uploaded(&self, call: CallId) {
        match self.store.is_recording_spent(call).await {
            Ok(true) => {
                let _said_so = self.remove(call, RecordingState::Uploaded).await;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%call, %error, "a local copy stays for now"),
        }
    }

    /// The file first: a row that names a file which is gone says so when it is asked for.
    async fn remove(&self, call: CallId, state: RecordingState) -> Result<(), ()> {
        let failed = |error: StoreError| tracing::error!(%call, %error, "a recording's row");
        let Some(mut recording) = self.store.recording(call).await.map_err(failed)? else {
            return Ok(());
        };
        let Some(path) = recording.path.take() else { return Ok(()) };
        remove_file(&path).await.map_err(|error| {
            tracing::error!(file = %path.display(), %error, "a recording cannot be removed");
        })?;
        recording.state = state;
        self.store.put_recording(&recording).await.map_err(failed)
    }

    /// Where a recording that is no longer here can be read.
    pub async fn find_remote(
        &self,
        call: CallId,
    ) -> Result<Option<(Arc<dyn Target>, Found)>, StoreError> {
        let done = self.store.uploads_of(call).await?;
        Ok(done.into_iter().find_map(|uploaded| {
            let target = self.targets.of_section(uploaded.section)?;
            Some((Arc::clone(target), uploaded.into_found()?))
        }))
    }
}

async fn remove_file(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
