//! The chain of user backends that have to be asked: programs over HTTP and tables.
//! Owns:  one `Link` per backend with its cache, breaker and bound on questions at a time.
//! Gives: `UserChain::decide` within the budget of the chain.
//! Never: takes silence for a no: a backend that is down leaves the answer open.
//! Holds: the first backend that knows the user decides, in the order of the configuration.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use shared::ask::{UserAsk, UserDecision};
use shared::config::{Config, HttpUsers, RemoteBackend, UserSource};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use url::form_urlencoded;

use super::breaker::{Admission, Breaker};
use super::cache::Cache;
use super::client::{Client, Failed, Outgoing, Payload, header_map};
use super::sign::fresh_id;
use super::user_words::{self, Said};
use crate::board::Board;
use crate::store::ForeignUsers;

const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Answers that one backend's cache holds.
const CACHE_ENTRIES_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct UserChain {
    links: Vec<Arc<Link>>,
    budget: Duration,
}

#[derive(Debug)]
struct Link {
    /// In the whole chain, with those that a snapshot holds.
    place: u8,
    source: Source,
    /// What it may take; a shorter time that others left it says nothing about it.
    longest: Duration,
    keep: Duration,
    keep_refusals: Duration,
    slots: Semaphore,
    breaker: Mutex<Breaker>,
    cache: Mutex<Cache<Said>>,
    board: Arc<Board>,
}

#[derive(Debug)]
enum Source {
    Http { users: Box<HttpUsers>, headers: HeaderMap, client: Arc<Client> },
    Table(ForeignUsers),
}

/// What is sent, and what an answer depends on.
#[derive(Clone, Debug)]
struct Question {
    ask: UserAsk,
    /// Query or form; for a table the name alone.
    key: String,
}

impl UserChain {
    pub(super) fn of_config(config: &Config, client: &Arc<Client>, board: &Arc<Board>) -> Self {
        let budget = config.remote_users().map_or(Duration::ZERO, |rules| rules.budget);
        let link = |(place, backend): (usize, &RemoteBackend)| {
            let source = match &backend.source {
                UserSource::Http(users) => Source::Http {
                    headers: header_map(&users.target.headers),
                    users: Box::new(users.clone()),
                    client: Arc::clone(client),
                },
                UserSource::Table(table) => Source::Table(ForeignUsers::new(table)),
            };
            Arc::new(Link {
                place: u8::try_from(place).unwrap_or(u8::MAX),
                source,
                longest: backend.longest().min(budget),
                keep: backend.keep,
                keep_refusals: backend.keep_refusals,
                slots: Semaphore::new(usize::from(backend.concurrent_max)),
                breaker: Mutex::default(),
                cache: Mutex::new(Cache::new(CACHE_ENTRIES_MAX)),
                board: Arc::clone(board),
            })
        };
        Self { links: config.remote_backends().map(link).collect(), budget }
    }

    pub(super) async fn decide(&self, ask: UserAsk) -> UserDecision {
        let until = Instant::now() + self.budget;
        let mut open = false;
        for link in &self.links {
            // One that a snapshot holds comes first: those behind it are not asked.
            if ask.known_at.is_some_and(|known| known < link.place) {
                break;
            }
            match link.ask(&ask, until).await {
                Ok(Said::Known(user)) => return UserDecision::Known(user),
                Ok(Said::Refused { status, spam }) => {
                    return UserDecision::Refused { status, spam };
                }
                Ok(Said::NotFound) => {}
                Err(reason) => {
                    open = true;
                    tracing::debug!(reason, place = link.place, "a user backend does not answer");
                }
            }
        }
        if open || self.links.is_empty() {
            UserDecision::Unavailable
        } else {
            UserDecision::Unknown
        }
    }
}

impl Link {
    async fn ask(self: &Arc<Self>, ask: &UserAsk, until: Instant) -> Result<Said, String> {
        let question = Question { ask: ask.clone(), key: self.key(ask) };
        let counts = &self.board.counts;
        if let Some(said) = lock(&self.cache).find(Instant::now(), &question.key) {
            counts.user_cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(said);
        }
        let slot = timeout_at(until, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            counts.user_failures.fetch_add(1, Ordering::Relaxed);
            return Err("too many questions are out".to_owned());
        };
        let admission = lock(&self.breaker).admit(Instant::now());
        match admission {
            Admission::Pass => self.put(&question, until).await,
            Admission::Refused => Err("it is not asked for the moment".to_owned()),
            Admission::Probe => {
                let me = Arc::clone(self);
                let until = Instant::now() + self.longest;
                tokio::spawn(async move { me.put(&question, until).await });
                Err("it is asked whether it is back".to_owned())
            }
        }
    }

