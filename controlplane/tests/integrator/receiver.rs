//! The integrator's own server: answers as the test says and writes down everything that came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::watch;

use super::SOON;

/// What came, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The fields of the query, or of a form in the body.
    pub(crate) fn fields(&self) -> BTreeMap<String, String> {
        let text = if self.query.is_empty() {
            String::from_utf8_lossy(&self.body).into_owned()
        } else {
            self.query.clone()
        };
        url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) hangs: bool,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, body: body.as_bytes().to_vec(), hangs: false }
    }

    pub(crate) fn never() -> Self {
        Self { hangs: true, ..Self::text(200, "") }
    }
}

type Rule = dyn Fn(&Heard) -> Reply + Send + Sync;

#[derive(Clone)]
struct Desk {
    rule: Arc<Mutex<Arc<Rule>>>,
    heard: Arc<watch::Sender<Vec<Heard>>>,
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    desk: Desk,
}

impl Receiver {
    pub(crate) async fn start(rule: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let rule: Arc<Rule> = Arc::new(rule);
        let desk = Desk {
            rule: Arc::new(Mutex::new(rule)),
            heard: Arc::new(watch::Sender::new(Vec::new())),
        };
        let router = Router::new().fallback(write_down).with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, desk }
    }

    /// Every question gets the same answer.
    pub(crate) async fn saying(status: u16, body: &Value) -> Self {
        let reply = Reply::json(status, body);
        Self::start(move |_| reply.clone()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn say(&self, reply: Reply) {
        let rule: Arc<Rule> = Arc::new(move |_: &Heard| reply.clone());
        *self.desk.rule.lock().expect("no test panics with it") = rule;
    }

    pub(crate) fn count(&self) -> usize {
        self.desk.heard.borrow().len()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.desk.heard.borrow().clone()
    }

    /// The one at this place, as soon as it is there.
    pub(crate) async fn nth(&self, index: usize) -> Heard {
        self.nth_within(index, SOON).await
    }

    pub(crate) async fn nth_within(&self, index: usize, limit: Duration) -> Heard {
        let mut heard = self.desk.heard.subscribe();
        let there = heard.wait_for(|all| all.len() > index);
        match tokio::time::timeout(limit, there).await {
            Ok(all) => all.expect("the desk lives")[index].clone(),
            Err(_) => panic!(
                "request {index} did not come within {limit:?}; {} came: {:?}",
                self.count(),
                self.heard().iter().map(|h| (&h.method, &h.path)).collect::<Vec<_>>()
            ),
        }
    }

    /// The first for which `wanted` holds.
    pub(crate) async fn first(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.desk.heard.subscribe();
        let there = heard.wait_for(|all| all.iter().any(&wanted));
        if let Ok(all) = tokio::time::timeout(SOON, there).await {
            let all = all.expect("the desk lives");
            return all.iter().find(|one| wanted(one)).expect("it was there").clone();
        }
        let bodies =
            self.heard().into_iter().map(|h| String::from_utf8_lossy(&h.body).into_owned());
        panic!("{what} did not come; there is {:?}", bodies.collect::<Vec<_>>());
    }
}

async fn write_down(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.expect("a whole body").to_vec();
    let heard = Heard {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    let rule = Arc::clone(&desk.rule.lock().expect("no test panics with it"));
    let reply = rule(&heard);
    desk.heard.send_modify(|all| all.push(heard));
    if reply.hangs {
        return std::future::pending().await;
    }
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    let json = "application/json".parse().expect("a value");
    response.headers_mut().insert("content-type", json);
    response
}
