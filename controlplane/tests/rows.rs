//! Rows of extensions, trunks and routes: the same promises on both databases.

mod stand_ins;

use controlplane::store::{Db, EXTENSIONS, ROUTES, Rows, TRUNKS, Table};
use serde_json::{Map, Value, json};
use stand_ins::postgres;

macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let db = super::Db::in_memory().await.expect("a database in memory");
                super::$promise(db).await;
            })*
        }

        mod postgresql {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::postgres::db().await).await;
            })*
        }
    };
}

on_both! {
    a_row_comes_back_as_it_was,
    what_a_new_version_does_not_name_is_gone,
    a_row_that_is_gone_is_not_there,
    a_name_is_there_once,
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn samples() -> [(&'static Table, Map<String, Value>); 3] {
    [
        (
            &EXTENSIONS,
            map(json!({
                "extension": "1001", "display_name": "Ann \"O'Hara\"", "status": "active",
                "login_disabled": false, "voicemail_disabled": true, "allow_guest_calls": true,
                "ha1_realm": "r", "ha1_md5": "00", "call_forwarding_timeout": 30,
                "department_ids": [1, 2], "notes": "two\nlines",
            })),
        ),
        (
            &TRUNKS,
            map(json!({
                "name": "carrier", "sip_server": "sip:192.0.2.1", "max_concurrent": 7,
                "allowed_ips": ["10.0.0.0/8"], "is_active": false, "rewrite_hostport": true,
                "weight": 100, "metadata": { "k": [null, 1.5, "x"] }, "auth_password": "s",
            })),
        ),
        (
            &ROUTES,
            map(json!({
                "name": "out", "direction": "any", "priority": -3, "is_active": true,
                "notes": ["a"], "document": { "name": "out", "match": { "to.user": "^0\\d" } },
            })),
        ),
    ]
}

async fn a_row_comes_back_as_it_was(db: Db) {
    for (table, fields) in samples() {
        let added = db.add_row(table, &fields).await.expect("it is stored");
        assert_eq!(added.fields, fields);
        let read = db.rows(table).await.expect("they are read");
        assert_eq!(read, std::slice::from_ref(&added));
        assert!(read[0].created_at.0 > 0 && read[0].created_at == read[0].updated_at);
        assert!(!format!("{added:?}").contains("192"), "a row shows nothing of itself");
    }
}

async fn what_a_new_version_does_not_name_is_gone(db: Db) {
    for (table, mut fields) in samples() {
        let added = db.add_row(table, &fields).await.expect("it is stored");
        for optional in ["display_name", "max_concurrent", "metadata", "notes"] {
            fields.remove(optional);
        }
        let at = db.put_row(table, added.id, &fields).await.expect("it is stored");
        let read = db.rows(table).await.expect("they are read").remove(0);
        assert_eq!(read.fields, fields);
        assert_eq!(Some(read.updated_at), at);
        assert_eq!(read.created_at, added.created_at);
    }
}

async fn a_row_that_is_gone_is_not_there(db: Db) {
    for (table, fields) in samples() {
        let id = db.add_row(table, &fields).await.expect("it is stored").id;
        assert!(db.remove_row(table, id).await.expect("it is removed"));
        assert!(!db.remove_row(table, id).await.expect("nothing to remove"));
        assert_eq!(db.put_row(table, id, &fields).await.expect("nothing to change"), None);
        assert_eq!(db.rows(table).await.expect("they are read"), []);
        let next = db.add_row(table, &fields).await.expect("it is stored").id;
        assert!(next > id, "a number is not given twice");
    }
}

async fn a_name_is_there_once(db: Db) {
    for (table, fields) in samples() {
        db.add_row(table, &fields).await.expect("it is stored");
        db.add_row(table, &fields).await.expect_err("the name is taken");
        assert_eq!(db.rows(table).await.expect("they are read").len(), 1);
    }
}
