//! A program that decides about calls and users, over real HTTP, and behaves as a test wants.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use controlplane::board::Board;
use controlplane::store::Exchange;
use controlplane::webhooks::{Client, Decider, Exchanges};
use serde_json::Value;
use shared::ask::Decision;
use shared::ids::ShardId;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{FakePlane, config};

#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// A field of the query.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    Answer(u16, String),
    Hang,
    /// Ten megabytes of something.
    Long,
}

impl Behaviour {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Answer(200, value.to_string())
    }
}

type Plan = Box<dyn Fn(&Heard) -> Behaviour + Send>;

struct Inside {
    heard: Mutex<Vec<Heard>>,
    plan: Mutex<Plan>,
}

/// Lives as long as the test binary.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) port: u16,
    inside: Arc<Inside>,
}

impl Program {
    /// On a thread of its own, so that tests with and without a runtime can use it.
    pub(crate) fn start(plan: impl Fn(&Heard) -> Behaviour + Send + 'static) -> Self {
        let inside = Arc::new(Inside { heard: Mutex::default(), plan: Mutex::new(Box::new(plan)) });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("it has one").port();
        let app = Router::new().fallback(any(answer)).with_state(Arc::clone(&inside));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await
            })
        });
        Self { port, inside }
    }

    /// One that always does the same.
    pub(crate) fn that(behaviour: Behaviour) -> Self {
        Self::start(move |_| behaviour.clone())
    }

    pub(crate) fn now(&self, plan: impl Fn(&Heard) -> Behaviour + Send + 'static) {
        *self.inside.plan.lock().expect("no test panics with it") = Box::new(plan);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.inside.heard.lock().expect("no test panics with it").clone()
    }
}

async fn answer(State(inside): State<Arc<Inside>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let heard = Heard {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };
    let behaviour = (inside.plan.lock().expect("no test panics with it"))(&heard);
    inside.heard.lock().expect("no test panics with it").push(heard);
    match behaviour {
        Behaviour::Answer(status, text) => {
            (StatusCode::from_u16(status).expect("a status"), text).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Long => {
            let pieces = (0..160).map(|_| Ok::<_, io::Error>(Bytes::from(vec![b' '; 64 << 10])));
            Body::from_stream(futures_util::stream::iter(pieces)).into_response()
        }
    }
}

/// With the programs that a configuration names; exchanges come out of the queue.
pub(crate) fn decider(
    plane: &Arc<FakePlane>,
    board: &Arc<Board>,
    text: &str,
) -> (Arc<Decider>, mpsc::Receiver<Exchange>) {
    let config = config(text);
    let client = Arc::new(Client::of_config(&config).expect("a client"));
    let (exchanges, queue) = Exchanges::new(Arc::clone(board));
    let decider = Decider::new(Arc::clone(plane) as _, Arc::clone(board), client, exchanges);
    decider.adopt(&config);
    (Arc::new(decider), queue)
}

/// The next decision that a shard hears.
pub(crate) async fn decided(plane: &FakePlane) -> (ShardId, u64, Decision) {
    let wait = async {
        loop {
            let taken = {
                let mut decided = plane.decided.lock().expect("no test panics with it");
                (!decided.is_empty()).then(|| decided.remove(0))
            };
            match taken {
                Some(taken) => return taken,
                None => plane.heard_decision.notified().await,
            }
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("a decision comes")
}
