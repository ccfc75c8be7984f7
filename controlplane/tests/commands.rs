//! Commands on calls of real phones through the whole program. Needs io_uring.

mod stand_ins;

use std::time::{Duration, Instant};

use controlplane::store::{Connections, Db, RecordSearch, Records};
use loadtest::phone::{Call, HungUpBy, Phone};
use rustix::process::Signal;
use serde_json::{Value, json};
use shared::cdr::HangupReason;
use shared::config::Database;
use stand_ins::Folder;
use stand_ins::program::{Gate, spare_port, write_config};

const PATIENCE: Duration = Duration::from_secs(20);
const CALLER_HZ: f32 = 440.0;
const CALLEE_HZ: f32 = 1_000.0;

const TOKEN: &str = "the-token-of-this-test";
const USERS: &str = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [\n\
    { username = \"7\", password = \"a\" },\n{ username = \"8\", password = \"b\" },\n]\n\
    [[console.api_tokens]]\ntoken = \"the-token-of-this-test\"\n\
    scopes = [\"calls:read\", \"calls:control\"]\n";

/// A gateway with one answered call.
struct Standing {
    folder: Folder,
    gate: Gate,
    phones: [Phone; 2],
    calls: [Call; 2],
}

impl Standing {
    async fn start(name: &str) -> Self {
        let (folder, port) = (Folder::new(name), spare_port());
        write_config(folder.path(), port, USERS);
        let gate = Gate::start(folder.path());
        let server = ([127, 0, 0, 1], port).into();
        let mut caller = Phone::bind(server, "7", "a").expect("a port");
        let mut callee = Phone::bind(server, "8", "b").expect("a port");
        caller.register(60).await.expect("7 registers");
        callee.register(60).await.expect("8 registers");
        let (call, answered) =
            tokio::join!(caller.call("8", CALLER_HZ), callee.answer_next(CALLEE_HZ));
        let calls = [call.expect("8 answers"), answered.expect("it is called")];
        Self { folder, gate, phones: [caller, callee], calls }
    }

    /// Acts on the call; `name` is one of its ids.
    fn act(&self, name: &str, body: &Value) -> (u16, Value) {
        self.gate.post_as(TOKEN, &format!("/console/calls/active/{name}/commands"), body)
    }

    /// Asks the gateway, which takes its time, until each phone hears the other, or not.
    fn wait_for_tones(&self, caller_hears: bool, callee_hears: bool) {
        let give_up_at = Instant::now() + PATIENCE;
        let [caller, callee] = &self.calls;
        loop {
            let shares = [caller.tone_share(CALLEE_HZ), callee.tone_share(CALLER_HZ)];
            if shares.map(|share| share > 0.8) == [caller_hears, callee_hears]
                && shares.map(|share| share < 0.01) == [!caller_hears, !callee_hears]
            {
                return;
            }
            assert!(Instant::now() < give_up_at, "the phones hear {shares:?} of each other");
            assert_eq!(self.gate.get("/livez").0, 200);
        }
    }

    fn id(&self) -> String {
        let (_, body) = self.gate.get_as(TOKEN, "/console/calls/active");
        body["data"][0]["meta"]["session_id"].as_str().expect("one call").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hang_up_ends_the_call_on_both_phones_and_says_so_in_the_record() {
    let standing = Standing::start("hang-up").await;
    let id = standing.id();
    let hang_up = json!({ "action": "hangup", "reason": "admin_kick" });
    let (status, body) = standing.act(&id, &hang_up);
    assert_eq!((status, &body["data"]["call_id"]), (200, &json!(id)), "{body}");
    let (status, body) = standing.act(&id, &hang_up);
    assert!(matches!(status, 404 | 409), "{body}");
    let Standing { folder, gate, phones, calls } = standing;
    for call in calls {
        let report = call.ended(PATIENCE).await.expect("a BYE comes");
        assert_eq!(report.hung_up_by, HungUpBy::Other);
    }
    for phone in &phones {
        let bye = phone.ladder().into_iter().find(|line| line.text.starts_with("BYE"));
        assert!(bye.is_some(), "{:?}", phone.ladder());
    }
    gate.signal(Signal::TERM);
    assert_eq!(gate.end().0, Some(0));
    let path = folder.path().join("data/ringgate.sqlite3");
    let store = Db::open(&Database::Sqlite(path)).await.expect("it opens");
    let search = RecordSearch { page: 1, per_page: 5, ..Default::default() };
    let cdr = store.records(&search).await.expect("it is read").records.remove(0).cdr;
    store.close().await;
    assert_eq!(cdr.hangup_reason, HangupReason::BySystem);
    assert_eq!(cdr.hangup_messages[0].reason, "admin_kick");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mute_takes_the_tone_from_exactly_one_direction() {
    let standing = Standing::start("mute").await;
    standing.wait_for_tones(true, true);
    let leg = standing.calls[1].call_id().to_owned();
    let command = |action: &str, track: &str| {
        let (status, body) = standing.act(&leg, &json!({ "action": action, "track_id": track }));
        assert_eq!(status, 200, "{body}");
    };
    command("mute", "audio-0");
    standing.wait_for_tones(true, false);
    command("mute", "audio-1");
    standing.wait_for_tones(false, false);
    command("unmute", "audio-0");
    standing.wait_for_tones(false, true);
    command("unmute", "audio-1");
    standing.wait_for_tones(true, true);
    let Standing { calls: [caller, callee], .. } = standing;
    let (report, other) = tokio::join!(caller.hang_up(), callee.ended(PATIENCE));
    report.expect("the BYE is answered");
    other.expect("the BYE is passed on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_stops_the_sound_both_ways_and_unhold_brings_it_back() {
    let standing = Standing::start("hold").await;
    standing.wait_for_tones(true, true);
    let leg = standing.calls[0].call_id().to_owned();
    let command = |body: Value| {
        let (status, body) = standing.act(&leg, &body);
        assert_eq!(status, 200, "{body}");
    };
    command(json!({ "action": "hold" }));
    let invites = |phone: &Phone| {
        let incoming = phone.ladder().into_iter().filter(|line| line.to == phone.user());
        incoming.filter(|line| line.text.starts_with("INVITE")).count()
    };
    assert_eq!(standing.phones.each_ref().map(invites), [0, 2], "the callee alone is told");
    // What was on its way has come when nothing came for the time of ten packets.
    let heard = || standing.calls.each_ref().map(|call| call.heard().packets_received);
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let (before, until) = (heard(), Instant::now() + Duration::from_millis(200));
        while Instant::now() < until {
            assert_eq!(standing.gate.get("/livez").0, 200);
        }
        if heard() == before {
            break;
        }
        assert!(Instant::now() < give_up_at, "sound still passes");
    }
    let (_, body) = standing.gate.get_as(TOKEN, "/console/calls/active");
    assert_eq!(body["data"][0]["state"]["held"], json!({ "caller": false, "callee": true }));
    command(json!({ "action": "unhold", "leg_id": "callee" }));
    standing.wait_for_tones(true, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_played_is_heard_and_recorded_state_follows_the_commands() {
    let standing = Standing::start("play").await;
    standing.wait_for_tones(true, true);
    let id = standing.id();
    let command = |body: Value, expected: u16| {
        let (status, body) = standing.act(&id, &body);
        assert_eq!(status, expected, "{body}");
        body
    };
    let tone = json!({ "type": "tone", "frequency": 1_700.0, "duration_ms": 2_000 });
    command(
        json!({ "action": "play", "source": tone, "leg_id": "callee", "loop_playback": true }),
        200,
    );
    // The prompt stands in the place of what the caller says.
    let give_up_at = Instant::now() + PATIENCE;
    while standing.calls[1].tone_share(1_700.0) < 0.8 {
        assert!(Instant::now() < give_up_at, "the callee hears the tone");
        assert_eq!(standing.gate.get("/livez").0, 200);
    }
    standing.wait_for_tones(true, false);
    command(json!({ "action": "stop_playback" }), 200);
    standing.wait_for_tones(true, true);
    let again = command(json!({ "action": "stop_playback" }), 409);
    assert_eq!(again["code"], "not_playing", "{again}");
    let missing = json!({ "type": "file", "path": "nothing.wav" });
    let missing = command(json!({ "action": "play", "source": missing }), 404);
    assert_eq!(missing["code"], "prompt_absent", "{missing}");

    let state = || {
        let (_, body) = standing.gate.get_as(TOKEN, "/console/calls/active");
        body["data"][0]["state"]["recording"].as_bool().expect("a flag")
    };
    assert!(!state());
    command(json!({ "action": "start_recording" }), 200);
    assert!(state());
    command(json!({ "action": "pause_recording" }), 200);
    assert!(!state());
    command(json!({ "action": "resume_recording" }), 200);
    assert!(state());
    let twice = command(json!({ "action": "start_recording" }), 409);
    assert_eq!(twice["code"], "already_recording", "{twice}");
    command(json!({ "action": "stop_recording" }), 200);
    assert!(!state());
    // These phones name no telephone events: the keys go as INFO, one after the other.
    command(json!({ "action": "send_dtmf", "digits": "42#" }), 200);
    let keys = standing.phones[1].ladder();
    let keys = keys.iter().filter(|line| line.text.starts_with("INFO")).count();
    assert_eq!(keys, 3);
    let late = command(json!({ "action": "accept", "sdp": "v=0" }), 409);
    assert_eq!(late["code"], "not_ringing", "{late}");
}
