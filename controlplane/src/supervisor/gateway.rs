//! A running gateway: shards, pump, writer, finalizer, HTTP, in their order.
//! Owns:  everything that runs, and the lock on the data folder.
//! Gives: `start`, `drain`, `stop`; what the banner says.
//! Never: a signal or an exit code; `serve` and the demo have theirs.
//! Holds: nothing is taken from a shard before what it goes to is there, and the other way round at
//!        the end: the pump ends before the writer, the writer before the database.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shard::Shards;
use shared::command::Command;
use shared::config::{Config, Database};
use shared::event::CaptureClosed;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::banner::Banner;
use super::cores::{self, Cores};
use super::first_start::{demo_extensions, private_folder, take_folder};
use super::reload::Reloader;
use super::settings::{has_ipv6, shard_settings};
use super::snapshot::{self, Publisher};
use crate::api::{self, App};
use crate::board::{Board, FIRST_GENERATION, Stage};
use crate::cdrs::{self, CdrWriter};
use crate::configuration::Configured;
use crate::exit::Exit;
use crate::plane::{Plane, shards};
use crate::pump::Pump;
use crate::questions::Questions;
use crate::recordings::{Finalizer, leftovers};
use crate::store::{Extension, SqliteStore, Store};

/// A shard that has not started by then will not.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// For BYEs, last packets and files after `Stop`.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// For what the shards reported last.
const PUMP_PATIENCE: Duration = Duration::from_secs(5);
/// For call records when the shards are gone.
const CDR_PATIENCE: Duration = Duration::from_secs(10);
const RECORDING_PATIENCE: Duration = Duration::from_secs(20);
const HTTP_PATIENCE: Duration = Duration::from_secs(2);
/// Between two offers of a command to a shard whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

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

#[derive(Debug)]
pub struct Gateway {
    shards: Arc<Shards>,
    board: Arc<Board>,
    store: Arc<dyn Store>,
    reloader: Reloader,
    pump: JoinHandle<io::Result<()>>,
    writer: CdrWriter,
    finalizer: Finalizer,
    http: HttpServer,
    banner: String,
    /// Ours until the process ends.
    folder: File,
}

impl Gateway {
    /// Starts everything. Must run on a thread that no CPU list binds: shards inherit its rights.
    pub async fn start(
        configured: Configured,
        cores: Cores,
        with_demo: bool,
    ) -> Result<Self, StartFailed> {
        // On a thread of the control plane: the database's threads inherit its CPUs.
        let prepared = tokio::spawn(Prepared::make(configured, cores, with_demo));
        let mut prepared = prepared.await.map_err(|error| failed(error.to_string()))??;
        let snapshot = Arc::new(std::mem::take(&mut prepared.snapshot));
        let shards = shard::spawn(prepared.settings.clone(), snapshot);
        let shards = Arc::new(shards.map_err(|error| failed(error.to_string()))?);
        // From here on this thread belongs to the control plane too.
        cores::pin_here(&prepared.cores.control).map_err(|error| failed(error.to_string()))?;
        prepared.run(shards).started().await
    }

    async fn started(self) -> Result<Self, StartFailed> {
        let serving = self.board.all(|shard| shard.stage >= Stage::Serving);
        if timeout(START_DEADLINE, serving).await.is_ok() {
            return Ok(self);
        }
        self.stop().await;
        let text = format!("a shard did not start within {} s", START_DEADLINE.as_secs());
        Err(StartFailed::Failed(text))
    }

    pub fn banner(&self) -> String {
        self.banner.clone()
    }

    pub const fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub const fn http_addr(&self) -> SocketAddr {
        self.http.addr
    }

    /// No new calls; returns when the last one has ended, or after `patience`.
    pub async fn drain(&self, patience: Duration) {
        self.board.counts.draining.store(true, Ordering::Relaxed);
        let drained = timeout(patience, async {
            self.tell(|| Command::Drain).await;
            self.board.all(|shard| shard.stage >= Stage::Drained).await;
        });
        if drained.await.is_err() {
            tracing::warn!("calls stand after the time to drain: they are ended");
        }
    }

