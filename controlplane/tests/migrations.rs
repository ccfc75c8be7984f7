//! A database of an earlier release goes on with this one, with everything that is in it.

mod stand_ins;

use std::sync::Arc;

use controlplane::directory::{Directory, Surroundings};
use controlplane::names::NameServers;
use controlplane::store::{
    Connections, Db, Extensions, RecordSearch, RecordingState, Recordings, Records, Rows,
    StoreError, TRUNKS,
};
use shared::config::Database;
use shared::snapshot::Secret;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{AnyConnection, Connection, Executor};
use stand_ins::{Folder, call_id, config, postgres};

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// What the first release wrote for one call, to the letter.
const RECORD: &str = include_str!("stand_ins/record_0001.json");

/// Rows of the first schema. Both databases read this.
const ROWS: &str = "
    INSERT INTO facts (name, value) VALUES ('first_start', '1795514400000');
    INSERT INTO extensions (extension, display_name, sip_password, created_at, updated_at)
        VALUES ('1001', 'Demo 1001', 'secret', 1795514400000, 1795514400000);
    INSERT INTO call_legs (call_id, session_id, role)
        VALUES ('a-leg-1@phone', 'SESSION', 'caller'), ('b-leg-1@gate', 'SESSION', 'callee');
    INSERT INTO recordings (session_id, state, capture_path, path, duration_ms, size, updated_at)
        VALUES ('SESSION', 'ready', 'captures/1.rgcap', 'recordings/1.wav', 10000, 320044, 0);
    INSERT INTO call_records (session_id, call_id, direction, status, status_code, started_at,
        ring_time, answer_time, ended_at, duration_ms, from_number, to_number, caller_uri,
        callee_uri, cdr, created_at)
        VALUES ('SESSION', 'a-leg-1@phone', 'internal', 'completed', 200, 1795514401000,
        1795514401100, 1795514403000, 1795514413000, 10000, '1001', '1002',
        'sip:1001@pbx.example', 'sip:1002@pbx.example', 'RECORD', 1795514413001);
";

/// Leaves the database as release 0001 would have.
async fn first_release(url: &str, migrator: &Migrator) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("it connects");
    migrator.run_to(1, &mut connection).await.expect("the first schema");
    let applied = connection.list_applied_migrations("_sqlx_migrations").await.expect("listed");
    assert_eq!(applied.len(), 1, "only the first schema is there");
    let session = call_id(1).to_string();
    let rows = ROWS.replace("SESSION", &session).replace("RECORD", RECORD.trim());
    connection.execute(sqlx::AssertSqlSafe(rows)).await.expect("the rows fit");
    connection.close().await.expect("it closes");
}

async fn everything_is_there(store: &Db) {
    let found = store.record("b-leg-1@gate").await.expect("it is read").expect("known");
    assert_eq!(found.id, 1);
    let kept: serde_json::Value = serde_json::from_str(RECORD).expect("it is JSON");
    let read = serde_json::to_value(&found.cdr).expect("it becomes JSON");
    for (name, value) in kept.as_object().expect("an object") {
        assert_eq!(read.get(name), Some(value), "{name}");
    }
    let recording = found.recording.expect("it has one");
    assert_eq!(recording.state, RecordingState::Ready);
    assert_eq!(recording.size, Some(320_044));
    let all = RecordSearch { page: 1, per_page: 10, ..Default::default() };
    assert_eq!(store.records(&all).await.expect("they are read").total, 1);
    assert!(store.started_before().await.expect("it is answered"));
    let extensions = store.extensions().await.expect("they are read");
    assert_eq!(extensions.len(), 1);
    assert_eq!(extensions[0].secret, Secret::Plain("secret".into()));
    assert!(extensions[0].enabled);
    assert!(store.recording(call_id(1)).await.expect("it is read").is_some());
}

