//! The guide's integration workflows, end to end with real parts: baresip phones, an AI bot that is
//! reached by SIP, a billing service, an S3 server. Needs io_uring and the program `baresip`.

mod integrator;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use integrator::bucket::Bucket;
use integrator::form::parts;
use integrator::gate::{Gate, Setup};
use integrator::receiver::{Heard, Receiver, Reply};
use integrator::{SOON, talk, until};
use loadtest::baresip::{Account, Baresip};
use loadtest::gateway::Folder;
use loadtest::phone::Phone;
use loadtest::wav;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const LIMIT: Duration = Duration::from_secs(15);

fn baresip(gate: &Gate, user: &str, tone_hz: u16) -> Baresip {
    let password = format!("secret-{user}");
    let account =
        Account { user, password: &password, registrar: gate.sip, register_s: 300, tone_hz };
    let phone = Baresip::start(&account).expect("baresip starts");
    phone.await_registered(LIMIT).expect("registered");
    phone
}

/// Milliseconds of a CDR's time, which is a text of RFC 3339 or a number.
fn ms(time: &Value) -> i64 {
    if let Some(number) = time.as_i64() {
        return number;
    }
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let parsed = OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|e| panic!("{e}: {text}"));
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).expect("this age")
}

fn talked_ms(cdr: &Value) -> i64 {
    ms(&cdr["endTime"]) - ms(&cdr["answerTime"])
}

/// A: somebody clicks a phone number in the CRM, whose backend asks for the call.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_a_crm_click_to_dial_joins_two_baresip_phones() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut agent, mut customer) = (baresip(&gate, "1001", 440), baresip(&gate, "1002", 1_000));
    let body = json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 20});
    let answer = gate.client.post("/api/v1/commands", &body).await.expect(&[202]).json();
    let call_id = answer["call_id"].as_str().expect("a call_id").to_owned();
    agent.await_event("CALL_ESTABLISHED", LIMIT).expect("the agent's phone answered");
    customer.await_event("CALL_ESTABLISHED", LIMIT).expect("the customer's phone answered");
    let mut ticks = tokio::time::interval(Duration::from_secs(4));
    ticks.tick().await;
    ticks.tick().await;
    agent.hang_up().expect("hung up");
    customer.await_event("CALL_CLOSED", LIMIT).expect("both sides end");
    let record = gate.record(&call_id).await;
    let parties = (&record["caller"], &record["callee"]);
    assert_eq!(parties, (&json!("1001"), &json!("1002")), "{record:#}");
    assert_eq!(record["statusCode"], 200, "{record:#}");
    assert!((3_000..8_000).contains(&talked_ms(&record)), "{record:#}");
    for (phone, hz) in [(&agent, 1_000.0), (&customer, 440.0)] {
        let share = wav::steady_share(&phone.await_heard(LIMIT).expect("audio"), hz);
        assert!(share > 0.9, "share of {hz} Hz falls to {share}");
    }
}

/// B: the AI backend is asked about the call and sends it to its bot, which is a SIP endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_b_ai_voice_assistant_is_reached_through_the_router_and_talks() {
    let backend = Receiver::saying(200, &Value::Null).await;
    let url = backend.url("/pbx/route");
    let setup = Setup::with_users(&["1001"])
        .section(&format!("[proxy.http_router]\nurl = \"{url}\"\nfallback_to_static = false\n"));
    let gate = Gate::start(&setup).await;
    // The bot has no account: it is an address that the backend knows.
    let mut bot = Phone::bind(gate.sip, "ai-bot-service", "").expect("a socket");
    let target = format!("sip:ai-bot-service@{}", bot.local_addr());
    backend.say(Reply::json(200, &json!({"action": "forward", "targets": [target]})));
    let mut caller = baresip(&gate, "1001", 440);
    caller.dial(&format!("sip:5550199@{}", gate.sip)).expect("dialled");
    let answering = tokio::time::timeout(SOON, bot.answer_next(talk::CALLEE_HZ));
    let talking = answering.await.expect("the bot is called").expect("it answers");
    let established = caller.await_event("CALL_ESTABLISHED", LIMIT).expect("the bot answered");
    talk::hears(&talking, 440.0).await;
    talk::goes_on(&talking, Duration::from_secs(3)).await;
    let asked = backend.nth(0).await.json();
    assert_eq!(asked["callee"], "5550199", "{asked:#}");
    assert!(asked["body"].as_str().is_some_and(|sdp| sdp.contains("m=audio")), "{asked:#}");
    assert_eq!(asked["call_id"], established["id"], "{asked:#}");
    caller.hang_up().expect("hung up");
    talking.ended(SOON).await.expect("the bot's side ends");
    let heard = caller.await_heard(LIMIT).expect("audio");
    let share = wav::steady_share(&heard, talk::CALLEE_HZ);
    assert!(share > 0.9, "the bot's voice reaches the caller: {share}");
    let call_id = asked["call_id"].as_str().expect("a text");
    let record = gate.record(call_id).await;
    assert_eq!((&record["statusCode"], &record["caller"]), (&json!(200), &json!("1001")));
}

