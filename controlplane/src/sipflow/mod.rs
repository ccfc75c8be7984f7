//! The SIP flow of a call, read back: what passed, oldest first, without anybody's secrets.
//! Owns:  the wait for what is on its way to the disk; how many read at a time.
//! Gives: `Ladders::of` a call record; `ladder` makes JSON of it, `pcap` a capture file.
//! Never: an index; a call's record names its newest message, and that one those before it.
//! Holds: an answer has bounds in messages, bytes and time, and says what it lacks.

mod chain;
pub mod ladder;
pub mod mask;
pub mod pcap;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::cdr::Cdr;
use shared::ids::Side;
use shared::net::Transport;
use shared::time::WallMs;
use tokio::sync::Semaphore;
use tokio::time::sleep;

pub use chain::{Asked, read};

use crate::store::now_ms;

/// Answers that are read at a time: each may look at 64 MiB.
const READERS_MAX: usize = 2;
/// A message is on the disk so long after it passed, and so is the answer to the last one.
const SETTLE_MS: i64 = 500;
/// For a writer that is behind.
const TRIES: u32 = 10;
const TRY_WAIT: Duration = Duration::from_millis(100);
/// Repeats and late answers of a call that has ended: 64*T1 and a little (RFC 3261 17).
const TAIL_MS: u64 = 40_000;

/// Where messages are kept, if anywhere.
#[derive(Debug)]
pub struct Ladders {
    folder: Option<PathBuf>,
    readers: Arc<Semaphore>,
}

/// What there is of a call.
#[derive(Debug, Default)]
pub struct Flow {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Messages that were not kept, as far as those that were say so.
    pub dropped: u64,
    pub missing: Vec<Missing>,
}

/// One message that passed. Secrets in it are masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub at: WallMs,
    /// The side of the leg that it came from or went to.
    pub side: Side,
    /// It came; else the gateway sent it.
    pub came: bool,
    pub transport: Transport,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub raw: Vec<u8>,
}

/// What an answer lacks, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A part of a file is not what was written there.
    Damaged,
    /// Nothing of it was kept, or it is of a time before messages were.
    Everything,
    /// The files are gone: time or room for them was over.
    Expired,
    /// There is more of it than an answer may have: the oldest are left out.
    Limit,
    /// The look for what came after the call's end was broken off.
    Tail,
    /// Messages are not kept: `[sipflow] enabled = false`.
    Off,
    /// The newest were not written: the writer is behind, or the process was killed before.
    Unwritten,
}

impl Missing {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "a file is damaged: messages before that place are not found",
            Self::Everything => {
                "no message of this call was kept: the disk was full, or sipflow was off"
            }
            Self::Expired => "older messages are gone: sipflow.ttl_secs or sipflow.max_size_mb",
            Self::Limit => {
                "the oldest messages are left out: an answer has at most 2000, and 2 MiB"
            }
            Self::Tail => "what came after the end of the call was not looked for to the last",
            Self::Off => "messages are not kept: sipflow.enabled is false",
            Self::Unwritten => "the newest messages are not on the disk",
        }
    }
}

impl Message {
    pub const fn source(&self) -> SocketAddr {
        if self.came { self.peer } else { self.local }
    }

    pub const fn target(&self) -> SocketAddr {
        if self.came { self.local } else { self.peer }
    }
}

impl Ladders {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Messages are kept.
    pub const fn is_on(&self) -> bool {
        self.folder.is_some()
    }

    /// # Errors
    /// What the log should hear: a file that is there cannot be read.
    pub async fn of(&self, cdr: &Cdr) -> Result<Flow, String> {
        let only = |missing| Ok(Flow { missing: vec![missing], ..Flow::default() });
        let Some(folder) = &self.folder else { return only(Missing::Off) };
        let Some(place) = cdr.sip_flow else { return only(Missing::Everything) };
        let fresh_ms = cdr.end_time.0.saturating_add(SETTLE_MS).saturating_sub(now_ms());
        sleep(Duration::from_millis(fresh_ms.clamp(0, SETTLE_MS).unsigned_abs())).await;
        let _reading = self.readers.acquire().await.map_err(|error| error.to_string())?;
        let asked = Asked { place, call: cdr.session_id, until: cdr.end_time.add_ms(TAIL_MS) };
        let mut tries = 0;
        loop {
            let folder = folder.clone();
            let read = tokio::task::spawn_blocking(move || read(&folder, &asked)).await;
            let flow = read.map_err(|error| error.to_string())?;
            let flow = flow.map_err(|error| format!("SIP flow of {}: {error}", asked.call))?;
            tries += 1;
            if !flow.missing.contains(&Missing::Unwritten) || tries == TRIES {
                return Ok(flow);
            }
            sleep(TRY_WAIT).await;
        }
    }
}
