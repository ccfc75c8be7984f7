//! schemathesis, which we did not write, holds the program against its own OpenAPI document: no answer is
//! a server error, and every answer is one that the document has. Needs io_uring and Python.

mod integrator;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use integrator::SOON;
use integrator::agent::Agent;
use integrator::gate::{Gate, Setup};
use integrator::receiver::Receiver;
use integrator::talk::{self, CALLEE_HZ, CALLER_HZ};
use loadtest::peers;
use loadtest::phone::Phone;
use serde_json::{Value, json};
use shared::config::TOKEN_SCOPES;

/// Beside the gate's own client; it may do everything too.
const TOKEN: &str = "5c0a1f7be29d43868f10aa73be60d2c4";
const SEED: &str = "5061";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_schema_conformance,response_headers_conformance";

/// Its answer never ends, which no client that reads whole answers can wait for; `events` tests it.
const ENDLESS: &str = "GET /api/v1/events";
/// Asked last, when the gateway drains already: the first one that is taken ends the program.
const SHUTDOWN: &str = "/ami/v1/shutdown";

/// Which operations, how, and how often each.
struct Round {
    name: &'static str,
    paths: &'static str,
    phases: &'static str,
    examples: u32,
}

/// Everything under our own prefix and beside the prefixes. Under the older ones, and under the older names
/// of routes and trunks, the same functions stand, so that a sample does. `CONTRACT_EXAMPLES` asks for all
/// of it everywhere, and so many of every operation.
fn rounds() -> [Round; 2] {
    const ALL: &str = "examples,coverage,fuzzing,stateful";
    let asked = std::env::var("CONTRACT_EXAMPLES").ok();
    let asked: Option<u32> = asked.map(|text| text.parse().expect("CONTRACT_EXAMPLES is a number"));
    let sample = if asked.is_some() { ALL } else { "examples,fuzzing" };
    [
        Round {
            name: "own",
            paths: "^(?!/console/|/api/(?!v1/)|/api/v1/(routing|sip-trunk))",
            phases: ALL,
            examples: asked.unwrap_or(4),
        },
        Round {
            name: "older",
            paths: "^(/console/|/api/(?!v1/)|/api/v1/(routing|sip-trunk))",
            phases: sample,
            examples: asked.unwrap_or(3),
        },
    ]
}

/// Whom schemathesis asks, and where it leaves what it saw.
#[derive(Clone)]
struct Inquiry {
    program: PathBuf,
    server: String,
    folder: PathBuf,
}

/// Phones register again after so long; five minutes is what they get.
const AGAIN_AFTER: Duration = Duration::from_secs(120);

/// Not an operation, in a tally: which of them were answered 503 for a while.
const AGAIN: &str = "asked again";

/// How often each operation gave each status.
type Tally = BTreeMap<String, BTreeMap<String, u64>>;

impl Inquiry {
    fn call_file(&self) -> PathBuf {
        self.folder.join("call")
    }

    /// An error is what schemathesis says when it finds something.
    async fn run(&self, round: Round) -> Result<Tally, String> {
        let tally = self.folder.join(format!("{}.json", round.name));
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env("SCHEMATHESIS_HOOKS", hooks())
            .env("RINGGATE_TOKEN", TOKEN)
            .env("RINGGATE_CALL", self.call_file())
            .env("RINGGATE_TALLY", &tally)
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", self.server))
            .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
            .args(["--checks", CHECKS, "--phases", round.phases, "--seed", SEED])
            .args(["--max-examples", &round.examples.to_string()])
            .args(["--include-path-regex", round.paths, "--exclude-name", ENDLESS])
            .args(["--generation-database", "none", "--suppress-health-check", "all"])
            .args(["--max-redirects", "0", "--request-timeout", "40", "--request-retries", "0"])
            .args(["--no-shrink", "--continue-on-failure", "--no-color", "--warnings", "off"]);
        if round.name != "shutdown" {
            command.args(["--exclude-path", SHUTDOWN]);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let Output { status, stdout, stderr } = output.expect("no panic").expect("it starts");
        let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if !status.success() {
            return Err(format!("{}: {status}\n{said}\n{wrong}", round.name));
        }
        let tally = std::fs::read(&tally).expect("the hooks leave a tally");
        let mut tally: Tally = serde_json::from_slice(&tally).expect("JSON");
        if let Some(operations) = tally.remove(AGAIN) {
            println!("{}: a busy host made us ask again: {operations:?}", round.name);
        }
        println!("{}: {} operations, {} requests", round.name, tally.len(), requests(&tally));
        Ok(tally)
    }
}

fn requests(tally: &Tally) -> u64 {
    tally.values().flat_map(BTreeMap::values).sum()
}

fn hooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/peers/contract.py")
}

/// A gateway in which questions find something: users, a trunk and a rule of the file, endpoints of events.
async fn furnished(receiver: &Receiver) -> Gate {
    let (locator, records) = (receiver.url("/locator"), receiver.url("/records"));
    let setup = Setup::with_users(&["1001", "1002", "1003", "1004"])
        .section(&format!("[proxy.locator_webhook]\nurl = \"{locator}\"\n"))
        .section(&format!("[callrecord]\ntype = \"http\"\nurl = \"{records}\"\n"))
        .section("[recording]\nenabled = true\n")
        .section("[proxy.trunks.filed]\ndest = \"sip:127.0.0.1:9\"\n")
        .section("[[proxy.routes]]\nname = \"filed\"\nreject = 403\n")
        .section("[proxy.routes.match]\n\"to.user\" = \"^0900\"\n")
        .token(TOKEN, &TOKEN_SCOPES);
    Gate::start(&setup).await
}

