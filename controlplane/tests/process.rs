//! The program from outside: exit codes, first start, signals, the demo. Needs io_uring.

mod stand_ins;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use stand_ins::Folder;
use stand_ins::program::{Gate, ringgate, run, spare_port, text, write_config};

#[test]
fn check_config_prints_every_problem_and_exits_3() {
    let folder = Folder::new("check");
    let good = run(folder.path(), &["check-config", "--strict"]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(text(&good.stdout), "configuration valid: 0 errors, 0 warnings, 0 notes\n");

    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[proxy]\nudp_prot = 1\naddr = \"any\"\n").expect("written");
    let bad = run(folder.path(), &["--conf", "bad.toml", "check-config"]);
    assert_eq!(bad.status.code(), Some(3));
    assert_eq!(
        text(&bad.stdout),
        "bad.toml:2: warning: proxy.udp_prot: unknown key; did you mean \"udp_port\"?\n\
         bad.toml:3: error: proxy.addr: \"any\" is not an IP address; write \"0.0.0.0\", or leave it \
         out for every address\n\
         configuration invalid: 1 errors, 1 warnings, 0 notes\n"
    );
    let serve = run(folder.path(), &["--config", "bad.toml"]);
    assert_eq!(serve.status.code(), Some(3), "{}", text(&serve.stderr));
    assert!(text(&serve.stderr).contains("bad.toml:3: error: proxy.addr"));
    assert!(!folder.path().join("data").exists(), "a bad configuration touches nothing");

    let gone = run(folder.path(), &["--config", "gone.toml", "check-config"]);
    assert_eq!(gone.status.code(), Some(3));
    assert_eq!(run(folder.path(), &["--no-such-option"]).status.code(), Some(2));
    let version = run(folder.path(), &["version", "--json"]);
    let version: Value = serde_json::from_slice(&version.stdout).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn effective_values_come_from_default_file_and_environment() {
    let folder = Folder::new("effective");
    write_config(folder.path(), 5070, "realms = [\"pbx.example\"]\n");
    let shown = ringgate(folder.path())
        .args(["check-config", "--effective"])
        .env("RINGGATE__PROXY__TCP_PORT", "5090")
        .output()
        .expect("the program starts");
    let shown = text(&shown.stdout);
    for line in [
        "proxy.udp_port = 5070  # ringgate.toml:6",
        "proxy.tcp_port = 5090  # env RINGGATE__PROXY__TCP_PORT",
        "proxy.t1_timer = 500  # default",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line} is not in:\n{shown}");
    }
}

#[test]
fn the_first_start_shows_passwords_once_and_a_second_gateway_is_refused() {
    let folder = Folder::new("first");
    write_config(folder.path(), spare_port(), "");
    let gate = Gate::start(folder.path());
    let password = |user: &str| {
        let (_, rest) = gate.banner.split_once(&format!("user {user}  password ")).expect("shown");
        rest.split_whitespace().next().expect("a word").to_owned()
    };
    let (_, rest) = gate.banner.split_once("login admin  password ").expect("shown");
    let admin = rest.split_whitespace().next().expect("a word").to_owned();
    let passwords = [password("1001"), password("1002"), admin];
    assert_ne!(passwords[0], passwords[1]);
    assert!(passwords.iter().all(|password| password.len() == 20));
    let (status, health) = gate.get("/ami/v1/health");
    assert_eq!((status, &health["status"]), (200, &Value::from("running")));
    assert_eq!(gate.get("/readyz").0, 200);

    let second = run(folder.path(), &["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use by another gateway"));

    gate.signal(Signal::TERM);
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!passwords.iter().any(|password| log.contains(password.as_str())), "not in the log");

    let again = Gate::start(folder.path());
    assert!(!again.banner.contains("password"), "{}", again.banner);
    assert!(again.banner.contains("Users      2"), "{}", again.banner);
    again.signal(Signal::INT);
    assert_eq!(again.end().0, Some(0));
}

#[test]
fn no_demo_leaves_the_extensions_out_for_good() {
    let folder = Folder::new("no-demo");
    write_config(folder.path(), spare_port(), "");
    let gate = Gate::start_with(folder.path(), &["--no-demo"]);
    let banner = &gate.banner;
    assert!(banner.contains("Users      0") && !banner.contains("user 100"), "{banner}");
    assert!(banner.contains("login admin  password "), "somebody must be able to log in: {banner}");
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
    let later = Gate::start(folder.path());
    assert!(later.banner.contains("Users      0"), "{}", later.banner);
}

