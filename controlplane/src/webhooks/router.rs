//! The HTTP router: one POST per INVITE, and whatever it answers becomes a decision.
//! Owns:  the budget of each exchange, the breaker, the bound on exchanges at a time.
//! Gives: `Router::decide`: a decision, and the exchange to be kept with the call.
//! Never: waits longer than the budget, reads more than its bound, asks twice about one call.
//! Holds: every way to fail is `Unavailable`, so that the configured fallback follows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use shared::ask::{Forward, RouteAsk, RouteDecision};
use shared::config::{Config, HttpRouter, WebTarget};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::breaker::{Admission, Breaker};
use super::client::{Answer, Client, Failed, Lookup, Outgoing, Payload, header_map};
use super::route_words::{self, Reply};
use super::targets::Surroundings;
use crate::board::Board;
use crate::store::{Exchange, now_ms};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// What is kept of a request and of an answer.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Exchanges at a time; a router that is that far behind has failed.
const EXCHANGES_MAX: usize = 512;
/// Marks a question whose answer nobody follows.
const PROBE_HEADER: HeaderName = HeaderName::from_static("ringgate-probe");

#[derive(Debug)]
pub(super) struct Router {
    target: WebTarget,
    headers: HeaderMap,
    surroundings: Surroundings,
    breaker: Mutex<Breaker>,
    slots: Semaphore,
    client: Arc<Client>,
    lookup: Arc<dyn Lookup>,
    board: Arc<Board>,
}

/// What came back over HTTP.
#[derive(Debug)]
struct Heard {
    status: Option<u16>,
    body: Option<Vec<u8>>,
    outcome: Result<(Reply, Vec<String>), Fault>,
}

/// Why there is no decision.
#[derive(Debug)]
enum Fault {
    Http(Failed),
    /// It answers, but not with what was asked for.
    Nonsense(String),
}

impl Fault {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Http(failed) => failed.as_str(),
            Self::Nonsense(_) => "unparsable",
        }
    }

    /// Whether the router as a whole is in trouble, and not the answer to this one call.
    const fn is_outage(&self) -> bool {
        match self {
            Self::Http(Failed::Status(status)) => !matches!(status, 400..=499) || is_busy(*status),
            Self::Http(_) | Self::Nonsense(_) => true,
        }
    }
}

const fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429)
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(failed) => failed.fmt(f),
            Self::Nonsense(reason) => write!(f, "the answer cannot be used: {reason}"),
        }
    }
}

impl Router {
    pub(super) fn new(
        router: &HttpRouter,
        config: &Config,
        client: Arc<Client>,
        lookup: Arc<dyn Lookup>,
        board: Arc<Board>,
    ) -> Self {
        Self {
            headers: header_map(&router.target.headers),
            target: router.target.clone(),
            surroundings: Surroundings::of_config(config),
            breaker: Mutex::default(),
            slots: Semaphore::new(EXCHANGES_MAX),
            client,
            lookup,
            board,
        }
    }

    /// Asks, waits for the budget at most, and says what was asked and answered.
    pub(super) async fn decide(self: &Arc<Self>, ask: &RouteAsk) -> (RouteDecision, Exchange) {
        let (begun, asked_at) = (Instant::now(), now_ms());
        let request = route_words::request(ask).to_string();
        let mut exchange = Exchange {
            call: ask.call,
            asked_at,
            latency_ms: 0,
            outcome: "busy",
            status: None,
            request: kept(request.as_bytes()),
            answer: None,
            notes: Vec::new(),
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            self.board.counts.route_failures.fetch_add(1, Ordering::Relaxed);
            return (RouteDecision::Unavailable, exchange);
        };
        let id = format!("route_{}", ask.call);
        match self.breaker().admit(begun) {
            Admission::Pass => {}
            Admission::Refused => {
                exchange.outcome = "breaker_open";
                return (RouteDecision::Unavailable, exchange);
            }
            Admission::Probe => {
                exchange.outcome = "breaker_open";
                let me = Arc::clone(self);
                tokio::spawn(async move { me.probe(id, request).await });
                return (RouteDecision::Unavailable, exchange);
            }
        }
        let until = begun + self.target.timeout;
        let heard = self.exchange(&id, request, until, false).await;
        exchange.status = heard.status;
        exchange.answer = heard.body.as_deref().map(kept);
        let decision = match heard.outcome {
            Ok((reply, notes)) => {
                exchange.notes = notes;
                let (decision, word) = self.decision(reply, until).await;
                exchange.outcome = word;
                decision
            }
            Err(fault) => {
                exchange.outcome = fault.as_str();
                exchange.notes.push(fault.to_string());
                RouteDecision::Unavailable
            }
        };
        exchange.latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (decision, exchange)
    }