/// Who logs in in an example of the document.
async fn known_user(gate: &Gate) {
    let body = json!({ "username": "dora", "password": "a long enough password" });
    gate.client.post("/api/v1/users", &body).await.expect(&[201]);
}

/// Things of every kind that can be made over HTTP, for one round.
async fn more_of_everything(gate: &Gate, round: &str) {
    for number in 0..8 {
        let name = format!("{round}{number}");
        let permissions = json!([{ "resource": "cdr", "action": "read" }]);
        for (path, body) in [
            ("extensions", json!({ "extension": name, "sip_password": "a long password" })),
            ("trunks", json!({ "name": name, "sip_server": "sip:192.0.2.20:5070" })),
            ("routes", json!({ "name": name, "match": { "to.user": "^00" }, "reject": 403 })),
            ("roles", json!({ "name": name, "permissions": permissions })),
            ("tokens", json!({ "name": name, "scopes": ["cdr:read"] })),
            ("users", json!({ "username": name, "password": "a long enough password" })),
        ] {
            gate.client.post(&format!("/api/v1/{path}"), &body).await.expect(&[201]);
        }
    }
}

/// The call record 1, with a recording.
async fn one_record(gate: &Gate, caller: &mut Phone, callee: &mut Phone) {
    let (calling, called) = talk::connect(caller, callee).await;
    talk::goes_on(&called, Duration::from_millis(300)).await;
    let call_id = calling.call_id().to_owned();
    calling.hang_up().await.expect("it is hung up");
    called.ended(SOON).await.expect("both sides end");
    gate.record(&call_id).await;
}

/// Two phones that talk; when somebody ends their call they begin another one.
async fn keep_talking(mut caller: Phone, mut callee: Phone, file: PathBuf) {
    loop {
        let target = callee.user().to_owned();
        let both = async {
            // The one before may be over, after however long it stood.
            callee.register(300).await?;
            tokio::try_join!(caller.call(&target, CALLER_HZ), callee.answer_next(CALLEE_HZ))
        };
        // A call that failed, or was hung up before it was answered, is none to ask for.
        let Ok(Ok((calling, _called))) = tokio::time::timeout(SOON, both).await else { continue };
        std::fs::write(&file, calling.call_id()).expect("the folder is writable");
        drop(calling.ended(Duration::from_secs(3_600)).await);
    }
}

/// A phone that is there and takes no call.
async fn keep_busy(mut agent: Agent) {
    loop {
        let registered = tokio::time::Instant::now();
        while registered.elapsed() < AGAIN_AFTER {
            let invite = agent.find(AGAIN_AFTER, |message| message.is_request("INVITE")).await;
            if let Some(invite) = invite {
                agent.answer(&invite, 486, "Busy Here").await;
            }
        }
        agent.register(300).await;
    }
}

async fn standing_call(gate: &Gate) {
    integrator::until("a call that stands", SOON, async || {
        let listed = gate.client.get("/api/v1/calls/active").await.expect(&[200]).json();
        let calls = listed["data"].as_array().expect("a list");
        calls.iter().any(|call| call["state"]["state"] == "talking").then_some(())
    })
    .await;
}

/// "METHOD /path" of everything that the document has.
fn operations(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().expect("an object");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("an object");
        methods.keys().map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_server_error_and_no_answer_that_is_not_documented() {
    let receiver = Receiver::saying(200, &Value::Null).await;
    let mut gate = furnished(&receiver).await;
    let (mut caller, mut callee) =
        (talk::phone(&gate, "1003").await, talk::phone(&gate, "1004").await);
    one_record(&gate, &mut caller, &mut callee).await;
    let inquiry = Inquiry {
        program: peers::program("schemathesis").expect("it is installed"),
        server: format!("http://{}", gate.http),
        folder: gate.folder.path.clone(),
    };
    let talking = tokio::spawn(keep_talking(caller, callee, inquiry.call_file()));
    let mut busy = Vec::new();
    for user in ["1001", "1002"] {
        busy.push(tokio::spawn(keep_busy(gate.phone(user).await)));
    }
    standing_call(&gate).await;

    known_user(&gate).await;
    let mut outcomes = Vec::new();
    for round in rounds() {
        more_of_everything(&gate, round.name).await;
        outcomes.push(inquiry.run(round).await);
    }
    // The program lives on while a call stands; from now on nothing ends that but its deadline.
    standing_call(&gate).await;
    let body = json!({ "deadline_s": 86_400 });
    gate.client.post(SHUTDOWN, &body).await.expect(&[200]);
    let last = Round {
        name: "shutdown",
        paths: "^/ami/v1/shutdown$",
        phases: "examples,coverage,fuzzing",
        examples: 20,
    };
    outcomes.push(inquiry.run(last).await);
    let (tallies, findings): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let findings: Vec<_> = findings.into_iter().filter_map(Result::err).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));

    let mut asked: BTreeMap<String, u64> = BTreeMap::new();
    for (operation, answers) in tallies.into_iter().flatten().flatten() {
        *asked.entry(operation).or_default() += answers.values().sum::<u64>();
    }
    let document = gate.client.get("/api/v1/openapi.json").await.expect(&[200]).json();
    let left_out: Vec<_> = operations(&document)
        .into_iter()
        .filter(|operation| operation != ENDLESS && !asked.contains_key(operation))
        .collect();
    assert!(left_out.is_empty(), "nobody asked for {left_out:?}");
    println!("{} operations, {} requests", asked.len(), asked.values().sum::<u64>());
    assert!(gate.is_running(), "it still runs");
    let log = gate.log();
    assert!(!log.contains("panicked"), "{log}");
    talking.abort();
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}
