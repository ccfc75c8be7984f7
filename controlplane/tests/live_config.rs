//! Configuration that changes while calls go on: over HTTP, and by SIGHUP. Needs io_uring.

mod stand_ins;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loadtest::phone::Phone;
use rustix::process::Signal;
use serde_json::{Value, json};
use stand_ins::program::{Gate, spare_port, write_config_with};
use stand_ins::{Folder, TOKEN};

const PATIENCE: Duration = Duration::from_secs(20);

/// Two shards, one user, rules in a folder of their own.
fn configure(folder: &Path, sip: u16, trunk: &str) {
    let more = format!(
        "realms = [\"pbx.test\"]\nroutes_files = [\"routes/*.toml\"]\n\
         [[proxy.user_backends]]\ntype = \"memory\"\n\
         users = [{{ username = \"7\", password = \"a\" }}]\n\
         [proxy.trunks.carrier]\ndest = \"sip:{trunk}\"\n\
         [dataplane]\ncores = \"0-1\"\ncontrol_cores = \"0-1\"\n\
         [[console.api_tokens]]\ntoken = \"{TOKEN}\"\n\
         scopes = [\"config:read\", \"config:write\", \"ami\"]\n"
    );
    write_config_with(folder, sip, 31_999, &more);
    fs::create_dir_all(folder.join("routes")).expect("the folder is writable");
}

/// The rule that the calls need, and one that changes from version to version.
fn write_rules(folder: &Path, version: u32) {
    let text = format!(
        "[[routes]]\nname = \"out\"\npriority = 10\ndest = \"carrier\"\n[routes.match]\n\
         \"to.user\" = '^9(\\d+)$'\n[routes.rewrite]\n\"to.user\" = \"{{1}}\"\n\
         [[routes]]\nname = \"version {version}\"\nreject = 603\n"
    );
    // A reload must never see half a file.
    let part = folder.join("routes/rules.part");
    fs::write(&part, text).expect("the folder is writable");
    fs::rename(part, folder.join("routes/rules.toml")).expect("the folder is writable");
}

fn generations(health: &Value) -> Vec<u64> {
    let shards = health["shards"].as_array().expect("a list");
    shards.iter().map(|shard| shard["generation"].as_u64().expect("a number")).collect()
}

fn await_generation(gate: &Gate, generation: u64) {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let health = gate.get("/ami/v1/health").1;
        if generations(&health).iter().all(|served| *served == generation) {
            return;
        }
        assert!(Instant::now() < give_up_at, "generation {generation}: {:?}", generations(&health));
    }
}

