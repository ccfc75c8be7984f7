//! Starting the data plane: checks, sockets, queues, then one thread per shard.
//! Owns:  the order of the start and what is undone when a part of it fails.
//! Gives: `Shards`, all of them running; or one `StartError` and nothing left behind.
//! Never: a shard that runs while another failed to start.
//! Holds: shards start one after the other, so that each failure has one cause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use shared::command::Command;
use shared::ids::ShardId;
use shared::net::Transport;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;

use crate::bell::{Bell, Buzzer};
use crate::clock::Clock;
use crate::executor::{self, Start};
use crate::journal;
use crate::keys::Keys;
use crate::link::Link;
use crate::listeners::{self, Addresses, Listener, Listeners};
use crate::mesh;
use crate::preflight;
use crate::shards::Shards;
use crate::sipflow;
use crate::start_error::StartError;

/// An executor is up within milliseconds; short memory is retried for two seconds.
const START_WAIT: Duration = Duration::from_secs(15);
const PORT_TRIES: u32 = 10;
const PORT_WAIT: Duration = Duration::from_millis(100);

type Report = Result<(), StartError>;

/// Starts one shard per settings, in order: `settings[n]` is shard n.
pub fn spawn(
    mut settings: Vec<ShardSettings>,
    snapshot: Arc<Snapshot>,
) -> Result<Shards, StartError> {
    let around = preflight::check(&settings)?;
    let files = settings[0].tls_files.clone();
    let keys = files.as_ref().map(Keys::read).transpose()?.map(Arc::new);
    let all = open_listeners(&settings)?;
    // Port 0 in the settings is a real port from here on: the core writes it into Via and Contact.
    for (settings, listeners) in settings.iter_mut().zip(&all) {
        settings.udp = addresses(&listeners.udp);
        settings.tcp = addresses(&listeners.tcp);
        settings.tls = addresses(&listeners.tls);
        settings.web.ws = addresses(&listeners.ws);
        settings.web.wss = addresses(&listeners.wss);
    }
    let bells = settings.iter().map(|s| Ok(Arc::new(Bell::new().map_err(no_eventfd(s.shard))?)));
    let bells: Vec<Arc<Bell>> = bells.collect::<Result<_, StartError>>()?;
    let buzzer = Arc::new(Buzzer::new().map_err(no_eventfd(ShardId(0)))?);
    let (journals, keeper) = journal::open(&settings)?;
    let (flows, writer) = sipflow::open(&settings)?;
    let clock = Clock::start();
    let mut shards =
        Shards::new(Arc::clone(&buzzer), bound(&settings[0]), keeper, writer, keys.clone());
    let files = journals.into_iter().zip(flows);
    let mut parts = settings.into_iter().zip(all).zip(mesh::weave(&bells)).zip(bells).zip(files);
    let mut failed = None;
    for ((((settings, listeners), mesh), bell), (journal, sipflow)) in &mut parts {
        let link = Arc::new(Link::new(bell, Arc::clone(&buzzer)));
        let start = Start {
            settings: Arc::new(settings),
            snapshot: Arc::new(snapshot.for_shard()),
            listeners,
            keys: keys.clone(),
            mesh,
            link: Arc::clone(&link),
            clock,
            journal,
            sipflow,
            around: around.clone(),
        };
        if let Err(error) = start_one(&mut shards, start, link) {
            failed = Some(error);
            break;
        }
    }
    // The keeper waits for every journal, the writer for every flow, of shards that were not started, too.
    drop(parts);
    let Some(error) = failed else { return Ok(shards) };
    shards.broadcast(Command::Stop);
    shards.join();
    Err(error)
}

/// The kernel lets go of the sockets of a process that was killed a little after it ended, so a port
/// is only taken when it stays taken.
fn open_listeners(settings: &[ShardSettings]) -> Result<Vec<Listeners>, StartError> {
    let mut tries = PORT_TRIES;
    loop {
        let ShardSettings { udp, tcp, tls, web, .. } = &settings[0];
        let at = Addresses { udp, tcp, tls, ws: &web.ws, wss: &web.wss };
        match listeners::open(at, settings.len()) {
            Err(StartError::PortTaken { .. }) if tries > 1 => {
                tries -= 1;
                thread::sleep(PORT_WAIT);
            }
            outcome => return outcome,
        }
    }
}

fn start_one(shards: &mut Shards, start: Start, link: Arc<Link>) -> Result<(), StartError> {
    let shard = start.settings.shard;
    let reports = Arc::new(ArrayQueue::<Report>::new(1));
    let (theirs, starter) = (Arc::clone(&reports), thread::current());
    let buzzer = Arc::clone(&link.buzzer);
    let thread = thread::Builder::new()
        .name(format!("shard-{}", shard.0))
        .spawn(move || {
            let waking = starter.clone();
            let report = move |outcome| {
                theirs.force_push(outcome);
                waking.unpark();
            };
            let _ended = Ended { buzzer, starter };
            executor::run(start, report)
        })
        .map_err(|error| StartError::Executor { shard, reason: error.to_string() })?;
    let give_up_at = Instant::now() + START_WAIT;
    loop {
        let gone = thread.is_finished();
        match reports.pop() {
            Some(Ok(())) => {
                shards.add(link, thread);
                return Ok(());
            }
            Some(Err(error)) => return Err(error),
            None if gone => {
                let reason = match thread.join() {
                    Ok(outcome) => format!("{outcome:?}"),
                    Err(panic) => crate::shards::message_of(panic.as_ref()),
                };
                return Err(StartError::Executor { shard, reason });
            }
            None if Instant::now() >= give_up_at => return Err(StartError::TimedOut { shard }),
            None => thread::park_timeout(Duration::from_millis(100)),
        }
    }
}

/// Tells whoever waits that this thread ends, by whatever way.
struct Ended {
    buzzer: Arc<Buzzer>,
    starter: thread::Thread,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.buzzer.buzz();
        self.starter.unpark();
    }
}

fn bound(settings: &ShardSettings) -> Vec<(Transport, SocketAddr)> {
    let udp = settings.udp.iter().map(|address| (Transport::Udp, *address));
    let tcp = settings.tcp.iter().map(|address| (Transport::Tcp, *address));
    let tls = settings.tls.iter().map(|address| (Transport::Tls, *address));
    let ws = settings.web.ws.iter().map(|address| (Transport::Ws, *address));
    let wss = settings.web.wss.iter().map(|address| (Transport::Wss, *address));
    udp.chain(tcp).chain(tls).chain(ws).chain(wss).collect()
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().map(|listener| listener.local).collect()
}

fn no_eventfd(shard: ShardId) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError::Ring { shard, reason: format!("wake-up: {error}") }
}