    /// Ends what is left, stores what was reported, closes.
    pub async fn stop(self) {
        self.board.counts.draining.store(true, Ordering::Relaxed);
        let stopped = timeout(STOP_DEADLINE, async {
            self.tell(|| Command::Stop).await;
            self.board.all(|shard| shard.stage == Stage::Stopped).await;
        });
        if stopped.await.is_err() {
            tracing::error!("a shard did not stop in time");
        }
        self.http.stop().await;
        // It ends by itself when every shard has stopped, and with it the two queues behind it.
        let mut pump = self.pump;
        let ended = match timeout(PUMP_PATIENCE, &mut pump).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                // It waits for the writer: what the database does not take goes to a file.
                self.writer.hurry();
                timeout(STOP_DEADLINE, &mut pump).await.ok()
            }
        };
        match ended {
            Some(Ok(Ok(()))) => {}
            Some(ended) => tracing::error!(?ended, "the event pump ended badly"),
            None => {
                tracing::error!("the event pump does not end; events of a stuck shard are lost");
                pump.abort();
                let _aborted = pump.await;
            }
        }
        self.writer.finish(CDR_PATIENCE).await;
        self.finalizer.finish(RECORDING_PATIENCE).await;
        self.store.close().await;
        drop(self.reloader);
        join(self.shards).await;
        // Another gateway may take the folder now.
        drop(self.folder);
    }

    /// Gives every shard a command; waits while queues are full.
    async fn tell(&self, command: impl Fn() -> Command) {
        for shard in shards(&*self.shards) {
            while Plane::send(&*self.shards, shard, command()).is_err() {
                tokio::time::sleep(OFFER_AGAIN).await;
            }
        }
    }
}

/// Waits for the shards' threads, when nobody else holds them any more.
async fn join(shards: Arc<Shards>) {
    let Ok(shards) = Arc::try_unwrap(shards) else {
        tracing::debug!("the shards' threads are left to the end of the process");
        return;
    };
    let joined = tokio::task::spawn_blocking(move || shards.join());
    match timeout(STOP_DEADLINE, joined).await {
        Ok(Ok(ends)) => {
            for (shard, end) in ends {
                if let Err(reason) = end {
                    tracing::error!(shard = shard.0, reason, "a shard ended badly");
                }
            }
        }
        Ok(Err(error)) => tracing::error!(%error, "the shards' threads"),
        Err(_) => tracing::error!("a shard's thread does not end"),
    }
}

fn failed(reason: String) -> StartFailed {
    StartFailed::Failed(reason)
}

/// Everything that can be had before there are shards.
struct Prepared {
    configured: Configured,
    cores: Cores,
    settings: Vec<ShardSettings>,
    folder: File,
    store: Arc<dyn Store>,
    /// Made by this start.
    extensions: Vec<Extension>,
    /// Captures of an earlier run.
    left: Vec<CaptureClosed>,
    snapshot: Snapshot,
    users: usize,
    listener: TcpListener,
    ipv6: bool,
}

