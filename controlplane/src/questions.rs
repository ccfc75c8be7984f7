//! Questions, wishes and acts on calls, sent to shards, each with an id and a deadline.
//! Owns:  those that wait for answers.
//! Gives: one answer per shard that was asked, or which shards did not answer in time.
//! Never: waits longer than the deadline; a late answer is dropped.
//! Holds: at most `ASKS_MAX` questions and `ACTS_MAX` acts wait at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::act::{Acted, CallAction, CallName};
use shared::command::{Command, Question};
use shared::event::Answer;
use shared::ids::ShardId;
use shared::limits::ACT_WAIT_MAX;
use shared::originate::{Originate, Originated};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::plane::{Plane, shards};

/// A shard answers within a turn; one that needs a second is stuck or gone.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Askers are HTTP requests: more than this many at once is a flood.
const ASKS_MAX: usize = 256;
/// Acts wait for phones, some of them for seconds.
const ACTS_MAX: usize = 1_024;

#[derive(Debug)]
pub struct Questions {
    plane: Arc<dyn Plane>,
    next_id: AtomicU64,
    asks: Semaphore,
    acts: Semaphore,
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
                write!(f, "shard {} did not answer in time", shards.join(", "))
            }
            Self::QueueFull(shard) => write!(f, "the queue of shard {} is full", shard.0),
            Self::TooMany => f.write_str("too many questions wait for the shards"),
        }
    }
}

impl std::error::Error for Unanswered {}

impl Questions {
    pub fn new(plane: Arc<dyn Plane>) -> Self {
        Self {
            plane,
            next_id: AtomicU64::new(1),
            asks: Semaphore::new(ASKS_MAX),
            acts: Semaphore::new(ACTS_MAX),
            waiting: Mutex::default(),
        }
    }

    pub fn shards(&self) -> u8 {
        self.plane.count()
    }

    /// Asks every shard; the answers come in no particular order.
    pub async fn ask(&self, question: Question) -> Result<Vec<Answer>, Unanswered> {
        let _place = self.asks.try_acquire().map_err(|_| Unanswered::TooMany)?;
        let command = |id| Command::Ask { id, question: question.clone() };
        let answers = self.exchange(self.all(), DEADLINE, command, |_| false).await?;
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Asks one shard, where any one knows.
    pub async fn ask_one(&self, shard: ShardId, question: Question) -> Result<Answer, Unanswered> {
        let _place = self.asks.try_acquire().map_err(|_| Unanswered::TooMany)?;
        let command = |id| Command::Ask { id, question: question.clone() };
        let answers = self.exchange(vec![shard], DEADLINE, command, |_| false).await?;
        let first = answers.into_iter().next().map(|(_, answer)| answer);
        first.ok_or_else(|| Unanswered::Late(vec![shard]))
    }

    /// Asks one shard for a call; says what became of the wish.
    pub async fn originate(
        &self,
        shard: ShardId,
        wanted: Originate,
    ) -> Result<Originated, Unanswered> {
        let _place = self.asks.try_acquire().map_err(|_| Unanswered::TooMany)?;
        let command = |id| Command::Originate { id, wanted: Box::new(wanted.clone()) };
        let answers = self.exchange(vec![shard], DEADLINE, command, |_| false).await?;
        let said = answers.into_iter().find_map(|(_, answer)| match answer {
            Answer::Originated(originated) => Some(originated),
            _ => None,
        });
        said.ok_or_else(|| Unanswered::Late(vec![shard]))
    }

    /// Acts on the call of that name, wherever it is; gives its shard and what became of the act.
    pub async fn act(
        &self,
        name: &CallName,
        action: &CallAction,
    ) -> Result<(Option<ShardId>, Acted), Unanswered> {
        let _place = self.acts.try_acquire().map_err(|_| Unanswered::TooMany)?;
        if let CallName::Id(id) = name
            && id.shard().0 < self.plane.count()
        {
            let found = self.act_on(vec![id.shard()], name.clone(), action).await?;
            if found.1 != Acted::UnknownCall {
                return Ok(found);
            }
        }
        // A phone may use Call-IDs that look like ours.
        let name = match name {
            CallName::Id(id) => CallName::Leg(id.to_string().into()),
            CallName::Leg(_) => name.clone(),
        };
        self.act_on(self.all(), name, action).await
    }

    async fn act_on(
        &self,
        shards: Vec<ShardId>,
        call: CallName,
        action: &CallAction,
    ) -> Result<(Option<ShardId>, Acted), Unanswered> {
        let command = |id| Command::Act { id, call: call.clone(), action: action.clone() };
        let found = |answer: &Answer| !matches!(answer, Answer::Acted(Acted::UnknownCall));
        let answers = self.exchange(shards, ACT_WAIT_MAX + DEADLINE, command, found).await?;
        let found = answers.into_iter().find_map(|(shard, answer)| match answer {
            Answer::Acted(acted) if acted != Acted::UnknownCall => Some((Some(shard), acted)),
            _ => None,
        });
        Ok(found.unwrap_or((None, Acted::UnknownCall)))
    }

    /// Sends one command to each of `asked` and waits for all their answers, or for one that is
    /// `enough`.
    async fn exchange(
        &self,
        asked: Vec<ShardId>,
        wait: Duration,
        command: impl Fn(u64) -> Command,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Vec<(ShardId, Answer)>, Unanswered> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::channel(asked.len().max(1));
        self.waiting().insert(id, sender);
        let _forget = Forget { questions: self, id };
        for &shard in &asked {
            self.plane.send(shard, command(id)).map_err(|_| Unanswered::QueueFull(shard))?;
        }
        let deadline = Instant::now() + wait;
        let mut answers = Vec::with_capacity(asked.len());
        let mut missing = asked;
        while !missing.is_empty() {
            let Ok(Some((shard, answer))) = timeout_at(deadline, receiver.recv()).await else {
                return Err(Unanswered::Late(missing));
            };
            missing.retain(|other| *other != shard);
            let found = enough(&answer);
            answers.push((shard, answer));
            if found {
                break;
            }
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

    fn all(&self) -> Vec<ShardId> {
        shards(&*self.plane).collect()
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
