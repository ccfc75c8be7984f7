//! The OpenAPI document: it has every route, and every route does what it says there.

mod stand_ins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use axum::http::{Method, StatusCode, header};
use controlplane::access::hash_now;
use controlplane::api::table;
use controlplane::store::{
    Next, Outbox, Recording, RecordingState, Recordings, Records, Settlement, Token, Tokens, Tried,
    UserEdit, Users,
};
use controlplane::webhooks::outbox::CALL_RECORD;
use serde_json::{Value, json};
use shared::route::{Chosen, Explanation};
use shared::time::WallMs;
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{Folder, MORNING, TOKEN, call_id, call_view, cdr, config};

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

/// Of the examples.
const PASSWORD: &str = "a long enough password";

const CONFIG: &str = "[callrecord]\ntype = \"http\"\nurl = \"https://billing.example/cdr\"\n\
     [proxy.locator_webhook]\nurl = \"https://billing.example/locator\"\n";

/// A gateway in which the examples find something. The folder has the recording of call 1.
async fn furnished(folder: &Folder) -> Gate {
    let gate = Gate::new(CONFIG).await;
    static HASH: LazyLock<String> = LazyLock::new(|| hash_now(PASSWORD));
    for (name, is_superuser) in [("ada", true), ("bob", false), ("dora", false)] {
        let user = UserEdit {
            username: name.to_owned(),
            email: None,
            password_hash: Some(HASH.clone()),
            is_active: true,
            is_staff: false,
            is_superuser,
        };
        gate.store.add_user(&user).await.expect("stored").expect("not taken");
    }
    let batch = [cdr(1)];
    let events = gate.deliveries.of_cdrs(&batch);
    gate.store.add_cdrs_with(&batch, &events).await.expect("stored");
    give_up_delivery(&gate).await;
    let file = folder.path().join("1.wav");
    std::fs::write(&file, "RIFF").expect("the folder is writable");
    let recording = Recording {
        call: call_id(1),
        state: RecordingState::Ready,
        capture: file.with_extension("capture"),
        path: Some(file),
        duration_ms: Some(10_000),
        size: Some(4),
        packets_lost: 0,
        error: None,
    };
    gate.store.put_recording(&recording).await.expect("stored");
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

/// A delivery that is not over cannot be asked for again.
async fn give_up_delivery(gate: &Gate) {
    let due = gate.store.due(CALL_RECORD, WallMs(i64::MAX), 9).await.expect("it is read");
    let row = due.rows.first().expect("the record is to be delivered");
    let tried = Tried {
        at: MORNING,
        took_ms: 7,
        status: Some(500),
        error: Some("answered 500".to_owned()),
        answer: None,
    };
    let outcome = Settlement::Attempt { id: row.id, key: row.key.clone(), tried, next: Next::Dead };
    gate.store.settle(CALL_RECORD, &[outcome], "t").await.expect("it is written");
}

/// The requests that the examples of an operation make.
fn requests(path: &str, method: &str, operation: &Value) -> Vec<Ask> {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "path" {
            let name = parameter["name"].as_str().expect("text");
            let example = parameter["example"].as_str().expect("an example");
            path = path.replace(&format!("{{{name}}}"), example);
        }
    }
    let method: Method = method.to_uppercase().parse().expect("a method");
    let ask = || Ask::new(method.clone(), &path).bearer(TOKEN);
    let media = &operation["requestBody"]["content"]["application/json"];
    let several = media["examples"].as_object().into_iter().flatten();
    let bodies: Vec<&Value> = several.map(|(_, named)| &named["value"]).collect();
    match &media["example"] {
        Value::Null if bodies.is_empty() => vec![ask()],
        Value::Null => bodies.into_iter().map(|body| ask().json(body)).collect(),
        example => vec![ask().json(example)],
    }
}

/// Operations of one resource, in an order in which the examples can be asked: what makes one comes
/// before what needs it, a removal is the last.
fn by_resource(document: &Value) -> BTreeMap<&str, Vec<(&str, &str, &Value)>> {
    let mut resources: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().expect("an object") {
        let resource = path.split("/{").next().expect("a part");
        for (method, operation) in methods.as_object().expect("an object") {
            resources.entry(resource).or_default().push((&**path, &**method, operation));
        }
    }
    for operations in resources.values_mut() {
        operations.sort_by_key(|(path, method, _)| (*method == "delete", path.contains('{')));
    }
    resources
}

/// What the examples must lead to: the first answer that the operation has.
fn hoped_for(operation: &Value) -> &str {
    let answers = operation["responses"].as_object().expect("an object");
    answers.keys().find(|status| status.starts_with(['2', '3'])).map_or("501", |status| status)
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
        let named = document.pointer(name.trim_start_matches('#')).expect("it is there");
        if let Some(found) = mismatch(document, named, value, place) {
            return Some(found);
        }
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
    for (name, described) in documented["headers"].as_object().into_iter().flatten() {
        if described["required"] == true && !answer.headers.contains_key(name.as_str()) {
            return Err(format!("{status} has no {name}"));
        }
    }
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
    mismatch(document, &media["schema"], &answer.json(), "").map_or(Ok(()), Err)
}

/// These are for sessions; of a token they say that it has none.
const OF_SESSIONS: [&str; 2] = ["/logout", "/session/password"];

async fn session(gate: &Gate) -> String {
    let body = json!({ "identifier": "dora", "password": PASSWORD });
    let answer = gate.ask(Ask::post("/console/login").json(&body)).await;
    answer.cookie("ringgate_session").0
}

#[tokio::test]
async fn every_example_leads_to_what_the_document_says() {
    let folder = Folder::new("examples");
    let document = document(&Gate::new("").await).await;
    let mut wrong = Vec::new();
    for operations in by_resource(&document).values() {
        let gate = furnished(&folder).await;
        for (path, method, operation) in operations {
            let of_session = OF_SESSIONS.iter().any(|end| path.ends_with(end));
            for mut ask in requests(path, method, operation) {
                if of_session {
                    ask.request.headers_mut().remove(header::AUTHORIZATION);
                    ask = ask.session(&session(&gate).await);
                }
                let what = format!("{method} {path}");
                let answer = gate.ask(ask).await;
                let status = answer.status.as_u16().to_string();
                if status != hoped_for(operation) {
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    wrong.push(format!("{what}: {status} {body}"));
                }
                if let Err(reason) = check(&document, operation, &answer) {
                    wrong.push(format!("{what}: {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn who_has_no_credentials_is_answered_as_the_document_says() {
    let folder = Folder::new("nobody");
    let gate = furnished(&folder).await;
    let document = document(&gate).await;
    for (path, methods) in document["paths"].as_object().expect("an object") {
        for (method, operation) in methods.as_object().expect("an object") {
            for mut ask in requests(path, method, operation) {
                ask = ask.from("203.0.113.9");
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
    let folder = Folder::new("page");
    let gate = furnished(&folder).await;
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
