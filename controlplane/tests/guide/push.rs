//! Guide 1.4, CDR push: `multipart/form-data` with `calllog.json` and `media_audio-0`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::integrator::form::{Part, parts};
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::receiver::{Heard, Receiver, Reply};
use crate::integrator::shape::assert_like;
use crate::integrator::talk;

fn setup(receiver: &Receiver, with_media: bool) -> Setup {
    let url = receiver.url("/pbx/cdr");
    Setup::with_users(&["1001", "1002"]).section(&format!(
        "[callrecord]\ntype = \"http\"\nurl = \"{url}\"\nwith_media = {with_media}\n\
         [recording]\nenabled = true\nauto_start = true\n"
    ))
}

/// The CDR's fields as the contract names them.
pub(crate) fn sample() -> Value {
    json!({
        "callId": "text",
        "sessionId": "text",
        "caller": "1001",
        "callee": "1002",
        "startTime": null,
        "ringTime": null,
        "answerTime": null,
        "endTime": null,
        "statusCode": 200,
        "hangupReason": "byCaller"
    })
}

fn calllog(heard: &Heard) -> (Value, Vec<Part>) {
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "/pbx/cdr"));
    let mut parts = parts(heard);
    let at = parts.iter().position(|part| part.name == "calllog.json");
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let part = parts.remove(at.unwrap_or_else(|| panic!("no calllog.json among {names:?}")));
    let cdr: Value = serde_json::from_slice(&part.body).expect("the full CDR JSON");
    (cdr, parts)
}

/// One call of two seconds; gives the caller's Call-ID.
async fn call(gate: &Gate) -> String {
    let (mut caller, mut callee) =
        (talk::phone(gate, "1001").await, talk::phone(gate, "1002").await);
    let (calling, called) = talk::connect(&mut caller, &mut callee).await;
    talk::goes_on(&called, Duration::from_secs(2)).await;
    let call_id = calling.call_id().to_owned();
    calling.hang_up().await.expect("it hangs up");
    call_id
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_4_format_the_cdr_and_the_recording_come_as_one_form() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, true)).await;
    let call_id = call(&gate).await;
    let heard = receiver.nth_within(0, Duration::from_secs(60)).await;
    let (cdr, files) = calllog(&heard);
    assert_like(&cdr, &sample());
    assert_eq!(cdr["callId"], call_id, "{cdr:#}");
    assert_eq!((&cdr["caller"], &cdr["callee"]), (&json!("1001"), &json!("1002")));
    assert_eq!((&cdr["statusCode"], &cdr["hangupReason"]), (&json!(200), &json!("byCaller")));
    assert!(!cdr["answerTime"].is_null() && !cdr["endTime"].is_null(), "{cdr:#}");
    let media = files.iter().find(|part| part.name == "media_audio-0");
    let names: Vec<&str> = files.iter().map(|part| part.name.as_str()).collect();
    let media = media.unwrap_or_else(|| panic!("no media_audio-0 among {names:?}"));
    assert!(media.file_name.is_some(), "it is a file part");
    assert!(media.body.starts_with(b"RIFF") && media.body[8..].starts_with(b"WAVE"));
    let reader = hound::WavReader::new(media.body.as_slice()).expect("a WAV file");
    let seconds = f64::from(reader.duration()) / f64::from(reader.spec().sample_rate);
    assert!((1.5..10.0).contains(&seconds), "{seconds} s");
    let others = files.iter().filter(|part| !part.name.starts_with("media_audio-"));
    assert_eq!(others.count(), 0, "{names:?}");
    // The record that is asked for is the record that is pushed.
    let stored = gate.record(&call_id).await;
    for field in ["callId", "sessionId", "startTime", "answerTime", "endTime", "statusCode"] {
        assert_eq!(stored[field], cdr[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_4_config_without_media_only_the_cdr_comes() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, false)).await;
    let call_id = call(&gate).await;
    let (cdr, files) = calllog(&receiver.nth_within(0, Duration::from_secs(60)).await);
    assert_eq!(cdr["callId"], call_id);
    assert!(files.is_empty(), "{:?}", files.iter().map(|part| &part.name).collect::<Vec<_>>());
}

/// An attempt that nobody answered is a CDR as well.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_4_an_attempt_that_was_not_answered_is_pushed_too() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, true)).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let busy = async {
        let invite = callee.ring().await;
        callee.answer(&invite, 486, "Busy Here").await;
        callee.request("ACK").await;
    };
    let ((answer, _), ()) = tokio::join!(caller.invite("sip:1002@pbx.com"), busy);
    assert_eq!(answer.status(), 486);
    let (cdr, files) = calllog(&receiver.nth_within(0, Duration::from_secs(60)).await);
    assert_eq!((&cdr["callId"], &cdr["statusCode"]), (&json!(answer.call_id()), &json!(486)));
    assert!(cdr["answerTime"].is_null(), "{cdr:#}");
    assert!(cdr["ringTime"].is_string() || cdr["ringTime"].is_number(), "{cdr:#}");
    assert!(cdr["hangupReason"].is_string(), "{cdr:#}");
    assert!(files.is_empty(), "nothing was said");
}

/// At least once: refused, refused, taken; the same record each time, and no other after it.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_4_a_push_that_failed_is_made_again_with_the_same_record() {
    let receiver = Receiver::saying(500, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, false)).await;
    let call_id = call(&gate).await;
    let (first, _) = calllog(&receiver.nth_within(0, Duration::from_secs(60)).await);
    receiver.say(Reply::json(200, &json!({})));
    let (second, _) = calllog(&receiver.nth_within(1, Duration::from_secs(90)).await);
    assert_eq!(first, second);
    assert_eq!(second["callId"], call_id);
}