    /// A question that nobody waits for: whether the router is back.
    async fn probe(&self, id: String, request: String) {
        let until = Instant::now() + self.target.timeout;
        self.exchange(&id, request, until, true).await;
    }

    /// One POST and the verdict of the breaker about it.
    async fn exchange(&self, id: &str, request: String, until: Instant, probe: bool) -> Heard {
        let counts = &self.board.counts;
        counts.route_requests.fetch_add(1, Ordering::Relaxed);
        let heard = match timeout_at(until, self.post(id, request, until, probe)).await {
            Ok(Ok(answer)) => understand(answer),
            Ok(Err(failed)) => Heard::failed(failed),
            Err(_) => Heard::failed(Failed::TimedOut),
        };
        let outage = heard.outcome.as_ref().err().filter(|fault| fault.is_outage());
        if heard.outcome.is_err() {
            counts.route_failures.fetch_add(1, Ordering::Relaxed);
        }
        match outage {
            Some(fault) if self.breaker().failed(Instant::now()) => {
                counts.router_open.store(1, Ordering::Relaxed);
                tracing::warn!(%fault, "the HTTP router is not waited for any more: calls go on without it");
            }
            Some(_) => {}
            None if self.breaker().succeeded() => {
                counts.router_open.store(0, Ordering::Relaxed);
                tracing::info!("the HTTP router answers again");
            }
            None => {}
        }
        heard
    }

    async fn post(
        &self,
        id: &str,
        request: String,
        until: Instant,
        probe: bool,
    ) -> Result<Answer, Failed> {
        let mut headers = self.headers.clone();
        if probe {
            headers.insert(PROBE_HEADER, HeaderValue::from_static("true"));
        }
        let call = Outgoing {
            method: Method::POST,
            url: &self.target.url,
            headers: &headers,
            id,
            payload: Payload::Json(request.into_bytes()),
            timeout: until.saturating_duration_since(Instant::now()),
            answer_max: ANSWER_BYTES_MAX,
        };
        self.client.send(call).await
    }

    async fn decision(&self, reply: Reply, until: Instant) -> (RouteDecision, &'static str) {
        match reply {
            Reply::NotHandled => (RouteDecision::NotHandled, "not_handled"),
            Reply::Reject(reject) => {
                let word = if reject.spam { "spam" } else { "reject" };
                (RouteDecision::Reject(reject), word)
            }
            Reply::Forward(wanted) => {
                let targets = wanted.targets;
                let targets = self.surroundings.locate(targets, &*self.lookup, until).await;
                let forward = Forward {
                    targets,
                    strategy: wanted.strategy,
                    ring_timeout: wanted.ring_timeout,
                    orders: wanted.orders,
                };
                (RouteDecision::Forward(Box::new(forward)), "forward")
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // It is whole between any two statements that hold the lock.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    const fn failed(failed: Failed) -> Self {
        Self { status: None, body: None, outcome: Err(Fault::Http(failed)) }
    }
}

fn understand(answer: Answer) -> Heard {
    let outcome = if !answer.is_success() {
        Err(Fault::Http(Failed::Status(answer.status)))
    } else {
        match answer.whole() {
            Ok(body) => route_words::read_reply(body).map_err(Fault::Nonsense),
            Err(failed) => Err(Fault::Http(failed)),
        }
    };
    Heard { status: Some(answer.status), body: Some(answer.body), outcome }
}

/// Text for the database, cut where it is too long.
fn kept(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(KEPT_BYTES_MAX)];
    String::from_utf8_lossy(cut).replace('\0', "\u{fffd}")
}
