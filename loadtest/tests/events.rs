//! What programs hear of a recorded call between two registered phones, through the receiver as a program.
//! Owns:  one gateway and one receiver.
//! Gives: locator events and the call record with both tracks, after failures, each under one id.
//! Never: anything about retries in hours; the control plane's tests have a clock for that.
//! Holds: bounded by deadlines.

use std::collections::BTreeSet;
use std::time::Duration;

use loadtest::gateway::{Folder, Plan};
use loadtest::receiver::{Delivery, Program};
use loadtest::scene::{Expected, Scene, assert_record};
use loadtest::sipp::Run;
use loadtest::wait;

const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn a_recorded_call_is_told_with_its_tracks_and_phones_with_their_addresses() {
    let folder = Folder::new("events").expect("a folder");
    // Whatever comes in the first seconds fails and is tried again.
    let receiver = Program::start(&folder.path, &["0:503:4".to_owned()]).expect("a receiver");
    let at = receiver.address;
    let sections = format!(
        "\n[callrecord]\ntype = \"http\"\nurl = \"http://{at}/cdr\"\nwith_media = true\n\
         \n[proxy.locator_webhook]\nurl = \"http://{at}/locator\"\n"
    );
    let scene = Scene::start(Plan { recording: true, sections: vec![sections], ..Plan::default() });
    let scene = scene.expect("a gateway");
    let callee = Run::new("uas_answer").with("RING_MS", 200);
    let callee = scene.callee("1002", callee).expect("a callee");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 2_000), "1001", "1002");
    let (caller, _) = scene.call(caller, callee, LIMIT).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected { ring_ms: Some(200), ..Expected::ANSWERED });

    let accepted = |kind: &str| -> Option<Delivery> {
        let heard = receiver.heard().expect("its ledger");
        heard.into_iter().find(|one| one.kind == kind && one.is_accepted())
    };
    let told = wait::until("the call record", LIMIT, || accepted("cdr"));
    let told = told.unwrap_or_else(|error| panic!("{error}\n{}", scene.gateway.log_tail()));
    let session = record["sessionId"].as_str().expect("it has one");
    assert_eq!((told.path.as_str(), told.call.as_deref()), ("/cdr", Some(session)));
    assert_eq!(told.id, format!("cdr_{session}"));
    assert_eq!(told.files, ["media_audio-0", "media_audio-1"]);
    // Two seconds of 8 kHz and 16 bits on either side.
    assert!(told.bytes > 2 * 30_000, "{} bytes", told.bytes);
    let registered = wait::until("the registration", LIMIT, || accepted("registered"));
    let registered = registered.expect("it is told");
    assert_eq!(registered.path, "/locator");
    assert!(registered.aor.expect("it has one").starts_with("sip:1002@"));

    let heard = receiver.heard().expect("its ledger");
    let ids: BTreeSet<_> =
        heard.iter().filter(|one| one.kind == "cdr").map(|one| &one.id).collect();
    assert_eq!(ids.len(), 1, "one call record, one id: {heard:?}");
    let taken = heard.iter().filter(|one| one.kind == "cdr" && one.is_accepted());
    assert_eq!(taken.count(), 1, "delivered once when nothing breaks: {heard:?}");
    let shown = scene.gateway.json("/api/v1/webhooks/callrecord").expect("it is shown");
    assert_eq!(shown["since_start"]["delivered"], 1, "{shown}");
}
