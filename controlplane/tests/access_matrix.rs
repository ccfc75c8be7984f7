//! Every route with everybody: who gets in is what the committed matrix says, and GET changes nothing.

mod stand_ins;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use controlplane::access::Access;
use controlplane::api::{App, Need, Row, router, table};
use controlplane::board::Board;
use controlplane::news::News;
use controlplane::questions::Questions;
use controlplane::store::{Bounds, Db, Roles, Session, Sessions, UserEdit, Users};
use shared::config::{Config, TOKEN_SCOPES};
use shared::ids::ShardId;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row as _};
use stand_ins::{
    FakePlane, Folder, MORNING, api_tokens, config, directory, ending, no_archive, no_deliveries,
    only, reloader,
};
use tower::ServiceExt;

const ROLES: [&str; 5] = ["admin", "analyst", "auditor", "operator", "viewer"];
const FAR: &str = "203.0.113.9";

/// Somebody who asks.
#[derive(Clone, Debug)]
enum Who {
    /// On this machine, without credentials.
    Here,
    /// Elsewhere, without credentials.
    Nobody,
    Role(&'static str),
    Scope(&'static str),
}

struct Walk {
    config: Config,
    plane: Arc<FakePlane>,
    store: Arc<Db>,
    database: PathBuf,
    users: BTreeMap<&'static str, i64>,
    router: Router,
    _folder: Folder,
}

impl Walk {
    async fn new() -> Self {
        let config = config("");
        let folder = Folder::new("matrix");
        let database = folder.path().join("matrix.sqlite3");
        let store = Arc::new(
            Db::open(&shared::config::Database::Sqlite(database.clone())).await.expect("opened"),
        );
        let plane = FakePlane::new(1);
        let board = Arc::new(Board::new(&[1]));
        board.started(ShardId(0));
        let questions = Arc::new(Questions::new(plane.clone()));
        plane.direct.set(Arc::clone(&questions)).expect("set once");
        let users = users(&store).await;
        let access = Arc::new(Access::new(store.clone(), &api_tokens()));
        let directory = directory(config.clone(), &plane, &board, store.clone()).await;
        let deliveries = no_deliveries(store.clone()).await;
        let app = App {
            reloader: reloader(None, &config, &access, &directory, &deliveries),
            ending: ending(),
            access,
            deliveries,
            store: store.clone(),
            directory,
            archive: no_archive(store.clone(), &board),
            ladders: Arc::new(controlplane::sipflow::Ladders::new(None)),
            board,
            questions,
            news: Arc::new(News::new(MORNING)),
            http: Arc::new(config.http().clone()),
            captures: config.files().captures().into(),
            prompts: config.files().prompts().into(),
            node: "gate-1".into(),
        };
        Self { config, plane, store, database, users, router: router(app), _folder: folder }
    }

    fn rows(&self) -> Vec<Row> {
        table(self.config.http())
    }

    /// The secret of a session that was never used: a walk over the routes ends sessions too.
    async fn session(&self, role: &'static str) -> String {
        let secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let now = controlplane::store::now_ms();
        let session = Session {
            id_hash: sha256(&secret),
            user: self.users[role],
            csrf_token: "x".to_owned(),
            source: FAR.to_owned(),
            user_agent: String::new(),
            created_at: now,
            seen_at: now,
        };
        let oldest = Bounds { created_at: 0, seen_at: 0 };
        self.store.add_session(&session, 1_000_000, oldest).await.expect("stored");
        secret
    }

    async fn status(&self, row: &Row, who: &Who) -> StatusCode {
        let path = row.path.replace("{id}", "0").replace("{call_id}", "x").replace("{what}", "x");
        let path = path.split('{').next().expect("a path");
        let mut request = Request::builder()
            .method(&row.method)
            .uri(path)
            .header("host", "127.0.0.1:8080")
            .header("content-type", "application/json");
        request = match who {
            Who::Here | Who::Nobody => request,
            Who::Role(role) => {
                request.header("cookie", format!("ringgate_session={}", self.session(role).await))
            }
            Who::Scope(scope) => request.header("authorization", format!("Bearer {}", only(scope))),
        };
        let from = if matches!(who, Who::Here) { "127.0.0.1" } else { FAR };
        let from = SocketAddr::new(from.parse().expect("an address"), 50_000);
        let request = request.extension(ConnectInfo(from)).body(Body::empty()).expect("a request");
        self.router.clone().oneshot(request).await.expect("never fails").status()
    }
}

/// One user per role that came with the schema.
async fn users(store: &Db) -> BTreeMap<&'static str, i64> {
    let roles = store.roles().await.expect("read");
    assert_eq!(roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ROLES);
    // Somebody must be able to do everything, or no other user can be changed.
    assert!(store.add_first_user("root", "no hash").await.expect("stored"));
    let mut users = BTreeMap::new();
    for role in ROLES {
        let user = UserEdit {
            username: role.to_owned(),
            email: None,
            password_hash: Some("no hash".to_owned()),
            is_active: true,
            is_staff: false,
            is_superuser: false,
        };
        let id = store.add_user(&user).await.expect("stored").expect("not taken");
        let of_role = roles.iter().find(|known| known.name == role).expect("known").id;
        store.set_roles(id, &[of_role]).await.expect("stored");
        users.insert(role, id);
    }
    users
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn needs(need: Need) -> String {
    match need {
        Need::Ami(right) if right.as_str() == "ami:access" => "AMI".to_owned(),
        Need::Ami(right) => format!("AMI, {}", right.as_str()),
        Need::Anybody => "nothing".to_owned(),
        Need::Login => "credentials".to_owned(),
        Need::Metrics => "metrics".to_owned(),
        Need::Right(right) => right.as_str().to_owned(),
    }
}

/// `in` for whatever a route answers to those whom it lets in.
fn show(status: StatusCode) -> String {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => status.as_u16().to_string(),
        _ => "in".to_owned(),
    }
}

async fn line(walk: &Walk, row: &Row) -> String {
    let nobody = show(walk.status(row, &Who::Nobody).await);
    let here = show(walk.status(row, &Who::Here).await);
    let mut let_in = [Vec::new(), Vec::new()];
    let everybody = TOKEN_SCOPES.map(Who::Scope).into_iter().chain(ROLES.map(Who::Role));
    for who in everybody {
        let shown = show(walk.status(row, &who).await);
        let (list, name) = match who {
            Who::Role(name) => (1, name),
            Who::Scope(name) => (0, name),
            _ => continue,
        };
        match shown.as_str() {
            "in" => let_in[list].push(name),
            other => assert_eq!(other, "403", "{row:?} as {who:?}"),
        }
    }
    let [scopes, roles] = let_in.map(|names| match names.len() {
        5 | 10 => "all".to_owned(),
        0 => "none".to_owned(),
        _ => names.join(", "),
    });
    format!(
        "| {} | `{}` | {} | {nobody} | {here} | {scopes} | {roles} |",
        row.method,
        row.path,
        needs(row.need)
    )
}

const HEAD: &str = "\
# Who may use which route

Made by `UPDATE_DOCS=1 cargo test -p controlplane --test access_matrix` from what the router answers; the same test
fails when the two differ. A route that is not in this list does not exist.

`in` is whatever the route answers to those whom it lets in. *Nobody* has no credentials and comes from another host,
*here* has none and comes from loopback. A token with another scope, or a user with another role than the ones named,
gets 403; where two rights are needed, one scope alone may not be enough. Superusers may do everything. The prefixes are
those of the defaults (`[console] base_path`, `api_prefix`, `[proxy] ami_path`).

| method | path | needs | nobody | here | token scopes | roles |
|---|---|---|---|---|---|---|
";

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api-access.md")
}