/// By every road in turn; each brings all shards to the next generation.
fn reload(gate: &Gate, version: u32) {
    let generation = u64::from(version) + 1;
    let what = match version % 4 {
        0 => {
            gate.signal(Signal::HUP);
            return await_generation(gate, generation);
        }
        1 => "trunks",
        2 => "routes",
        _ => "acl",
    };
    let (status, done) = gate.post_as(TOKEN, &format!("/ami/v1/reload/{what}"), &Value::Null);
    assert_eq!((status, &done["generation"]), (200, &json!(generation)), "{done}");
    assert_eq!(generations(&done), [generation; 2], "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_made_over_http_registers_at_once_and_no_longer_than_it_is_there() {
    let folder = Folder::new("live-extension");
    let port = spare_port();
    configure(folder.path(), port, "127.0.0.1:9");
    let gate = Gate::start(folder.path());
    let server = ([127, 0, 0, 1], port).into();
    let mut phone = Phone::bind(server, "3001", "the password").expect("a port");
    phone.register(60).await.expect_err("nobody knows it");
    let document = json!({ "extension": "3001", "sip_password": "the password" });
    let (status, made) = gate.send_as(TOKEN, "POST", "/console/extensions", &document);
    assert_eq!(status, 201, "{made}");
    phone.register(60).await.expect("every shard knows it when the answer is there");
    let path = format!("/api/v1/extensions/{}", made["id"]);
    let (status, shown) = gate.get_as(TOKEN, &path);
    assert_eq!((status, &shown["registrations"]["total"]), (200, &json!(1)), "{shown}");
    let contact = shown["registrations"]["records"][0]["destination"].as_str().expect("text");
    assert_eq!(contact, phone.local_addr().to_string());
    let (status, _) = gate.send_as(TOKEN, "PATCH", &path, &json!({ "login_disabled": true }));
    assert_eq!(status, 200);
    phone.register(60).await.expect_err("it is switched off");
    let (status, _) = gate.send_as(TOKEN, "DELETE", &path, &Value::Null);
    assert_eq!(status, 200);
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));

    let again = Gate::start(folder.path());
    let (_, list) = again.get_as(TOKEN, "/api/v1/extensions");
    assert_eq!(list["page"]["total_estimate"], 3, "the demo's two and the file's: {list}");
    again.signal(Signal::TERM);
    assert_eq!(again.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_hundred_reloads_under_calls_fail_none() {
    const RELOADS: u32 = 100;
    let folder = Folder::new("reloads");
    let port = spare_port();
    let server = ([127, 0, 0, 1], port).into();
    let mut carrier = Phone::bind(server, "carrier", "").expect("a port");
    let mut caller = Phone::bind(server, "7", "a").expect("a port");
    configure(folder.path(), port, &carrier.local_addr().to_string());
    write_rules(folder.path(), 0);
    let gate = Gate::start(folder.path());
    let over = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut calls = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let both =
                    tokio::try_join!(caller.call("9555", 440.0), carrier.answer_next(1_000.0));
                let (call, answered) = both.expect("it is answered");
                let ended = tokio::try_join!(call.hang_up(), answered.ended(PATIENCE));
                ended.expect("the BYE is answered and passed on");
                calls += 1;
            }
            calls
        }
    });
    for version in 1..=RELOADS {
        write_rules(folder.path(), version);
        // The calls have threads of their own.
        tokio::task::block_in_place(|| reload(&gate, version));
    }
    over.store(true, Ordering::Relaxed);
    let calls = calling.await.expect("no call failed");
    assert!(calls > 10, "{calls} calls are no test of {RELOADS} reloads");
    let shown = gate.get_as(TOKEN, "/api/v1/routes").1;
    assert_eq!(shown["data"][1]["name"], format!("version {RELOADS}"));
    assert_eq!(shown["data"][1]["defined_at"], "routes/rules.toml:9");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_rule_is_refused_with_its_line_and_the_old_ones_serve() {
    let folder = Folder::new("wrong-rule");
    let port = spare_port();
    let server = ([127, 0, 0, 1], port).into();
    let mut carrier = Phone::bind(server, "carrier", "").expect("a port");
    let mut caller = Phone::bind(server, "7", "a").expect("a port");
    configure(folder.path(), port, &carrier.local_addr().to_string());
    write_rules(folder.path(), 0);
    let mut gate = Gate::start(folder.path());
    let wrong = folder.path().join("routes/wrong.toml");
    fs::write(&wrong, "[[routes]]\nname = \"w\"\n[routes.match]\n\"to.user\" = \"^(9\"\n")
        .expect("the folder is writable");
    gate.signal(Signal::HUP);
    let line = gate.wait_for("reload refused");
    assert!(line.contains("routes/wrong.toml:4: error: proxy.routes[2].match.to.user"), "{line}");
    assert!(line.contains("unclosed group"), "{line}");
    fs::write(&wrong, "[[routes]]\nname = \"w\"\ndest = \"nowhere\"\n").expect("it is writable");
    gate.signal(Signal::HUP);
    let line = gate.wait_for("reload refused");
    assert!(line.contains("routes/wrong.toml:1"), "{line}");
    assert!(line.contains("names no trunk: nowhere"), "{line}");
    let (status, refused) = gate.post_as(TOKEN, "/ami/v1/reload/routes", &Value::Null);
    assert_eq!((status, &refused["code"]), (422, &json!("config_invalid")), "{refused}");
    let error = &refused["errors"][0];
    assert_eq!((&error["file"], &error["line"]), (&json!("routes/wrong.toml"), &json!(1)));
    assert_eq!(generations(&gate.get("/ami/v1/health").1), [1, 1]);
    let (call, answered) = tokio::join!(caller.call("9555", 440.0), carrier.answer_next(1_000.0));
    let (call, answered) = (call.expect("the old rule"), answered.expect("it is called"));
    let (hung_up, ended) = tokio::join!(call.hang_up(), answered.ended(PATIENCE));
    hung_up.expect("the BYE is answered");
    ended.expect("the BYE is passed on");
    let asked = json!({ "from": "7", "to": "9555" });
    let (status, told) = gate.send_as(TOKEN, "POST", "/api/v1/routes/explain", &asked);
    assert_eq!((status, &told["matched"]), (200, &json!("out")), "{told}");
    assert_eq!(told["outcome"]["request_user"], "555");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}