    /// One question with its repetitions, the breaker's verdict, and the cache.
    async fn put(&self, question: &Question, until: Instant) -> Result<Said, String> {
        let counts = &self.board.counts;
        counts.user_requests.fetch_add(1, Ordering::Relaxed);
        let left = until.saturating_duration_since(Instant::now());
        let had_its_time = left * 5 >= self.longest * 4;
        let outcome = match timeout_at(until, self.source.put(question, self.place, until)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".to_owned()),
        };
        match &outcome {
            Ok(said) => {
                if lock(&self.breaker).succeeded() {
                    counts.users_open.fetch_sub(1, Ordering::Relaxed);
                    tracing::info!(place = self.place, "a user backend answers again");
                }
                let keep = match said {
                    Said::Known(_) => self.keep,
                    Said::NotFound | Said::Refused { .. } => self.keep_refusals,
                };
                lock(&self.cache).put(Instant::now(), &question.key, said.clone(), keep);
            }
            Err(reason) => {
                counts.user_failures.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                let is_its_fault = had_its_time || now < until;
                if is_its_fault && lock(&self.breaker).failed(now) {
                    counts.users_open.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        reason,
                        place = self.place,
                        "a user backend is not waited for any more"
                    );
                }
            }
        }
        outcome
    }

    fn key(&self, ask: &UserAsk) -> String {
        match &self.source {
            Source::Http { users, .. } => encoded(users, ask),
            Source::Table(_) => ask.username.clone(),
        }
    }
}

/// An open breaker that is forgotten is not open any more.
impl Drop for Link {
    fn drop(&mut self) {
        if lock(&self.breaker).is_open() {
            self.board.counts.users_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Source {
    async fn put(&self, question: &Question, place: u8, until: Instant) -> Result<Said, String> {
        let Question { ask, key } = question;
        match self {
            Self::Table(table) => {
                let row = table.find(&ask.username, &ask.realm).await;
                let row = row.map_err(|error| error.to_string())?;
                Ok(row.map_or(Said::NotFound, |row| user_words::read_row(row, ask, place)))
            }
            Self::Http { users, headers, client } => {
                let mut tries_left = users.retries;
                loop {
                    let tried = put_once(client, users, headers, key, until).await;
                    let (reason, worth_another) = match tried {
                        Ok((status, body)) => {
                            match user_words::read_answer(status, &body, ask, place) {
                                Ok(said) => return Ok(said),
                                Err(reason) => (reason, status >= 500),
                            }
                        }
                        Err(failed) => (failed.to_string(), !matches!(failed, Failed::Refused(_))),
                    };
                    let resume_at = Instant::now() + users.retry_delay;
                    if tries_left == 0 || !worth_another || resume_at >= until {
                        return Err(reason);
                    }
                    tries_left -= 1;
                    sleep(users.retry_delay).await;
                }
            }
        }
    }
}

async fn put_once(
    client: &Client,
    users: &HttpUsers,
    headers: &HeaderMap,
    fields: &str,
    until: Instant,
) -> Result<(u16, Vec<u8>), Failed> {
    let mut url = users.target.url.clone();
    let (method, payload) = if users.post {
        (Method::POST, Payload::Form(fields.as_bytes().to_vec()))
    } else {
        let query = match url.query() {
            Some(written) if !written.is_empty() => format!("{written}&{fields}"),
            _ => fields.to_owned(),
        };
        url.set_query(Some(&query));
        (Method::GET, Payload::Nothing)
    };
    let id = fresh_id();
    let call = Outgoing {
        method,
        url: &url,
        headers,
        id: &id,
        payload,
        timeout: users.target.timeout.min(until.saturating_duration_since(Instant::now())),
        answer_max: ANSWER_BYTES_MAX,
    };
    let answer = client.send(call).await?;
    answer.whole()?;
    Ok((answer.status, answer.body))
}

fn encoded(users: &HttpUsers, ask: &UserAsk) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(user_words::fields(users, ask));
    query.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both are whole between any two statements that hold their lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
