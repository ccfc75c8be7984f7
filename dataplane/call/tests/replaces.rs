//! INVITE with Replaces: Cleo takes a place in the call of Ann and Ben, or picks up what rings (RFC 3891).
//! Owns:  who may, what everybody hears, and what becomes of a place that cannot be taken.
//! Gives: one test per rule and per race.
//! Never: real time.
//! Holds: after each test nothing is left in the core, and there is one CDR.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::ask::MediaProxy;
use shared::cdr::{Cdr, HangupReason, LegEventType};
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::settings::{MediaSettings, ShardSettings};
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_ben, header, sdp, settings, tag,
};

const CLEO: &str = "10.0.0.13:5060";
const URI: &str = "sip:1002@pbx.test";

fn with(request: &str, line: &str) -> String {
    request.replacen("Content-Length", &format!("{line}\r\nContent-Length"), 1)
}

/// A request of Cleo's in the dialog that her INVITE makes.
fn of_cleo(method: &str, cseq: u32, to_tag: &str, body: &str) -> String {
    let text = from_ann(method, URI, cseq, &format!("c{method}{cseq}"), to_tag, body);
    let text = text.replace("\"Ann\" <sip:1001@pbx.test>;tag=ann", "<sip:1003@pbx.test>;tag=cleo");
    text.replace(ANN, CLEO).replace("sip:1001@", "sip:1003@").replace("call-ann", "call-cleo")
}

/// Ann and Ben talk. The INVITE that Ben saw, and our tag towards Ann.
fn talking() -> (Bench, String, String) {
    let mut bench = Bench::new(settings());
    let (invite, ours) = established(&mut bench);
    (bench, invite, ours)
}

/// Cleo's INVITE with credentials; what she heard after the challenge.
fn take(bench: &mut Bench, cseq: u32, lines: &str, body: &str) -> Vec<String> {
    let plain = with(&of_cleo("INVITE", cseq, "", body), lines);
    bench.say(CLEO, &plain);
    let challenge = bench.only(CLEO, "SIP/2.0 407");
    let ack = of_cleo("ACK", cseq, &tag(&header(&challenge, "To")), "");
    bench.say(CLEO, &ack.replace("cACK", "cINVITE"));
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let credentials = sip::auth::answer(&parsed, "1003", "secret-1003", "INVITE", URI, 1, "abc");
    let next = with(&of_cleo("INVITE", cseq + 1, "", body), lines);
    bench.say(CLEO, &with(&next, &format!("Proxy-Authorization: {credentials}")));
    bench.heard(CLEO)
}

fn replaces_ann(ours: &str) -> String {
    format!("Require: replaces\r\nReplaces: call-ann;to-tag={ours};from-tag=ann")
}

fn remotes(bench: &Bench) -> [Option<String>; 2] {
    let mut remotes = [None, None];
    for edit in &bench.edits {
        if let RelayEdit::Remote { side, remote, .. } = edit {
            remotes[side.index()] = Some(remote.rtp.to_string());
        }
    }
    remotes
}

fn bye_to(bench: &mut Bench, peer: &str) {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
}

fn only_cdr(mut bench: Bench) -> Cdr {
    bench.assert_quiet();
    assert_eq!(bench.cdrs.len(), 1, "{:#?}", bench.cdrs);
    bench.cdrs.pop().expect("one")
}

