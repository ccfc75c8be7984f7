//! The supervisor: starts everything in order, keeps it running, ends it in order.
//! Owns:  `serve` (the process: threads, signals), the order of start and end in `gateway`.
//! Gives: the exit code.
//! Never: waits for ever: every step of the end has a bound.
//! Holds: what a shard reported before it stopped is stored before the process ends.

mod banner;
mod cores;
mod deciding;
mod ending;
mod first_start;
mod gateway;
mod http_server;
mod keeping;
mod outward;
mod prepared;
mod reload;
mod settings;
mod snapshot;

use std::io;
use std::time::Duration;

use shared::config::{ControlCpus, ShardCpus};
use shared::event::Severity;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use cores::Cores;
pub use ending::Ending;
pub(crate) use first_start::private_folder;
pub use gateway::Gateway;
pub use prepared::StartFailed;
pub use reload::{NotReloaded, Reloaded, Reloader};
pub use snapshot::Publisher;

use crate::cli::{say, say_err};
use crate::configuration::{self, Configured};
use crate::exit::Exit;
use crate::logs;

#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// How long standing calls may go on after the first signal.
    pub drain: Duration,
    /// Add the demo extensions on the first start.
    pub demo_extensions: bool,
}

/// The whole process, from a checked configuration to its exit code.
pub fn serve(configured: Configured, options: ServeOptions) -> Exit {
    let files = configured.config.files();
    if let Err(reason) = logs::start(files.log_level(), files.log_file()) {
        say_err(&reason);
        return Exit::ConfigInvalid;
    }
    log_problems(&configured);
    let dataplane = configured.config.dataplane();
    let cores = cores::allowed()
        .map_err(|error| error.to_string())
        .and_then(|all| cores::choose(&all, dataplane.cores(), dataplane.control_cores()));
    let cores = match cores {
        Ok(cores) => cores,
        Err(reason) => {
            say_err(&reason);
            return Exit::ConfigInvalid;
        }
    };
    if cores.overlap() {
        tracing::warn!("a CPU serves a shard and the control plane: media may wait for either");
    }
    let runtime = match runtime(&cores) {
        Ok(runtime) => runtime,
        Err(error) => {
            say_err(&format!("the runtime of the control plane: {error}"));
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(run(configured, cores, options));
    // What still blocks is a recording; the next start makes it from its capture.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// The CPUs of a gateway whose configuration names none.
pub(crate) fn default_cores() -> Result<Cores, String> {
    let allowed = cores::allowed().map_err(|error| error.to_string())?;
    cores::choose(&allowed, &ShardCpus::Auto, &ControlCpus::Rest)
}

/// tokio on the control plane's CPUs. Its threads pin themselves, and what they start inherits it.
pub(crate) fn runtime(cores: &Cores) -> io::Result<Runtime> {
    let cpus = cores.control.clone();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.control.len().clamp(1, 8))
        .thread_name("control")
        .on_thread_start(move || {
            if let Err(error) = cores::pin_here(&cpus) {
                tracing::warn!(%error, "a thread of the control plane is not pinned");
            }
        })
        .enable_all()
        .build()
}

/// Unused keys in one line; everything else as it is.
fn log_problems(configured: &Configured) {
    let problems = &configured.problems;
    for problem in problems.iter().filter(|problem| problem.severity == Severity::Warning) {
        tracing::warn!("{problem}");
    }
    if problems.iter().any(|problem| problem.severity == Severity::Info) {
        let verdict = configuration::verdict(problems);
        tracing::info!("{verdict}; ringgate check-config lists them");
    }
}

async fn run(configured: Configured, cores: Cores, options: ServeOptions) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            say_err(&format!("signals: {error}"));
            return Exit::Failed;
        }
    };
    let gateway = match Gateway::start(configured, cores, options).await {
        Ok(gateway) => gateway,
        Err(failed) => {
            say_err(&failed.to_string());
            return failed.exit();
        }
    };
    say(&gateway.banner());
    let drain = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => gateway.reloader().reload_and_log().await,
                Asked::End => break Some(options.drain),
            },
            drain = gateway.ending().asked() => break Some(drain),
            () = gateway.broken() => break None,
        }
    };
    let Some(drain) = drain else {
        // Nothing that a shard reports is heard any more: calls must not go on like this.
        tracing::error!("the control plane is broken; the gateway ends");
        gateway.stop().await;
        return Exit::Failed;
    };
    let ended_early = tokio::select! {
        () = gateway.drain(drain) => false,
        () = signals.end() => true,
    };
    if ended_early {
        tracing::warn!("asked again: standing calls are ended");
    }
    tokio::select! {
        () = gateway.stop() => {}
        () = signals.end() => {
            tracing::error!("asked again while stopping: what is not stored yet may be lost");
            return Exit::Failed;
        }
    }
    if ended_early { Exit::Failed } else { Exit::Ok }
}

enum Asked {
    End,
    Reload,
}

struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
        }
    }

    /// Waits for an end; a reload while draining changes nothing.
    async fn end(&mut self) {
        while matches!(self.next().await, Asked::Reload) {}
    }
}
