//! The chain of user backends against a real receiver and real tables.

mod stand_ins;

use std::sync::Arc;
use std::time::Duration;

use controlplane::board::{Board, Counts};
use controlplane::webhooks::Decider;
use serde_json::json;
use shared::ask::{Ask, Decision, UserAsk, UserDecision};
use shared::ids::ShardId;
use shared::snapshot::Secret;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use stand_ins::deciding::{Behaviour, Program, decided, decider};
use stand_ins::{FakePlane, Folder, postgres};

struct Bench {
    plane: Arc<FakePlane>,
    board: Arc<Board>,
    decider: Arc<Decider>,
}

impl Bench {
    fn new(text: &str) -> Self {
        let plane = FakePlane::new(1);
        let board = Arc::new(Board::new(&[0]));
        let (decider, _) = decider(&plane, &board, text);
        Self { plane, board, decider }
    }

    async fn ask_known(&self, username: &str, known_at: Option<u8>) -> UserDecision {
        let ask = UserAsk {
            username: username.to_owned(),
            realm: "pbx.com".to_owned(),
            request_uri: "sip:pbx.com".to_owned(),
            method: "REGISTER",
            call_id: "one".to_owned(),
            source: "192.0.2.1:5060".parse().expect("an address"),
            known_at,
            headers: vec![("X-Site".to_owned(), "north & south".to_owned())],
        };
        self.decider.decide(ShardId(0), 1, Ask::User(ask));
        match decided(&self.plane).await {
            (_, _, Decision::User(decision)) => decision,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, username: &str) -> UserDecision {
        self.ask_known(username, None).await
    }
}

fn http(url: &str, more: &str) -> String {
    format!(
        "[[proxy.user_backends]]\ntype = \"http\"\nurl = \"{url}\"\nhttp_timeout_ms = 300\n\
         http_retry_delay_ms = 10\n{more}\n"
    )
}

fn password(decision: &UserDecision) -> Option<&str> {
    match decision {
        UserDecision::Known(user) => match &user.secret {
            Secret::Plain(password) => Some(password),
            Secret::Ha1 { .. } => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn a_get_carries_the_fields_that_the_configuration_names_and_is_signed() {
    let program = Program::that(Behaviour::json(&json!({ "password": "p" })));
    let more = "username_field = \"u\"\nrealm_field = \"r\"\nheaders = { X-API-Key = \"k\" }\n";
    let secret = "[webhooks]\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    let bench = Bench::new(&(http(&program.url("/pbx/auth?v=1"), more) + secret));
    let decision = bench.ask("10+01").await;
    assert_eq!(password(&decision), Some("p"));
    let heard = program.heard().remove(0);
    assert_eq!(
        (heard.method.as_str(), heard.target.as_str()),
        ("GET", "/pbx/auth?v=1&u=10%2B01&r=pbx.com")
    );
    assert_eq!(heard.headers["x-api-key"], "k");
    assert!(heard.headers["webhook-signature"].to_str().expect("text").starts_with("v1,"));
}

#[tokio::test]
async fn a_post_is_a_form_with_what_else_was_asked_for() {
    let program = Program::that(Behaviour::json(&json!({ "password": "p" })));
    let more =
        "method = \"post\"\nrequest_uri_field = \"to\"\nsip_headers = [\"x-site\", \"x-no\"]\n";
    let bench = Bench::new(&http(&program.url("/auth"), more));
    bench.ask("1001").await;
    let heard = program.heard().remove(0);
    assert_eq!((heard.method.as_str(), heard.target.as_str()), ("POST", "/auth"));
    assert_eq!(heard.headers["content-type"], "application/x-www-form-urlencoded");
    let form: Vec<_> = url::form_urlencoded::parse(&heard.body).into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        pair("username", "1001"),
        pair("realm", "pbx.com"),
        pair("to", "sip:pbx.com"),
        pair("x-site", "north & south"),
    ];
    assert_eq!(form, expected);
}

#[tokio::test]
async fn the_first_that_knows_a_user_decides_and_silence_is_no_answer() {
    let first = Program::start(|heard| match heard.query("username").as_deref() {
        Some("both" | "first") => Behaviour::json(&json!({ "password": "first" })),
        Some("locked") => Behaviour::Answer(403, "{\"reason\":\"disabled\"}".to_owned()),
        Some("broke") => Behaviour::Answer(403, "{\"reason\":\"payment_required\"}".to_owned()),
        Some("down" | "down-known") => Behaviour::Answer(503, String::new()),
        _ => Behaviour::Answer(404, String::new()),
    });
    let second = Program::start(|heard| match heard.query("username").as_deref() {
        Some("both" | "second" | "down-known") => Behaviour::json(&json!({ "password": "second" })),
        _ => Behaviour::Answer(404, String::new()),
    });
    let bench = Bench::new(&(http(&first.url("/"), "") + &http(&second.url("/"), "")));
    for (name, expected) in
        [("both", "first"), ("first", "first"), ("second", "second"), ("down-known", "second")]
    {
        assert_eq!(password(&bench.ask(name).await), Some(expected), "{name}");
    }
    let refused = bench.ask("locked").await;
    assert!(matches!(refused, UserDecision::Refused { status: 403, spam: false }), "{refused:?}");
    let refused = bench.ask("broke").await;
    assert!(matches!(refused, UserDecision::Refused { status: 402, spam: false }), "{refused:?}");
    assert!(matches!(bench.ask("nobody").await, UserDecision::Unknown));
    assert!(matches!(bench.ask("down").await, UserDecision::Unavailable), "it might know");
}

/// The chain is memory, http, http: whom the snapshot knows at place 1 is asked of nobody behind it.
#[tokio::test]
async fn backends_behind_the_one_that_knows_are_not_asked() {
    let early = Program::that(Behaviour::Answer(404, String::new()));
    let late = Program::that(Behaviour::json(&json!({ "password": "late" })));
    let memory = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = []\n";
    let chain = http(&early.url("/"), "") + memory + &http(&late.url("/"), "");
    let bench = Bench::new(&chain);
    assert!(matches!(bench.ask_known("1001", Some(1)).await, UserDecision::Unknown));
    assert_eq!((early.heard().len(), late.heard().len()), (1, 0));
    assert_eq!(password(&bench.ask("1001").await), Some("late"));
}

#[tokio::test]
async fn an_answer_is_used_again_for_a_while_and_a_no_as_well() {
    let program = Program::start(|heard| match heard.query("username").as_deref() {
        Some("1001") => Behaviour::json(&json!({ "password": "p" })),
        _ => Behaviour::Answer(404, String::new()),
    });
    let bench = Bench::new(&http(&program.url("/"), "cache_ttl_secs = 600\n"));
    for _ in 0..5 {
        assert_eq!(password(&bench.ask("1001").await), Some("p"));
        assert!(matches!(bench.ask("nobody").await, UserDecision::Unknown));
    }
    assert_eq!(program.heard().len(), 2);
    assert_eq!(Counts::of(&bench.board.counts.user_cache_hits), 8);

    let never =
        Bench::new(&http(&program.url("/"), "cache_ttl_secs = 0\nnegative_cache_ttl_secs = 0\n"));
    never.ask("1001").await;
    never.ask("1001").await;
    assert_eq!(program.heard().len(), 4);
}

#[tokio::test]
async fn a_failure_is_tried_once_more_and_a_dead_backend_is_left_alone() {
    let program = Program::start({
        let times = std::sync::atomic::AtomicU32::new(0);
        move |_| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Behaviour::Answer(500, String::new()),
            1 => Behaviour::json(&json!({ "password": "p" })),
            _ => Behaviour::Hang,
        }
    });
    let bench = Bench::new(&http(&program.url("/"), "cache_ttl_secs = 0\n"));
    assert_eq!(password(&bench.ask("1001").await), Some("p"), "the second try counts");
    for _ in 0..6 {
        assert!(matches!(bench.ask("1001").await, UserDecision::Unavailable));
    }
    // Five questions of two tries each opened the breaker; the sixth was not put.
    assert_eq!(program.heard().len(), 2 + 10);
    assert_eq!(Counts::of(&bench.board.counts.users_open), 1);
}

#[tokio::test]
async fn questions_beyond_the_bound_wait_for_their_turn() {
    let program = Program::that(Behaviour::json(&json!({ "password": "p" })));
    let bench = Bench::new(&http(&program.url("/"), "max_concurrent = 1\ncache_ttl_secs = 0\n"));
    let all = (0..20).map(|number| bench.ask(if number % 2 == 0 { "a" } else { "b" }));
    let all = tokio::time::timeout(Duration::from_secs(10), futures_util::future::join_all(all));
    let all = all.await.expect("they end");
    assert!(all.iter().all(|decision| password(decision) == Some("p")), "{all:?}");
    assert_eq!(program.heard().len(), 20);
}

/// Rows of the original's kind of table, and what a phone may not smuggle into a statement.
async fn table_is_asked(url: &str, execute: impl AsyncFn(&'static str)) {
    execute("CREATE TABLE members (name TEXT, pass TEXT, active INTEGER, realm TEXT)").await;
    execute(
        "INSERT INTO members VALUES ('2001', 'p1', 1, 'pbx.com'), ('2002', 'p2', 0, NULL), \
         ('2003', 'p3', 1, 'other.com'), ('2004', NULL, 1, '')",
    )
    .await;
    let bench = Bench::new(&format!(
        "[[proxy.user_backends]]\ntype = \"database\"\nurl = \"{url}\"\ntable_name = \"members\"\n\
         username_column = \"name\"\npassword_column = \"pass\"\nenabled_column = \"active\"\n\
         realm_column = \"realm\"\n"
    ));
    let found = bench.ask("2001").await;
    assert_eq!(password(&found), Some("p1"), "{found:?}");
    let UserDecision::Known(off) = bench.ask("2002").await else { panic!("it is there") };
    assert!(!off.enabled);
    for name in ["2003", "2004", "2009", "' OR '1'='1"] {
        assert!(matches!(bench.ask(name).await, UserDecision::Unknown), "{name}");
    }

    execute(
        "CREATE TABLE rustpbx_extensions (extension TEXT, sip_password TEXT, display_name TEXT, \
         login_disabled BOOLEAN, allow_guest_calls BOOLEAN)",
    )
    .await;
    execute(
        "INSERT INTO rustpbx_extensions VALUES ('3001', 'q', 'Ann', false, true), \
         ('3002', 'q', NULL, true, false)",
    )
    .await;
    let bench = Bench::new(&format!(
        "[[proxy.user_backends]]\ntype = \"extension\"\ndatabase_url = \"{url}\"\nttl = 0\n"
    ));
    let UserDecision::Known(ann) = bench.ask("3001").await else { panic!("it is there") };
    assert_eq!(ann.display_name.as_deref(), Some("Ann"));
    assert!(ann.enabled && ann.allow_guest_calls);
    let UserDecision::Known(off) = bench.ask("3002").await else { panic!("it is there") };
    assert!(!off.enabled && !off.allow_guest_calls);
}

#[tokio::test]
async fn a_table_in_a_file_is_asked() {
    let folder = Folder::new("members");
    let path = folder.path().join("members.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let connection = SqliteConnection::connect_with(&options).await.expect("it opens");
    let connection = tokio::sync::Mutex::new(connection);
    let execute = async |text: &'static str| {
        connection.lock().await.execute(AssertSqlSafe(text)).await.expect("it runs");
    };
    table_is_asked(&format!("sqlite://{}", path.display()), execute).await;
}

#[tokio::test]
async fn a_table_on_a_server_is_asked() {
    let url = postgres::empty_database();
    let connection = PgConnection::connect(&url).await.expect("it connects");
    let connection = tokio::sync::Mutex::new(connection);
    let execute = async |text: &'static str| {
        connection.lock().await.execute(AssertSqlSafe(text)).await.expect("it runs");
    };
    table_is_asked(&url, execute).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_leaves_the_answer_open() {
    let bench = Bench::new(
        "[[proxy.user_backends]]\ntype = \"database\"\nurl = \"sqlite:///nowhere/at/all.db\"\n",
    );
    assert!(matches!(bench.ask("1001").await, UserDecision::Unavailable));
    assert_eq!(Counts::of(&bench.board.counts.user_failures), 1);
}
