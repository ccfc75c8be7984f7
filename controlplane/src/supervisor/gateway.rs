//! A running gateway: shards, pump, journal, finalizer, HTTP, in their order.
//! Owns:  everything that runs, and the lock on the data folder.
//! Gives: `start`, `drain`, `stop`; what the banner says.
//! Never: a signal or an exit code; `serve` and the demo have theirs.
//! Holds: nothing is taken from a shard before what it goes to is there, and the other way round at
//!        the end: the pump ends before the journal's readers, they before the database.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shard::{Shards, StartError};
use shared::command::Command;
use shared::config::Config;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::time::WallMs;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::ServeOptions;
use super::banner::Banner;
use super::cores::{self, Cores};
use super::deciding::Deciding;
use super::ending::Ending;
use super::http_server::HttpServer;
use super::keeping::Keeping;
use super::outward::Outward;
use super::prepared::{Prepared, StartFailed, failed};
use super::reload::Reloader;
use super::snapshot::Publisher;
use crate::access::Access;
use crate::api::App;
use crate::board::{Board, FIRST_GENERATION, Stage};
use crate::configuration::Configured;
use crate::directory::{Contents, Directory, Kind, Surroundings};
use crate::journal::{self, Journal, Taps};
use crate::news::News;
use crate::plane::{Plane, shards};
use crate::pump::Pump;
use crate::questions::Questions;
use crate::sipflow::Ladders;
use crate::store::{EXTENSIONS, Store, now_ms};
use crate::webhooks::Client;
use crate::webhooks::outbox::Deliveries;

/// How long a port that is taken may take to come free.
const PORT_PATIENCE: Duration = Duration::from_secs(3);
const PORT_AGAIN: Duration = Duration::from_millis(100);
/// A shard that has not started by then will not.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// For BYEs, last packets and files after `Stop`.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// For what the shards reported last.
const PUMP_PATIENCE: Duration = Duration::from_secs(5);
/// For call records when the shards are gone.
const CDR_PATIENCE: Duration = Duration::from_secs(10);
const RECORDING_PATIENCE: Duration = Duration::from_secs(20);
/// Between two offers of a command to a shard whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Gateway {
    shards: Arc<Shards>,
    board: Arc<Board>,
    store: Arc<dyn Store>,
    reloader: Arc<Reloader>,
    ending: Arc<Ending>,
    pump: JoinHandle<()>,
    pump_ended: watch::Receiver<bool>,
    journal: Journal,
    keeping: Keeping,
    deciding: Deciding,
    outward: Outward,
    news: Arc<News>,
    /// Looks names of trunks up again.
    names: JoinHandle<()>,
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
        options: ServeOptions,
    ) -> Result<Self, StartFailed> {
        // On a thread of the control plane: the database's threads inherit its CPUs.
        let prepared = tokio::spawn(Prepared::make(configured, cores, options.demo_extensions));
        let mut prepared = prepared.await.map_err(|error| failed(error.to_string()))??;
        let snapshot = Arc::new(prepared.contents.snapshot(FIRST_GENERATION));
        let shards = spawn_shards(&prepared.settings, &snapshot).await;
        let shards = Arc::new(shards.map_err(|error| failed(error.to_string()))?);
        let stored = prepared.store.first_start(&prepared.extensions).await;
        stored.map_err(|error| failed(error.to_string()))?;
        if let Some(user) = &prepared.first_user {
            let stored = prepared.store.add_first_user(user.name, &user.hash).await;
            stored.map_err(|error| failed(error.to_string()))?;
        }
        // With the numbers that the database gave to the extensions of this start.
        let rows = prepared.store.rows(&EXTENSIONS).await;
        let rows = rows.map_err(|error| failed(error.to_string()))?;
        prepared.contents = prepared.contents.with_rows(Kind::Extension, rows);
        // From here on this thread belongs to the control plane too.
        cores::pin_here(&prepared.cores.control).map_err(|error| failed(error.to_string()))?;
        Self::run(prepared, shards, options.drain).started().await
    }

    /// The tasks round the shards, from where their events go to where questions come from.
    fn run(mut prepared: Prepared, shards: Arc<Shards>, drain: Duration) -> Self {
        let (board, plane): (_, Arc<dyn Plane>) = (first_board(&prepared.cores), shards.clone());
        let deciding = Deciding::start(&prepared, &plane, &board);
        let (outward, registrations) = Outward::start(&prepared, &board);
        let (keeping, captures) = Keeping::start(&mut prepared, &plane, &board);
        let (journal, taps) = start_journal(&prepared, &board);
        let Prepared { configured, cores, store, deliveries, client, .. } = prepared;
        let config = &configured.config.clone();
        let questions = Arc::new(Questions::new(Arc::clone(&plane)));
        let news = Arc::new(News::new(WallMs(now_ms())));
        let (pump, pump_ended) = start_pump(Pump {
            plane: Arc::clone(&plane),
            board: Arc::clone(&board),
            questions: Arc::clone(&questions),
            news: Arc::clone(&news),
            journal: taps,
            captures,
            decider: Arc::clone(&deciding.decider),
            registrations,
        });
        let publisher = Publisher::new(plane, Arc::clone(&board)).telling(Arc::clone(&news));
        let directory = directory(prepared.contents, &store, publisher, prepared.surroundings);
        let access = access(config, &store);
        let reloader = reloader(configured, client, &access, &directory, &deciding, &deliveries);
        let ending = Arc::new(Ending::new(drain));
        let app = App {
            access,
            store: Arc::clone(&store),
            board: Arc::clone(&board),
            questions,
            deliveries,
            directory: Arc::clone(&directory),
            reloader: Arc::clone(&reloader),
            ending: Arc::clone(&ending),
            news: Arc::clone(&news),
            http: Arc::new(config.http().clone()),
            captures: config.files().captures().into(),
            prompts: config.files().prompts().into(),
            archive: Arc::clone(&keeping.archive),
            ladders: ladders(config),
            node: node_name().into(),
        };
        let http = HttpServer::start(prepared.listener, app);
        Self {
            banner: Banner {
                config,
                listeners: shards.listeners(),
                cores: &cores,
                http: http.addr,
                first_user: prepared.first_user.as_ref(),
                extensions: &prepared.extensions,
                users: directory.contents().counts().users,
            }
            .text(),
            shards,
            board,
            store,
            reloader,
            ending,
            pump,
            pump_ended,
            journal,
            keeping,
            deciding,
            outward,
            news,
            http,
            names: directory.watch_names(),
            folder: prepared.folder,
        }
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

    pub const fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Where a program's wish for the end arrives.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub const fn http_addr(&self) -> SocketAddr {
        self.http.addr
    }

    /// Waits for the end of the event pump, which comes before `stop` only when something broke.
    pub async fn broken(&self) {
        let mut ended = self.pump_ended.clone();
        // A sender that is gone without a word is a panic of the pump.
        let _panicked = ended.wait_for(|ended| *ended).await;
    }

    /// No new calls; returns when the last one has ended, or after `patience`.
    pub async fn drain(&self, patience: Duration) {
        self.board.counts.draining.store(true, Ordering::Relaxed);
        tracing::info!(seconds = patience.as_secs(), "draining: no new calls");
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
        self.names.abort();
        // Streams of events end here; an open one would hold up the server.
        self.news.close();
        self.http.stop().await;
        // It ends by itself when every shard has stopped, and with it the queues behind it.
        let mut pump = self.pump;
        let ended = match timeout(PUMP_PATIENCE, &mut pump).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                // It may wait for the database: what that does not take goes to a file.
                self.outward.hurry();
                timeout(STOP_DEADLINE, &mut pump).await.ok()
            }
        };
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(%error, "the event pump ended badly"),
            None => {
                tracing::error!("the event pump does not end; events of a stuck shard are lost");
                pump.abort();
                let _aborted = pump.await;
            }
        }
        let stopped = self.board.every(|shard| shard.stage == Stage::Stopped);
        self.journal.finish(CDR_PATIENCE, stopped).await;
        self.keeping.finish(RECORDING_PATIENCE).await;
        self.deciding.finish(CDR_PATIENCE).await;
        self.outward.finish(CDR_PATIENCE).await;
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

