//! Who is told who calls (RFC 3323, RFC 3325): users, trusted trunks, and everybody else.
//! Owns:  P-Asserted-Identity, P-Preferred-Identity, Privacy, Remote-Party-ID, and what From says.
//! Gives: one test per rule; the lines of the INVITE are compared, not only looked for.
//! Never: real time.
//! Holds: nobody but a trusted trunk ever sees an assertion, or a caller who asked for privacy.

mod world;

use shared::trunk_options::TrunkOptions;
use world::trunks::{
    OTHER, ann_calls, ann_calls_as, answered_and_over, bench, busy, lines_of, trunk_calls, trusted,
};
use world::{ANN, BEN, Bench, CARRIER, answer, header};

const OWN: &str = "\"Ann A Lee\" <sip:1001@pbx.test>";
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
/// What nobody believes a phone.
const CLAIMS: &str = "P-Asserted-Identity: \"Boss\" <sip:boss@pbx.test>\r\n\
    P-Preferred-Identity: <sip:boss@pbx.test>\r\n\
    Remote-Party-ID: <sip:boss@pbx.test>;party=calling;screen=yes\r\n";

fn untrusted() -> TrunkOptions {
    TrunkOptions::default()
}

fn legacy() -> TrunkOptions {
    TrunkOptions { remote_party_id: true, ..trusted() }
}

const NAMES: [&str; 4] =
    ["P-Asserted-Identity", "P-Preferred-Identity", "Privacy", "Remote-Party-ID"];

/// PAI, PPI, Privacy and Remote-Party-ID of a message, one line after the other.
fn told(text: &str) -> Vec<String> {
    let of = |name: &&str| lines_of(text, name);
    NAMES.iter().flat_map(of).collect()
}

fn from(text: &str) -> String {
    header(text, "From").split(";tag=").next().expect("a value").to_owned()
}