#[tokio::test]
async fn a_file_of_the_first_release_goes_on() {
    let folder = Folder::new("migrations");
    let path = folder.path().join("gate.sqlite3");
    first_release(&format!("sqlite://{}?mode=rwc", path.display()), &SQLITE).await;
    // Twice: the second start has nothing left to do.
    for _ in 0..2 {
        let store = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
        everything_is_there(&store).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_server_of_the_first_release_goes_on() {
    let url = postgres::empty_database();
    first_release(&url, &POSTGRES).await;
    for _ in 0..2 {
        let store = Db::open(&postgres::at(&url)).await.expect("it opens");
        everything_is_there(&store).await;
        store.close().await;
    }
}

/// Databases out there have this file's checksum: a changed one would lock them out.
#[test]
fn a_released_migration_never_changes() {
    let released = [(
        &SQLITE,
        "f92f01632e8b0019a1fe1320d4dde37ad3f1832df9a623c66209bf1e3e543936d3c19592443d3f195e81ce0e4c10aa7e",
    )];
    for (migrator, sum) in released {
        let first = migrator.iter().find(|migration| migration.version == 1);
        let checksum = &first.expect("the first schema").checksum;
        let hex: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, sum);
    }
}

/// Both databases get the same versions, or one of them would miss a table.
#[test]
fn both_databases_have_the_same_migrations() {
    let list = |migrator: &Migrator| {
        let names = migrator.iter().map(|one| (one.version, one.description.to_string()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(list(&SQLITE), list(&POSTGRES));
}

/// Trunks as programs and people left them before 0045, when nobody checked them.
const ODD_TRUNKS: &str = "
    INSERT INTO sip_trunks (name, sip_server, created_at, updated_at) VALUES
        ('plain', 'sip:192.0.2.1', 0, 0), ('NULLs', '192.0.2.2:5070', 0, 0), ('', 'sip:192.0.2.3', 0, 0),
        ('nowhere', '', 0, 0), ('odd host', 'sip:@@', 0, 0);
    INSERT INTO sip_trunks (name, sip_server, auth_username, auth_password, register_enabled,
        register_expires, register_extra_headers, created_at, updated_at) VALUES
        ('lines', 'sip:192.0.2.4', 'a\r\nb', 's', 1, 600, NULL, 0, 0),
        ('half', 'sip:192.0.2.5', NULL, NULL, 1, -5, '{}', 0, 0),
        ('words', 'sip:192.0.2.6', 'a', 's', 7, 99999999999, '\"X: 1\"', 0, 0);
    INSERT INTO sip_trunks (name, sip_server, max_cps, max_concurrent, weight, is_active, status,
        direction, sip_transport, allowed_ips, created_at, updated_at) VALUES
        ('numbers', 'sip:192.0.2.7', -1, 0, -3, NULL, 'what', 'sideways', 'pigeon', '[\"x\"]', 0, 0);
";

/// Leaves the database as the release before 0045 would have, with odd trunks in it.
async fn before_0045(url: &str, migrator: &Migrator) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("it connects");
    migrator.run_to(40, &mut connection).await.expect("the schema of then");
    connection.execute(sqlx::AssertSqlSafe(ODD_TRUNKS)).await.expect("the rows fit");
    connection.close().await.expect("it closes");
}

/// Every row is there still, and has nothing in the new columns. Those that a shard can be told of are
/// served, and the start says of every other one that it is left out.
async fn odd_trunks_are_kept(store: &Db) {
    let rows = store.rows(&TRUNKS).await.expect("they are read");
    assert_eq!(rows.len(), 9);
    for row in &rows {
        for column in ["backup_dest", "failover_codes", "realm", "health_check_enabled", "trusted"]
        {
            assert_eq!(row.fields.get(column), None, "{row:?}");
        }
    }
    let records = Arc::new(NameServers::new(&[]).expect("name servers"));
    let around = Surroundings { ipv6: false, records };
    let mut odd = Vec::new();
    let contents = Directory::read(Arc::new(config("")), store, &around, &mut odd).await;
    let contents = contents.expect("the gateway starts");
    let left_out = odd.iter().filter(|line| line.ends_with("it is left out")).count();
    assert_eq!((contents.counts().trunks, left_out), (7, 2), "{odd:#?}");
    for name in ["nowhere", "odd host"] {
        let is_it = |line: &&String| line.contains(&format!("trunk {name} "));
        let line = odd.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {odd:#?}"));
        assert!(line.ends_with("it is left out"), "{line}");
    }
}

#[tokio::test]
async fn odd_trunks_of_before_0045_go_on_in_a_file() {
    let folder = Folder::new("odd-trunks");
    let path = folder.path().join("gate.sqlite3");
    before_0045(&format!("sqlite://{}?mode=rwc", path.display()), &SQLITE).await;
    let store = Db::open(&Database::Sqlite(path)).await.expect("it opens");
    odd_trunks_are_kept(&store).await;
    store.close().await;
}

#[tokio::test]
async fn odd_trunks_of_before_0045_go_on_on_a_server() {
    let url = postgres::empty_database();
    before_0045(&url, &POSTGRES).await;
    let store = Db::open(&postgres::at(&url)).await.expect("it opens");
    odd_trunks_are_kept(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_left_alone() {
    let folder = Folder::new("newer");
    let path = folder.path().join("gate.sqlite3");
    let store = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
    store.close().await;
    let url = format!("sqlite://{}", path.display());
    let mut connection = AnyConnection::connect(&url).await.expect("it connects");
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
                 execution_time) VALUES (99999, 'newer', 1, x'00', 0)";
    connection.execute(newer).await.expect("it is noted");
    connection.close().await.expect("it closes");
    let error = Db::open(&Database::Sqlite(path)).await.expect_err("it is too new for us");
    assert!(matches!(&error, StoreError::Broken(text) if text.contains("99999")), "{error}");
}
