//! Guide 2.2, CDRs: the list, the search, one record, its recording and its SIP flow.

use std::time::Duration;

use serde_json::{Value, json};

use super::push::sample;
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::shape::{assert_like, list, object};
use crate::integrator::{SOON, talk, until};

const RECORDS: &str = "/console/call-records";

/// The guide prints no list; its entries name the call either as the record does or as the commands.
fn call_ids(answer: &Value) -> Vec<String> {
    let id = |record: &Value| {
        let named = record.get("callId").or_else(|| record.get("call_id"));
        named.and_then(Value::as_str).unwrap_or_else(|| panic!("no id: {record:#}")).to_owned()
    };
    list(answer).iter().map(id).collect()
}

/// A recorded call of two seconds between 1001 and 1002; gives its Call-ID at the caller.
async fn recorded_call() -> (Gate, String) {
    let setup = Setup::with_users(&["1001", "1002"])
        .section("[recording]\nenabled = true\nauto_start = true\n");
    let gate = Gate::start(&setup).await;
    let (mut caller, mut callee) =
        (talk::phone(&gate, "1001").await, talk::phone(&gate, "1002").await);
    let (calling, called) = talk::connect(&mut caller, &mut callee).await;
    talk::goes_on(&called, Duration::from_secs(2)).await;
    let call_id = calling.call_id().to_owned();
    calling.hang_up().await.expect("it hangs up");
    gate.record(&call_id).await;
    (gate, call_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_cdrs_get_lists_and_post_searches() {
    let (gate, call_id) = recorded_call().await;
    // A second attempt, of somebody else, that nobody takes.
    let mut other = gate.agent("1002").await;
    let (answer, _) = other.invite("sip:9999@pbx.com").await;
    assert!(answer.status() >= 400);
    gate.record(answer.call_id()).await;
    let listed = gate.client.get(RECORDS).await.expect(&[200]).json();
    let ids = call_ids(&listed);
    assert!(ids.contains(&call_id) && ids.contains(&answer.call_id().to_owned()), "{listed:#}");
    let found = gate.client.post(RECORDS, &json!({"caller": "1001"})).await.expect(&[200]).json();
    assert_eq!(call_ids(&found), [call_id.as_str()], "{found:#}");
    let found = gate.client.post(RECORDS, &json!({})).await.expect(&[200]).json();
    assert_eq!(call_ids(&found).len(), 2, "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_cdrs_one_record_has_every_field_of_the_contract() {
    let (gate, call_id) = recorded_call().await;
    let answer = gate.client.get(&format!("{RECORDS}/{call_id}")).await.expect(&[200]).json();
    let record = object(&answer);
    assert_like(record, &sample());
    assert_eq!(record["callId"], call_id);
    assert_eq!((&record["caller"], &record["callee"]), (&json!("1001"), &json!("1002")));
    assert_eq!((&record["statusCode"], &record["hangupReason"]), (&json!(200), &json!("byCaller")));
    let session = record["sessionId"].as_str().expect("a text");
    let same = gate.client.get(&format!("{RECORDS}/{session}")).await.expect(&[200]).json();
    assert_eq!(object(&same)["callId"], call_id, "by our id as well");
    gate.client.get(&format!("{RECORDS}/no-such-call")).await.expect(&[404]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_recording_streams_the_audio_file_whole_and_in_ranges() {
    let (gate, call_id) = recorded_call().await;
    let path = format!("{RECORDS}/{call_id}/recording");
    let answer = until("the recording", SOON, async || {
        let answer = gate.client.get(&path).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let kind = answer.header("content-type");
    assert!(kind.starts_with("audio/"), "{kind}");
    talk::assert_stereo(&answer.body);
    let part = gate.client.get_with(&path, "range", "bytes=0-43").await.expect(&[206]);
    assert_eq!(part.body, answer.body[..44], "the head of the file");
    let range = format!("bytes 0-43/{}", answer.body.len());
    assert_eq!(part.header("content-range"), range);
    let beyond = format!("bytes={}-", answer.body.len() + 10);
    gate.client.get_with(&path, "range", &beyond).await.expect(&[416]);
    gate.client.get(&format!("{RECORDS}/no-such-call/recording")).await.expect(&[404]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_sip_flow_is_a_ladder_as_json() {
    let (gate, call_id) = recorded_call().await;
    let path = format!("{RECORDS}/{call_id}/sip-flow");
    let answer = gate.client.get(&path).await.expect(&[200]).json();
    let text = answer.to_string();
    for word in ["INVITE", "180", "200", "ACK", "BYE"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(!text.contains("response=\\\""), "no credentials");
    let pcap = gate.client.get(&format!("{RECORDS}/{call_id}/pcap")).await.expect(&[200]);
    let magic = pcap.body.get(..4).expect("a file head");
    let known: [&[u8]; 3] =
        [&[0xd4, 0xc3, 0xb2, 0xa1], &[0x4d, 0x3c, 0xb2, 0xa1], &[0x0a, 0x0d, 0x0d, 0x0a]];
    assert!(known.contains(&magic), "{magic:?}");
}
