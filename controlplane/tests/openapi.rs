//! The OpenAPI document: it has every route, and every route does what it says there.

mod stand_ins;

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode, header};
use controlplane::api::table;
use controlplane::store::{Records, Token, Tokens};
use serde_json::{Value, json};
use shared::route::{Chosen, Explanation};
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{MORNING, TOKEN, call_view, cdr, config};

async fn document(gate: &Gate) -> Value {
    let answer = gate.ask(Ask::get("/api/v1/openapi.json")).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.json()
}

#[tokio::test]
async fn the_document_has_every_route_and_no_other() {
    let gate = Gate::new("").await;
    let document = document(&gate).await;
    assert_eq!(document["openapi"], "3.1.0");
    let rows = table(config("").http());
    let undocumented: Vec<_> =
        rows.iter().filter(|row| row.doc.is_none()).map(|row| (&row.method, &row.path)).collect();
    assert!(undocumented.is_empty(), "routes without a Doc: {undocumented:?}");
    let of_router: BTreeSet<String> =
        rows.iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    let mut of_document = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("an object") {
        for (method, operation) in methods.as_object().expect("an object") {
            of_document.insert(format!("{} {path}", method.to_uppercase()));
            let id = operation["operationId"].as_str().expect("text");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
        }
    }
    assert_eq!(of_router, of_document);
}

/// A gateway in which the examples find something.
async fn furnished() -> Gate {
    let gate = Gate::with_users("").await;
    gate.store.add_cdrs(&[cdr(1)]).await.expect("stored");
    *gate.plane.explanation.lock().expect("no panic") = Some(Explanation {
        generation: 1,
        direction: "outbound",
        before_rules: None,
        rules: Vec::new(),
        matched: None,
        rewrites: Vec::new(),
        outcome: Chosen::User { user: "1002".to_owned() },
    });
    gate.plane.calls.lock().expect("no panic").push(call_view(1, 0, true));
    let token = Token {
        id: 0,
        public_id: "0123456789ab".to_owned(),
        name: "billing".to_owned(),
        token_hash: "no token has it".to_owned(),
        scopes: "cdr:read".to_owned(),
        networks: String::new(),
        created_by: "test".to_owned(),
        created_at: MORNING.0,
        expires_at: None,
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
    };
    gate.store.add_token(&token).await.expect("stored");
    gate
}

/// The request that the examples of an operation make.
fn request(path: &str, method: &str, operation: &Value) -> Ask {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "path" {
            let name = parameter["name"].as_str().expect("text");
            let example = parameter["example"].as_str().expect("an example");
            path = path.replace(&format!("{{{name}}}"), example);
        }
    }
    let method: Method = method.to_uppercase().parse().expect("a method");
    let ask = Ask::new(method, &path).bearer(TOKEN);
    match &operation["requestBody"]["content"]["application/json"]["example"] {
        Value::Null => ask,
        example => ask.json(example),
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("no kind of JSON: {other}"),
    }
}