/// B, word for word: `sip:ai-bot-service@internal` is a bot that has registered at a domain of ours.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_b_the_target_of_the_guide_finds_a_bot_that_is_registered() {
    let answer = json!({"action": "forward", "targets": ["sip:ai-bot-service@internal"]});
    let backend = Receiver::saying(200, &answer).await;
    let url = backend.url("/pbx/route");
    let mut setup = Setup::with_users(&["1001", "ai-bot-service"])
        .section(&format!("[proxy.http_router]\nurl = \"{url}\"\nfallback_to_static = false\n"));
    setup.realms = vec!["internal"];
    let gate = Gate::start(&setup).await;
    let mut bot = talk::phone(&gate, "ai-bot-service").await;
    let mut caller = talk::phone(&gate, "1001").await;
    let (calling, called) = talk::joined(&mut caller, "5550199", &mut bot).await;
    talk::hears(&calling, talk::CALLEE_HZ).await;
    talk::hears(&called, talk::CALLER_HZ).await;
    calling.hang_up().await.expect("it hangs up");
}

/// The billing system of scenario C: accounts with a balance in cents, a rate, what it was told.
#[derive(Debug)]
struct Billing {
    accounts: Mutex<Vec<(String, i64)>>,
    bills: Mutex<Vec<Value>>,
}

/// Cents for each second that has begun.
const RATE: i64 = 2;

impl Billing {
    fn balance(&self, user: &str) -> Option<i64> {
        let accounts = self.accounts.lock().expect("no test panics with it");
        accounts.iter().find(|(name, _)| name == user).map(|(_, balance)| *balance)
    }

    /// GET /pbx/auth as in guide 1.2.
    fn authenticate(&self, heard: &Heard) -> Reply {
        let user = heard.fields().get("u").cloned().unwrap_or_default();
        match self.balance(&user) {
            None => Reply::json(404, &json!({"reason": "not_found", "message": "no account"})),
            Some(..=0) => {
                let refusal = json!({"reason": "payment_required", "message": "balance is 0"});
                Reply::json(402, &refusal)
            }
            Some(_) => Reply::json(
                200,
                &json!({
                    "id": 1001, "username": user, "password": format!("secret-{user}"),
                    "display_name": "John Doe", "email": "john@pbx.com",
                    "allow_guest_calls": false
                }),
            ),
        }
    }

    /// POST /pbx/cdr as in guide 1.4; a record that comes twice is billed once.
    fn bill(&self, heard: &Heard) -> Reply {
        let parts = parts(heard);
        let log = parts.iter().find(|part| part.name == "calllog.json").expect("a calllog.json");
        let cdr: Value = serde_json::from_slice(&log.body).expect("JSON");
        let mut bills = self.bills.lock().expect("no test panics with it");
        if !bills.iter().any(|old| old["sessionId"] == cdr["sessionId"]) {
            let mut accounts = self.accounts.lock().expect("no test panics with it");
            let caller = cdr["caller"].as_str().expect("a caller");
            let account = accounts.iter_mut().find(|(name, _)| name == caller);
            if let (Some((_, balance)), true) = (account, !cdr["answerTime"].is_null()) {
                *balance -= (talked_ms(&cdr) + 999) / 1_000 * RATE;
            }
            bills.push(cdr);
        }
        Reply::json(200, &json!({}))
    }
}

