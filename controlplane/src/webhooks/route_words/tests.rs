//! The words of the router, field by field.
//! Owns:  samples of the guide and of what goes wrong.
//! Gives: one test per rule.
//! Never: a socket or a clock.
//! Holds: no answer makes it panic.

use shared::cdr::Direction;
use shared::ids::CallId;

use super::*;

fn read(text: &str) -> (Reply, Vec<String>) {
    read_reply(text.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {text}"))
}

fn wanted(text: &str) -> (Wanted, Vec<String>) {
    match read(text) {
        (Reply::Forward(wanted), notes) => (wanted, notes),
        other => panic!("{other:?}"),
    }
}

fn reject(text: &str) -> (Reject, Vec<String>) {
    match read(text) {
        (Reply::Reject(reject), notes) => (reject, notes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_request_has_the_fields_of_the_contract_and_no_others() {
    let ask = RouteAsk {
        call: CallId(7),
        call_id: "ab39-551-229".to_owned(),
        from: "<sip:1001@pbx.com>;tag=1".to_owned(),
        to: "<sip:200@pbx.com>".to_owned(),
        caller: "1001".to_owned(),
        callee: "200".to_owned(),
        uri: "sip:200@pbx.com".to_owned(),
        source: "1.2.3.4:5060".parse().expect("an address"),
        direction: Direction::Inbound,
        headers: vec![
            ("User-Agent".to_owned(), "Yealink T54W".to_owned()),
            ("X-Client-ID".to_owned(), "998877".to_owned()),
            ("X-Client-ID".to_owned(), "2".to_owned()),
        ],
        body: "v=0\r\n".to_owned(),
    };
    assert_eq!(
        request(&ask),
        json!({
            "call_id": "ab39-551-229",
            "from": "<sip:1001@pbx.com>;tag=1",
            "to": "<sip:200@pbx.com>",
            "caller": "1001",
            "callee": "200",
            "source_addr": "1.2.3.4:5060",
            "direction": "inbound",
            "method": "INVITE",
            "uri": "sip:200@pbx.com",
            "headers": { "User-Agent": "Yealink T54W", "X-Client-ID": "998877, 2" },
            "body": "v=0\r\n",
        })
    );
}

/// The sample of the guide with the two lines that its print lost.
#[test]
fn the_answer_of_the_guide_is_understood() {
    let (wanted, notes) = wanted(
        r#"{ "action": "forward",
             "targets": ["sip:1001@192.168.1.50:5060", "sip:1002@192.168.1.51:5060"],
             "timeout": 30, "media_proxy": "auto",
             "headers": { "X-Call-Reason": "support-ticket-123" } }"#,
    );
    assert_eq!(notes, [""; 0]);
    assert_eq!(wanted.targets, ["sip:1001@192.168.1.50:5060", "sip:1002@192.168.1.51:5060"]);
    assert_eq!(wanted.strategy, Strategy::Sequential);
    assert_eq!(wanted.ring_timeout, Some(Duration::from_secs(30)));
    let header = ExtraHeader::new("X-Call-Reason", "support-ticket-123").expect("an ordinary one");
    assert_eq!(wanted.orders, Orders { headers: vec![header], ..Orders::default() });
}

#[test]
fn every_field_of_a_forward_is_followed() {
    let (wanted, notes) = wanted(
        r#"{ "targets": ["\"Bot\" <sip:bot@internal;transport=tcp>"], "strategy": "parallel",
             "max_ring_time": 12.2, "max_duration": "90", "media_proxy": "always",
             "with_original_headers": true, "record": true, "record_start_at": "media",
             "rtp_timeout": 0, "allow_codecs": ["PCMA", "opus"],
             "extensions": { "tenant": "acme", "level": 3 }, "something_else": [] }"#,
    );
    assert_eq!(notes, [""; 0]);
    assert_eq!(wanted.targets, ["sip:bot@internal;transport=tcp"]);
    assert_eq!(wanted.strategy, Strategy::Parallel);
    assert_eq!(wanted.ring_timeout, Some(Duration::from_secs(13)));
    let mut extensions = wanted.orders.extensions.clone();
    extensions.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(extensions, [pair("level", "3"), pair("tenant", "acme")]);
    let expected = Orders {
        headers: Vec::new(),
        with_original_headers: Some(true),
        allow_codecs: vec!["PCMA".into(), "opus".into()],
        max_duration: Some(Duration::from_secs(90)),
        record: Some(Record::FromMedia),
        rtp_timeout: Some(Duration::ZERO),
        media_proxy: MediaProxy::Always,
        extensions: wanted.orders.extensions.clone(),
    };
    assert_eq!(wanted.orders, expected);
}

#[test]
fn the_words_for_media_and_recording_are_those_of_both_generations() {
    for (word, meant) in [
        ("auto", MediaProxy::Auto),
        ("always", MediaProxy::Always),
        ("ALL", MediaProxy::Always),
        ("none", MediaProxy::Never),
        ("nat", MediaProxy::Nat),
        ("bypass", MediaProxy::Bypass),
    ] {
        let (wanted, notes) =
            wanted(&format!(r#"{{"targets":["sip:a@b"],"media_proxy":"{word}"}}"#));
        assert_eq!((wanted.orders.media_proxy, notes.len()), (meant, 0), "{word}");
    }
    for (fields, meant) in [
        ("", None),
        (r#","record":true"#, Some(Record::FromAnswer)),
        (r#","record":true,"record_start_at":"answer""#, Some(Record::FromAnswer)),
        (r#","record":false,"record_start_at":"media""#, Some(Record::Never)),
        (r#","record_start_at":"media""#, Some(Record::FromMedia)),
    ] {
        let (wanted, _) = wanted(&format!(r#"{{"targets":["sip:a@b"]{fields}}}"#));
        assert_eq!(wanted.orders.record, meant, "{fields}");
    }
}

#[test]
fn what_cannot_be_followed_is_left_out_with_a_note() {
    let (wanted, notes) = wanted(
        r#"{ "action": "forward", "targets": ["1002", 7, "sip:a@b\r\nVia: x", "sip:", "sip:ok@b",
             "sip:a@b?Route=x"],
             "strategy": "random", "timeout": -1, "max_duration": "soon", "media_proxy": "maybe",
             "headers": { "Via": "x", "X-Fine": true, "X-Odd": "a\r\nb", "X-List": [1] },
             "record": "yes", "allow_codecs": ["PCMA", "a b"], "extensions": [] }"#,
    );
    assert_eq!(wanted.targets, ["sip:ok@b"]);
    assert_eq!((wanted.strategy, wanted.ring_timeout), (Strategy::Sequential, None));
    let header = ExtraHeader::new("X-Fine", "true").expect("an ordinary one");
    let orders =
        Orders { headers: vec![header], allow_codecs: vec!["PCMA".into()], ..Orders::default() };
    assert_eq!(wanted.orders, orders);
    assert_eq!(notes.len(), 15, "{notes:#?}");
    assert!(notes.iter().any(|note| note.contains("\"Via\"") && note.contains("itself")));
}

#[test]
fn rejections_have_a_status_and_a_reason_that_a_caller_may_hear() {
    let plain = Reject { status: 403, reason: String::new(), retry_after_s: None, spam: false };
    assert_eq!(reject(r#"{"action":"reject"}"#), (plain.clone(), Vec::new()));
    let (found, _) = reject(r#"{"action":"Abort","status":486,"reason":"Busy\r\nVia: x"}"#);
    assert_eq!((found.status, found.reason.as_str()), (486, "BusyVia: x"));
    let (found, _) = reject(r#"{"action":"spam","status":486}"#);
    assert_eq!((found.status, found.spam), (403, true));
    for status in ["200", "401", "407", "700", "-1", "\"486\"", "1e9"] {
        let (found, notes) = reject(&format!(r#"{{"action":"reject","status":{status}}}"#));
        assert_eq!((found.status, notes.len()), (403, 1), "{status}");
    }
    let long = "x".repeat(10_000);
    let (found, _) = reject(&format!(r#"{{"action":"reject","reason":"{long}"}}"#));
    assert_eq!(found.reason.len(), REASON_CHARS_MAX);
}

#[test]
fn not_handled_needs_nothing_else() {
    assert_eq!(read(r#"{"action":"not_handled","targets":["sip:a@b"]}"#).0, Reply::NotHandled);
}

#[test]
fn nonsense_is_no_decision() {
    for text in [
        "",
        "<html>",
        "null",
        "[]",
        "{}",
        "{\"targets\":null}",
        r#"{"action":"dance"}"#,
        r#"{"action":7}"#,
        r#"{"action":"forward"}"#,
        r#"{"action":"forward","targets":[]}"#,
        r#"{"targets":{"a":1}}"#,
        r#"{"targets":["mailto:a@b"]}"#,
    ] {
        assert!(read_reply(text.as_bytes()).is_err(), "{text}");
    }
    assert!(read_reply(&[0xff, 0xfe]).is_err());
}

#[test]
fn an_answer_that_asks_for_everything_stays_within_bounds() {
    let targets: Vec<String> = (0..1_000).map(|number| format!("sip:{number}@b")).collect();
    let many: Map<String, Value> =
        (0..1_000).map(|number| (format!("X-{number}"), json!("v"))).collect();
    let body = json!({ "targets": targets, "headers": many, "extensions": many,
                       "timeout": 1e300, "allow_codecs": vec!["a"; 1_000] });
    let (wanted, notes) = wanted(&body.to_string());
    assert_eq!(wanted.targets.len(), TARGETS_PER_CALL_MAX);
    assert_eq!(wanted.orders.headers.len(), EXTRA_HEADERS_MAX);
    assert_eq!(wanted.orders.extensions.len(), EXTENSIONS_MAX);
    assert_eq!(wanted.orders.allow_codecs.len(), CODECS_MAX);
    assert_eq!(wanted.ring_timeout, Some(Duration::from_secs(RING_S_MAX)));
    assert!(notes.len() <= NOTES_MAX, "{}", notes.len());
}