/// What is wrong with a value by the words of JSON Schema that the document uses.
fn mismatch(document: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).expect("it is there");
        return mismatch(document, schema, value, place);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_a(kind, value)) {
        return Some(format!("{place} is {value}, not {kinds:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Some(format!("{place} is {value}, not one of {words:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            return Some(format!("{place} lacks {name}"));
        }
    }
    let fields = schema["properties"].as_object().into_iter().flatten();
    let in_fields = fields.filter_map(|(name, schema)| {
        mismatch(document, schema, value.get(name)?, &format!("{place}/{name}"))
    });
    let items = value.as_array().into_iter().flatten().enumerate();
    let in_items = items.filter_map(|(number, item)| {
        mismatch(document, &schema["items"], item, &format!("{place}/{number}"))
    });
    in_fields.chain(in_items).next()
}

/// Checks an answer against what the operation says that it can be.
fn check(document: &Value, operation: &Value, answer: &Answer) -> Result<(), String> {
    let status = answer.status.as_u16().to_string();
    let Some(documented) = operation["responses"].get(&status) else {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(format!("{status} is not documented: {body}"));
    };
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if kind.is_empty() && answer.body.is_empty() {
        return Ok(());
    }
    let Some(media) = documented["content"].get(kind) else {
        return Err(format!("{status} with {kind:?} is not documented"));
    };
    if !kind.ends_with("json") {
        return Ok(());
    }
    let body = answer.json();
    if let Some(code) = body["code"].as_str() {
        let codes = documented["description"].as_str().unwrap_or_default();
        if !codes.contains(&format!("`{code}`")) {
            return Err(format!("{status} {code} is not documented; {codes} are"));
        }
    }
    mismatch(document, &media["schema"], &body, "").map_or(Ok(()), Err)
}

#[tokio::test]
async fn every_example_is_answered_as_the_document_says() {
    let gate = furnished().await;
    let document = document(&gate).await;
    let mut wrong = Vec::new();
    let mut as_hoped = 0;
    for (path, methods) in document["paths"].as_object().expect("an object") {
        for (method, operation) in methods.as_object().expect("an object") {
            let answer = gate.ask(request(path, method, operation)).await;
            if answer.status.is_success() {
                as_hoped += 1;
            }
            if let Err(reason) = check(&document, operation, &answer) {
                wrong.push(format!("{method} {path}: {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(as_hoped > 50, "{as_hoped} examples succeed");
}

#[tokio::test]
async fn who_has_no_credentials_is_answered_as_the_document_says() {
    let gate = furnished().await;
    let document = document(&gate).await;
    for (path, methods) in document["paths"].as_object().expect("an object") {
        for (method, operation) in methods.as_object().expect("an object") {
            let mut ask = request(path, method, operation).from("203.0.113.9");
            ask.request.headers_mut().remove(header::AUTHORIZATION);
            let answer = gate.ask(ask).await;
            check(&document, operation, &answer)
                .unwrap_or_else(|reason| panic!("{method} {path}: {reason}"));
            let open = operation["security"].is_null();
            // A wrong password is no closed door.
            let kept_out = matches!(answer.status.as_u16(), 401 | 403);
            let kept_out = kept_out && answer.code() != "login_refused";
            assert_eq!(open, !kept_out, "{method} {path}");
        }
    }
}

/// A section of `docs/api-objects.md`: its example, and the fields of its table.
fn section(text: &str, title: &str) -> (Value, BTreeSet<String>) {
    let start = text.find(&format!("\n## {title}\n")).expect(title) + 4;
    let rest = &text[start..];
    let section = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let example = section.split("```").nth(1).expect("a block");
    let example = example.strip_prefix("json\n").expect("JSON");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let fields = rows.flat_map(|row| row.split("`, `"));
    let fields = fields.map(|field| field.trim_matches('`').to_owned()).collect();
    (serde_json::from_str(example).expect(title), fields)
}

#[tokio::test]
async fn the_written_page_says_what_the_document_says() {
    let gate = furnished().await;
    let document = document(&gate).await;
    let text = include_str!("../../docs/api-objects.md");
    let titles = [
        ("Extensions", "/api/v1/extensions"),
        ("Trunks", "/api/v1/trunks"),
        ("Routes", "/api/v1/routes"),
    ];
    let schema = |path: &str| {
        let operation = &document["paths"][path]["post"];
        operation["requestBody"]["content"]["application/json"]["schema"].clone()
    };
    for (title, path) in titles {
        let (example, fields) = section(text, title);
        let properties = schema(path)["properties"].clone();
        let known: BTreeSet<_> =
            properties.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(fields, known, "{title}");
        assert_eq!(mismatch(&document, &schema(path), &example, title), None);
        let answer = gate.ask(Ask::post(path).bearer(TOKEN).json(&example)).await;
        let made = answer.json();
        assert_eq!(answer.status, StatusCode::CREATED, "{title}: {made}");
        assert_eq!(made["warnings"], json!([]), "{title}: {made}");
        let one = format!("{path}/{}", made["id"]);
        let read = gate.ask(Ask::get(&one).bearer(TOKEN)).await.json();
        for (name, value) in example.as_object().expect("an object") {
            if name != "sip_password" {
                assert_eq!(&read[name], value, "{title}: {name} of {read}");
            }
        }
    }
    let (example, fields) = section(text, "Playing into a call");
    let schema = schema("/api/v1/calls/active/{call_id}/commands");
    let known = schema["properties"].as_object().expect("an object");
    assert!(fields.iter().all(|field| known.contains_key(field)), "{fields:?}");
    assert_eq!(mismatch(&document, &schema, &example, "play"), None);
    let call = call_view(1, 0, true).id;
    let path = format!("/api/v1/calls/active/{call}/commands");
    let answer = gate.ask(Ask::post(&path).bearer(TOKEN).json(&example)).await;
    // The body is in order; the file is not there.
    answer.assert_problem(StatusCode::NOT_FOUND, "prompt_absent");
}

/// The check above must be able to fail.
#[test]
fn a_mismatch_is_found() {
    let schema = json!({
        "type": "object",
        "required": ["a"],
        "properties": { "a": { "type": "array", "items": { "type": ["string", "null"] } } },
    });
    let find = |value: Value| mismatch(&json!({}), &schema, &value, "");
    assert_eq!(find(json!({ "a": ["x", null], "b": 1 })), None);
    assert!(find(json!({ "a": [1] })).is_some_and(|reason| reason.contains("/a/0")));
    assert!(find(json!({})).is_some());
    assert!(find(json!([])).is_some());
}

#[tokio::test]
async fn the_viewer_comes_with_the_program_and_asks_nobody_else() {
    let gate = Gate::new("").await;
    let lead = gate.ask(Ask::get("/api/v1/docs")).await;
    assert_eq!(lead.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(lead.headers[header::LOCATION], "/api/v1/docs/");
    let page = gate.ask(Ask::get("/api/v1/docs/")).await;
    assert_eq!(page.status, StatusCode::OK);
    let rules = page.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
    assert!(rules.starts_with("default-src 'none'; script-src 'self';"), "{rules}");
    let text = String::from_utf8(page.body).expect("text");
    assert!(!text.contains("//") || !text.contains("http"), "{text}");
    let sources = text.split("src=\"./").skip(1).chain(text.split("href=\"./").skip(1));
    let files: Vec<_> = sources.filter_map(|rest| rest.split('"').next()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let answer = gate.ask(Ask::get(&format!("/api/v1/docs/{file}"))).await;
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers.contains_key(header::CONTENT_SECURITY_POLICY));
    }
    let start = gate.ask(Ask::get("/api/v1/docs/swagger-initializer.js")).await;
    let start = String::from_utf8(start.body).expect("text");
    assert!(start.contains("/api/v1/openapi.json"), "{start}");
    assert!(start.contains("\"validatorUrl\": \"none\""), "no badge of somebody else: {start}");
    for odd in ["nothing.js", "..%2f..%2fCargo.toml", "%2e%2e"] {
        let answer = gate.ask(Ask::get(&format!("/api/v1/docs/{odd}"))).await;
        answer.assert_problem(StatusCode::NOT_FOUND, "no_such_path");
    }
}
