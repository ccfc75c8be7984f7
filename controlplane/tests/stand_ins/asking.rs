//! The API as its callers see it: requests put together bit by bit, with whatever credentials.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use controlplane::access::{Access, hash_now};
use controlplane::api::{App, router};
use controlplane::board::Board;
use controlplane::news::News;
use controlplane::questions::Questions;
use controlplane::store::{AuditLog, AuditSearch, Connections, UserEdit, Users};
use controlplane::supervisor::Ending;
use controlplane::webhooks::outbox::{Deliveries, Endpoints};
use serde_json::{Value, json};
use shared::ids::ShardId;
use tower::ServiceExt;

use super::{
    FakePlane, MORNING, MoodyStore, api_tokens, config, directory, ending, no_archive, reloader,
};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Gate {
    pub(crate) plane: Arc<FakePlane>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) store: Arc<MoodyStore>,
    pub(crate) board: Arc<Board>,
    pub(crate) access: Arc<Access>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) news: Arc<News>,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) router: Router,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: StatusCode, code: &str) {
        let shown = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{shown}");
        assert_eq!(self.code(), code, "{shown}");
    }

    /// The value and the attributes of a cookie that is set.
    pub(crate) fn cookie(&self, name: &str) -> (String, String) {
        let all = self.headers.get_all(header::SET_COOKIE).iter();
        let mut found = all.filter_map(|value| value.to_str().ok()?.split_once('='));
        let (_, rest) = found.find(|(known, _)| *known == name).expect("the cookie is set");
        let (value, attributes) = rest.split_once(';').expect("it has attributes");
        (value.to_owned(), attributes.to_owned())
    }
}

/// A request that is put together bit by bit.
pub(crate) struct Ask {
    pub(crate) request: Request<Body>,
}

impl Ask {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        Self { request }.header("host", "127.0.0.1:8080").from("127.0.0.1")
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().insert(name, value.parse().expect("a value"));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn session(self, secret: &str) -> Self {
        self.header("cookie", &format!("theme=dark; ringgate_session={secret}; x=y"))
    }

    pub(crate) fn from(mut self, ip: &str) -> Self {
        let from = SocketAddr::new(ip.parse().expect("an address"), 50_000);
        self.request.extensions_mut().insert(ConnectInfo(from));
        self
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        *self.request.body_mut() = Body::from(body.to_string());
        self.header("content-type", "application/json")
    }

    pub(crate) fn form(mut self, body: &str) -> Self {
        *self.request.body_mut() = Body::from(body.to_owned());
        self.header("content-type", "application/x-www-form-urlencoded")
    }
}

impl Gate {
    pub(crate) async fn new(text: &str) -> Self {
        Self::with_file(text, None).await
    }

    /// Of a gateway whose configuration is read anew from `file`.
    pub(crate) async fn with_file(text: &str, file: Option<PathBuf>) -> Self {
        let config = config(text);
        let plane = FakePlane::new(1);
        let board = Arc::new(Board::new(&[1]));
        board.started(ShardId(0));
        let questions = Arc::new(Questions::new(plane.clone()));
        plane.direct.set(Arc::clone(&questions)).expect("set once");
        let store = MoodyStore::new(0).await;
        let clock = Arc::new(AtomicI64::new(MORNING.0));
        let read = Arc::clone(&clock);
        let access = Arc::new(Access::with_clock(
            store.clone(),
            &api_tokens(),
            Arc::new(move || read.load(Ordering::Relaxed)),
        ));
        access.set_ami_allows(config.http().ami_allows());
        let http = Arc::new(config.http().clone());
        let directory = directory(config.clone(), &plane, &board, store.clone()).await;
        let deliveries = Deliveries::open(store.clone(), Endpoints::of_config(&config)).await;
        let deliveries = deliveries.expect("the database answers");
        let ending = ending();
        let news = Arc::new(News::new(MORNING));
        let app = App {
            reloader: reloader(file, &config, &access, &directory, &deliveries),
            ending: Arc::clone(&ending),
            access: Arc::clone(&access),
            deliveries: Arc::clone(&deliveries),
            store: store.clone(),
            board: Arc::clone(&board),
            questions,
            directory,
            news: Arc::clone(&news),
            http,
            captures: config.files().captures().into(),
            prompts: config.files().prompts().into(),
            archive: no_archive(store.clone(), &board),
            ladders: Arc::new(controlplane::sipflow::Ladders::new(None)),
            node: "gate-1".into(),
        };
        Self { plane, ending, store, board, access, deliveries, news, clock, router: router(app) }
    }

    /// With a user `ada` who may do everything, and one `bob` who may do nothing.
    pub(crate) async fn with_users(text: &str) -> Self {
        let gate = Self::new(text).await;
        let hash = hash_now(PASSWORD);
        for (name, is_superuser) in [("ada", true), ("bob", false)] {
            let user = UserEdit {
                username: name.to_owned(),
                email: Some(format!("{name}@example.net")),
                password_hash: Some(hash.clone()),
                is_active: true,
                is_staff: false,
                is_superuser,
            };
            gate.store.add_user(&user).await.expect("stored").expect("not taken");
        }
        gate
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        let response = self.router.clone().oneshot(ask.request).await.expect("never fails");
        let (parts, mut body) = response.into_parts();
        if parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
            // It has no end that could be waited for.
            body = Body::empty();
        }
        let body = to_bytes(body, 8 << 20).await.expect("a whole body");
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    pub(crate) async fn try_login(&self, name: &str, password: &str, from: &str) -> Answer {
        let body = json!({ "identifier": name, "password": password });
        self.ask(Ask::post("/console/login").from(from).json(&body)).await
    }

    /// The secret of a new session, and its CSRF token.
    pub(crate) async fn login(&self, name: &str) -> (String, String) {
        let answer = self.try_login(name, PASSWORD, "127.0.0.1").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
        let csrf = answer.json()["csrf_token"].as_str().expect("a token").to_owned();
        (answer.cookie("ringgate_session").0, csrf)
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) async fn audit(&self) -> Vec<(String, String, String)> {
        let search = AuditSearch { limit: 100, ..Default::default() };
        let rows = self.store.audit(&search).await.expect("read");
        rows.into_iter().map(|row| (row.action, row.object, row.outcome)).collect()
    }
}

impl Gate {
    /// Marks of use are written beside the request; the database has one connection, so whoever gets
    /// an answer after them sees them.
    pub(crate) async fn settled(&self) {
        tokio::task::yield_now().await;
        self.store.ping().await.expect("it answers");
    }
}
