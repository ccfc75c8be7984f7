//! What `POST /ami/v1/reload/{what}` and `/shutdown` do, and what a refusal says.

mod stand_ins;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use controlplane::store::{ROUTES, Rows, TRUNKS};
use serde_json::{Map, Value, json};
use shared::ids::ShardId;
use shared::snapshot::Snapshot;
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{Folder, only};

const BEFORE: &str = "[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\n\
                      [[proxy.routes]]\nname = \"one\"\ndest = \"a\"\n";

/// A gateway that runs with `BEFORE`, and its file.
struct Bench {
    gate: Gate,
    file: PathBuf,
    _folder: Folder,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let file = folder.path().join("gate.toml");
        let gate = Gate::with_file(BEFORE, Some(file.clone())).await;
        Self { gate, file, _folder: folder }
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).expect("the folder is writable");
    }

    async fn reload(&self, what: &str) -> Answer {
        self.gate.ask(Ask::post(&format!("/ami/v1/reload/{what}"))).await
    }

    /// What the shard serves after a reload that was taken.
    async fn reloaded(&self, what: &str) -> (Value, Arc<Snapshot>) {
        let answer = self.reload(what).await;
        let body = answer.json();
        assert_eq!(answer.status, StatusCode::OK, "{body}");
        assert_eq!(body["shards"], json!([{ "shard": 0, "generation": body["generation"] }]));
        let served = self.gate.plane.served.lock().expect("no panic")[&ShardId(0)].clone();
        assert_eq!(body["generation"], served.generation);
        (body, served)
    }

    fn published(&self) -> usize {
        let commands = self.gate.plane.commands.lock().expect("no panic");
        commands.iter().filter(|(_, word)| *word == "publish").count()
    }
}

fn object(fields: Value) -> Map<String, Value> {
    let Value::Object(fields) = fields else { panic!("an object") };
    fields
}

fn names(served: &Snapshot) -> (Vec<&str>, Vec<&str>) {
    (
        served.trunks.iter().map(|trunk| &*trunk.name).collect(),
        served.routes.routes.iter().map(|route| &*route.name).collect(),
    )
}

#[tokio::test]
async fn each_part_comes_live_alone_and_all_of_it_together() {
    let bench = Bench::new("reload-parts").await;
    bench.write(
        "[proxy]\nacl_rules = [\"deny 192.0.2.7\"]\n\
         [proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\n[proxy.trunks.b]\ndest = \"sip:192.0.2.2\"\n\
         [[proxy.routes]]\nname = \"two\"\ndest = \"a\"\n\
         [[proxy.user_backends]]\ntype = \"memory\"\nusers = [{ username = \"7\", password = \"x\" }]\n",
    );
    let (body, served) = bench.reloaded("routes").await;
    assert_eq!((&body["status"], &body["routes_reloaded"]), (&json!("ok"), &json!(1)));
    assert_eq!(body["trunks_reloaded"], Value::Null);
    assert_eq!(names(&served), (vec!["a"], vec!["two"]));
    let (body, served) = bench.reloaded("trunks").await;
    assert_eq!((&body["trunks_reloaded"], &body["generation"]), (&json!(2), &json!(3)));
    assert_eq!(names(&served), (vec!["a", "b"], vec!["two"]));
    assert!(served.acl.0.is_empty() && served.users.is_empty());
    let (body, served) = bench.reloaded("acl").await;
    assert_eq!(body["active_rules"], json!(["deny 192.0.2.7/32"]));
    assert!(!served.acl.admits([192, 0, 2, 7].into()));
    assert!(served.users.is_empty());
    let (_, served) = bench.reloaded("all").await;
    assert_eq!(served.users.len(), 1);
    assert_eq!(bench.reload("everything").await.code(), "no_such_path");
    let done: Vec<_> = bench.gate.audit().await.into_iter().map(|(action, ..)| action).collect();
    assert_eq!(done, ["reload.all", "reload.acl", "reload.trunks", "reload.routes"]);
}

#[tokio::test]
async fn a_wrong_file_is_refused_with_place_and_reason_and_nothing_changes() {
    let bench = Bench::new("reload-wrong").await;
    bench.write(&format!("{BEFORE}[proxy.routes.match]\n\"to.user\" = \"^(9\"\n"));
    for what in ["routes", "trunks", "acl", "all"] {
        let answer = bench.reload(what).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "config_invalid");
        let body = answer.json();
        let error = &body["errors"][0];
        assert_eq!(error["file"], bench.file.display().to_string());
        assert_eq!(
            (&error["line"], &error["key"]),
            (&json!(7), &json!("proxy.routes[0].match.to.user"))
        );
        assert!(
            error["detail"].as_str().is_some_and(|text| text.contains("unclosed group")),
            "{body}"
        );
    }
    // Right in itself, and wrong with what is served.
    let more = "[proxy.trunks.b]\ndest = \"sip:192.0.2.2\"\n\
                [[proxy.routes]]\nname = \"two\"\ndest = \"b\"\n";
    bench.write(&format!("{BEFORE}{more}"));
    let answer = bench.reload("routes").await;
    answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "config_invalid");
    let body = answer.json();
    let error = json!({
        "file": bench.file.display().to_string(),
        "line": 8,
        "detail": "the rule \"two\" names no trunk: b",
    });
    assert_eq!(body["errors"], json!([error]));
    bench.write("[proxy.trunks.b]\ndest = \"sip:192.0.2.2\"\n");
    let answer = bench.reload("trunks").await;
    let detail = answer.json()["detail"].as_str().expect("text").to_owned();
    assert!(detail.contains("the rule \"one\" names no trunk: a"), "{detail}");
    assert_eq!(bench.published(), 0);
    assert!(bench.gate.audit().await.iter().all(|(_, _, outcome)| outcome == "failed"));
}