/// Ann and Ben hang up: their call is as it was.
fn still_stands(mut bench: Bench, ours: &str) -> Cdr {
    bench.say(ANN, &from_ann("BYE", URI, 50, "a50", ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    bye_to(&mut bench, BEN);
    only_cdr(bench)
}

#[test]
fn a_new_leg_takes_the_place_and_the_old_one_gets_bye() {
    let (mut bench, invite, ours) = talking();
    let heard = take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
    assert!(heard.len() == 1 && heard[0].starts_with("SIP/2.0 100"), "{heard:#?}");
    assert!(bench.heard(ANN).is_empty(), "not before Ben agrees");
    let change = bench.only(BEN, "INVITE");
    assert_eq!(header(&change, "Call-ID"), header(&invite, "Call-ID"));
    bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ok = bench.only(CLEO, "SIP/2.0 200");
    assert!(ok.contains("Supported: replaces\r\n") && ok.contains("m=audio"), "{ok}");
    bench.say(CLEO, &of_cleo("ACK", 2, &tag(&header(&ok, "To")), ""));
    bye_to(&mut bench, ANN);
    assert_eq!(remotes(&bench), ["10.0.0.13:6000", "10.0.0.12:5000"].map(|at| Some(at.to_owned())));
    bench.pass(Duration::from_secs(40));
    bench.say(CLEO, &of_cleo("BYE", 3, &tag(&header(&ok, "To")), ""));
    bench.only(CLEO, "SIP/2.0 200");
    bye_to(&mut bench, BEN);
    assert_eq!(bench.core.counters().of(Counter::LegsReplaced), 1);
    let cdr = only_cdr(bench);
    assert_eq!((cdr.hangup_reason, cdr.sip_leg_roles.len()), (HangupReason::ByCaller, 3));
    let kinds: Vec<_> = cdr.leg_timeline.events.iter().map(|event| event.event_type).collect();
    assert_eq!(
        kinds,
        [LegEventType::Transferred, LegEventType::TransferAccepted, LegEventType::Removed]
    );
}

#[test]
fn the_called_side_can_be_taken_as_well() {
    let (mut bench, invite, ours) = talking();
    let (call_id, from) = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let line = format!("Replaces: {call_id};from-tag=ben;to-tag={from}");
    take(&mut bench, 1, &line, &sdp("10.0.0.13", 6000));
    let change = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
    let ok = bench.only(CLEO, "SIP/2.0 200");
    bench.say(CLEO, &of_cleo("ACK", 2, &tag(&header(&ok, "To")), ""));
    bye_to(&mut bench, BEN);
    bench.say(ANN, &from_ann("BYE", URI, 9, "a9", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    bye_to(&mut bench, CLEO);
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCaller);
}

#[test]
fn a_place_that_is_not_there_is_refused_and_the_call_goes_on() {
    let (mut bench, invite, ours) = talking();
    let ben = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let cases = [
        (format!("Replaces: call-none;to-tag={ours};from-tag=ann"), "481"),
        (format!("Replaces: call-ann;to-tag={ours};from-tag=bob"), "481"),
        (format!("Replaces: call-ann;to-tag=ann;from-tag={ours}"), "481"),
        (format!("Replaces: {};to-tag={ours};from-tag=ann", ben.0), "481"),
        (format!("Replaces: call-ann;to-tag={ours};from-tag=ann;early-only"), "486"),
        (format!("Replaces: call-ann;to-tag={ours}"), "400"),
        (format!("{0}\r\n{0}", format!("Replaces: call-ann;to-tag={ours};from-tag=ann")), "400"),
    ];
    for (number, (line, status)) in (0..).zip(cases) {
        let heard = take(&mut bench, 10 * number + 1, &line, &sdp("10.0.0.13", 6000));
        assert!(heard[0].starts_with(&format!("SIP/2.0 {status}")), "{line}: {heard:#?}");
        let failed = tag(&header(&heard[0], "To"));
        let ack = of_cleo("ACK", 10 * number + 2, &failed, "").replace("cACK", "cINVITE");
        bench.say(CLEO, &ack);
        assert!(bench.heard(ANN).is_empty() && bench.heard(BEN).is_empty());
    }
    // Without an offer nobody could say what Ben has to agree to.
    let heard = take(&mut bench, 90, &replaces_ann(&ours), "");
    assert!(heard[0].starts_with("SIP/2.0 488"), "{heard:#?}");
    still_stands(bench, &ours);
}

#[test]
fn nobody_takes_a_place_without_credentials_and_no_trunk_a_users() {
    let (mut bench, _, ours) = talking();
    let invite = with(&of_cleo("INVITE", 1, "", &sdp("10.0.0.13", 6000)), &replaces_ann(&ours));
    bench.say(CLEO, &invite);
    bench.only(CLEO, "SIP/2.0 407");
    bench.say(CARRIER, &invite.replace(CLEO, CARRIER).replace("1003@pbx.test", "+49@carrier.test"));
    bench.only(CARRIER, "SIP/2.0 403");
    assert_eq!(bench.core.counters().of(Counter::ReplacesRefused), 1);
    still_stands(bench, &ours);
}

/// RFC 3891 3: a dialog that has ended is declined.
#[test]
fn a_call_that_has_just_ended_is_declined() {
    let (mut bench, _, ours) = talking();
    // Ben still owes an answer when Ann hangs up: the call is known until he gives it.
    bench.say(ANN, &from_ann("INVITE", URI, 2, "a2", &ours, &sdp("10.0.0.11", 4444)));
    let change = bench.only(BEN, "INVITE");
    bench.say(ANN, &from_ann("BYE", URI, 9, "a9", &ours, ""));
    bench.heard(ANN);
    let heard = take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
    assert!(heard[0].starts_with("SIP/2.0 603"), "{heard:#?}");
    bye_to(&mut bench, BEN);
    bench.say(BEN, &answer(&change, "487 Request Terminated", "", "", ""));
    only_cdr(bench);
}

#[test]
fn a_peer_that_does_not_agree_keeps_whom_it_has() {
    for (said, told) in [("488 No", "488"), ("503 Full", "500"), ("403 No", "403")] {
        let (mut bench, _, ours) = talking();
        take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
        let change = bench.only(BEN, "INVITE");
        bench.say(BEN, &answer(&change, said, "", "", ""));
        bench.only(BEN, "ACK");
        bench.only(CLEO, &format!("SIP/2.0 {told}"));
        assert!(bench.heard(ANN).is_empty());
        let cdr = still_stands(bench, &ours);
        assert_eq!(cdr.leg_timeline.events[1].event_type, LegEventType::TransferFailed);
    }
}

#[test]
fn who_comes_may_cancel_and_the_others_talk_on() {
    for agrees in [true, false] {
        let (mut bench, _, ours) = talking();
        take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
        let change = bench.only(BEN, "INVITE");
        let cancel = of_cleo("CANCEL", 2, "", "").replace("cCANCEL2", "cINVITE2");
        bench.say(CLEO, &cancel);
        let heard = bench.heard(CLEO);
        assert!(heard[0].starts_with("SIP/2.0 200") && heard[1].starts_with("SIP/2.0 487"));
        if agrees {
            bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
            let heard = bench.heard(BEN);
            assert!(heard[0].starts_with("ACK") && heard[1].starts_with("INVITE"), "{heard:#?}");
            bench.say(BEN, &answer(&heard[1], "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
            bench.only(BEN, "ACK");
        } else {
            bench.say(BEN, &answer(&change, "488 No", "", "", ""));
            bench.only(BEN, "ACK");
        }
        assert_eq!(remotes(&bench)[0].as_deref(), Some("10.0.0.11:4000"));
        still_stands(bench, &ours);
    }
}

#[test]
fn who_stays_may_hang_up_meanwhile() {
    let (mut bench, invite, ours) = talking();
    take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
    let change = bench.only(BEN, "INVITE");
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    bench.only(CLEO, "SIP/2.0 481");
    bye_to(&mut bench, ANN);
    bench.say(BEN, &answer(&change, "487 Request Terminated", "", "", ""));
    bench.only(BEN, "ACK");
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCallee);
}

#[test]
fn who_goes_may_hang_up_meanwhile() {
    for agrees in [true, false] {
        let (mut bench, _, ours) = talking();
        take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
        let change = bench.only(BEN, "INVITE");
        bench.say(ANN, &from_ann("BYE", URI, 9, "a9", &ours, ""));
        bench.only(ANN, "SIP/2.0 200");
        assert!(bench.heard(BEN).is_empty(), "Cleo is on her way");
        if agrees {
            bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
            bench.only(BEN, "ACK");
            let ok = bench.only(CLEO, "SIP/2.0 200");
            bench.say(CLEO, &of_cleo("ACK", 2, &tag(&header(&ok, "To")), ""));
            bench.say(CLEO, &of_cleo("BYE", 3, &tag(&header(&ok, "To")), ""));
            bench.only(CLEO, "SIP/2.0 200");
            bye_to(&mut bench, BEN);
        } else {
            bench.say(BEN, &answer(&change, "488 No", "", "", ""));
            bench.only(CLEO, "SIP/2.0 488");
            let heard = bench.heard(BEN);
            assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
            bench.say(BEN, &answer(&heard[1], "200 OK", "", "", ""));
        }
        only_cdr(bench);
    }
}

/// Ben's phone rings, Cleo picks up.
#[test]
fn a_call_that_rings_is_picked_up() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    let wide = sdp("10.0.0.11", 4000).replace("RTP/AVP 0 8", "RTP/AVP 8 0 9");
    bench.say(ANN, &from_ann("INVITE", URI, 1, "a1", "", &wide));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    let (call_id, from) = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let line = format!("Replaces: {call_id};from-tag=ben;to-tag={from};early-only");
    let heard = take(&mut bench, 1, &line, &sdp("10.0.0.13", 6000));
    let formats = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("m=")).expect("a line").to_owned();
        line.split("AVP ").nth(1).map(str::to_owned)
    };
    let ok = heard.last().expect("an answer").clone();
    assert!(ok.starts_with("SIP/2.0 200"), "{heard:#?}");
    assert_eq!(formats(&ok).as_deref(), Some("8 0"), "{ok}");
    let to_ann = bench.only(ANN, "SIP/2.0 200");
    assert_eq!(formats(&to_ann).as_deref(), Some("0 8"), "{to_ann}");
    let ours = tag(&header(&to_ann, "To"));
    bench.say(ANN, &from_ann("ACK", URI, 1, "a1ack", &ours, ""));
    bench.say(CLEO, &of_cleo("ACK", 2, &tag(&header(&ok, "To")), ""));
    let cancel = bench.only(BEN, "CANCEL");
    assert!(header(&cancel, "Reason").contains("cause=200"), "{cancel}");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "487 Request Terminated", "ben", "", ""));
    bench.only(BEN, "ACK");
    assert_eq!(remotes(&bench), ["10.0.0.11:4000", "10.0.0.13:6000"].map(|at| Some(at.to_owned())));
    bench.pass(Duration::from_secs(5));
    bench.say(CLEO, &of_cleo("BYE", 3, &tag(&header(&ok, "To")), ""));
    bench.only(CLEO, "SIP/2.0 200");
    bye_to(&mut bench, ANN);
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (200, HangupReason::ByCallee));
    assert_eq!(cdr.duration_ms, 5_000);
}

