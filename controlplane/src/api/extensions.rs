//! `/extensions`: who may register, with what is registered now.
//! Owns:  the shape of registrations, and of an item for older clients.
//! Gives: the routes; `with_registrations`.
//! Never: a password or a hash.
//! Holds: a shard that does not answer leaves the extension readable and says so in it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shared::command::Question;
use shared::event::{Answer, BindingView};

use super::crud::Resource;
use super::routes::Routes;
use super::{App, Clients};
use crate::directory::Kind;

pub(super) fn routes(clients: Clients) -> Routes {
    Resource { kind: Kind::Extension, clients, path: "/extensions" }.routes()
}

/// One question for all of them: the shards keep bindings by user name.
pub(super) async fn with_registrations(
    app: &App,
    clients: Clients,
    extensions: Vec<Map<String, Value>>,
) -> Vec<Value> {
    let name = |shown: &Map<String, Value>| -> Box<str> {
        shown.get("extension").and_then(Value::as_str).unwrap_or_default().into()
    };
    let names: Arc<[Box<str>]> = extensions.iter().map(name).collect();
    let bindings = if names.is_empty() { Ok(Vec::new()) } else { bindings(app, &names).await };
    let with = |mut shown: Map<String, Value>| {
        let name = name(&shown);
        let registrations = registrations(app, &name, &bindings);
        if clients == Clients::Older {
            return json!({
                "extension": shown,
                "departments": [],
                "registrations": registrations,
            });
        }
        shown.insert("departments".to_owned(), json!([]));
        shown.insert("registrations".to_owned(), registrations);
        Value::Object(shown)
    };
    extensions.into_iter().map(with).collect()
}

async fn bindings(app: &App, names: &Arc<[Box<str>]>) -> Result<Vec<BindingView>, String> {
    let answers = app.questions.ask(Question::Bindings(Arc::clone(names))).await;
    let answers = answers.map_err(|unanswered| unanswered.to_string())?;
    let bindings = answers.into_iter().flat_map(|answer| match answer {
        Answer::Bindings(bindings) => bindings,
        _ => Vec::new(),
    });
    Ok(bindings.collect())
}

fn registrations(app: &App, name: &str, bindings: &Result<Vec<BindingView>, String>) -> Value {
    let contents = app.directory.contents();
    let realm = contents.config.sip().realm();
    let mine = bindings.iter().flatten().filter(|binding| binding.aor == name);
    let records: Vec<Value> = mine
        .map(|binding| {
            json!({
                "contact": binding.contact,
                "destination": binding.destination.to_string(),
                "transport": binding.transport,
                "user_agent": binding.user_agent,
                "expires": binding.expires_s,
                "age_seconds": binding.age_s,
                "registered_aor": format!("sip:{name}@{realm}"),
                "instance_id": binding.instance,
                "path": binding.path,
                "supports_webrtc": false,
                "gruu": null,
                "temp_gruu": null,
                "service_route": null,
                "contact_params": null,
                "home_proxy": app.node.as_ref(),
                "shard": binding.shard.0,
            })
        })
        .collect();
    json!({
        "available": bindings.is_ok(),
        "query_uri": format!("sip:{name}@{realm}"),
        "realm": realm,
        "total": records.len(),
        "records": records,
        "error": bindings.as_ref().err(),
    })
}
