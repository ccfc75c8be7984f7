//! Who may ask: logins, sessions, tokens, addresses, and everything that must not get through.

mod stand_ins;

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{StatusCode, header};
use controlplane::access::{NewToken, SESSION_IDLE_MS, SESSION_LASTS_MS, hash_now};
use controlplane::store::{Connections, Token, Tokens, UserEdit, Users};
use serde_json::json;
use stand_ins::asking::{Ask, Gate, PASSWORD};
use stand_ins::{MORNING, TOKEN, only};

#[tokio::test]
async fn a_login_sets_cookies_that_scripts_and_other_sites_cannot_use() {
    let gate = Gate::with_users("").await;
    for (prefix, body) in [
        ("/console", json!({ "identifier": "ada", "password": PASSWORD })),
        ("/api", json!({ "identifier": "ADA@example.net", "password": PASSWORD })),
        ("/api/v1", json!({ "identifier": "ada@example.net", "password": PASSWORD })),
    ] {
        let answer = gate.ask(Ask::post(&format!("{prefix}/login")).json(&body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{prefix}");
        let shown = answer.json();
        assert_eq!(shown["user"]["username"], "ada");
        assert!(shown["rights"].as_array().is_some_and(|all| all.contains(&json!("ami:access"))));
        assert!(!String::from_utf8_lossy(&answer.body).contains("argon2"));
        let (secret, attributes) = answer.cookie("ringgate_session");
        assert_eq!(secret.len(), 64);
        assert_eq!(attributes, " HttpOnly; Path=/; SameSite=Strict; Max-Age=43200");
        let (csrf, attributes) = answer.cookie("csrf_token");
        assert_eq!(shown["csrf_token"], csrf);
        assert_eq!(attributes, " Path=/; SameSite=Strict; Max-Age=43200");
        assert_ne!(csrf, secret);
        let seen = gate.ask(Ask::get("/console/calls/active").session(&secret)).await;
        assert_eq!(seen.status, StatusCode::OK);
    }
    let form = format!("identifier=ada&password={}", PASSWORD.replace(' ', "+"));
    let answer = gate.ask(Ask::post("/console/login").form(&form)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let logins = gate.board.counts.logins.load(Ordering::Relaxed);
    assert_eq!(logins, 4);
    assert_eq!(gate.audit().await[0], ("login".into(), "user ada".into(), "done".into()));
}

#[tokio::test]
async fn a_browser_goes_on_to_a_page_of_ours_and_to_no_other() {
    let gate = Gate::with_users("").await;
    for (next, expected) in [
        ("", "/console"),
        ("&next=/console/calls%3Fx%3D1", "/console/calls?x=1"),
        ("&next=//evil.example", "/console"),
        ("&next=https://evil.example", "/console"),
    ] {
        let form = format!("identifier=ada&password={}{next}", PASSWORD.replace(' ', "+"));
        let ask = Ask::post("/console/login").form(&form).header("accept", "text/html,*/*");
        let answer = gate.ask(ask).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.headers[header::LOCATION], expected, "{next}");
    }
}

#[tokio::test]
async fn behind_tls_the_cookie_is_secure_and_bound_to_the_host() {
    let gate = Gate::with_users("[console]\nsecure_cookie = true\n").await;
    let answer = gate.try_login("ada", PASSWORD, "127.0.0.1").await;
    let (secret, attributes) = answer.cookie("__Host-ringgate_session");
    assert_eq!(attributes, " HttpOnly; Path=/; SameSite=Strict; Max-Age=43200; Secure");
    let plain = gate.ask(Ask::get("/console/session").session(&secret)).await;
    plain.assert_problem(StatusCode::UNAUTHORIZED, "login_required");
    let ask = Ask::get("/console/session");
    let own = gate.ask(ask.header("cookie", &format!("__Host-ringgate_session={secret}"))).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn every_wrong_login_looks_the_same() {
    let gate = Gate::with_users("").await;
    let switched_off = UserEdit {
        username: "eve".to_owned(),
        email: None,
        password_hash: Some(hash_now(PASSWORD)),
        is_active: false,
        is_staff: false,
        is_superuser: false,
    };
    gate.store.add_user(&switched_off).await.expect("stored");
    let long = "x".repeat(300);
    let mut bodies = Vec::new();
    for (name, password) in
        [("ada", "wrong"), ("nobody", PASSWORD), ("eve", PASSWORD), ("", ""), ("ada", &long)]
    {
        let answer = gate.try_login(name, password, "127.0.0.1").await;
        answer.assert_problem(StatusCode::UNAUTHORIZED, "login_refused");
        assert!(answer.headers.get(header::SET_COOKIE).is_none());
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "not even a word differs");
    for broken in ["", "{", "[]", "{\"identifier\": 1, \"password\": \"hunter2\"}"] {
        let mut ask = Ask::post("/console/login").header("content-type", "application/json");
        *ask.request.body_mut() = Body::from(broken);
        let answer = gate.ask(ask).await;
        answer.assert_problem(StatusCode::BAD_REQUEST, "body_unreadable");
        assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"));
    }
    assert_eq!(gate.board.counts.login_failures.load(Ordering::Relaxed), 5);
    let audit = gate.audit().await;
    assert!(audit.contains(&("login".into(), "user ada".into(), "refused".into())), "{audit:?}");
    assert!(!format!("{audit:?}").contains("nobody"), "a name that does not exist is not kept");
}

/// A hash is all that a login costs: the time does not tell who exists.
#[tokio::test]
async fn an_unknown_user_costs_a_whole_hash_too() {
    let gate = Gate::with_users("").await;
    for (tried, name) in ["ada", "nobody", "bob"].into_iter().enumerate() {
        gate.try_login(name, "wrong", "192.0.2.1").await;
        assert_eq!(gate.access.passwords().computed(), tried as u64 + 1, "{name}");
    }
}

#[tokio::test]
async fn passwords_are_not_guessed_by_trying() {
    let gate = Gate::with_users("").await;
    for last in 1..6 {
        let answer = gate.try_login("ada", "wrong", &format!("192.0.2.{last}")).await;
        answer.assert_problem(StatusCode::UNAUTHORIZED, "login_refused");
    }
    let late = gate.try_login("ada", PASSWORD, "192.0.2.9").await;
    late.assert_problem(StatusCode::TOO_MANY_REQUESTS, "too_many_logins");
    assert_eq!(late.headers[header::RETRY_AFTER], "1");
    let other = gate.try_login("bob", PASSWORD, "192.0.2.9").await;
    assert_eq!(other.status, StatusCode::OK, "another account is not held up");

    for number in 0..10 {
        let answer = gate.try_login(&format!("user{number}"), "wrong", "2001:db8::1").await;
        answer.assert_problem(StatusCode::UNAUTHORIZED, "login_refused");
    }
    let same_network = gate.try_login("user11", "wrong", "2001:db8::2").await;
    same_network.assert_problem(StatusCode::TOO_MANY_REQUESTS, "too_many_logins");
    let wait: u64 = same_network.headers[header::RETRY_AFTER]
        .to_str()
        .expect("text")
        .parse()
        .expect("a number");
    assert!((50..=60).contains(&wait), "{wait}");
    assert_eq!(gate.board.counts.logins_throttled.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_session_from_before_the_login_is_not_gone_on_with() {
    let gate = Gate::with_users("").await;
    let planted = "a".repeat(64);
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    let answer = gate.ask(Ask::post("/console/login").session(&planted).json(&body)).await;
    let (first, _) = answer.cookie("ringgate_session");
    assert_ne!(first, planted);
    let with_planted = gate.ask(Ask::get("/console/session").session(&planted)).await;
    with_planted.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");

    let again = gate.ask(Ask::post("/console/login").session(&first).json(&body)).await;
    let (second, _) = again.cookie("ringgate_session");
    assert_ne!(first, second);
    let old = gate.ask(Ask::get("/console/session").session(&first)).await;
    old.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let new = gate.ask(Ask::get("/console/session").session(&second)).await;
    assert_eq!(new.status, StatusCode::OK);
}

#[tokio::test]
async fn logout_ends_the_session_for_everybody_who_has_it() {
    let gate = Gate::with_users("").await;
    let (secret, csrf) = gate.login("ada").await;
    let page = gate.ask(Ask::get("/console/logout").session(&secret)).await;
    page.assert_problem(StatusCode::METHOD_NOT_ALLOWED, "no_such_method");
    let logout = Ask::post("/console/logout").session(&secret).header("x-csrf-token", &csrf);
    let answer = gate.ask(logout).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.cookie("ringgate_session").1.contains("Max-Age=0"));
    let stolen = gate.ask(Ask::get("/console/calls/active").session(&secret)).await;
    stolen.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let bearer = gate.ask(Ask::get("/console/calls/active").bearer(&secret)).await;
    bearer.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let token = gate.ask(Ask::post("/console/logout").bearer(TOKEN)).await;
    token.assert_problem(StatusCode::BAD_REQUEST, "no_session");
}

#[tokio::test]
async fn a_session_ends_after_an_hour_of_silence_and_after_twelve_in_any_case() {
    let gate = Gate::with_users("").await;
    let (secret, _) = gate.login("ada").await;
    let ask = async || gate.ask(Ask::get("/console/session").session(&secret)).await;
    gate.advance(SESSION_IDLE_MS - 1);
    assert_eq!(ask().await.status, StatusCode::OK);
    gate.settled().await;
    gate.advance(SESSION_IDLE_MS - 1);
    assert_eq!(ask().await.status, StatusCode::OK, "it was seen in between");
    gate.settled().await;
    gate.advance(SESSION_IDLE_MS);
    ask().await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");

    let (secret, _) = gate.login("ada").await;
    let ask = async || gate.ask(Ask::get("/console/session").session(&secret)).await;
    for _ in 0..24 {
        assert_eq!(ask().await.status, StatusCode::OK);
        gate.settled().await;
        gate.advance(SESSION_LASTS_MS / 24);
    }
    ask().await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
}

#[tokio::test]
async fn who_is_switched_off_or_gone_is_out_at_once() {
    let gate = Gate::with_users("").await;
    let (ada, _) = gate.login("ada").await;
    let (bob, _) = gate.login("bob").await;
    let session = async |secret: &str| gate.ask(Ask::get("/console/session").session(secret)).await;
    assert_eq!(session(&bob).await.status, StatusCode::OK);
    let found = gate.store.login("bob").await.expect("read").expect("known").user;
    let off = UserEdit {
        username: found.username.clone(),
        email: found.email.clone(),
        password_hash: None,
        is_active: false,
        is_staff: false,
        is_superuser: false,
    };
    gate.store.edit_user(found.id, &off).await.expect("stored");
    session(&bob).await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let on = UserEdit { is_active: true, ..off };
    gate.store.edit_user(found.id, &on).await.expect("stored");
    session(&bob).await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    assert_eq!(session(&ada).await.status, StatusCode::OK);
}

#[tokio::test]
async fn forged_requests_from_other_pages_do_nothing() {
    let gate = Gate::with_users("").await;
    let (secret, csrf) = gate.login("ada").await;
    let body = json!({ "page": 1 });
    let search = || Ask::post("/console/call-records").session(&secret).json(&body);
    let program = gate.ask(search()).await;
    assert_eq!(program.status, StatusCode::OK, "a program with a cookie jar needs nothing more");
    for forged in [
        search().header("origin", "http://evil.example"),
        search().header("origin", "null"),
        search().header("sec-fetch-site", "cross-site").header("x-csrf-token", &csrf),
        search().header("sec-fetch-site", "same-site").header("x-csrf-token", &csrf),
        search().header("origin", "http://127.0.0.1:8080"),
        search().header("origin", "http://127.0.0.1:8080").header("x-csrf-token", "guess"),
        search().header("content-type", "text/plain"),
    ] {
        gate.ask(forged).await.assert_problem(StatusCode::FORBIDDEN, "csrf_refused");
    }
    let own = search().header("origin", "http://127.0.0.1:8080").header("x-csrf-token", &csrf);
    assert_eq!(gate.ask(own).await.status, StatusCode::OK);
    // Another session's token is no better than none.
    let (_, other) = gate.login("bob").await;
    let mixed = search().header("sec-fetch-site", "same-origin").header("x-csrf-token", &other);
    gate.ask(mixed).await.assert_problem(StatusCode::FORBIDDEN, "csrf_refused");
    // No cookie, nothing to forge.
    let token = Ask::post("/console/call-records").bearer(TOKEN).json(&body);
    let token = gate.ask(token.header("origin", "http://evil.example")).await;
    assert_eq!(token.status, StatusCode::OK);
    // Nobody is logged in as somebody else by a page.
    let body = json!({ "identifier": "ada", "password": PASSWORD });
    let planted = Ask::post("/console/login").json(&body).header("sec-fetch-site", "cross-site");
    gate.ask(planted).await.assert_problem(StatusCode::FORBIDDEN, "csrf_refused");
}

#[tokio::test]
async fn an_address_lets_in_to_ami_and_to_nothing_else() {
    let gate = Gate::new("[ami]\nallows = [\"192.0.2.7\"]\n").await;
    let health = || Ask::get("/ami/v1/health");
    assert_eq!(gate.ask(health().from("192.0.2.7")).await.status, StatusCode::OK);
    assert_eq!(gate.ask(health().from("::ffff:192.0.2.7")).await.status, StatusCode::OK);
    for path in ["/ami/v1/health", "/ami/v1/nothing"] {
        let answer = gate.ask(Ask::get(path)).await;
        answer.assert_problem(StatusCode::FORBIDDEN, "source_refused");
    }
    for name in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let proxied = health().from("192.0.2.7").header(name, "192.0.2.7");
        gate.ask(proxied).await.assert_problem(StatusCode::FORBIDDEN, "source_refused");
    }
    let calls = gate.ask(Ask::get("/console/calls/active").from("192.0.2.7")).await;
    calls.assert_problem(StatusCode::UNAUTHORIZED, "login_required");
    assert_eq!(calls.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"ringgate\"");
    // A token with the scope opens it from anywhere, even through a proxy.
    let token = health().bearer(&only("ami")).header("x-forwarded-for", "1.1.1.1");
    assert_eq!(gate.ask(token).await.status, StatusCode::OK);
    let lacking = gate.ask(health().bearer(&only("cdr:read"))).await;
    lacking.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    // Shutting down by token is for administrators.
    let shutdown = gate.ask(Ask::post("/ami/v1/shutdown").bearer(&only("ami"))).await;
    shutdown.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    let nobody = Gate::new("[ami]\nallows = []\n").await;
    nobody.ask(health()).await.assert_problem(StatusCode::FORBIDDEN, "source_refused");
}

#[tokio::test]
async fn a_page_of_somebody_else_does_not_use_the_address_of_its_reader() {
    let gate = Gate::new("[proxy]\nrealms = [\"pbx.example\"]\n").await;
    for host in ["evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:80", ""] {
        for path in ["/ami/v1/health", "/ami/v1/nothing", "/metrics"] {
            let answer = gate.ask(Ask::get(path).header("host", host)).await;
            answer.assert_problem(StatusCode::MISDIRECTED_REQUEST, "foreign_host");
        }
    }
    for host in [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "[::1]:8080",
        "192.0.2.1",
        "pbx.example:8080",
        "gate-1",
    ] {
        let answer = gate.ask(Ask::get("/metrics").header("host", host)).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}");
    }
    for forged in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        let ask = Ask::post("/ami/v1/shutdown").header(forged.0, forged.1);
        gate.ask(ask).await.assert_problem(StatusCode::FORBIDDEN, "csrf_refused");
    }
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_for_tokens() {
    let gate = Gate::new("[metrics]\ntoken = \"scrape-scrape-scrape\"\n").await;
    let metrics = || Ask::get("/metrics").from("203.0.113.9");
    gate.ask(metrics()).await.assert_problem(StatusCode::FORBIDDEN, "source_refused");
    assert_eq!(gate.ask(metrics().from("127.8.8.8")).await.status, StatusCode::OK);
    for token in ["scrape-scrape-scrape".to_owned(), only("system:read")] {
        assert_eq!(gate.ask(metrics().bearer(&token)).await.status, StatusCode::OK);
    }
    let wrong = gate.ask(metrics().bearer("scrape-scrape-scrap")).await;
    wrong.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    let lacking = gate.ask(metrics().bearer(&only("ami"))).await;
    lacking.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    let elsewhere = gate.ask(Ask::get("/console/session").bearer("scrape-scrape-scrape")).await;
    elsewhere.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    for path in ["/livez", "/readyz"] {
        assert_eq!(gate.ask(Ask::get(path).from("203.0.113.9")).await.status, StatusCode::OK);
    }
}

fn stored(token: &NewToken, scopes: &str) -> Token {
    Token {
        id: 0,
        public_id: token.public_id.clone(),
        name: "billing".to_owned(),
        token_hash: token.hash.clone(),
        scopes: scopes.to_owned(),
        networks: String::new(),
        created_by: "test".to_owned(),
        created_at: MORNING.0,
        expires_at: None,
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
    }
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_no_more() {
    let gate = Gate::new("").await;
    let token = NewToken::make();
    gate.store.add_token(&stored(&token, "cdr:read from:the:future")).await.expect("stored");
    let records = gate.ask(Ask::get("/api/v1/call-records").bearer(&token.text)).await;
    assert_eq!(records.status, StatusCode::OK);
    let calls = gate.ask(Ask::get("/api/v1/calls/active").bearer(&token.text)).await;
    calls.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    let detail = calls.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("calls:read") && detail.contains("billing"), "{detail}");
    let lower = gate
        .ask(
            Ask::get("/console/session")
                .header("authorization", &format!("bearer  {}", token.text)),
        )
        .await;
    assert_eq!(lower.json()["rights"], json!(["cdr:read"]));
    gate.settled().await;
    let used = gate.store.token(&token.public_id).await.expect("read").expect("known");
    assert_eq!(used.last_used_at, Some(MORNING.0));
    assert_eq!(used.last_used_ip.as_deref(), Some("127.0.0.1"));
    assert!(gate.store.revoke_token(&token.public_id).await.expect("stored"));
    let revoked = gate.ask(Ask::get("/api/v1/call-records").bearer(&token.text)).await;
    revoked.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
}

#[tokio::test]
async fn a_token_has_its_time_and_its_networks() {
    let gate = Gate::new("").await;
    let token = NewToken::make();
    let row = Token {
        expires_at: Some(MORNING.0 + 60_000),
        networks: "10.0.0.0/8 2001:db8::/32".to_owned(),
        ..stored(&token, "cdr:read")
    };
    gate.store.add_token(&row).await.expect("stored");
    let from = |ip: &str| Ask::get("/api/call-records").bearer(&token.text).from(ip);
    assert_eq!(gate.ask(from("10.1.2.3")).await.status, StatusCode::OK);
    assert_eq!(gate.ask(from("2001:db8::9")).await.status, StatusCode::OK);
    gate.ask(from("11.1.2.3")).await.assert_problem(StatusCode::FORBIDDEN, "source_refused");
    gate.advance(60_000);
    gate.ask(from("10.1.2.3"))
        .await
        .assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
}

#[tokio::test]
async fn credentials_that_are_none_are_refused_even_beside_good_ones() {
    let gate = Gate::with_users("").await;
    let (secret, _) = gate.login("ada").await;
    let token = NewToken::make();
    let last = if token.text.ends_with('0') { '1' } else { '0' };
    let other_secret = format!("{}{last}", &token.text[..token.text.len() - 1]);
    gate.store.add_token(&stored(&token, "cdr:read")).await.expect("stored");
    for value in [
        "Basic YWRhOnB3".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "x".repeat(5_000)),
        format!("Bearer {}", NewToken::make().text),
        format!("Bearer {other_secret}"),
        "Bearer ' OR 1=1 --".to_owned(),
    ] {
        let ask = Ask::get("/api/call-records").session(&secret).header("authorization", &value);
        gate.ask(ask).await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
    }
    let denied = gate.board.counts.requests_denied.load(Ordering::Relaxed);
    assert_eq!(denied, 7);
}

#[tokio::test]
async fn tokens_of_the_file_change_with_a_reload() {
    let gate = Gate::new("").await;
    let ask = || Ask::get("/console/session").bearer(TOKEN);
    assert_eq!(gate.ask(ask()).await.json()["kind"], "configured_token");
    gate.access.set_configured(&[]);
    gate.ask(ask()).await.assert_problem(StatusCode::UNAUTHORIZED, "credentials_invalid");
}

#[tokio::test]
async fn a_locked_database_keeps_sessions_waiting_and_not_tokens_of_the_file() {
    let gate = Gate::with_users("").await;
    let (secret, _) = gate.login("ada").await;
    gate.store.real.close().await;
    let session = gate.ask(Ask::get("/console/session").session(&secret)).await;
    session.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable");
    assert_eq!(session.headers[header::RETRY_AFTER], "1");
    let token = gate.ask(Ask::get("/console/session").bearer(TOKEN)).await;
    assert_eq!(token.status, StatusCode::OK);
}