/// RFC 3891 3: the place of who called us is not ours to give while it waits, and two offers without a
/// codec in common do not meet.
#[test]
fn what_rings_and_cannot_be_picked_up_rings_on() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", URI, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 180"), "To"));
    let heard = take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
    assert!(heard[0].starts_with("SIP/2.0 481"), "{heard:#?}");
    let (call_id, from) = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let line = format!("Replaces: {call_id};from-tag=ben;to-tag={from}");
    let other = sdp("10.0.0.13", 6000).replace("RTP/AVP 0 8", "RTP/AVP 18");
    let other = other.replace("a=rtpmap:0 PCMU/8000\r\n", "");
    let heard = take(&mut bench, 11, &line, &other);
    assert!(heard[0].starts_with("SIP/2.0 488"), "{heard:#?}");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    bench.only(ANN, "SIP/2.0 200");
    bench.say(ANN, &from_ann("ACK", URI, 1, "a1ack", &ours, ""));
    still_stands(bench, &ours);
}

/// The place that it wants is on another shard than its Call-ID would lead to.
#[test]
fn an_invite_goes_to_the_shard_of_the_place_that_it_wants() {
    for shard in [0, 2, 3] {
        let settings = ShardSettings { shard: ShardId(1), shards: 4, ..settings() };
        let mut bench = Bench::new(settings);
        let place = format!("rg0{shard}0000000000000000010000000000000000");
        let line = format!("Replaces: call-ann;to-tag={place};from-tag=ann");
        bench.say(CLEO, &with(&of_cleo("INVITE", 1, "", &sdp("10.0.0.13", 6000)), &line));
        let moved: Vec<_> = bench.mesh.iter().map(|(to, _)| *to).collect();
        assert_eq!(moved, [ShardId(shard)]);
    }
}