#[test]
fn a_lost_password_is_replaced_beside_the_running_gateway() {
    let folder = Folder::new("reset");
    write_config(folder.path(), spare_port(), "");
    let early = run(folder.path(), &["user", "reset"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(text(&early.stderr).contains("start the gateway first"), "{}", text(&early.stderr));
    let gate = Gate::start(folder.path());
    let reset = run(folder.path(), &["user", "reset"]);
    assert_eq!(reset.status.code(), Some(0), "{}", text(&reset.stderr));
    let shown = text(&reset.stdout);
    let password = shown.trim().strip_prefix("login admin  password ").expect("it is shown");
    assert!(!gate.banner.contains(password), "it is another one");
    let body = format!("identifier=admin&password={password}");
    assert_eq!(gate.post_form("/console/login", &body), 200);
    let (_, old) = gate.banner.split_once("login admin  password ").expect("shown");
    let old = old.split_whitespace().next().expect("a word");
    assert_eq!(gate.post_form("/console/login", &format!("identifier=admin&password={old}")), 401);
    assert_eq!(run(folder.path(), &["user", "reset", "a b"]).status.code(), Some(1));
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}

#[test]
fn a_reload_brings_users_live_and_a_bad_file_changes_nothing() {
    let folder = Folder::new("reload");
    let sip = spare_port();
    let user = |name: &str| {
        format!(
            "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [{{ username = \"{name}\", \
             password = \"p\" }}]\n"
        )
    };
    write_config(folder.path(), sip, &user("7"));
    let mut gate = Gate::start(folder.path());
    write_config(folder.path(), sip, &format!("rtp_timeout = 5\n{}", user("8")));
    gate.signal(Signal::HUP);
    let line = gate.wait_for("reloaded");
    assert!(line.contains("generation=2"), "{line}");
    let line = gate.wait_for("only a restart");
    assert!(line.contains("proxy.rtp_timeout"), "{line}");
    write_config(folder.path(), sip, "t1_timer = 5\n");
    gate.signal(Signal::HUP);
    let line = gate.wait_for("reload refused");
    assert!(line.contains("ringgate.toml:8: error: proxy.t1_timer"), "{line}");
    let health = gate.get("/ami/v1/health").1;
    assert_eq!(health["generation"], 2);
    assert_eq!(health["shards"][0]["generation"], 2);
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
}

#[test]
fn a_taken_port_and_a_missing_cpu_are_one_clear_line() {
    let folder = Folder::new("taken");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("it has one").port();
    write_config(folder.path(), port, "");
    let refused = run(folder.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    let reason = text(&refused.stderr);
    assert!(reason.contains(&format!("cannot start: TCP 127.0.0.1:{port} is taken")), "{reason}");

    // The first start is still to come: nobody saw a password yet.
    drop(taken);
    let gate = Gate::start(folder.path());
    assert!(gate.banner.contains("user 1001  password"), "{}", gate.banner);
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));

    write_config(folder.path(), spare_port(), "[dataplane]\ncores = \"1023\"\n");
    let refused = run(folder.path(), &["serve"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("dataplane.cores: CPU 1023 is not one that"));
}

#[test]
fn the_demo_checks_its_own_call_and_leaves_the_recording() {
    let folder = Folder::new("demo");
    let demo = run(folder.path(), &["demo", "--talk", "1"]);
    let shown = text(&demo.stdout);
    assert_eq!(demo.status.code(), Some(0), "{shown}{}", text(&demo.stderr));
    for words in [
        "200 OK (INVITE)",
        "\"hangupReason\": \"byCaller\"",
        "left is the caller: 440 Hz",
        "right is the callee: 1000 Hz",
    ] {
        assert!(shown.contains(words), "{words} is not in:\n{shown}");
    }
    assert!(!shown.contains("WRONG"), "{shown}");
    let (_, rest) = shown.split_once("The recording: ").expect("it says where");
    let path = Path::new(rest.lines().next().expect("a line"));
    assert!(path.starts_with(folder.path()), "the demo stays in its folder: {}", path.display());
    assert!(path.metadata().expect("it is there").len() > 16_000);
}

#[test]
fn a_gateway_on_postgresql_keeps_what_it_stored() {
    let folder = Folder::new("postgres");
    let token =
        "[[console.api_tokens]]\ntoken = \"a-token-of-this-test\"\nscopes = [\"cdr:read\"]\n";
    write_config(folder.path(), spare_port(), token);
    let file = folder.path().join("ringgate.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    let url = stand_ins::postgres::empty_database();
    std::fs::write(&file, format!("database_url = \"{url}\"\n{text}")).expect("it is writable");
    for start in ["first", "second"] {
        let gate = Gate::start(folder.path());
        assert_eq!(gate.banner.contains("user 1001  password"), start == "first", "{start}");
        assert!(gate.banner.contains("database postgres at /gate_"), "{}", gate.banner);
        assert_eq!(gate.get("/readyz").0, 200, "{start}");
        assert_eq!(gate.banner.contains("login admin  password"), start == "first", "{start}");
        assert_eq!(gate.get("/console/call-records").0, 401, "{start}");
        let records = gate.get_as("a-token-of-this-test", "/console/call-records");
        assert_eq!(records.1["total_items"], 0, "{start}");
        gate.signal(Signal::TERM);
        assert_eq!(gate.end().0, Some(0), "{start}");
    }
    assert!(!folder.path().join("data/ringgate.sqlite3").exists(), "no file beside the server");
}
