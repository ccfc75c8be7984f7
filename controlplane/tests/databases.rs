//! What holds for one of the two databases only: the file of SQLite, the server of PostgreSQL.

mod stand_ins;

use std::os::unix::fs::PermissionsExt;

use controlplane::store::{Connections, Db, RecordSearch, Records, StoreError};
use shared::config::Database;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use stand_ins::{Folder, cdr, postgres};

#[tokio::test]
async fn a_file_is_its_owners_alone_and_survives_a_restart() {
    let folder = Folder::new("store");
    let path = folder.path().join("gate.sqlite3");
    let store = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
    store.add_cdrs(&[cdr(1)]).await.expect("it is stored");
    for name in ["gate.sqlite3", "gate.sqlite3-wal"] {
        let mode = folder.path().join(name).metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(store.record("1").await.expect("it is read").is_some(), "a reader sees the writer");
    store.close().await;
    let again = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens again");
    assert!(again.record("1").await.expect("it is read").is_some());
    again.close().await;
}

/// The lock outlasts `busy_timeout`, so this test takes its five seconds.
#[tokio::test]
async fn a_database_that_another_process_locks_is_unavailable_and_then_works() {
    let folder = Folder::new("locked");
    let path = folder.path().join("gate.sqlite3");
    let store = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
    let options = SqliteConnectOptions::new().filename(&path);
    let mut other = SqliteConnection::connect_with(&options).await.expect("it connects");
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.expect("the lock is free");
    let refused = store.add_cdrs(&[cdr(1)]).await.expect_err("it is locked");
    assert!(matches!(refused, StoreError::Unavailable(_)), "worth another try: {refused}");
    sqlx::query("COMMIT").execute(&mut other).await.expect("it was ours");
    other.close().await.expect("it closes");
    store.add_cdrs(&[cdr(1)]).await.expect("it is free");
    assert!(store.record("1").await.expect("it is read").is_some());
}

#[tokio::test]
async fn what_is_no_database_says_so() {
    let folder = Folder::new("nonsense");
    let path = folder.path().join("gate.sqlite3");
    std::fs::write(&path, "this is text and no database at all, and long enough to be read as one")
        .expect("it is written");
    let error = Db::open(&Database::Sqlite(path.clone())).await.expect_err("it is no database");
    assert!(error.to_string().contains("not a database"), "{error}");
}

/// `lock_timeout` ends the wait, so this test takes its five seconds too.
#[tokio::test]
async fn a_table_that_somebody_locks_is_unavailable_and_then_works() {
    let url = postgres::empty_database();
    let store = Db::open(&postgres::at(&url)).await.expect("it opens");
    let mut other = PgConnection::connect(&url).await.expect("it connects");
    let mut lock = other.begin().await.expect("a transaction");
    let exclusive = sqlx::query("LOCK TABLE call_records IN ACCESS EXCLUSIVE MODE");
    exclusive.execute(&mut *lock).await.expect("the lock is free");
    let refused = store.add_cdrs(&[cdr(1)]).await.expect_err("it is locked");
    assert!(matches!(refused, StoreError::Unavailable(_)), "worth another try: {refused}");
    lock.rollback().await.expect("it was ours");
    store.add_cdrs(&[cdr(1)]).await.expect("it is free");
    assert!(store.record("a-leg-1@phone").await.expect("it is read").is_some());
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_replaced() {
    let url = postgres::empty_database();
    let store = Db::open(&postgres::at(&url)).await.expect("it opens");
    store.add_cdrs(&[cdr(1)]).await.expect("it is stored");
    let mut other = PgConnection::connect(&url).await.expect("it connects");
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let ended = ended.fetch_all(&mut other).await.expect("it is told").len();
    assert!(ended > 0, "the pool had a connection");
    store.add_cdrs(&[cdr(2)]).await.expect("a new connection stores it");
    let search = RecordSearch { page: 1, per_page: 5, ..Default::default() };
    assert_eq!(store.records(&search).await.expect("it is read").total, 2);
}

#[tokio::test]
async fn the_server_is_reached_through_tls() {
    let plain = postgres::empty_database();
    let name = plain.split("///").nth(1).and_then(|rest| rest.split('?').next());
    let url = postgres::cluster().tls_url(name.expect("the URL names its database"));
    let store = Db::open(&postgres::at(&url)).await.expect("it opens");
    store.ping().await.expect("it answers");
    let mut other = PgConnection::connect(&plain).await.expect("it connects");
    let encrypted = sqlx::query(
        "SELECT 1 FROM pg_stat_ssl s JOIN pg_stat_activity a ON a.pid = s.pid \
         WHERE s.ssl AND a.datname = current_database() AND a.application_name = 'ringgate'",
    );
    assert!(!encrypted.fetch_all(&mut other).await.expect("it is told").is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told() {
    let url = "postgres://gate:s3cret@127.0.0.1:1/gate";
    let error = Db::open(&postgres::at(url)).await.expect_err("nobody listens on port 1");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    let missing = postgres::empty_database().replace("gate_", "nobody_");
    let error = Db::open(&postgres::at(&missing)).await.expect_err("no such database");
    assert!(matches!(error, StoreError::Broken(_)), "{error}");
}
