//! Certificates of trunks as an operator meets them: read by reload and `check-config`, shown, never leaked.

mod stand_ins;

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use loadtest::certificate::Certificate;
use serde_json::{Value, json};
use shared::ids::ShardId;
use stand_ins::asking::{Ask, Gate};
use stand_ins::program::{run, text};
use stand_ins::{Folder, only};

const BEFORE: &str = "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\n";

/// Where a certificate and its key are.
fn files(made: &Certificate) -> (PathBuf, PathBuf) {
    let folder = made.believed().parent().expect("a folder").to_owned();
    (folder.join("certificate.pem"), folder.join("key.pem"))
}

/// A gateway with TLS, and a trunk that is shown `certificate`.
fn configuration(gateway: &Certificate, certificate: &Path, key: &Path) -> String {
    let own = gateway.lines().join("\n");
    format!(
        "[proxy]\ntls_port = 5061\n{own}\ntls_client_ca_certificates = {:?}\n\
         [proxy.trunks.a]\ndest = \"sips:192.0.2.1\"\ninbound_tls_names = [\"SBC.a.example\"]\n\
         tls_certificate = {certificate:?}\ntls_private_key = {key:?}\n",
        gateway.believed()
    )
}

/// What stands in the key's file between its first and its last line.
fn bytes_of(key: &Path) -> String {
    let text = fs::read_to_string(key).expect("openssl wrote it");
    text.lines().nth(1).expect("a key").to_owned()
}

#[tokio::test]
async fn a_reload_reads_the_certificates_of_trunks_and_shows_all_but_the_key() {
    let folder = Folder::new("trunk-certificates");
    let file = folder.path().join("gate.toml");
    let [gateway, ours] = [(); 2].map(|()| Certificate::new().expect("openssl makes one"));
    let (certificate, key) = files(&ours);
    let text = configuration(&gateway, &certificate, &key);
    let before = text.lines().filter(|line| !line.starts_with("tls_certificate"));
    let before: Vec<_> = before.filter(|line| !line.starts_with("tls_private_key")).collect();
    let gate = Gate::with_file(&before.join("\n"), Some(file.clone())).await;
    fs::write(&file, text).expect("written");
    let answer = gate.ask(Ask::post("/ami/v1/reload/trunks")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
    let commands = gate.plane.commands.lock().expect("no panic").clone();
    let words: Vec<&str> = commands.iter().map(|(_, word)| *word).collect();
    let place = |wanted| words.iter().rposition(|word| *word == wanted).expect("it was told");
    assert!(place("renew") < place("publish"), "a trunk is called with its certificate: {words:?}");
    let served = gate.plane.served.lock().expect("no panic")[&ShardId(0)].clone();
    let options = &served.trunks[0].options;
    assert_eq!(*options.tls_names, [Box::<str>::from("sbc.a.example")]);
    assert_eq!(options.client_files.as_ref().map(|files| &files.certificate), Some(&certificate));
    for path in ["/api/v1/trunks/a", "/console/sip-trunk/a"] {
        let answer = gate.ask(Ask::get(path).bearer(&only("config:read"))).await;
        let shown = answer.json();
        assert_eq!(answer.status, StatusCode::OK, "{shown}");
        assert_eq!(shown["tls_certificate"], certificate.display().to_string());
        assert_eq!(shown["inbound_tls_names"], json!(["sbc.a.example"]));
        assert_eq!(shown.get("tls_private_key"), None);
        let whole = shown.to_string();
        assert!(!whole.contains(&*key.to_string_lossy()) && !whole.contains(&bytes_of(&key)));
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_an_error_with_its_place_and_changes_nothing() {
    let folder = Folder::new("trunk-keys");
    let file = folder.path().join("gate.toml");
    let gate = Gate::with_file(BEFORE, Some(file.clone())).await;
    let [gateway, ours, other] = [(); 3].map(|()| Certificate::new().expect("openssl makes one"));
    let ((certificate, key), (_, other)) = (files(&ours), files(&other));
    let missing = folder.path().join("missing.key");
    for (certificate, private_key, line, name, reason) in [
        (&certificate, &missing, 10, "tls_private_key", "No such file"),
        (&certificate, &other, 10, "tls_private_key", "it is not the key of"),
        (&missing, &key, 9, "tls_certificate", "No such file"),
        (&key, &key, 9, "tls_certificate", "there is no certificate in it"),
    ] {
        fs::write(&file, configuration(&gateway, certificate, private_key)).expect("written");
        for what in ["trunks", "all"] {
            let answer = gate.ask(Ask::post(&format!("/ami/v1/reload/{what}"))).await;
            answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "config_invalid");
            let body = answer.json();
            let error = &body["errors"][0];
            let key = format!("proxy.trunks.a.{name}");
            assert_eq!((&error["line"], &error["key"]), (&json!(line), &json!(key)), "{body}");
            assert!(error["detail"].as_str().is_some_and(|text| text.contains(reason)), "{body}");
        }
        let checked = run(folder.path(), &["--conf", "gate.toml", "check-config"]);
        let said = text(&checked.stdout);
        let start = format!("gate.toml:{line}: error: proxy.trunks.a.{name}: TLS cannot use ");
        assert!(said.starts_with(&start) && said.contains(reason), "{said}");
        assert!(said.ends_with("configuration invalid: 1 errors, 0 warnings, 0 notes\n"), "{said}");
        assert_eq!(checked.status.code(), Some(3));
        assert!(!said.contains(&bytes_of(&other)) && !said.contains(&bytes_of(&key)));
    }
    let commands = gate.plane.commands.lock().expect("no panic");
    assert!(!commands.iter().any(|(_, word)| ["publish", "renew"].contains(word)), "{commands:?}");
    drop(commands);
    fs::write(&file, configuration(&gateway, &certificate, &key)).expect("written");
    let checked = run(folder.path(), &["--conf", "gate.toml", "check-config", "--effective"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    assert!(!text(&checked.stdout).contains(&bytes_of(&key)));
}

#[tokio::test]
async fn a_stored_trunk_names_no_files_and_nobody_by_a_certificate() {
    let gate = Gate::new("").await;
    let token = only("config:write");
    let make = async |fields: Value| {
        let mut document = json!({ "name": "t", "sip_server": "192.0.2.30" });
        let more = fields.as_object().expect("an object").clone();
        document.as_object_mut().expect("an object").extend(more);
        gate.ask(Ask::post("/api/v1/trunks").json(&document).bearer(&token)).await
    };
    for wrong in [
        json!({ "tls_certificate": "/etc/passwd" }),
        json!({ "tls_private_key": "/etc/passwd" }),
        json!({ "inbound_tls_names": ["sbc.example"] }),
    ] {
        let answer = make(wrong.clone()).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
        let said = answer.json().to_string();
        assert!(said.contains("only a trunk of a configuration file"), "{wrong}: {said}");
    }
    // What was read may be written back.
    let answer = make(json!({ "tls_certificate": null, "inbound_tls_names": [] })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json());
}