/// Who wants a place has none before its 200: nothing is said to it meanwhile.
#[test]
fn nothing_is_passed_on_to_who_is_about_to_come() {
    let (mut bench, invite, ours) = talking();
    let heard = take(&mut bench, 1, &replaces_ann(&ours), &sdp("10.0.0.13", 6000));
    assert!(heard.iter().all(|text| text.starts_with("SIP/2.0 100")), "{heard:#?}");
    let change = bench.only(BEN, "INVITE");
    bench.say(ANN, &from_ann("BYE", URI, 2, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.say(BEN, &from_ben("INFO", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 480");
    assert_eq!(bench.heard(CLEO), [""; 0]);
    bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ok = bench.only(CLEO, "SIP/2.0 200");
    let to_cleo = tag(&header(&ok, "To"));
    bench.say(CLEO, &of_cleo("ACK", 2, &to_cleo, ""));
    bench.say(BEN, &from_ben("INFO", &invite, 2, "b2", ""));
    let info = bench.only(CLEO, "INFO");
    bench.say(CLEO, &answer(&info, "200 OK", "", "", ""));
    bench.only(BEN, "SIP/2.0 200");
    bench.say(CLEO, &of_cleo("BYE", 3, &to_cleo, ""));
    bench.only(CLEO, "SIP/2.0 200");
    bye_to(&mut bench, BEN);
    only_cdr(bench);
}

/// Without a relay between them the caller has to be told that early media is not who picked up.
#[test]
fn a_caller_who_heard_early_media_past_us_is_told_who_picked_up() {
    let plain = settings();
    let media = MediaSettings { proxy: MediaProxy::Never, ..plain.media };
    let mut bench = Bench::new(ShardSettings { media, ..plain });
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", URI, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    let early = answer(&invite, "183 Session Progress", "ben", BEN, &sdp("10.0.0.12", 5000));
    bench.say(BEN, &early);
    assert!(bench.only(ANN, "SIP/2.0 183").contains("m=audio 5000"));
    let (call_id, from) = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let line = format!("Replaces: {call_id};from-tag=ben;to-tag={from};early-only");
    let heard = take(&mut bench, 1, &line, &sdp("10.0.0.13", 6000));
    let ok = heard.last().expect("an answer").clone();
    assert!(ok.starts_with("SIP/2.0 200") && ok.contains("m=audio 4000"), "{heard:#?}");
    let to_ann = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&to_ann, "To"));
    bench.say(ANN, &from_ann("ACK", URI, 1, "a1ack", &ours, ""));
    bench.say(CLEO, &of_cleo("ACK", 2, &tag(&header(&ok, "To")), ""));
    let cancel = bench.only(BEN, "CANCEL");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "487 Request Terminated", "ben", "", ""));
    bench.only(BEN, "ACK");
    bench.pass(Duration::from_millis(600));
    let again = bench.only(ANN, "INVITE");
    assert!(again.contains("m=audio 6000") && again.contains("10.0.0.13"), "{again}");
    bench.say(ANN, &answer(&again, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
    bench.say(CLEO, &of_cleo("BYE", 3, &tag(&header(&ok, "To")), ""));
    bench.only(CLEO, "SIP/2.0 200");
    bye_to(&mut bench, ANN);
    only_cdr(bench);
}