impl Prepared {
    async fn make(
        configured: Configured,
        cores: Cores,
        with_demo: bool,
    ) -> Result<Self, StartFailed> {
        let config = &configured.config;
        let files = config.files();
        let ipv6 = has_ipv6();
        let settings = shard_settings(config, &cores.shards, ipv6).map_err(StartFailed::Config)?;
        let folder = take_folder(files.folder()).map_err(failed)?;
        for path in [files.captures(), files.recordings().to_owned()] {
            private_folder(&path).map_err(failed)?;
        }
        let store = open_store(config).await.map_err(failed)?;
        let extensions = first_extensions(config, &*store, with_demo).await.map_err(failed)?;
        recover(&*store, &unsaved(config)).await.map_err(failed)?;
        let left = leftovers(&*store, &files.captures()).await;
        let left = left.map_err(|error| failed(format!("captures: {error}")))?;
        let snapshot = snapshot::build(config, &*store, ipv6, FIRST_GENERATION).await;
        let snapshot = snapshot.map_err(StartFailed::Config)?;
        let users = snapshot.users.len();
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
            left,
            snapshot,
            users,
            listener,
            ipv6,
        })
    }

    /// The tasks round the shards, from where their events go to where questions come from.
    fn run(self, shards: Arc<Shards>) -> Gateway {
        let Self { configured, cores, store, .. } = self;
        let config = &configured.config;
        let board = Arc::new(Board::new(&cores.shards));
        board.counts.published.store(FIRST_GENERATION, Ordering::Relaxed);
        let plane: Arc<dyn Plane> = shards.clone();
        let questions = Arc::new(Questions::new(Arc::clone(&plane)));
        let (writer, cdrs) =
            CdrWriter::start(Arc::clone(&store), Arc::clone(&board), unsaved(config));
        let recordings = config.files().recordings().to_owned();
        let (finalizer, captures) =
            Finalizer::start(Arc::clone(&store), Arc::clone(&board), recordings);
        tokio::spawn(hand_over(self.left, captures.clone()));
        let pump = Pump {
            plane: Arc::clone(&plane),
            board: Arc::clone(&board),
            questions: Arc::clone(&questions),
            cdrs,
            captures,
        };
        let pump = tokio::spawn(pump.run());
        let app = App {
            store: Arc::clone(&store),
            board: Arc::clone(&board),
            questions,
            http: Arc::new(config.http().clone()),
            node: node_name().into(),
        };
        let http = HttpServer::start(self.listener, app);
        let banner = Banner {
            config,
            listeners: shards.listeners(),
            cores: &cores,
            http: http.addr,
            extensions: &self.extensions,
            users: self.users,
        };
        let banner = banner.text();
        let reloader = Reloader {
            file: configured.file,
            started_with: configured.effective,
            store: Arc::clone(&store),
            publisher: Publisher { plane, board: Arc::clone(&board) },
            ipv6: self.ipv6,
        };
        let folder = self.folder;
        Gateway { shards, board, store, reloader, pump, writer, finalizer, http, banner, folder }
    }
}

/// Where call records go that the database did not take.
fn unsaved(config: &Config) -> PathBuf {
    config.files().folder().join("unsaved")
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>, String> {
    let store = match config.files().database() {
        Database::Memory => SqliteStore::in_memory().await,
        Database::Sqlite(path) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                private_folder(folder)?;
            }
            SqliteStore::open(path).await
        }
    };
    Ok(Arc::new(store.map_err(|error| error.to_string())?))
}

/// The extensions that this start made, for the banner.
async fn first_extensions(
    config: &Config,
    store: &dyn Store,
    with_demo: bool,
) -> Result<Vec<Extension>, String> {
    let extensions = if with_demo { demo_extensions(config) } else { Vec::new() };
    let first = store.first_start(&extensions).await.map_err(|error| error.to_string())?;
    Ok(if first { extensions } else { Vec::new() })
}

async fn recover(store: &dyn Store, folder: &Path) -> Result<(), String> {
    let recovered = cdrs::recover(store, folder).await.map_err(|error| error.to_string())?;
    if recovered > 0 {
        tracing::info!(recovered, "call records of an earlier run are stored now");
    }
    Ok(())
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

fn node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[derive(Debug)]
struct HttpServer {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl HttpServer {
    fn start(listener: TcpListener, app: App) -> Self {
        let addr = listener.local_addr().unwrap_or_else(|_| app.http.addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let service = api::router(app).into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(async {
            // A sender that went away without a word asks for the same.
            let _asked = stopped.await;
        });
        Self { addr, stop, task: tokio::spawn(serve.into_future()) }
    }

    async fn stop(mut self) {
        let _nobody_listens = self.stop.send(());
        match timeout(HTTP_PATIENCE, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => tracing::warn!(?ended, "HTTP ended badly"),
            // A client that keeps its connection open does not hold us.
            Err(_) => {
                self.task.abort();
                let _aborted = self.task.await;
            }
        }
    }
}
