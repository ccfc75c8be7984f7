//! The directory's contents without a database: which source decides, and what cannot be served.
//! Owns:  configurations and rows as text.
//! Gives: what shards would be told.
//! Never: a name server: addresses are numbers here.
//! Holds: a change of one row says the same as building everything anew.

use std::collections::BTreeMap;

use serde_json::json;
use shared::config::{Sources, load};

use super::*;
use crate::directory::Surroundings;
use crate::names::NameServers;

fn config(text: &str) -> Arc<Config> {
    let loaded = load(&Sources {
        file: Some(("gate.toml", text)),
        env: Vec::new(),
        read_secret: &|_| Err("no secrets here".to_owned()),
        strict: true,
    });
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
}

fn row(id: i64, fields: Value) -> Row {
    let Value::Object(fields) = fields else { panic!("an object") };
    Row { id, fields, created_at: WallMs(0), updated_at: WallMs(0) }
}

fn extension(id: i64, name: &str, password: &str) -> Row {
    row(id, json!({ "extension": name, "sip_password": password }))
}

async fn build(config: &Arc<Config>, rows: [Vec<Row>; 3]) -> (Contents, Vec<String>) {
    let mut odd = Vec::new();
    let records = Arc::new(NameServers::new(&[]).expect("name servers"));
    let resolver = Resolver::new(config, &Surroundings { ipv6: false, records });
    let contents = Contents::build(Arc::clone(config), rows, resolver, None, &mut odd).await;
    (contents.expect("it can be served"), odd)
}

fn password(contents: &Contents, name: &str) -> Option<String> {
    match &contents.users().get(name)?.secret {
        Secret::Plain(password) => Some(password.to_string()),
        Secret::Ha1 { .. } => panic!("no hash was written"),
    }
}

fn backends(order: [&str; 2]) -> String {
    let backend = |kind: &str| match kind {
        "memory" => {
            "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [{ username = \"1\", password = \
             \"file\" }, { username = \"2\", password = \"file\" }]\n"
        }
        _ => "[[proxy.user_backends]]\ntype = \"extension\"\n",
    };
    order.map(backend).concat()
}

#[tokio::test]
async fn the_first_backend_that_knows_a_name_decides() {
    for (order, two) in [(["memory", "extension"], "file"), (["extension", "memory"], "row")] {
        let config = config(&backends(order));
        let rows = vec![extension(1, "2", "row"), extension(2, "3", "row")];
        let (contents, odd) = build(&config, [rows, Vec::new(), Vec::new()]).await;
        assert_eq!(odd, [""; 0]);
        assert_eq!(contents.users().len(), 3);
        assert_eq!(password(&contents, "2").as_deref(), Some(two));
        assert_eq!(password(&contents, "3").as_deref(), Some("row"));
    }
}

#[tokio::test]
async fn one_row_changed_is_the_same_as_everything_anew() {
    for order in [["memory", "extension"], ["extension", "memory"]] {
        let config = config(&backends(order));
        let steps: [(i64, Option<Row>); 5] = [
            (1, Some(extension(1, "2", "row"))),
            (2, Some(extension(2, "3", "row"))),
            (2, Some(extension(2, "4", "other"))),
            (1, None),
            (3, Some(extension(3, "1", "row"))),
        ];
        let (mut contents, _) = build(&config, Default::default()).await;
        let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
        for (id, change) in steps {
            contents = contents.with_row(Kind::Extension, id, change.clone());
            match change {
                Some(row) => drop(rows.insert(id, row)),
                None => drop(rows.remove(&id)),
            }
            let all = rows.values().cloned().collect();
            let (anew, _) = build(&config, [all, Vec::new(), Vec::new()]).await;
            let secrets = |contents: &Contents| -> BTreeMap<String, Option<String>> {
                let names = contents.users().keys();
                names.map(|name| (name.to_string(), password(contents, name))).collect()
            };
            assert_eq!(secrets(&contents), secrets(&anew), "{order:?}");
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_served_is_left_out_and_named() {
    let config = config(
        "[proxy]\nrealms = [\"here\"]\n[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\n\
         [[proxy.routes]]\nname = \"r\"\ndest = \"gone\"\n",
    );
    let extensions = vec![
        row(1, json!({ "extension": "1" })),
        row(2, json!({ "extension": "2", "ha1_realm": "elsewhere", "ha1_md5": "0".repeat(32) })),
    ];
    let routes = vec![
        row(1, json!({ "name": "broken", "document": { "name": "broken", "reject": 7 } })),
        row(2, json!({ "name": "r", "document": { "name": "r" } })),
        row(3, json!({ "name": "good", "document": { "name": "good", "dest": "b" } })),
    ];
    let trunks = vec![
        row(1, json!({ "name": "a", "sip_server": "sip:192.0.2.2" })),
        row(2, json!({ "name": "b", "sip_server": "sip:no such host" })),
    ];
    let (contents, odd) = build(&config, [extensions, routes, trunks]).await;
    for words in [
        "extension 1 has no secret",
        "extension 2: its password was hashed for another realm than \"here\"",
        "route 1 of the database cannot be read and is left out: reject",
        "route 2 of the database has the name of one in a file",
        "trunk 1 of the database has the name of one in a file",
        "trunk b of the database",
    ] {
        assert!(odd.iter().any(|line| line.contains(words)), "{words} is not in {odd:#?}");
    }
    let served = Served { users: 1, trunks: 1, routes: 2, acl_rules: 0 };
    assert_eq!(contents.counts(), served);
    let missing = contents.missing_trunks();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["gate.toml:5: the rule \"r\" names no trunk: gone"]);
    assert_eq!(contents.dependents("b"), [("good".to_owned(), "number 3".to_owned())]);
}

/// Ten thousand extensions: one more costs a copy of pointers, not of secrets.
#[tokio::test]
async fn one_more_of_ten_thousand_keeps_the_others() {
    let config = config("");
    let rows = (0..10_000).map(|id| extension(id, &format!("x{id}"), "s")).collect();
    let (before, _) = build(&config, [rows, Vec::new(), Vec::new()]).await;
    let after = before.with_row(Kind::Extension, 10_000, Some(extension(10_000, "new", "s")));
    assert_eq!(after.users().len(), 10_001);
    let kept = before
        .users()
        .iter()
        .all(|(name, user)| after.users().get(name).is_some_and(|other| Arc::ptr_eq(user, other)));
    assert!(kept, "no user was made anew");
    let copied = after.users().unshared(before.users());
    assert!(copied < 100, "{copied} entries of users were copied");
    let copied = after.table(Kind::Extension).unshared(before.table(Kind::Extension));
    assert!(copied <= 256, "{copied} entries of rows were copied");
    let found = after.row_named(Kind::Extension, "new").map(|row| row.id);
    assert_eq!((found, before.row_named(Kind::Extension, "new")), (Some(10_000), None));
    // A name that is given up is free, and a removed row is found no more.
    let renamed = after.with_row(Kind::Extension, 7, Some(extension(7, "other", "s")));
    assert!(renamed.row_named(Kind::Extension, "x7").is_none());
    assert_eq!(renamed.row_named(Kind::Extension, "other").map(|row| row.id), Some(7));
    let gone = renamed.with_row(Kind::Extension, 7, None);
    assert_eq!((gone.users().len(), gone.table(Kind::Extension).len()), (10_000, 10_000));
    assert!(gone.row_named(Kind::Extension, "other").is_none());
    assert!(
        Arc::ptr_eq(&before.routes, &after.routes) && Arc::ptr_eq(&before.trunks, &after.trunks)
    );
}