fn assert_nothing_of(text: &str, words: &[&str]) {
    for word in words {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_trusted_trunk_is_told_the_user_whose_password_was_right() {
    let mut bench = bench(trusted(), untrusted());
    ann_calls(&mut bench, "155555", CLAIMS);
    let invite = bench.only(CARRIER, "INVITE");
    assert_nothing_of(&invite, &["boss", "Remote-Party-ID", "P-Preferred"]);
    // The rule puts the trunk's host into From, and so into what is asserted.
    assert_eq!(told(&invite), ["\"Ann A Lee\" <sip:1001@carrier.test>"]);
    answered_and_over(&mut bench, ANN, CARRIER, &invite);
}

/// An address at a trunk's host needs no rule, and From goes on as it is. The host that the phone wrote
/// there is not believed.
#[test]
fn what_is_asserted_is_at_our_domain() {
    let mut bench = bench(trusted(), untrusted());
    ann_dials_host(&mut bench);
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(told(&invite), [OWN]);
    assert_eq!(from(&invite), "\"Ann\" <sip:1001@elsewhere.test>");
    busy(&mut bench, ANN, CARRIER, &invite);
}

fn ann_dials_host(bench: &mut Bench) {
    use world::{from_ann, sdp, tag};
    let uri = "sip:77@carrier.test";
    let invite = |cseq, branch, lines: &str| {
        let text = from_ann("INVITE", uri, cseq, branch, "", &sdp("10.0.0.11", 4000));
        let text = text.replace("<sip:1001@pbx.test>", "<sip:1001@elsewhere.test>");
        world::trunks::adding(&text, lines)
    };
    bench.say(ANN, &invite(1, "h1", ""));
    let heard = bench.only(ANN, "SIP/2.0 407");
    bench.say(ANN, &from_ann("ACK", uri, 1, "h1", &tag(&header(&heard, "To")), ""));
    let line = header(&heard, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", uri, 1, "abc");
    bench.say(ANN, &invite(2, "h2", &format!("Proxy-Authorization: {own}\r\n")));
    bench.only(ANN, "SIP/2.0 100");
}

#[test]
fn an_untrusted_trunk_and_a_phone_are_told_nothing_but_from() {
    let mut bench = bench(trusted(), untrusted());
    ann_calls(&mut bench, "255555", CLAIMS);
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!((told(&invite), from(&invite)), (vec![], "\"Ann\" <sip:1001@other.test>".into()));
    busy(&mut bench, ANN, OTHER, &invite);
    let mut bench = self::bench(trusted(), trusted());
    ann_calls(&mut bench, "1002", CLAIMS);
    let invite = bench.only(BEN, "INVITE");
    assert_eq!((told(&invite), from(&invite)), (vec![], "\"Ann\" <sip:1001@pbx.test>".into()));
    busy(&mut bench, ANN, BEN, &invite);
}

/// RFC 3325 7: a trusted hop gets the identity with the wish, and keeps it to itself.
#[test]
fn privacy_goes_with_the_identity_to_a_trusted_trunk() {
    let mut bench = bench(trusted(), untrusted());
    ann_calls(&mut bench, "155555", "Privacy: id;critical\r\n");
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(told(&invite), ["\"Ann A Lee\" <sip:1001@carrier.test>", "id;critical"]);
    // It passes From on as it gets it, so the number stands beside it only (SIPconnect, RFC 3323 4.1).
    assert_eq!(from(&invite), ANONYMOUS);
    answered_and_over(&mut bench, ANN, CARRIER, &invite);
}

/// A From that names nobody: the password says who calls, to the rules, the caps and the record.
#[test]
fn who_calls_as_nobody_is_whoever_the_password_says() {
    let veils = [
        "\"A\" <sip:anonymous@anonymous.invalid>",
        "<sip:Anonymous@pbx.test>",
        "<sip:anonymous.invalid>",
    ];
    let preferred = ["", "P-Preferred-Identity: <sip:1001@pbx.test>\r\n", CLAIMS];
    for (veil, lines) in veils.into_iter().flat_map(|veil| preferred.map(|lines| (veil, lines))) {
        let veiled = |text: String| text.replace("\"Ann\" <sip:1001@pbx.test>", veil);
        let mut bench = bench(trusted(), untrusted());
        ann_calls_as(&mut bench, "155555", lines, veiled);
        let invite = bench.only(CARRIER, "INVITE");
        // Asked for by From alone: the trunk is told the wish, too.
        assert_eq!(told(&invite), ["\"Ann A Lee\" <sip:1001@carrier.test>", "id"]);
        assert_eq!(from(&invite), ANONYMOUS);
        assert_nothing_of(&invite, &["boss"]);
        answered_and_over(&mut bench, ANN, CARRIER, &invite);
        let record = bench.cdrs.pop().expect("a record");
        assert_eq!((&*record.caller, &*record.caller_uri), ("1001", "sip:1001@pbx.test"));
        for (number, at) in [("255555", OTHER), ("1002", BEN)] {
            let mut bench = self::bench(trusted(), untrusted());
            ann_calls_as(&mut bench, number, lines, veiled);
            let invite = bench.only(at, "INVITE");
            assert_eq!((told(&invite), from(&invite)), (vec![], ANONYMOUS.into()));
            assert_nothing_of(&invite, &["1001", "Ann", "boss"]);
            busy(&mut bench, ANN, at, &invite);
        }
    }
}

/// Words that hide something else do not leave open what stands beside From.
#[test]
fn who_calls_as_nobody_stays_nobody_whatever_else_it_asks_for() {
    let veiled =
        |text: String| text.replace("\"Ann\" <sip:1001@pbx.test>", "<sip:anonymous@pbx.test>");
    let wishes = [
        ("none", "id"),
        ("session", "session;id"),
        ("header;critical", "header;critical;id"),
        ("user", "user;id"),
        ("session;ID", "session;ID"),
    ];
    for (asked, goes_on) in wishes {
        let mut bench = bench(trusted(), untrusted());
        ann_calls_as(&mut bench, "155555", &format!("Privacy: {asked}\r\n"), veiled);
        let invite = bench.only(CARRIER, "INVITE");
        assert_eq!(told(&invite), ["\"Ann A Lee\" <sip:1001@carrier.test>", goes_on]);
        busy(&mut bench, ANN, CARRIER, &invite);
    }
}

/// Help has to know whom to call back, whatever From says.
#[test]
fn who_calls_for_help_as_nobody_is_named() {
    let mut bench = bench(untrusted(), untrusted());
    let veiled =
        |text: String| text.replace("sip:1001@pbx.test", "sip:anonymous@anonymous.invalid");
    ann_calls_as(&mut bench, "112", "Privacy: id\r\n", veiled);
    let invite = bench.only(OTHER, "INVITE");
    assert!(from(&invite).starts_with("\"Ann A Lee\" <sip:1001@"), "{invite}");
    busy(&mut bench, ANN, OTHER, &invite);
}

/// Another one's name stays another one's, whatever the phone would prefer, and at nobody's host, too.
#[test]
fn a_preferred_identity_opens_no_other_name() {
    for name in ["1003@pbx.test", "1003@anonymous.invalid", "1003@Anonymous.INVALID", "pbx.test"] {
        is_not_let_call_as(name);
    }
}

fn is_not_let_call_as(name: &str) {
    let mut bench = bench(trusted(), untrusted());
    let uri = "sip:155555@pbx.test";
    let invite = |cseq, branch, lines: &str| {
        let text = world::from_ann("INVITE", uri, cseq, branch, "", "");
        let text = text.replace("<sip:1001@pbx.test>", &format!("<sip:{name}>"));
        world::trunks::adding(&text, lines)
    };
    bench.say(ANN, &invite(1, "h1", ""));
    let line = header(&bench.only(ANN, "SIP/2.0 407"), "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", uri, 1, "abc");
    let lines =
        format!("Proxy-Authorization: {own}\r\nP-Preferred-Identity: <sip:1001@pbx.test>\r\n");
    bench.say(ANN, &invite(2, "h2", &lines));
    bench.only(ANN, "SIP/2.0 403");
    assert!(bench.heard(CARRIER).is_empty());
}

/// RFC 3323 4.1: the name goes, and what would give it away.
#[test]
fn privacy_makes_the_caller_anonymous_to_everybody_else() {
    let telling = "Privacy: id\r\nOrganization: Ann and Sons\r\nSubject: of Ann\r\n\
                   Call-Info: <http://ann.test/me>\r\nPriority: urgent\r\n";
    for (number, at) in [("255555", OTHER), ("1002", BEN)] {
        let mut bench = bench(trusted(), untrusted());
        ann_calls(&mut bench, number, telling);
        let invite = bench.only(at, "INVITE");
        assert_eq!((told(&invite), from(&invite)), (vec![], ANONYMOUS.into()));
        assert_nothing_of(&invite, &["1001", "Ann", "ann.test"]);
        assert_eq!(header(&invite, "Priority"), "urgent");
        // Every request of the dialog says the same.
        bench.say(at, &answer(&invite, "200 OK", "cld", at, &world::sdp("10.0.0.12", 6000)));
        let ack = bench.only(at, "ACK");
        assert_eq!(from(&ack), ANONYMOUS);
        let ok = bench.only(ANN, "SIP/2.0 200");
        assert!(header(&ok, "From").starts_with("\"Ann\" <sip:1001@pbx.test>"), "{ok}");
        world::trunks::acknowledge(&mut bench, ANN, &ok);
        let uri = format!("sip:{number}@pbx.test");
        let ours = world::tag(&header(&ok, "To"));
        let update = world::from_ann("UPDATE", &uri, 8, "update", &ours, "");
        bench.say(ANN, &world::trunks::adding(&update, telling));
        let update = bench.only(at, "UPDATE");
        assert_nothing_of(&update, &["1001", "Ann", "ann.test"]);
        bench.say(at, &answer(&update, "200 OK", "", at, ""));
        bench.only(ANN, "SIP/2.0 200");
        bench.say(ANN, &world::from_ann("BYE", &uri, 9, "bye", &ours, ""));
        bench.only(ANN, "SIP/2.0 200");
        let bye = bench.only(at, "BYE");
        assert_eq!(from(&bye), ANONYMOUS);
        bench.say(at, &answer(&bye, "200 OK", "", "", ""));
        bench.assert_quiet();
        let cdr = bench.cdrs.pop().expect("a record");
        assert_eq!(cdr.caller, "1001", "we know who called");
    }
}

#[test]
fn who_wants_to_be_named_is_named() {
    let mut bench = bench(untrusted(), untrusted());
    ann_calls(&mut bench, "255555", "Privacy: none\r\n");
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!((told(&invite), from(&invite)), (vec![], "\"Ann\" <sip:1001@other.test>".into()));
    busy(&mut bench, ANN, OTHER, &invite);
}

/// Who answers emergencies has to know whom to call back.
#[test]
fn an_emergency_call_names_its_caller() {
    let mut bench = bench(untrusted(), untrusted());
    ann_calls(&mut bench, "112", "Privacy: id\r\n");
    let invite = bench.only(OTHER, "INVITE");
    assert!(from(&invite).contains("sip:1001@"), "{invite}");
    busy(&mut bench, ANN, OTHER, &invite);
}

#[test]
fn an_identity_crosses_between_trusted_trunks_only() {
    let said = "P-Asserted-Identity: \"Zoe\" <sip:+4989@far.test>, <tel:+4989>\r\n\
                P-Asserted-Identity: <sip:second@far.test>\r\nPrivacy: id\r\n";
    let mut both = bench(trusted(), trusted());
    trunk_calls(&mut both, CARRIER, "255555", said);
    let invite = both.only(OTHER, "INVITE");
    assert_eq!(told(&invite), ["\"Zoe\" <sip:+4989@far.test>", "<tel:+4989>", "id"]);
    busy(&mut both, CARRIER, OTHER, &invite);
    // From an untrusted one nothing is believed, and to an untrusted one nothing is said.
    let mut into = bench(untrusted(), trusted());
    trunk_calls(&mut into, CARRIER, "255555", said);
    let invite = into.only(OTHER, "INVITE");
    assert_eq!(told(&invite), ["id"]);
    assert_eq!(from(&invite), "\"Zoe\" <sip:+4989@other.test>");
    busy(&mut into, CARRIER, OTHER, &invite);
    let mut out = bench(trusted(), untrusted());
    trunk_calls(&mut out, CARRIER, "255555", said);
    let invite = out.only(OTHER, "INVITE");
    assert_eq!((told(&invite), from(&invite)), (vec![], ANONYMOUS.into()));
    assert_nothing_of(&invite, &["+4989", "far.test", "Zoe"]);
    busy(&mut out, CARRIER, OTHER, &invite);
}

#[test]
fn remote_party_id_counts_only_where_it_is_spoken() {
    let said = "Remote-Party-ID: <sip:+4977@far.test>;party=called\r\n\
                Remote-Party-ID: \"Zoe\" <sip:+4989@far.test>;party=calling;privacy=full\r\n";
    let mut on = bench(legacy(), legacy());
    trunk_calls(&mut on, CARRIER, "255555", said);
    let invite = on.only(OTHER, "INVITE");
    let party = "\"Zoe\" <sip:+4989@far.test>";
    let remote = format!("{party};party=calling;screen=yes;privacy=full");
    assert_eq!(told(&invite), [party, "id", remote.as_str()]);
    busy(&mut on, CARRIER, OTHER, &invite);
    // It hides the caller from phones.
    trunk_calls(&mut on, CARRIER, "66", said);
    let invite = on.only(BEN, "INVITE");
    assert_eq!((told(&invite), from(&invite)), (vec![], ANONYMOUS.into()));
    busy(&mut on, CARRIER, BEN, &invite);
    let mut off = bench(trusted(), trusted());
    trunk_calls(&mut off, CARRIER, "255555", said);
    let invite = off.only(OTHER, "INVITE");
    assert_eq!(told(&invite), Vec::<String>::new());
    busy(&mut off, CARRIER, OTHER, &invite);
}

/// Answers name nobody: no trunk and no phone tells the caller's side who was reached.
#[test]
fn assertions_in_answers_stay_where_they_are() {
    let mut bench = bench(trusted(), trusted());
    trunk_calls(&mut bench, CARRIER, "255555", "");
    let invite = bench.only(OTHER, "INVITE");
    let line = "P-Asserted-Identity: <sip:hidden@other.test>\r\nContact";
    let ok = answer(&invite, "200 OK", "cld", OTHER, &world::sdp("10.0.0.98", 6000));
    bench.say(OTHER, &ok.replacen("Contact", line, 1));
    bench.only(OTHER, "ACK");
    let ok = bench.only(CARRIER, "SIP/2.0 200");
    assert_eq!(told(&ok), Vec::<String>::new());
    world::trunks::acknowledge(&mut bench, CARRIER, &ok);
    bench.say(OTHER, &world::from_called(OTHER, "cld", "BYE", &invite, 7, "b7", ""));
    bench.only(OTHER, "SIP/2.0 200");
    let bye = bench.only(CARRIER, "BYE");
    bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// Without passwords nobody has shown who it is.
#[test]
fn nothing_is_asserted_of_a_caller_who_was_not_asked() {
    let snapshot = world::trunks::with_trunks(trusted(), untrusted());
    let mut bench = Bench::with(world::settings(), snapshot);
    let uri = "sip:155555@pbx.test";
    let offer = world::sdp("10.0.0.11", 4000);
    bench.say(ANN, &world::from_ann("INVITE", uri, 1, "a1", "", &offer));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(told(&invite), Vec::<String>::new());
    busy(&mut bench, ANN, CARRIER, &invite);
}
