//! Databases on a PostgreSQL server that this test binary runs for itself.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use controlplane::store::Db;
use loadtest::postgres::{Cluster, Fsync};
use shared::config::{Database, DatabasePool, DatabaseUrl};

/// One server for all tests of the binary; it ends with the process.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| match Cluster::start(Fsync::Off) {
        Ok(cluster) => cluster,
        Err(reason) => panic!("{reason}"),
    })
}

/// The URL of a database that nobody else has.
pub(crate) fn empty_database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("gate_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    match cluster().create(&name) {
        Ok(url) => url,
        Err(reason) => panic!("{reason}"),
    }
}

pub(crate) fn at(url: &str) -> Database {
    let pool = DatabasePool { connections_max: 4, ..Default::default() };
    Database::Postgres { url: DatabaseUrl::new(url), pool }
}

/// An empty database with the newest schema.
pub(crate) async fn db() -> Db {
    Db::open(&at(&empty_database())).await.expect("the database opens")
}