#[tokio::test]
async fn the_committed_matrix_is_what_the_router_does() {
    let walk = Walk::new().await;
    let mut lines = Vec::new();
    let mut rows = walk.rows();
    rows.sort_by(|a, b| (&a.path, a.method.as_str()).cmp(&(&b.path, b.method.as_str())));
    for row in rows {
        lines.push(line(&walk, &row).await);
    }
    let text = format!("{HEAD}{}\n", lines.join("\n"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(committed(), &text).expect("written");
    }
    let written = std::fs::read_to_string(committed()).expect("docs/api-access.md");
    assert!(written == text, "docs/api-access.md differs; see its head for how to make it anew");
}

#[tokio::test]
async fn only_what_is_meant_to_be_open_is_open() {
    let walk = Walk::new().await;
    let mut open = Vec::new();
    for row in walk.rows() {
        let expected = match row.need {
            Need::Anybody => {
                open.push(format!("{} {}", row.method, row.path));
                continue;
            }
            Need::Ami(_) | Need::Metrics => StatusCode::FORBIDDEN,
            Need::Login | Need::Right(_) => StatusCode::UNAUTHORIZED,
        };
        assert_eq!(walk.status(&row, &Who::Nobody).await, expected, "{row:?}");
    }
    open.sort_unstable();
    let meant = [
        "GET /api/login",
        "GET /api/v1/docs",
        "GET /api/v1/docs/",
        "GET /api/v1/docs/{file}",
        "GET /api/v1/login",
        "GET /api/v1/openapi.json",
        "GET /console/login",
        "GET /livez",
        "GET /readyz",
        "POST /api/login",
        "POST /api/v1/login",
        "POST /console/login",
    ];
    assert_eq!(open, meant);
}

/// The rows of every table, without the marks of last use.
async fn contents(database: &Path) -> BTreeMap<String, Vec<String>> {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("opened");
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'");
    let tables = tables.fetch_all(&mut connection).await.expect("read");
    let mut contents = BTreeMap::new();
    for table in tables {
        let name: String = table.get(0);
        let columns = sqlx::query("SELECT name FROM pragma_table_info($1)").bind(&name);
        let columns = columns.fetch_all(&mut connection).await.expect("read");
        let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        let kept: Vec<_> = columns
            .iter()
            .filter(|name| !matches!(name.as_str(), "seen_at" | "last_used_at" | "last_used_ip"))
            .map(|name| format!("quote({name})"))
            .collect();
        let text = format!("SELECT {} FROM {name} ORDER BY 1", kept.join(" || ',' || "));
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut connection).await;
        let rows = rows.expect("read").iter().map(|row| row.get(0)).collect();
        contents.insert(name, rows);
    }
    contents
}

#[tokio::test]
async fn no_get_changes_anything() {
    let walk = Walk::new().await;
    let mut got = 0;
    for row in walk.rows().into_iter().filter(|row| row.method == Method::GET) {
        for who in [Who::Role("admin"), Who::Here] {
            // The session itself is new each time.
            let strip = |mut tables: BTreeMap<String, Vec<String>>| {
                tables.remove("sessions");
                tables
            };
            let before = strip(contents(&walk.database).await);
            walk.plane.commands.lock().expect("no panic").clear();
            walk.status(&row, &who).await;
            assert_eq!(strip(contents(&walk.database).await), before, "{row:?}");
            let commands = walk.plane.commands.lock().expect("no panic").clone();
            assert!(commands.iter().all(|(_, word)| *word == "ask"), "{row:?}: {commands:?}");
            got += 1;
        }
    }
    assert!(got > 50, "{got} requests");
}