fn start_journal(prepared: &Prepared, board: &Arc<Board>) -> (Journal, Taps) {
    let (config, settings) = (&prepared.configured.config, &prepared.settings);
    let (store, deliveries) = (Arc::clone(&prepared.store), Arc::clone(&prepared.deliveries));
    Journal::start(journal::Setup {
        sink: Arc::new(journal::Database { store, deliveries }),
        board: Arc::clone(board),
        folder: config.files().journal(),
        run: settings.first().map_or(0, |shard| shard.journal.run),
        shards: u8::try_from(settings.len()).unwrap_or(u8::MAX),
    })
}

/// What programs may change; the shards serve these contents already.
fn directory(
    contents: Contents,
    store: &Arc<dyn Store>,
    publisher: Publisher,
    surroundings: Surroundings,
) -> Arc<Directory> {
    let store = Arc::clone(store);
    Arc::new(Directory::new(contents, FIRST_GENERATION, store, publisher, surroundings))
}

fn reloader(
    configured: Configured,
    client: Arc<Client>,
    access: &Arc<Access>,
    directory: &Arc<Directory>,
    deciding: &Deciding,
    deliveries: &Arc<Deliveries>,
) -> Arc<Reloader> {
    Arc::new(Reloader::new(
        configured,
        Arc::clone(access),
        Arc::clone(directory),
        client,
        Arc::clone(&deciding.decider),
        Arc::clone(deliveries),
    ))
}

/// Who may ask over HTTP.
fn access(config: &Config, store: &Arc<dyn Store>) -> Arc<Access> {
    let access = Access::new(Arc::clone(store), config.http().api_tokens());
    access.set_ami_allows(config.http().ami_allows());
    Arc::new(access)
}

/// With the generation that the shards are started with.
fn first_board(cores: &Cores) -> Arc<Board> {
    let board = Board::new(&cores.shards);
    board.counts.published.store(FIRST_GENERATION, Ordering::Relaxed);
    Arc::new(board)
}

/// The pump as a task, and the word that it has ended.
fn start_pump(pump: Pump) -> (JoinHandle<()>, watch::Receiver<bool>) {
    let (ended, pump_ended) = watch::channel(false);
    let task = tokio::spawn(async move {
        if let Err(error) = pump.run().await {
            tracing::error!(%error, "the event pump failed");
        }
        ended.send_replace(true);
    });
    (task, pump_ended)
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

/// A process that was killed leaves its ring to the kernel, which lets go of the ring's sockets some
/// time after the process is gone: a restart right after it finds its own ports taken.
async fn spawn_shards(
    settings: &[ShardSettings],
    snapshot: &Arc<Snapshot>,
) -> Result<Shards, StartError> {
    let give_up_at = Instant::now() + PORT_PATIENCE;
    loop {
        match shard::spawn(settings.to_vec(), Arc::clone(snapshot)) {
            Err(StartError::PortTaken { .. }) if Instant::now() < give_up_at => {
                tokio::time::sleep(PORT_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

fn ladders(config: &Config) -> Arc<Ladders> {
    Arc::new(Ladders::new(config.messages().map(|kept| kept.folder.clone())))
}

fn node_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
