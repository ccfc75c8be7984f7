//! The first half of a start: everything that can be had before there are shards.
//! Owns:  `Prepared`: folders and their lock, database, snapshot, HTTP port; `StartFailed`.
//! Gives: what `Gateway` needs to run.
//! Never: a thread of a shard; stores the first user or extensions, since the start may still fail.
//! Holds: captures that an earlier run left are found before anything new.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use shared::config::{Config, Database};
use shared::event::CaptureClosed;
use shared::settings::ShardSettings;
use tokio::net::TcpListener;

use super::cores::Cores;
use super::first_start::{FirstUser, demo_extensions, private_folder, take_folder};
use super::settings::{has_ipv6, shard_settings};
use crate::archive::Targets;
use crate::configuration::Configured;
use crate::directory::{Contents, Directory, NotRead, Surroundings};
use crate::exit::Exit;
use crate::names::NameServers;
use crate::recordings::leftovers;
use crate::store::{Db, Extension, Store, StoreError};
use crate::webhooks::Client;
use crate::webhooks::outbox::{self, Deliveries, Endpoints};

#[derive(Debug)]
pub enum StartFailed {
    /// The configuration does not fit this machine.
    Config(String),
    /// Something that is needed could not be had.
    Failed(String),
}

impl StartFailed {
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::ConfigInvalid,
            Self::Failed(_) => Exit::Failed,
        }
    }
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Config(reason) | Self::Failed(reason)) = self;
        write!(f, "cannot start: {reason}")
    }
}

impl std::error::Error for StartFailed {}

pub(super) fn failed(reason: String) -> StartFailed {
    StartFailed::Failed(reason)
}

/// Everything that can be had before there are shards.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) configured: Configured,
    pub(super) cores: Cores,
    pub(super) settings: Vec<ShardSettings>,
    pub(super) folder: File,
    pub(super) store: Arc<dyn Store>,
    /// Made by this start.
    pub(super) extensions: Vec<Extension>,
    /// Made by this start, when there was nobody who could log in.
    pub(super) first_user: Option<FirstUser>,
    /// Captures of an earlier run.
    pub(super) left: Vec<CaptureClosed>,
    /// What the shards are started with, the extensions of this start included.
    pub(super) contents: Contents,
    /// Where recordings and call records are uploaded to.
    pub(super) targets: Targets,
    pub(super) listener: TcpListener,
    pub(super) surroundings: Surroundings,
    /// For every call to the outside.
    pub(super) client: Arc<Client>,
    pub(super) deliveries: Arc<Deliveries>,
}

impl Prepared {
    pub(super) async fn make(
        configured: Configured,
        cores: Cores,
        with_demo: bool,
    ) -> Result<Self, StartFailed> {
        let config = &configured.config;
        let files = config.files();
        let ipv6 = has_ipv6();
        let settings = shard_settings(config, &cores.shards, ipv6).map_err(StartFailed::Config)?;
        let folder = take_folder(files.folder()).map_err(failed)?;
        let own = [files.captures(), files.journal(), files.recordings().to_owned()];
        for path in own.iter().chain(config.messages().map(|kept| &kept.folder)) {
            private_folder(path).map_err(failed)?;
        }
        let client = Arc::new(Client::of_config(config).map_err(failed)?);
        let targets = Targets::of(config.archive(), &client).map_err(StartFailed::Config)?;
        let store = open_store(config).await.map_err(failed)?;
        let of_store = |error: StoreError| failed(error.to_string());
        // Before the journal brings the first record.
        let archives = targets.call_records.is_some();
        store.archive_records(archives).await.map_err(of_store)?;
        // Stored when the shards are up: a start that fails must not keep passwords nobody saw.
        let first = !store.started_before().await.map_err(of_store)?;
        let extensions = if first && with_demo { demo_extensions(config) } else { Vec::new() };
        let first_user = if store.has_users().await.map_err(of_store)? {
            None
        } else {
            let made = tokio::task::spawn_blocking(FirstUser::make).await;
            Some(made.map_err(|error| failed(error.to_string()))?)
        };
        let deliveries = Deliveries::open(Arc::clone(&store), Endpoints::of_config(config)).await;
        let deliveries = deliveries.map_err(of_store)?;
        let recovered = outbox::recover(&*store, &unsaved(config)).await;
        if recovered > 0 {
            tracing::info!(recovered, "registration events of an earlier run are stored now");
        }
        let left = leftovers(&*store, &files.captures()).await;
        let left = left.map_err(|error| failed(format!("captures: {error}")))?;
        let records = NameServers::new(config.dns_servers()).map_err(failed)?;
        let surroundings = Surroundings { ipv6, records: Arc::new(records) };
        let contents = read_contents(config, &*store, &surroundings).await?;
        let contents = contents.with_first_extensions(&extensions);
        let listener = TcpListener::bind(config.http().addr()).await;
        let listener =
            listener.map_err(|error| failed(format!("HTTP {}: {error}", config.http().addr())))?;
        Ok(Self {
            configured,
            cores,
            settings,
            folder,
            store,
            extensions,
            first_user,
            left,
            contents,
            targets,
            listener,
            surroundings,
            client,
            deliveries,
        })
    }
}

/// What cannot be served of the database is logged: it must not keep the rest from starting.
async fn read_contents(
    config: &Config,
    store: &dyn Store,
    around: &Surroundings,
) -> Result<Contents, StartFailed> {
    let mut odd = Vec::new();
    let config = Arc::new(config.clone());
    let contents = Directory::read(config, store, around, &mut odd).await;
    let contents = contents.map_err(|not_read| match not_read {
        NotRead::Invalid(reason) => StartFailed::Config(reason),
        NotRead::Store(error) => failed(error.to_string()),
    })?;
    odd.extend(contents.missing_trunks().iter().map(ToString::to_string));
    odd.iter().for_each(|reason| tracing::error!(reason, "not served as it is written"));
    Ok(contents)
}

/// Where events wait that the database did not take.
pub(super) fn unsaved(config: &Config) -> PathBuf {
    config.files().folder().join("unsaved")
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, String> {
    let database = config.files().database();
    if let Database::Sqlite(path) = database
        && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        private_folder(folder)?;
    }
    Ok(Arc::new(Db::open(database).await.map_err(|error| error.to_string())?))
}
