//! Guide 2.1, active call control: the list and the four payloads that the guide prints.

use loadtest::phone::{Call, Phone};
use serde_json::{Value, json};

use crate::integrator::client::Answer;
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::shape::list;
use crate::integrator::talk::{self, CALLEE_HZ, CALLER_HZ};
use crate::integrator::{SOON, until};

pub(crate) struct Scene {
    pub(crate) gate: Gate,
    _phones: [Phone; 2],
    pub(crate) calling: Call,
    pub(crate) called: Call,
}

impl Scene {
    /// 1001 talks to 1002.
    pub(crate) async fn talking() -> Self {
        let gate = Gate::start(&Setup::with_users(&["1001", "1002", "1003"])).await;
        let mut phones = [talk::phone(&gate, "1001").await, talk::phone(&gate, "1002").await];
        let [caller, callee] = &mut phones;
        let (calling, called) = talk::connect(caller, callee).await;
        Self { gate, _phones: phones, calling, called }
    }

    pub(crate) async fn command(&self, body: &Value) -> Answer {
        command(&self.gate, self.calling.call_id(), body).await
    }
}

pub(crate) async fn command(gate: &Gate, call_id: &str, body: &Value) -> Answer {
    let path = format!("/console/calls/active/{call_id}/commands");
    gate.client.post(&path, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_list_shows_the_calls_in_progress_and_their_ids() {
    let scene = Scene::talking().await;
    let call = scene.gate.standing().await;
    let call_id = call["call_id"].as_str().unwrap_or_else(|| panic!("no call_id: {call:#}"));
    assert!(call.to_string().contains("1001") && call.to_string().contains("1002"), "{call:#}");
    // The id of the list is the `{call_id}` of the command.
    let body = json!({"action": "hangup", "reason": "admin_kick"});
    command(&scene.gate, call_id, &body).await.expect(&[200, 202]);
    scene.calling.ended(SOON).await.expect("it is hung up");
    until("an empty list", SOON, async || {
        let listed = scene.gate.client.get("/console/calls/active").await.expect(&[200]).json();
        list(&listed).is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_payload_1_hangup_ends_both_sides_and_the_record_knows_the_reason() {
    let scene = Scene::talking().await;
    let call_id = scene.calling.call_id().to_owned();
    let body = json!({"action": "hangup", "reason": "admin_kick"});
    scene.command(&body).await.expect(&[200, 202]);
    scene.calling.ended(SOON).await.expect("the caller's BYE");
    scene.called.ended(SOON).await.expect("the callee's BYE");
    let record = scene.gate.record(&call_id).await;
    assert!(record.to_string().contains("admin_kick"), "{record:#}");
    for by in ["byCaller", "byCallee"] {
        assert_ne!(record["hangupReason"], by, "neither of the two hung up");
    }
}

/// `{call_id}` is either leg's Call-ID as well.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_control_the_call_id_of_either_leg_names_the_call() {
    let scene = Scene::talking().await;
    let body = json!({"action": "mute", "track_id": "audio-0"});
    command(&scene.gate, scene.calling.call_id(), &body).await.expect(&[200, 202]);
    command(&scene.gate, scene.called.call_id(), &body).await.expect(&[200, 202]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_payload_2_blind_transfer_connects_the_caller_with_the_target() {
    let scene = Scene::talking().await;
    let mut target = talk::phone(&scene.gate, "1003").await;
    let body = json!({"action": "transfer", "target": "sip:1003@pbx.com"});
    let answered = async {
        tokio::time::timeout(SOON, target.answer_next(600.0)).await.expect("the target is called")
    };
    let (answer, answered) = tokio::join!(scene.command(&body), answered);
    answer.expect(&[200, 202]);
    let new = answered.expect("it answers");
    talk::hears(&new, CALLER_HZ).await;
    talk::hears(&scene.calling, 600.0).await;
    scene.called.ended(SOON).await.expect("the other side is out");
    scene.calling.hang_up().await.expect("it hangs up");
    new.ended(SOON).await.expect("and so is the target");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_payload_3_mute_silences_exactly_one_direction_until_unmute() {
    let scene = Scene::talking().await;
    for (track, muted, own_hz, other, other_hz) in [
        ("audio-0", &scene.called, CALLER_HZ, &scene.calling, CALLEE_HZ),
        ("audio-1", &scene.calling, CALLEE_HZ, &scene.called, CALLER_HZ),
    ] {
        let body = json!({"action": "mute", "track_id": track});
        scene.command(&body).await.expect(&[200, 202]);
        talk::hears_no_more(muted, own_hz).await;
        talk::hears(other, other_hz).await;
        let body = json!({"action": "unmute", "track_id": track});
        scene.command(&body).await.expect(&[200, 202]);
        talk::hears(muted, own_hz).await;
    }
}

/// For a channel that rings: the caller is connected without the callee's doing.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_payload_4_force_answer_answers_the_caller_with_the_given_session() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let sdp = crate::integrator::sip::sdp("127.0.0.1", 40_404);
    let forced = async {
        let invite = callee.ring().await;
        let body = json!({"action": "accept", "sdp": sdp});
        command(&gate, invite.call_id(), &body).await.expect(&[200, 202]);
    };
    let ((answer, leg), ()) = tokio::join!(caller.invite("sip:1002@pbx.com"), forced);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.audio().is_some(), "{answer:?}");
    caller.hang_up(&leg.expect("a dialog")).await;
}

/// 404 unknown call, 422 malformed, each saying why; nothing of it touches the call.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_control_what_cannot_be_done_says_why() {
    let scene = Scene::talking().await;
    let hangup = json!({"action": "hangup", "reason": "admin_kick"});
    let answer = command(&scene.gate, "no-such-call", &hangup).await.expect(&[404]);
    assert!(!answer.body.is_empty());
    for body in [
        json!({"action": "explode"}),
        json!({"reason": "no action"}),
        json!({"action": "transfer"}),
        json!({"action": "mute", "track_id": "audio-7"}),
        json!({"action": 7}),
    ] {
        let answer = scene.command(&body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert!(!answer.body.is_empty(), "{body}");
    }
    assert_eq!(list(&scene.gate.client.get("/console/calls/active").await.json()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_1_payload_4_a_call_that_talks_cannot_be_answered_again() {
    let scene = Scene::talking().await;
    let sdp = crate::integrator::sip::sdp("127.0.0.1", 40_404);
    let answer = scene.command(&json!({"action": "accept", "sdp": sdp})).await.expect(&[409]);
    assert!(!answer.body.is_empty(), "it says why");
}
