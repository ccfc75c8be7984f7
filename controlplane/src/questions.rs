//! Questions and wishes to shards, each with an id and a deadline.
//! Owns:  the questions that wait for answers.
//! Gives: one answer per shard that was asked, or which shards did not answer in time.
//! Never: waits longer than the deadline; a late answer is dropped.
//! Holds: at most `WAITING_MAX` questions wait at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::command::{Command, Question};
use shared::event::Answer;
use shared::ids::ShardId;
use shared::originate::{Originate, Originated};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::plane::{Plane, shards};

/// A shard answers within a turn; one that needs a second is stuck or gone.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Askers are HTTP requests: more than this many at once is a flood.
const WAITING_MAX: usize = 256;

#[derive(Debug)]
pub struct Questions {
    plane: Arc<dyn Plane>,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<(ShardId, Answer)>>>,
}

/// Not every shard answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// These did not answer within the deadline.
    Late(Vec<ShardId>),
    /// The queue of this shard is full.
    QueueFull(ShardId),
    TooMany,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(shards) => {
                let shards: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
                write!(f, "shard {} did not answer within 1 s", shards.join(", "))
            }
            Self::QueueFull(shard) => write!(f, "the queue of shard {} is full", shard.0),
            Self::TooMany => f.write_str("too many questions wait for the shards"),
        }
    }
}

impl std::error::Error for Unanswered {}

impl Questions {
    pub fn new(plane: Arc<dyn Plane>) -> Self {
        Self { plane, next_id: AtomicU64::new(1), waiting: Mutex::default() }
    }

    pub fn shards(&self) -> u8 {
        self.plane.count()
    }

    /// Asks every shard; the answers come in no particular order.
    pub async fn ask(&self, question: Question) -> Result<Vec<Answer>, Unanswered> {
        let all = shards(&*self.plane).collect();
        self.exchange(all, |id| Command::Ask { id, question: question.clone() }).await
    }

    /// Asks one shard for a call; says what became of the wish.
    pub async fn originate(
        &self,
        shard: ShardId,
        wanted: Originate,
    ) -> Result<Originated, Unanswered> {
        let command = |id| Command::Originate { id, wanted: Box::new(wanted.clone()) };
        let answers = self.exchange(vec![shard], command).await?;
        let said = answers.into_iter().find_map(|answer| match answer {
            Answer::Originated(originated) => Some(originated),
            _ => None,
        });
        said.ok_or_else(|| Unanswered::Late(vec![shard]))
    }

    /// Sends one command to each of `asked` and waits for all their answers.
    async fn exchange(
        &self,
        asked: Vec<ShardId>,
        command: impl Fn(u64) -> Command,
    ) -> Result<Vec<Answer>, Unanswered> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(asked.len().max(1));
        {
            let mut waiting = self.waiting();
            if waiting.len() >= WAITING_MAX {
                return Err(Unanswered::TooMany);
            }
            waiting.insert(id, sender);
        }
        let _forget = Forget { questions: self, id };
        for &shard in &asked {
            self.plane.send(shard, command(id)).map_err(|_| Unanswered::QueueFull(shard))?;
        }
        let deadline = Instant::now() + DEADLINE;
        let mut answers = Vec::with_capacity(asked.len());
        let mut missing = asked;
        while !missing.is_empty() {
            let Ok(Some((shard, answer))) = timeout_at(deadline, receiver.recv()).await else {
                return Err(Unanswered::Late(missing));
            };
            missing.retain(|other| *other != shard);
            answers.push(answer);
        }
        Ok(answers)
    }

    /// An answer came. Nobody may be waiting any more.
    pub fn answer(&self, id: u64, shard: ShardId, answer: Answer) {
        if let Some(asker) = self.waiting().get(&id) {
            // Room for one answer per shard: a full queue means a shard that answered twice.
            if asker.try_send((shard, answer)).is_err() {
                tracing::debug!(shard = shard.0, id, "an answer came when nobody waited");
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<(ShardId, Answer)>>> {
        // The map is whole between any two statements that hold the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a question however its asker ends, a closed HTTP connection included.
struct Forget<'q> {
    questions: &'q Questions,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.questions.waiting().remove(&self.id);
    }
}
