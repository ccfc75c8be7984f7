//! The API for programs about extensions, trunks and routes, without a socket.
//! Owns:  a store in memory, a plane without shards, the configuration of a small house.
//! Gives: requests and their answers; what the shards were served.
//! Never: a shard's opinion: those of the plane say what the test puts there.
//! Holds: every request comes from this machine and bears a token that may do everything.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use controlplane::access::Access;
use controlplane::api::{App, router};
use controlplane::board::Board;
use controlplane::directory::Directory;
use controlplane::news::News;
use controlplane::questions::Questions;
use controlplane::webhooks::outbox::{Deliveries, Endpoints};
use serde_json::Value;
use shared::ids::ShardId;
use shared::snapshot::Snapshot;

use super::{
    FakePlane, MORNING, MoodyStore, TOKEN, api_tokens, config, directory, ending, no_archive,
    reloader,
};

pub(crate) const FILE: &str = r#"
[proxy]
realms = ["pbx.test"]
[[proxy.user_backends]]
type = "memory"
users = [{ username = "900", password = "p", display_name = "Door" }]
[proxy.trunks.file-trunk]
dest = "sip:192.0.2.9"
[[proxy.routes]]
name = "file rule"
priority = 5
dest = "file-trunk"
"#;

/// An API on a store in memory and a plane without shards.
pub(crate) struct Gate {
    pub(crate) plane: Arc<FakePlane>,
    pub(crate) board: Arc<Board>,
    pub(crate) store: Arc<MoodyStore>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) router: Router,
}

impl Gate {
    pub(crate) async fn new() -> Self {
        Self::of(FILE).await
    }

    /// Of a gateway with this configuration.
    pub(crate) async fn of(text: &str) -> Self {
        let config = config(text);
        let plane = FakePlane::new(2);
        let board = Arc::new(Board::new(&[1, 3]));
        for shard in [0, 1] {
            board.started(ShardId(shard));
        }
        let questions = Arc::new(Questions::new(plane.clone()));
        plane.direct.set(Arc::clone(&questions)).expect("set once");
        let store = MoodyStore::new(0).await;
        let http = Arc::new(config.http().clone());
        let directory = directory(config.clone(), &plane, &board, store.clone()).await;
        let access = Arc::new(Access::new(store.clone(), &api_tokens()));
        access.set_ami_allows(config.http().ami_allows());
        let deliveries = Deliveries::open(store.clone(), Endpoints::of_config(&config)).await;
        let deliveries = deliveries.expect("the database answers");
        let app = App {
            reloader: reloader(None, &config, &access, &directory, &deliveries),
            ending: ending(),
            access,
            deliveries,
            store: store.clone(),
            board: Arc::clone(&board),
            questions,
            archive: no_archive(store.clone(), &board),
            ladders: Arc::new(controlplane::sipflow::Ladders::new(None)),
            directory: Arc::clone(&directory),
            news: Arc::new(News::new(MORNING)),
            http,
            captures: config.files().captures().into(),
            prompts: config.files().prompts().into(),
            node: "gate-1".into(),
        };
        Self { plane, board, store, directory, router: router(app) }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let (status, _, body) = self.ask_with(method, path, body, &[]).await;
        (status, body)
    }

    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        more: &[(header::HeaderName, &str)],
    ) -> (StatusCode, HeaderMap, Value) {
        let from: SocketAddr = "127.0.0.1:50000".parse().expect("an address");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:8080")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .extension(ConnectInfo(from))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .expect("a request");
        for (name, value) in more {
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let answer = tower::ServiceExt::oneshot(self.router.clone(), request).await;
        let (parts, body) = answer.expect("never fails").into_parts();
        let body = to_bytes(body, 1 << 22).await.expect("a whole body");
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Makes one and gives its number.
    pub(crate) async fn make(&self, path: &str, body: Value) -> i64 {
        let (status, body) = self.ask(Method::POST, path, Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_i64().expect("a number")
    }

    pub(crate) fn served(&self, shard: u8) -> Arc<Snapshot> {
        let served = self.plane.served.lock().expect("no panic");
        Arc::clone(served.get(&ShardId(shard)).expect("something was published"))
    }
}

pub(crate) fn assert_problem(answer: &(StatusCode, Value), status: StatusCode, code: &str) {
    assert_eq!((answer.0, answer.1["code"].as_str()), (status, Some(code)), "{}", answer.1);
}
