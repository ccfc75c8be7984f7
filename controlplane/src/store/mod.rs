//! What outlives the process: extensions, call records, recordings, and what later files add.
//! Owns:  the trait `Store`, put together from one small trait per table group; `StoreError`.
//! Gives: plain questions and answers; SQL stays in this folder.
//! Never: a connection or a row type in a signature outside of it.
//! Holds: one code path for every database. A new table group is one file with functions over `&Db`, a
//!        trait whose methods call them, and one line in `Store`.

mod audit;
mod db;
mod error;
mod exchanges;
mod extensions;
mod foreign;
mod idempotency;
mod journal;
mod local_copies;
mod outbox;
mod outbox_list;
mod postgres;
mod record_filters;
mod record_pages;
mod recordings;
mod records;
mod roles;
mod routes;
mod rows;
mod sessions;
mod sqlite;
mod statement;
mod tokens;
mod totals;
mod trunks;
mod uploads;
mod users;

use std::future::Future;
use std::pin::Pin;

pub use audit::{AuditLog, AuditRow, AuditSearch};
pub use db::{Connections, Db, Kind, now_ms};
pub use error::StoreError;
pub use exchanges::{Exchange, Exchanges, StoredExchange};
pub use extensions::{EXTENSIONS, Extension, Extensions};
pub use foreign::{ForeignUser, ForeignUsers};
pub use idempotency::{IdempotencyKey, IdempotencyKeys, KeptAnswer, KeyTake, KnownKey, Taken};
pub use journal::{JournalMark, Journals};
pub use local_copies::LocalCopies;
pub use outbox::{
    Backlog, Due, EndpointState, Keep, NewEvent, Next, Outbox, Settlement, Swept, Tried, Waiting,
};
pub use outbox_list::{Delivery, DeliverySearch, DeliveryState, OutboxList};
pub use record_filters::{Match, RecordFilter};
pub use record_pages::{Mark, RecordPage, RecordSearch, RecordSlice, RecordSort, SliceSearch};
pub use recordings::{Recording, RecordingState, Recordings};
pub use records::{CallRecord, RecordChange, Records};
pub use roles::{Permission, Role, RoleEdit, Roles};
pub use routes::ROUTES;
pub use rows::{Row, Rows, Table};
pub use sessions::{Bounds, Session, Sessions};
pub use tokens::{Token, Tokens};
pub use trunks::TRUNKS;
pub use uploads::{Found, Load, Section, Upload, UploadBacklog, Uploaded, Uploads};
pub use users::{Edited, Login, User, UserEdit, UserSearch, Users};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The database as the rest of the control plane sees it.
pub trait Store:
    AuditLog
    + Connections
    + Exchanges
    + Extensions
    + IdempotencyKeys
    + Journals
    + LocalCopies
    + Outbox
    + OutboxList
    + Recordings
    + Records
    + Roles
    + Rows
    + Sessions
    + Tokens
    + Uploads
    + Users
{
}

impl<T> Store for T where
    T: AuditLog
        + Connections
        + Exchanges
        + Extensions
        + IdempotencyKeys
        + Journals
        + LocalCopies
        + Outbox
        + OutboxList
        + Recordings
        + Records
        + Roles
        + Rows
        + Sessions
        + Tokens
        + Uploads
        + Users
{
}
