//! Contract 5: the commands beyond the guide's four, click-to-dial by command and by REFER.

use loadtest::wav::{Stereo, loudest_share};
use serde_json::{Value, json};

use super::calls::{Scene, command};
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::shape::find;
use crate::integrator::sip::Message;
use crate::integrator::talk::{self, CALLEE_HZ, CALLER_HZ};
use crate::integrator::{SOON, until};

/// Hold is a re-INVITE that the held side can see.
#[tokio::test(flavor = "multi_thread")]
async fn contract_5_hold_and_unhold_are_seen_on_the_wire() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let ((_, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    let leg = leg.expect("a dialog");
    let held = |message: &Message| {
        ["a=sendonly", "a=inactive"].iter().any(|word| message.body.contains(word))
    };
    for (action, hold) in [("hold", true), ("unhold", false)] {
        let body = json!({"action": action});
        let asked = async { command(&gate, &leg.call_id, &body).await.expect(&[200, 202]) };
        let seen = async {
            tokio::select! {
                invite = caller.request("INVITE") => {
                    caller.answer(&invite, 200, "OK").await;
                    invite
                }
                invite = callee.request("INVITE") => {
                    callee.answer(&invite, 200, "OK").await;
                    invite
                }
            }
        };
        let (_, invite) = tokio::join!(asked, seen);
        assert_eq!(held(&invite), hold, "{action}: {}", invite.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_send_dtmf_is_taken_for_a_standing_call() {
    let scene = Scene::talking().await;
    scene.command(&json!({"action": "send_dtmf", "digits": "12#"})).await.expect(&[200, 202]);
    scene.command(&json!({"action": "send_dtmf", "digits": "x"})).await.expect(&[422]);
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_recording_is_started_paused_resumed_and_stopped() {
    let scene = Scene::talking().await;
    let recording = async || find(&scene.gate.standing().await, "recording").cloned();
    assert_eq!(recording().await, Some(json!(false)));
    for action in ["start_recording", "pause_recording", "resume_recording"] {
        scene.command(&json!({"action": action})).await.expect(&[200, 202]);
        talk::goes_on(&scene.called, std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(recording().await, Some(json!(true)));
    scene.command(&json!({"action": "stop_recording"})).await.expect(&[200, 202]);
    let call_id = scene.calling.call_id().to_owned();
    scene.calling.hang_up().await.expect("it hangs up");
    let path = format!("/console/call-records/{call_id}/recording");
    let wav = until("the recording", SOON, async || {
        let answer = scene.gate.client.get(&path).await;
        (answer.status == 200).then_some(answer.body)
    });
    let wav = Stereo::read(&wav.await).expect("a stereo WAV");
    assert!(loudest_share(&wav.left, CALLER_HZ) > 0.9, "the caller is on the left");
    assert!(loudest_share(&wav.right, CALLEE_HZ) > 0.9, "the callee is on the right");
    // Of three seconds one was paused: it is silent or it is not there.
    let loud = |frame: &&[i16]| frame.iter().any(|sample| sample.unsigned_abs() > 1_000);
    let sound_ms = 20 * wav.left.chunks(160).filter(loud).count();
    assert!((1_400..2_700).contains(&sound_ms), "{sound_ms} ms of sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_play_and_stop_playback_are_taken_for_a_standing_call() {
    let scene = Scene::talking().await;
    // What is played lies in the folder that docs/api-objects.md names.
    let prompts = scene.gate.folder.path.join("data/prompts");
    std::fs::create_dir_all(&prompts).expect("a folder");
    loadtest::tones::write_wav(&prompts, 600).expect("a file");
    let source = json!({"type": "file", "path": "tone-600.wav"});
    let body = json!({"action": "play", "source": source});
    scene.command(&body).await.expect(&[200, 202]);
    scene.command(&json!({"action": "stop_playback"})).await.expect(&[200, 202]);
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}"))
}

/// Scenario A's "future feature", with every field of the contract.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_a_post_api_v1_commands_rings_from_and_then_dials_to() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut first, mut second) = (gate.phone("1001").await, gate.phone("1002").await);
    let body = json!({
        "action": "originate", "from": "1001", "to": "1002", "caller_id": "5550100",
        "timeout": 20, "headers": {"X-Ticket": "T-77"}, "record": false
    });
    for path in ["/api/v1/commands", "/ami/v1/originate"] {
        let answer = gate.client.post(path, &body).await.expect(&[202]).json();
        let call_id = text(&answer, "call_id").to_owned();
        let (rung, _) = first.pick_up().await;
        let (dialled, leg) = second.pick_up().await;
        assert_eq!(rung.header("X-Ticket"), "T-77", "{path}: {rung:?}");
        assert_eq!(dialled.header("X-Ticket"), "T-77", "{path}: {dialled:?}");
        assert!(dialled.header("From").contains("5550100"), "{path}: {}", dialled.header("From"));
        let standing = gate.standing().await;
        assert!(standing.to_string().contains(&call_id), "{path}: {standing}");
        tokio::join!(second.hang_up(&leg), first.hear_bye());
        let record = gate.record(&call_id).await;
        assert_eq!((&record["callee"], &record["statusCode"]), (&json!("1002"), &json!(200)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_a_originate_without_an_answer_ends_after_its_timeout() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    // The second party has a phone too, or nobody would be rung for nothing.
    let (mut first, mut second) = (gate.phone("1001").await, gate.phone("1002").await);
    let body = json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 2});
    gate.client.post("/api/v1/commands", &body).await.expect(&[202]);
    let invite = first.ring().await;
    first.hear_cancel(&invite).await;
    second.assert_quiet("INVITE").await;
}

/// The guide's present workaround: a REFER of a registered user.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_a_refer_of_a_registered_user_dials_for_him() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut first, mut second) = (gate.phone("1001").await, gate.phone("1002").await);
    let answer = first.refer("sip:1001@pbx.com", "sip:1002@pbx.com").await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    let (_, leg) = first.pick_up().await;
    second.pick_up().await;
    tokio::join!(first.hang_up(&leg), second.hear_bye());
}

/// The same call by three names at once: muted by one, heard again by another.
#[tokio::test(flavor = "multi_thread")]
async fn contract_5_every_prefix_speaks_to_the_same_call() {
    let scene = Scene::talking().await;
    let call_id = scene.calling.call_id();
    for prefix in ["/console", "/api", "/api/v1"] {
        let path = format!("{prefix}/calls/active/{call_id}/commands");
        for action in ["mute", "unmute"] {
            let body = json!({"action": action, "track_id": "audio-0"});
            scene.gate.client.post(&path, &body).await.expect(&[200, 202]);
        }
        let listed = scene.gate.client.get(&format!("{prefix}/calls/active")).await.expect(&[200]);
        assert!(String::from_utf8_lossy(&listed.body).contains(call_id), "{prefix}");
    }
    talk::hears(&scene.called, CALLER_HZ).await;
    talk::hears(&scene.calling, CALLEE_HZ).await;
}
