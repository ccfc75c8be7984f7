//! Users, roles and tokens over the API, and the audit log of what was done with them.

mod stand_ins;

use axum::http::{Method, StatusCode, header};
use controlplane::store::Users;
use serde_json::{Value, json};
use stand_ins::TOKEN;
use stand_ins::asking::{Answer, Ask, Gate, PASSWORD};

const NEW_PASSWORD: &str = "another horse battery";

async fn admin(gate: &Gate, method: Method, path: &str, body: &Value) -> Answer {
    gate.ask(Ask::new(method, path).bearer(TOKEN).json(body)).await
}

async fn get(gate: &Gate, path: &str) -> Value {
    let answer = gate.ask(Ask::get(path).bearer(TOKEN)).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    answer.json()
}

fn user(name: &str) -> Value {
    json!({ "username": name, "email": format!("{name}@Example.net"), "password": NEW_PASSWORD })
}

#[tokio::test]
async fn a_user_is_made_changed_logged_in_and_removed() {
    let gate = Gate::with_users("").await;
    let made = admin(&gate, Method::POST, "/api/v1/users", &user("carol")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let shown = made.json();
    assert_eq!(shown["email"], "carol@example.net");
    assert_eq!((&shown["is_active"], &shown["is_superuser"]), (&json!(true), &json!(false)));
    assert_eq!(shown["rights"], json!([]));
    let text = shown.to_string();
    assert!(!text.contains("argon2") && !text.contains(NEW_PASSWORD), "{text}");
    let id = shown["id"].as_i64().expect("a number");

    let login = gate.try_login("carol@example.net", NEW_PASSWORD, "127.0.0.1").await;
    assert_eq!(login.status, StatusCode::OK);
    let (session, _) = login.cookie("ringgate_session");
    let path = format!("/api/v1/users/{id}");
    let change = json!({ "email": null, "password": PASSWORD });
    let changed = admin(&gate, Method::PATCH, &path, &change).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(changed.json()["email"], Value::Null);
    let old = gate.ask(Ask::get("/console/session").session(&session)).await;
    old.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    assert_eq!(gate.try_login("carol", PASSWORD, "127.0.0.1").await.status, StatusCode::OK);

    let removed = admin(&gate, Method::DELETE, &path, &json!({})).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let again = admin(&gate, Method::DELETE, &path, &json!({})).await;
    again.assert_problem(StatusCode::NOT_FOUND, "no_such_user");
    let gone = gate.try_login("carol", PASSWORD, "127.0.0.1").await;
    gone.assert_problem(StatusCode::UNAUTHORIZED, "login_refused");
}

#[tokio::test]
async fn the_original_asks_with_post_and_makes_with_put() {
    let gate = Gate::with_users("").await;
    for prefix in ["/console", "/api"] {
        let path = format!("{prefix}/settings/users");
        let name = prefix.trim_start_matches('/');
        let made = admin(&gate, Method::PUT, &path, &user(name)).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let query = json!({ "page": 1, "per_page": 10, "filters": { "q": name, "active": true } });
        let found = admin(&gate, Method::POST, &path, &query).await.json();
        assert_eq!(found["total_items"], 1, "{found}");
        assert_eq!(found["items"][0]["username"], name);
        let id = found["items"][0]["id"].clone();
        let roles = json!({ "role_ids": [5, 2] });
        let of_one = format!("{path}/{id}/roles");
        let set = admin(&gate, Method::POST, &of_one, &roles).await;
        assert_eq!(set.status, StatusCode::OK, "{}", set.json());
        assert_eq!(get(&gate, &of_one).await["data"][0]["name"], "operator");
    }
    let everybody = admin(&gate, Method::POST, "/api/settings/users", &json!({})).await.json();
    assert_eq!((&everybody["total_items"], &everybody["per_page"]), (&json!(4), &json!(20)));
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let gate = Gate::with_users("").await;
    for number in 0..5 {
        admin(&gate, Method::POST, "/api/v1/users", &user(&format!("user{number}"))).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/users?limit=3".to_owned();
    loop {
        let page = get(&gate, &path).await;
        assert_eq!(page["page"]["total_estimate"], 7);
        let users = page["data"].as_array().expect("a list").clone();
        names.extend(users.into_iter().map(|user| user["username"].clone()));
        let Some(next) = page["page"]["next_cursor"].as_str() else { break };
        path = format!("/api/v1/users?limit=3&cursor={next}");
    }
    assert_eq!(names, ["ada", "bob", "user0", "user1", "user2", "user3", "user4"]);
    let some = get(&gate, "/api/v1/users?q=USER&active=false").await;
    assert_eq!(some["data"], json!([]));
    for wrong in ["limit=0", "limit=501", "cursor=7", "active=maybe", "colour=red"] {
        let answer = gate.ask(Ask::get(&format!("/api/v1/users?{wrong}")).bearer(TOKEN)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_field_by_field() {
    let gate = Gate::with_users("").await;
    let body = json!({
        "username": "a b", "email": "nowhere", "password": "short", "is_active": "yes", "colour": 1,
    });
    let answer = admin(&gate, Method::POST, "/api/v1/users", &body).await;
    answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    let errors = answer.json()["errors"].as_array().expect("a list").clone();
    let mut pointers: Vec<_> =
        errors.iter().map(|error| error["pointer"].as_str().expect("text").to_owned()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/colour", "/email", "/is_active", "/password", "/username"]);
    let missing = admin(&gate, Method::POST, "/api/v1/users", &json!({})).await;
    assert_eq!(missing.json()["errors"][0]["code"], "missing");
    let taken = admin(&gate, Method::POST, "/api/v1/users", &user("ada")).await;
    taken.assert_problem(StatusCode::CONFLICT, "name_taken");
    let email = json!({ "username": "x", "email": "ADA@example.net", "password": NEW_PASSWORD });
    let taken = admin(&gate, Method::POST, "/api/v1/users", &email).await;
    taken.assert_problem(StatusCode::CONFLICT, "name_taken");
    let name = json!({ "username": "longname-longname", "password": "LONGNAME-longname" });
    let named = admin(&gate, Method::POST, "/api/v1/users", &name).await;
    named.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    for id in ["0", "99", "x", "1%20OR%201=1"] {
        let answer = gate.ask(Ask::get(&format!("/api/v1/users/{id}")).bearer(TOKEN)).await;
        answer.assert_problem(StatusCode::NOT_FOUND, "no_such_user");
    }
}

#[tokio::test]
async fn somebody_who_may_do_everything_is_always_left() {
    let gate = Gate::with_users("").await;
    let ada = gate.store.login("ada").await.expect("read").expect("known").user.id;
    let path = format!("/api/v1/users/{ada}");
    for body in [json!({ "is_active": false }), json!({ "is_superuser": false })] {
        let answer = admin(&gate, Method::PATCH, &path, &body).await;
        answer.assert_problem(StatusCode::CONFLICT, "last_admin");
    }
    let removed = admin(&gate, Method::DELETE, &path, &json!({})).await;
    removed.assert_problem(StatusCode::CONFLICT, "last_admin");
    assert_eq!(gate.try_login("ada", PASSWORD, "127.0.0.1").await.status, StatusCode::OK);
}

/// A user with the permission to manage users and nothing else.
async fn with_hr(gate: &Gate) -> String {
    let role = json!({
        "name": "hr",
        "permissions": [{ "resource": "users", "action": "manage" }],
    });
    let role = admin(gate, Method::POST, "/api/v1/roles", &role).await;
    assert_eq!(role.status, StatusCode::CREATED, "{}", role.json());
    assert_eq!(role.json()["rights"], json!(["users:manage"]));
    let made = admin(gate, Method::POST, "/api/v1/users", &user("hr")).await.json();
    let path = format!("/api/v1/users/{}/roles", made["id"]);
    let set = admin(gate, Method::PUT, &path, &json!({ "role_ids": [role.json()["id"]] })).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.json());
    let login = gate.try_login("hr", NEW_PASSWORD, "127.0.0.1").await;
    login.cookie("ringgate_session").0
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let gate = Gate::with_users("").await;
    let session = with_hr(&gate).await;
    let ask = async |method: Method, path: &str, body: Value| {
        gate.ask(Ask::new(method, path).session(&session).json(&body)).await
    };
    let own = ask(Method::POST, "/api/v1/users", user("dora")).await;
    assert_eq!(own.status, StatusCode::CREATED);
    let dora = own.json()["id"].clone();
    let ada = gate.store.login("ada").await.expect("read").expect("known").user.id;
    let mut root = user("eve");
    root["is_superuser"] = json!(true);
    let all = json!([{ "resource": "*", "action": "*" }]);
    for (method, path, body) in [
        (Method::POST, "/api/v1/users".to_owned(), root),
        (Method::PATCH, format!("/api/v1/users/{dora}"), json!({ "is_superuser": true })),
        (Method::PATCH, format!("/api/v1/users/{ada}"), json!({ "password": NEW_PASSWORD })),
        (Method::DELETE, format!("/api/v1/users/{ada}"), json!({})),
        (Method::PUT, format!("/api/v1/users/{dora}/roles"), json!({ "role_ids": [1] })),
        (Method::POST, "/api/v1/roles".to_owned(), json!({ "name": "all", "permissions": all })),
        (
            Method::POST,
            "/api/v1/tokens".to_owned(),
            json!({ "name": "t", "scopes": ["calls:control"] }),
        ),
    ] {
        let answer = ask(method.clone(), &path, body).await;
        answer.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    }
    assert_eq!(gate.try_login("ada", PASSWORD, "127.0.0.1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn roles_are_made_of_known_permissions_and_those_of_the_schema_stay() {
    let gate = Gate::with_users("").await;
    let roles = get(&gate, "/api/settings/roles").await;
    let names: Vec<_> =
        roles["data"].as_array().expect("a list").iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["admin", "analyst", "auditor", "operator", "viewer"]);
    let admin_role = &roles["data"][0]["id"];
    for method in [Method::PATCH, Method::DELETE] {
        let path = format!("/api/v1/roles/{admin_role}");
        let answer = admin(&gate, method, &path, &json!({ "name": "root" })).await;
        answer.assert_problem(StatusCode::CONFLICT, "role_fixed");
    }
    let unknown = json!({
        "name": "x",
        "permissions": [
            { "resource": "moon", "action": "read" },
            { "resource": "cdr" },
        ],
    });
    let answer = admin(&gate, Method::POST, "/api/v1/roles", &unknown).await;
    answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/permissions/0");
    assert_eq!(answer.json()["errors"][1]["pointer"], "/permissions/1");

    let permissions = json!([
        { "resource": "queues", "action": "read" },
        { "resource": "cdr", "action": "read" },
    ]);
    let role = json!({ "name": "listeners", "permissions": permissions });
    let made = admin(&gate, Method::POST, "/console/settings/roles", &role).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["rights"], json!(["cdr:read"]), "there are no queues here");
    let path = format!("/console/settings/roles/{}", made.json()["id"]);
    let tag = made.headers[header::ETAG].to_str().expect("text").to_owned();
    let edit = |body: Value, tag: &str| {
        Ask::new(Method::PATCH, &path).bearer(TOKEN).json(&body).header("if-match", tag)
    };
    let changed = gate.ask(edit(json!({ "description": "who listens" }), &tag)).await;
    assert_eq!(changed.json()["description"], "who listens");
    assert_eq!(changed.json()["permissions"].as_array().map(Vec::len), Some(2), "they stay");
    let late = gate.ask(edit(json!({ "name": "others" }), &tag)).await;
    late.assert_problem(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    assert_eq!(
        admin(&gate, Method::DELETE, &path, &json!({})).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_change_of_roles_counts_at_once_and_needs_a_new_login() {
    let gate = Gate::with_users("").await;
    let bob = gate.store.login("bob").await.expect("read").expect("known").user.id;
    let (session, _) = gate.login("bob").await;
    let records =
        async |secret: &str| gate.ask(Ask::get("/console/call-records").session(secret)).await;
    records(&session).await.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    let roles = get(&gate, "/api/v1/roles").await;
    let viewer = roles["data"].as_array().expect("a list").iter().find(|r| r["name"] == "viewer");
    let viewer = viewer.expect("known")["id"].clone();
    let path = format!("/api/v1/users/{bob}/roles");
    let set = admin(&gate, Method::PUT, &path, &json!({ "role_ids": [viewer] })).await;
    assert_eq!(set.status, StatusCode::OK);
    records(&session).await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let (session, _) = gate.login("bob").await;
    assert_eq!(records(&session).await.status, StatusCode::OK);
    let unknown = admin(&gate, Method::PUT, &path, &json!({ "role_ids": [99] })).await;
    unknown.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
}

#[tokio::test]
async fn whoever_is_logged_in_changes_the_own_password() {
    let gate = Gate::with_users("").await;
    let (session, _) = gate.login("bob").await;
    let ask = async |old: &str, new: &str| {
        let body = json!({ "old_password": old, "new_password": new });
        gate.ask(Ask::post("/api/v1/session/password").session(&session).json(&body)).await
    };
    let wrong = ask("guess", NEW_PASSWORD).await;
    wrong.assert_problem(StatusCode::FORBIDDEN, "password_wrong");
    let short = ask(PASSWORD, "short").await;
    short.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    assert_eq!(short.json()["errors"][0]["pointer"], "/new_password");
    assert_eq!(ask(PASSWORD, NEW_PASSWORD).await.status, StatusCode::NO_CONTENT);
    ask(NEW_PASSWORD, PASSWORD)
        .await
        .assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    assert_eq!(gate.try_login("bob", NEW_PASSWORD, "127.0.0.1").await.status, StatusCode::OK);
    let body = json!({ "old_password": PASSWORD, "new_password": NEW_PASSWORD });
    let token = gate.ask(Ask::post("/api/v1/session/password").bearer(TOKEN).json(&body)).await;
    token.assert_problem(StatusCode::BAD_REQUEST, "no_session");
}

#[tokio::test]
async fn a_token_is_shown_once_works_and_is_revoked() {
    let gate = Gate::with_users("").await;
    let body = json!({
        "name": "billing", "scopes": ["cdr:read"], "networks": ["127.0.0.0/8"], "expires_in_s": 60,
    });
    let made = admin(&gate, Method::POST, "/api/v1/tokens", &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let made = made.json();
    let token = made["token"].as_str().expect("text").to_owned();
    let id = made["id"].as_str().expect("text").to_owned();
    assert!(token.starts_with(&format!("gwk_{id}_")), "{token}");
    let ask = async || gate.ask(Ask::get("/api/v1/call-records").bearer(&token)).await;
    assert_eq!(ask().await.status, StatusCode::OK);
    gate.settled().await;
    let list = get(&gate, "/api/v1/tokens").await;
    let shown = &list["data"][0];
    assert_eq!((&shown["id"], &shown["scopes"]), (&json!(id), &json!(["cdr:read"])));
    assert_eq!(shown["created_by"], "configured token 1");
    assert_eq!(shown["last_used_ip"], "127.0.0.1");
    assert!(!list.to_string().contains(&token));
    gate.advance(60_000);
    ask().await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    gate.advance(-60_000);
    assert_eq!(ask().await.status, StatusCode::OK);
    let path = format!("/api/v1/tokens/{id}");
    let revoked = admin(&gate, Method::DELETE, &path, &json!({})).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    ask().await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let again = admin(&gate, Method::DELETE, &path, &json!({})).await;
    again.assert_problem(StatusCode::NOT_FOUND, "no_such_token");
    assert!(get(&gate, &path).await["revoked_at"].is_string());

    for (body, pointer) in [
        (json!({ "scopes": ["ami"] }), "/name"),
        (json!({ "name": "x" }), "/scopes"),
        (json!({ "name": "x", "scopes": ["everything"] }), "/scopes"),
        (json!({ "name": "x", "scopes": ["ami"], "networks": ["10.0.0.0/99"] }), "/networks/0"),
        (json!({ "name": "x", "scopes": ["ami"], "expires_in_s": 0 }), "/expires_in_s"),
        (json!({ "name": "x", "scopes": ["ami"], "expires_in_s": "1h" }), "/expires_in_s"),
    ] {
        let answer = admin(&gate, Method::POST, "/api/v1/tokens", &body).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn everything_that_was_done_is_in_the_audit_log_without_secrets() {
    let gate = Gate::with_users("").await;
    let made = admin(&gate, Method::POST, "/api/v1/users", &user("carol")).await.json();
    let path = format!("/api/v1/users/{}", made["id"]);
    let change = json!({ "is_active": false, "password": PASSWORD });
    admin(&gate, Method::PATCH, &path, &change).await;
    let token = json!({ "name": "t", "scopes": ["ami"] });
    let token = admin(&gate, Method::POST, "/api/v1/tokens", &token).await.json();
    let text = token["token"].as_str().expect("text").to_owned();
    gate.try_login("ada", "wrong", "192.0.2.1").await;
    let log = get(&gate, "/api/v1/audit?limit=3").await;
    let rows = log["data"].as_array().expect("a list");
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().expect("text")).collect();
    assert_eq!(actions, ["login", "token.create", "user.change"]);
    assert_eq!((&rows[0]["outcome"], &rows[0]["source"]), (&json!("refused"), &json!("192.0.2.1")));
    assert_eq!(rows[2]["actor"], "configured token 1");
    assert_eq!(rows[2]["object"], "user carol");
    assert_eq!(rows[2]["before"]["is_active"], true);
    assert_eq!(rows[2]["after"]["is_active"], false);
    assert_eq!(rows[2]["at"], "2026-11-24T10:00:00.000Z");
    let next = log["page"]["next_cursor"].as_str().expect("there is more");
    let rest = get(&gate, &format!("/api/v1/audit?cursor={next}")).await;
    assert_eq!(rest["data"][0]["action"], "user.create");
    assert_eq!(rest["page"]["next_cursor"], Value::Null);
    let some = get(&gate, "/api/v1/audit?action=user.change&object=user%20carol").await;
    assert_eq!(some["data"].as_array().map(Vec::len), Some(1));
    let later = get(&gate, "/api/v1/audit?from=2026-11-25").await;
    assert_eq!(later["data"], json!([]));
    let all = get(&gate, "/api/v1/audit?limit=500").await.to_string();
    for secret in [&text, NEW_PASSWORD, PASSWORD, "argon2"] {
        assert!(!all.contains(secret), "{secret} is in the log");
    }
}
