//! What the routes of `users` say about themselves.
//! Owns:  the schemas and examples of users.
//! Gives: one `Doc` per route.
//! Never: a password that somebody has.
//! Holds: the fields are those that `users` reads.

use serde_json::{Value, json};

use super::Code;
use super::doc::{self, Doc};
use super::page;

/// With its roles and what they come to.
fn example() -> Value {
    let mut user = item();
    user["roles"] = json!([{ "id": 4, "name": "operator" }]);
    user["rights"] = json!(["calls:read"]);
    user
}

/// As a list has it.
fn item() -> Value {
    json!({
        "id": 7,
        "username": "carol",
        "email": "carol@example.net",
        "is_active": true,
        "is_staff": false,
        "is_superuser": false,
        "last_login_at": null,
        "last_login_ip": null,
        "created_at": "2026-11-24T10:00:00.000Z",
        "updated_at": "2026-11-24T10:00:00.000Z",
    })
}

fn fields(needed: bool) -> Value {
    let name = |name: &'static str| if needed { name } else { name.trim_start_matches('!') };
    doc::object(&[
        (name("!username"), doc::text()),
        (name("!password"), doc::text()),
        ("email", doc::text_or_null()),
        ("is_active", doc::flag()),
        ("is_staff", doc::flag()),
        ("is_superuser", doc::flag()),
    ])
}

pub(super) fn list() -> Doc {
    let page =
        json!({ "limit": 50, "next_cursor": null, "prev_cursor": null, "total_estimate": 1 });
    Doc::new("Users, by name")
        .pages()
        .query("q", doc::text(), "Part of the name or the email")
        .query("active", doc::flag(), "Only those who may log in, or only the others")
        .answer(200, "A page of users", json!({ "data": [item()], "page": page }))
}

pub(super) fn search() -> Doc {
    let schema = doc::object(&[
        ("page", doc::number(1, 1_000_000)),
        ("per_page", doc::number(5, 100)),
        ("q", doc::text_or_null()),
        ("active", doc::flag()),
        ("filters", doc::object(&[("q", doc::text_or_null()), ("active", doc::flag())])),
        ("sort", doc::text_or_null()),
    ]);
    Doc::new("Users, a page at a time")
        .body(schema, json!({ "page": 1, "per_page": 20, "filters": { "q": "car" } }))
        .answer(200, "A page of users", page::envelope(1, 20, 1, vec![item()]))
        .refuses(&[Code::BodyInvalid])
}

pub(super) fn create() -> Doc {
    let written = json!({ "username": "carol", "password": "a long enough password" });
    Doc::new("Make a user")
        .body(fields(true), written)
        .answer(201, "The user", example())
        .refuses(&[Code::BodyInvalid, Code::NameTaken, Code::TooMany])
}

pub(super) fn one() -> Doc {
    Doc::new("One user")
        .at("id", "1")
        .answer(200, "The user", example())
        .refuses(&[Code::NoSuchUser])
        .versioned()
}

pub(super) fn change() -> Doc {
    Doc::new("Change what is said, leave the rest; a new password ends the user's sessions")
        .at("id", "2")
        .body(fields(false), json!({ "is_staff": true }))
        .answer(200, "The user", example())
        .refuses(&[Code::BodyInvalid, Code::LastAdmin, Code::NameTaken, Code::NoSuchUser])
        .versioned()
}

pub(super) fn remove() -> Doc {
    Doc::new("Remove a user")
        .at("id", "2")
        .empty(204, "The user is gone")
        .refuses(&[Code::LastAdmin, Code::NoSuchUser])
        .versioned()
}

fn shown_roles() -> Value {
    json!({ "data": [{ "id": 4, "name": "operator", "is_system": true, "rights": ["calls:read"] }] })
}

pub(super) fn roles() -> Doc {
    Doc::new("The roles of a user")
        .at("id", "2")
        .answer(200, "The roles", shown_roles())
        .refuses(&[Code::NoSuchUser])
}

pub(super) fn set_roles() -> Doc {
    let schema = doc::object(&[("!role_ids", doc::list_of(doc::number(1, i64::MAX)))]);
    Doc::new("These roles and no others; the user's sessions end")
        .at("id", "2")
        .body(schema, json!({ "role_ids": [5] }))
        .answer(200, "The roles", shown_roles())
        .refuses(&[Code::BodyInvalid, Code::LastAdmin, Code::NameTaken, Code::NoSuchUser])
}

pub(super) fn own_password() -> Doc {
    let schema = doc::object(&[("!old_password", doc::text()), ("!new_password", doc::text())]);
    let written = json!({ "old_password": "a long enough password", "new_password": "an even longer password" });
    Doc::new("Change the own password; all own sessions end")
        .body(schema, written)
        .empty(204, "It is changed")
        .refuses(&[
            Code::BodyInvalid,
            Code::LastAdmin,
            Code::NameTaken,
            Code::NoSession,
            Code::NoSuchUser,
            Code::PasswordWrong,
            Code::TooManyLogins,
        ])
}