#[tokio::test]
async fn rows_of_the_database_are_read_again_too() {
    let bench = Bench::new("reload-rows").await;
    bench.write(BEFORE);
    let store = &bench.gate.store;
    let trunk = object(json!({ "name": "c", "sip_server": "192.0.2.3" }));
    store.add_row(&TRUNKS, &trunk).await.expect("stored");
    let rule = json!({ "name": "three", "dest": "c" });
    let rule = object(json!({ "name": "three", "document": rule }));
    store.add_row(&ROUTES, &rule).await.expect("stored");
    bench.reload("routes").await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "config_invalid");
    let (_, served) = bench.reloaded("trunks").await;
    assert_eq!(names(&served), (vec!["a", "c"], vec!["one"]));
    let (_, served) = bench.reloaded("routes").await;
    assert_eq!(names(&served), (vec!["a", "c"], vec!["one", "three"]));

    let id = store.rows(&TRUNKS).await.expect("read")[0].id;
    let lost = object(json!({ "name": "c", "sip_server": "nobody.invalid" }));
    store.put_row(&TRUNKS, id, &lost).await.expect("stored");
    let (body, served) = bench.reloaded("trunks").await;
    let address =
        served.trunks.iter().find(|trunk| &*trunk.name == "c").map(|t| t.entrances[0].address);
    assert_eq!(address, Some(([192, 0, 2, 3], 5_060).into()), "a name server may fail");
    let warning = body["warnings"][0].as_str().expect("text");
    assert!(
        warning.contains("nobody.invalid") && warning.ends_with("it stays as it was"),
        "{warning}"
    );
}

#[tokio::test]
async fn a_shard_that_does_not_follow_changes_nothing() {
    let bench = Bench::new("reload-late").await;
    bench.write("[proxy.trunks.a]\ndest = \"sip:192.0.2.1\"\n");
    bench.gate.plane.silent.store(true, Ordering::Relaxed);
    bench.reload("routes").await.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
    bench.gate.plane.silent.store(false, Ordering::Relaxed);
    // The shards serve what stood before, and the next reload starts from there.
    let routes = bench.gate.ask(Ask::get("/api/v1/routes").bearer(&only("config:read"))).await;
    assert_eq!(routes.json()["data"][0]["name"], "one");
    let (_, served) = bench.reloaded("acl").await;
    assert_eq!(names(&served), (vec!["a"], vec!["one"]));
}

#[tokio::test]
async fn who_may_use_ami_by_address_changes_with_the_acl() {
    let bench = Bench::new("reload-allows").await;
    let ask = || Ask::get("/ami/v1/health").from("10.1.2.3");
    assert_eq!(bench.gate.ask(ask()).await.code(), "source_refused");
    bench.write(&format!("{BEFORE}[ami]\nallows = [\"127.0.0.1\", \"10.0.0.0/8\"]\n"));
    bench.reloaded("routes").await;
    assert_eq!(bench.gate.ask(ask()).await.code(), "source_refused");
    bench.reloaded("acl").await;
    assert_eq!(bench.gate.ask(ask()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn shutdown_is_asked_for_once_and_by_whom_it_may_be() {
    let gate = Gate::new("").await;
    let ask = || Ask::post("/ami/v1/shutdown");
    let far = gate.ask(ask().from("10.1.2.3").bearer(&only("ami"))).await;
    far.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
    for wrong in [json!({ "deadline_s": -1 }), json!({ "deadline": 5 }), json!([5])] {
        let answer = gate.ask(ask().json(&wrong)).await;
        assert!(answer.status.is_client_error(), "{wrong}");
    }
    let answer = gate.ask(ask().json(&json!({ "deadline_s": 90 }))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected = json!({
        "status": "shutdown initiated", "already_asked": false, "deadline_s": 90, "calls": 0,
    });
    assert_eq!(answer.json(), expected);
    let again = gate.ask(ask()).await.json();
    assert_eq!((&again["already_asked"], &again["deadline_s"]), (&json!(true), &json!(90)));
    assert_eq!(gate.ending.asked().await, Duration::from_secs(90));
    let entries = gate.audit().await;
    assert_eq!(entries, [("shutdown".to_owned(), "gateway".to_owned(), "done".to_owned())]);
}
