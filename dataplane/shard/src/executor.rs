//! The thread of one shard: a glommio executor pinned to its CPU, with the shell as its only task.
//! Owns:  the executor's settings and the entry of the thread.
//! Gives: one report, started or why not; then the shell runs until it is told to stop.
//! Never: glommio's defaults: they lock 30 MiB per executor.
//! Holds: a failure before the report is a `StartError`, a later one is the thread's result.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use shared::ids::ShardId;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;

use crate::clock::Clock;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::link::Link;
use crate::listeners::Listeners;
use crate::mesh::Mesh;
use crate::shards::message_of;
use crate::shell::Shell;
use crate::sipflow::SipFlow;
use crate::start_error::{self, StartError, Surroundings};

/// Registered with each of glommio's three rings. Files are written in chunks that we own, so the
/// executor needs its own memory for next to nothing.
const IO_MEMORY_BYTES: usize = 64 * 1_024;
const RING_DEPTH: usize = 256;
/// The executor must not be interrupted. glommio arms this timer, then looks whether it has run out, and
/// if so runs no task and goes to sleep over those that are ready, with no timer at all. A thread that
/// does not get its CPU for so long between the two, on a busy host, slept for good.
const INTERRUPT_NEVER: Duration = Duration::from_secs(30 * 86_400);
/// A timer that is always armed: whatever else makes glommio sleep over ready tasks costs so much.
const GUARD: Duration = Duration::from_secs(1);
/// The kernel frees the rings of a process that just ended a little after it ended, so a ring for
/// which there is no memory is tried again for two seconds.
pub(crate) const MEMORY_TRIES: u32 = 20;
pub(crate) const MEMORY_WAIT: Duration = Duration::from_millis(100);

/// What one shard is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) settings: Arc<ShardSettings>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) listeners: Listeners,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) mesh: Mesh,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) sipflow: Option<SipFlow>,
    pub(crate) around: Surroundings,
}

/// Runs a shard on the calling thread. `report` is called once, before the first turn.
pub(crate) fn run(
    start: Start,
    report: impl FnOnce(Result<(), StartError>) + 'static,
) -> Result<(), String> {
    let shard = start.settings.shard;
    let executor = match make(shard, start.settings.cpu, &start.around) {
        Ok(executor) => executor,
        Err(error) => {
            report(Err(error));
            return Ok(());
        }
    };
    executor.run(async move {
        let around = start.around.clone();
        glommio::spawn_local(async {
            loop {
                glommio::timer::sleep(GUARD).await;
            }
        })
        .detach();
        match Shell::new(start) {
            Ok((shell, pools)) => {
                report(Ok(()));
                shell.run(pools).await
            }
            Err(error) => {
                report(Err(start_error::of_ring(shard, error, &around)));
                Ok(())
            }
        }
    })
}

fn make(shard: ShardId, cpu: usize, around: &Surroundings) -> Result<LocalExecutor, StartError> {
    let mut tries = MEMORY_TRIES;
    loop {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("shard-{}", shard.0))
            .io_memory(IO_MEMORY_BYTES)
            .preempt_timer(INTERRUPT_NEVER)
            .ring_depth(RING_DEPTH);
        // glommio panics where its own probe of the kernel fails.
        let reason = match catch_unwind(AssertUnwindSafe(|| builder.make())) {
            Ok(Ok(executor)) => return Ok(executor),
            Ok(Err(error)) if tries > 1 && is_short_of_memory(&error) => {
                tries -= 1;
                std::thread::sleep(MEMORY_WAIT);
                continue;
            }
            Ok(Err(error)) if is_short_of_memory(&error) => {
                return Err(StartError::LockedMemory {
                    limit: around.locked_limit,
                    needed: around.locked_needed,
                });
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => message_of(panic.as_ref()),
        };
        return Err(StartError::Executor { shard, reason });
    }
}

fn is_short_of_memory(error: &GlommioError<()>) -> bool {
    match error {
        GlommioError::IoError(error) => error.raw_os_error() == Some(libc::ENOMEM),
        GlommioError::EnhancedIoError { source, .. } => {
            io::Error::raw_os_error(source) == Some(libc::ENOMEM)
        }
        _ => false,
    }
}