/// C: authentication with a balance, a call, the record after the hang-up, the new balance.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_c_billing_authenticates_with_balance_and_is_told_what_the_call_costs() {
    let accounts = [("1001", 100), ("1002", 100), ("1003", 0)];
    let accounts = accounts.map(|(name, cents)| (name.to_owned(), cents)).to_vec();
    let billing = Arc::new(Billing { accounts: Mutex::new(accounts), bills: Mutex::default() });
    let desk = Arc::clone(&billing);
    let service = Receiver::start(move |heard| match heard.path.as_str() {
        "/pbx/auth" => desk.authenticate(heard),
        "/pbx/cdr" => desk.bill(heard),
        _ => Reply::json(404, &json!({})),
    });
    let service = service.await;
    let (auth, cdr) = (service.url("/pbx/auth"), service.url("/pbx/cdr"));
    let setup = Setup::default().section(&format!(
        "[[proxy.user_backends]]\ntype = \"http\"\nurl = \"{auth}\"\n\
         username_field = \"u\"\nrealm_field = \"r\"\n\
         [callrecord]\ntype = \"http\"\nurl = \"{cdr}\"\nwith_media = true\n"
    ));
    let gate = Gate::start(&setup).await;
    let mut poor = gate.agent("1003").await;
    assert_eq!(poor.register(300).await.status(), 402, "no balance, no registration");
    assert_eq!(poor.invite("sip:1002@pbx.com").await.0.status(), 402, "and no call");
    let (mut caller, mut callee) = (baresip(&gate, "1001", 440), baresip(&gate, "1002", 1_000));
    caller.dial(&format!("sip:1002@{}", gate.sip)).expect("dialled");
    let established = caller.await_event("CALL_ESTABLISHED", LIMIT).expect("answered");
    let mut ticks = tokio::time::interval(Duration::from_secs(3));
    ticks.tick().await;
    ticks.tick().await;
    caller.hang_up().expect("hung up");
    callee.await_event("CALL_CLOSED", LIMIT).expect("both sides end");
    let bill = until("the bill", Duration::from_secs(60), async || {
        let bills = billing.bills.lock().expect("no test panics with it");
        bills.iter().find(|bill| bill["callId"] == established["id"]).cloned()
    })
    .await;
    assert_eq!((&bill["caller"], &bill["callee"]), (&json!("1001"), &json!("1002")), "{bill:#}");
    let talked = talked_ms(&bill);
    assert!((2_500..6_000).contains(&talked), "{talked} ms: {bill:#}");
    let cost = (talked + 999) / 1_000 * RATE;
    assert_eq!(billing.balance("1001"), Some(100 - cost));
    assert_eq!(billing.balance("1002"), Some(100), "the callee pays nothing");
}

/// D: every call is recorded here first and lies in the archive afterwards, with its record.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_d_compliance_recording_lands_in_a_real_s3_server() {
    let archive = Folder::new("archive").expect("a folder");
    let bucket = Bucket::start(&archive.path).await;
    let setup = Setup::with_users(&["1001", "1002"])
        .section("[recording]\nenabled = true\n")
        .section(&bucket.section("pbx/records"));
    let gate = Gate::start(&setup).await;
    let (mut caller, mut callee) = (baresip(&gate, "1001", 440), baresip(&gate, "1002", 1_000));
    caller.dial(&format!("sip:1002@{}", gate.sip)).expect("dialled");
    let established = caller.await_event("CALL_ESTABLISHED", LIMIT).expect("answered");
    let mut ticks = tokio::time::interval(Duration::from_secs(4));
    ticks.tick().await;
    ticks.tick().await;
    caller.hang_up().expect("hung up");
    callee.await_event("CALL_CLOSED", LIMIT).expect("both sides end");
    let call_id = established["id"].as_str().expect("events carry the Call-ID").to_owned();
    let record = gate.record(&call_id).await;

    let of_kind = |kind: &'static str| {
        let bucket = &bucket;
        async move || {
            let objects = bucket.objects().into_iter();
            objects.clone().find(|(key, _)| key.starts_with("pbx/records/") && key.ends_with(kind))
        }
    };
    let minute = Duration::from_secs(60);
    let (key, bytes) = until("the record in the archive", minute, of_kind(".json")).await;
    let stored: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(
        (&stored["callId"], &stored["sessionId"]),
        (&record["callId"], &record["sessionId"])
    );
    // {root}/YYYYMMDD/{call_id}.json
    let words: Vec<&str> = key.split('/').collect();
    let day = words.get(2).copied().unwrap_or_default();
    assert!(words.len() == 4 && day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit()), "{key}");
    let session = record["sessionId"].as_str().expect("a text");
    let names = [format!("{call_id}.json"), format!("{session}.json")];
    assert!(names.iter().any(|name| name == words[3]), "{key}: neither of {names:?}");
    let (wav_key, wav) = until("the recording in the archive", minute, of_kind(".wav")).await;
    assert!(wav_key.starts_with(&format!("pbx/records/{day}/")), "beside it: {wav_key}");
    talk::assert_stereo(&wav);

    // The local copy goes when the archive has it; the API still gives the recording.
    until("the local copy to go", minute, async || local_waves(&gate).is_empty().then_some(()))
        .await;
    let path = format!("/console/call-records/{call_id}/recording");
    let answer = gate.client.get(&path).await.expect(&[200]);
    assert_eq!(answer.body, wav, "the same recording, wherever it lies");
}

/// Every WAV below the gateway's folder.
fn local_waves(gate: &Gate) -> Vec<std::path::PathBuf> {
    let (mut folders, mut found) = (vec![gate.folder.path.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "wav") {
                found.push(path);
            }
        }
    }
    found
}
