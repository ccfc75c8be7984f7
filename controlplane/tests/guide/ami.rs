//! Guide 2.3, AMI: health, reload, shutdown, dialogs, and the whitelist of addresses.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::integrator::gate::{Gate, Setup};
use crate::integrator::shape::list;
use crate::integrator::{SOON, until};

/// Every number in a document, with the path that leads to it.
fn numbers(path: &str, value: &Value, out: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => out.push((path.to_owned(), number.as_f64().expect("finite"))),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| numbers(&format!("{path}.{name}"), value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| numbers(path, value, out)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_health_tells_uptime_active_calls_and_load() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let ((_, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    // From loopback no token is needed: the whitelist lets it in.
    let stranger = gate.client.stranger();
    let mut last = Vec::new();
    let vital = until("uptime, active calls, load", SOON, async || {
        let health = stranger.get("/ami/v1/health").await.expect(&[200]).json();
        last.clear();
        numbers("", &health, &mut last);
        let calls = last.iter().any(|(path, number)| path.contains("call") && *number == 1.0);
        calls.then(|| last.clone())
    });
    let vital = vital.await;
    for word in ["uptime", "load"] {
        let names = vital.iter().map(|(path, _)| path.to_lowercase());
        assert!(
            names.clone().any(|name| name.contains(word)),
            "{word}: {:?}",
            names.collect::<Vec<_>>()
        );
    }
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_dialogs_shows_both_dialogs_of_a_call() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let ((_, leg), (invite, _)) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    let leg = leg.expect("a dialog");
    let dialogs = gate.client.stranger().get("/ami/v1/dialogs").await.expect(&[200]).json();
    assert!(list(&dialogs).len() >= 2, "{dialogs:#}");
    let text = dialogs.to_string();
    assert!(text.contains(&leg.call_id) && text.contains(invite.call_id()), "{dialogs:#}");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

/// Files change, the gateway is told, and the next call goes the new way; the process stays.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_reload_trunks_and_routes_and_acl_without_restart() {
    let setup = Setup::with_users(&["1001"]);
    let proxy = "trunks_files = [\"trunks.toml\"]\nroutes_files = [\"routes.toml\"]\n";
    let setup = Setup { proxy: proxy.to_owned(), ..setup };
    // The files are there, and empty, when the gateway starts.
    let gate = Gate::start_with(&setup, |folder| {
        fs::write(folder.join("trunks.toml"), "").expect("the folder is writable");
        fs::write(folder.join("routes.toml"), "").expect("the folder is writable");
    })
    .await;
    let (mut caller, mut carrier) = (gate.agent("1001").await, gate.agent("carrier").await);
    assert_eq!(caller.invite("sip:5550123@pbx.com").await.0.status(), 404);
    let trunks = format!("[trunks.carrier]\ndest = \"sip:{}\"\n", carrier.local);
    fs::write(gate.folder.path.join("trunks.toml"), trunks).expect("written");
    let routes = "[[routes]]\nname = \"out\"\npriority = 10\n[routes.match]\n\
                  \"to.user\" = \"^555\"\n[routes.action]\ndest = \"carrier\"\n";
    fs::write(gate.folder.path.join("routes.toml"), routes).expect("written");
    for part in ["trunks", "routes", "acl"] {
        let path = format!("/ami/v1/reload/{part}");
        gate.client.stranger().post_nothing(&path).await.expect(&[200]);
    }
    let ((answer, leg), _) = tokio::join!(caller.invite("sip:5550123@pbx.com"), carrier.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), carrier.hear_bye());
    // A file that is wrong is refused, with file and line, and the old one serves.
    fs::write(gate.folder.path.join("routes.toml"), "[[routes]\nname = 7\n").expect("written");
    let answer = gate.client.stranger().post_nothing("/ami/v1/reload/routes").await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains("routes.toml"), "{text}");
    let ((answer, leg), _) = tokio::join!(caller.invite("sip:5550123@pbx.com"), carrier.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), carrier.hear_bye());
}

/// "Graceful shutdown (stops accepting new calls, waits for active ones)".
#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_shutdown_takes_no_new_call_and_waits_for_the_active_one() {
    let mut gate = Gate::start(&Setup::with_users(&["1001", "1002", "1003"])).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let ((_, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    let leg = leg.expect("a dialog");
    gate.client.stranger().post_nothing("/ami/v1/shutdown").await.expect(&[200, 202]);
    let mut third = gate.agent("1003").await;
    let refused = until("a refusal", SOON, async || {
        let (answer, _) = third.invite("sip:1001@pbx.com").await;
        (answer.status() == 503).then_some(answer)
    });
    let refused = refused.await;
    assert!(!refused.header("Retry-After").is_empty(), "{refused:?}");
    caller.assert_quiet("BYE").await;
    assert!(gate.is_running(), "it waits for the call");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    assert_eq!(gate.exit_code(Duration::from_secs(30)), Some(0), "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_protected_by_the_whitelist_of_the_configuration() {
    let setup = Setup::with_users(&["1001"])
        .section("[ami]\nallows = [\"10.0.0.0/8\"]\n")
        .token("token-for-the-ami", &["ami"])
        .token("token-for-something-else", &["calls:read"]);
    let gate = Gate::start(&setup).await;
    let stranger = gate.client.stranger();
    for path in ["/ami/v1/health", "/ami/v1/dialogs"] {
        let answer = stranger.get(path).await;
        assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
        gate.client.with_token("token-for-something-else").get(path).await.expect(&[403]);
        gate.client.with_token("token-for-the-ami").get(path).await.expect(&[200]);
    }
    for path in ["/ami/v1/reload/trunks", "/ami/v1/shutdown", "/ami/v1/originate"] {
        let answer = stranger.post(path, &json!({})).await;
        assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
    }
    let here =
        Setup::with_users(&["1001"]).section("[ami]\nallows = [\"127.0.0.1\", \"10.0.0.0/8\"]\n");
    let gate = Gate::start(&here).await;
    gate.client.stranger().get("/ami/v1/health").await.expect(&[200]);
}

/// No state changes on GET.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_3_verbs_a_get_reloads_and_shuts_down_nothing() {
    let mut gate = Gate::start(&Setup::with_users(&["1001"])).await;
    for path in ["/ami/v1/reload/trunks", "/ami/v1/reload/routes", "/ami/v1/reload/acl"] {
        gate.client.get(path).await.expect(&[405]);
    }
    gate.client.get("/ami/v1/shutdown").await.expect(&[405]);
    gate.phone("1001").await;
    assert!(gate.is_running());
}
