//! What outlives the process: extensions, call records, recordings.
//! Owns:  the trait `Store` and the values it speaks; one implementation per database.
//! Gives: plain questions and answers; SQL stays behind the trait.
//! Never: a connection or a row type in a signature.
//! Holds: storing a call record twice leaves one (its session id is unique).

mod extensions;
mod recordings;
mod records;
mod sqlite;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use shared::cdr::{CallStatus, Cdr, Direction};
use shared::ids::CallId;
use shared::snapshot::Secret;
use shared::time::WallMs;

pub use sqlite::SqliteStore;

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The database as the rest of the control plane sees it.
pub trait Store: fmt::Debug + Send + Sync {
    /// All of them or none, in one transaction. Those that are there already stay as they are.
    fn add_cdrs<'a>(&'a self, batch: &'a [Cdr]) -> Pending<'a, ()>;

    /// One page, with the total over all pages.
    fn records<'a>(&'a self, search: &'a RecordSearch) -> Pending<'a, RecordPage>;

    /// By number, session id, or the SIP Call-ID of any leg (the newest call that had it).
    fn record<'a>(&'a self, id: &'a str) -> Pending<'a, Option<CallRecord>>;

    fn extensions(&self) -> Pending<'_, Vec<Extension>>;

    /// Whether a gateway was ever up with this database.
    fn started_before(&self) -> Pending<'_, bool>;

    /// On the first start of this database: adds the extensions and gives `true`. Later: `false`.
    fn first_start<'a>(&'a self, extensions: &'a [Extension]) -> Pending<'a, bool>;

    /// Inserts or replaces.
    fn put_recording<'a>(&'a self, recording: &'a Recording) -> Pending<'a, ()>;

    fn recording(&self, call: CallId) -> Pending<'_, Option<Recording>>;

    /// Whether it answers.
    fn ping(&self) -> Pending<'_, ()>;

    /// Writes everything out and closes.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

#[derive(Debug)]
pub enum StoreError {
    /// The file or its schema cannot be used at all.
    Broken(String),
    /// What was asked cannot be stored, now or later.
    Refused(String),
    /// Locked, full, or not reachable: later it may work.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) => write!(f, "the database cannot be used: {reason}"),
            Self::Refused(reason) => write!(f, "the database refused: {reason}"),
            Self::Unavailable(reason) => write!(f, "the database is not available: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// One row of `call_records` with its recording.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub id: i64,
    pub cdr: Cdr,
    pub recording: Option<Recording>,
}

#[derive(Clone, Debug, Default)]
pub struct RecordSearch {
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    pub status: Option<CallStatus>,
    pub direction: Option<Direction>,
    /// Part of the caller's number.
    pub caller: Option<String>,
    pub callee: Option<String>,
    /// Part of a number, a URI, a Call-ID or the session id.
    pub text: Option<String>,
    /// Started at or after.
    pub from: Option<WallMs>,
    /// Started before.
    pub until: Option<WallMs>,
    pub sort: RecordSort,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordSort {
    DurationAscending,
    DurationDescending,
    StartedAscending,
    #[default]
    StartedDescending,
}

#[derive(Clone, Debug)]
pub struct RecordPage {
    pub total: u64,
    pub records: Vec<CallRecord>,
}

#[derive(Clone, Debug)]
pub struct Extension {
    pub extension: String,
    pub display_name: Option<String>,
    pub secret: Secret,
    pub enabled: bool,
    pub allow_guest_calls: bool,
}

/// What became of the capture of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub call: CallId,
    pub state: RecordingState,
    pub capture: PathBuf,
    /// Set when it is ready.
    pub path: Option<PathBuf>,
    pub duration_ms: Option<u64>,
    pub size: Option<u64>,
    /// Packets that did not reach the capture.
    pub packets_lost: u64,
    /// Why it is not ready, or what is missing in it.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingState {
    /// Nobody sent anything that could be recorded.
    Empty,
    /// The capture is kept and tried again on the next start.
    Failed,
    Pending,
    Ready,
    /// A codec that we do not decode; the capture is kept.
    Unsupported,
}

impl RecordingState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Unsupported => "unsupported",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Empty, Self::Failed, Self::Pending, Self::Ready, Self::Unsupported]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}
