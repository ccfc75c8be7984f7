//! SUBSCRIBE and NOTIFY: busy lamps (RFC 4235) and message waiting (RFC 3842), over RFC 6665.
//! Owns:  who may watch whom, what a watcher is told and how often, how a subscription ends.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::command::Command;
use shared::ids::{FlowKey, ShardId};
use shared::metrics::Counter;
use shared::net::{Source, Transport};
use shared::snapshot::{Snapshot, Trunk};
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_ben, header, sdp, settings, tag,
};

/// A telephone with lamps, of user 1003.
const PANEL: &str = "10.0.0.41:5060";
const BUSY: &str = "Event: dialog\r\nAccept: application/dialog-info+xml\r\n";
const MAILBOX: &str = "Event: message-summary\r\n";

/// One SUBSCRIBE; the call-id tells one subscription from another.
struct Ask<'a> {
    user: &'a str,
    target: &'a str,
    name: &'a str,
    cseq: u32,
    to_tag: &'a str,
    lines: &'a str,
}

impl Ask<'_> {
    fn text(&self, more: &str) -> String {
        let Self { user, target, name, cseq, to_tag, lines } = self;
        let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        format!(
            "SUBSCRIBE {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PANEL};branch=z9hG4bK{name}{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@pbx.test>;tag={name}\r\nTo: <{target}>{to_tag}\r\n\
             Call-ID: {name}\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{user}@{PANEL}>\r\n\
             {lines}{more}Content-Length: 0\r\n\r\n"
        )
    }

    /// Sends it with the right digest of `user`; what came back.
    fn send(&self, bench: &mut Bench) -> Vec<String> {
        bench.say(PANEL, &self.text(""));
        let challenge = bench.only(PANEL, "SIP/2.0 401");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let Self { user, target, .. } = self;
        let secret = format!("secret-{user}");
        let own = sip::auth::answer(&parsed, user, &secret, "SUBSCRIBE", target, 1, "abc");
        let again = Ask { cseq: self.cseq + 1, ..*self };
        bench.say(PANEL, &again.text(&format!("Authorization: {own}\r\n")));
        bench.heard(PANEL)
    }
}

fn ask<'a>(name: &'a str, target: &'a str, lines: &'a str) -> Ask<'a> {
    Ask { user: "1003", target, name, cseq: 1, to_tag: "", lines }
}

/// Subscribes, and takes the first NOTIFY: our tag, and what it said.
fn subscribed(bench: &mut Bench, name: &str, target: &str, lines: &str) -> (String, String) {
    let heard = ask(name, target, lines).send(bench);
    assert_eq!(heard.len(), 2, "{heard:#?}");
    assert!(heard[0].starts_with("SIP/2.0 200"), "{}", heard[0]);
    assert_eq!(header(&heard[0], "Allow-Events"), "dialog, message-summary, refer");
    let ours = tag(&header(&heard[0], "To"));
    assert!(header(&heard[1], "From").ends_with(&ours), "{}", heard[1]);
    (ours, taken(bench, &heard[1]))
}

/// A NOTIFY, answered.
fn taken(bench: &mut Bench, notify: &str) -> String {
    assert!(notify.starts_with(&format!("NOTIFY sip:1003@{PANEL}")), "{notify}");
    bench.say(PANEL, &answer(notify, "200 OK", "", "", ""));
    notify.to_owned()
}

/// Time goes on; the one NOTIFY of it, answered.
fn next(bench: &mut Bench, ms: u64) -> String {
    bench.pass(Duration::from_millis(ms));
    let notify = bench.only(PANEL, "NOTIFY");
    taken(bench, &notify)
}

fn says(notify: &str, parts: &[&str]) {
    for part in parts {
        assert!(notify.contains(part), "{part:?} is not in {notify}");
    }
}

fn assert_nothing_watched(bench: &mut Bench) {
    let census = bench.core.census();
    assert_eq!((census.subscriptions, census.watched), (0, 0), "{census:?}");
    bench.assert_quiet();
}

#[test]
fn a_lamp_follows_the_call_of_whom_it_watches() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    let (ours, first) = subscribed(&mut bench, "w", "sip:1002@pbx.test", BUSY);
    says(&first, &["version=\"0\" state=\"full\"", "entity=\"sip:1002@pbx.test\""]);
    assert_eq!(header(&first, "Subscription-State"), "active;expires=3600");
    assert_eq!(header(&first, "Content-Type"), "application/dialog-info+xml");
    assert!(!first.contains("<dialog "), "{first}");
    bench.pass(Duration::from_secs(5));
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(BEN, "INVITE");
    let notify = bench.only(PANEL, "NOTIFY");
    taken(&mut bench, &notify);
    says(&notify, &["version=\"1\" state=\"partial\"", "direction=\"recipient\""]);
    says(
        &notify,
        &["<state>trying</state>", "<remote><identity display=\"Ann\">sip:1001@pbx.test"],
    );
    assert!(!notify.contains("local-tag"), "he has no tag yet: {notify}");
    // Within a second of it nothing is said, and then what holds by then (RFC 4235 3.10).
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    assert!(bench.heard(PANEL).is_empty(), "too soon");
    let notify = next(&mut bench, 1_000);
    let id = format!("call-id=\"{}\" local-tag=\"ben\"", header(&invite, "Call-ID"));
    says(&notify, &["version=\"2\" state=\"partial\"", "<state>early</state>", &id]);
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    let to_ann = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &to_ann, ""));
    says(&next(&mut bench, 1_000), &["version=\"3\"", "<state>confirmed</state>"]);
    bench.pass(Duration::from_secs(3));
    bench.say(BEN, &from_ben("BYE", &invite, 1, "bye", ""));
    bench.only(BEN, "SIP/2.0 200");
    let bye = bench.only(ANN, "BYE");
    bench.say(ANN, &answer(&bye, "200 OK", "", "", ""));
    let notify = bench.only(PANEL, "NOTIFY");
    taken(&mut bench, &notify);
    says(&notify, &["version=\"4\" state=\"partial\"", "<state>terminated</state>"]);
    // Unsubscribing is answered with the last NOTIFY (RFC 6665 4.1.2.3).
    let lines = format!("{BUSY}Expires: 0\r\n");
    let leave = Ask { cseq: 5, to_tag: &ours, ..ask("w", "sip:1002@pbx.test", &lines) };
    bench.say(PANEL, &leave.text(""));
    let heard = bench.heard(PANEL);
    assert_eq!(header(&heard[0], "Expires"), "0");
    taken(&mut bench, &heard[1]);
    assert_eq!(header(&heard[1], "Subscription-State"), "terminated;reason=timeout");
    says(&heard[1], &["version=\"5\" state=\"full\""]);
    assert_eq!(bench.core.counters().of(Counter::NotifiesSent), 6);
    assert_nothing_watched(&mut bench);
}

/// What changes and changes again within the pace is one NOTIFY; what came and went says so.
#[test]
fn changes_within_a_second_are_told_together() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    subscribed(&mut bench, "w", "sip:1002@pbx.test", BUSY);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", BEN, ""));
    assert!(bench.heard(PANEL).is_empty(), "a second has not passed");
    let notify = next(&mut bench, 1_000);
    says(&notify, &["version=\"1\"", "<state>terminated</state>"]);
    assert_eq!(notify.matches("<dialog ").count(), 1, "{notify}");
    bench.pass(Duration::from_secs(10));
    assert!(bench.heard(PANEL).is_empty(), "nothing more has happened");
}

#[test]
fn who_watches_a_caller_sees_an_initiator_and_calls_that_stand_already() {
    let mut bench = Bench::new(settings());
    let (_, to_ann) = established(&mut bench);
    let (_, first) = subscribed(&mut bench, "w", "sip:1001@pbx.test", BUSY);
    says(&first, &["state=\"full\"", "direction=\"initiator\"", "<state>confirmed</state>"]);
    // Whoever knows the tags of a call that stands may take a place in it: nobody is told them.
    assert!(first.contains("call-id=\"call-ann\"") && !first.contains("-tag="), "{first}");
    says(&first, &["<remote><identity>sip:1002@pbx.test</identity>"]);
    let (_, first) = subscribed(&mut bench, "v", "sip:1002@pbx.test", BUSY);
    says(&first, &["direction=\"recipient\"", "<state>confirmed</state>"]);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "bye", &to_ann, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.pass(Duration::from_secs(1));
    let heard = bench.heard(PANEL);
    assert_eq!(heard.len(), 2, "both watchers: {heard:#?}");
    for notify in &heard {
        says(notify, &["<state>terminated</state>"]);
        taken(&mut bench, notify);
    }
}

/// RFC 3842: there is no mailbox behind it, and that is what a phone is told.
#[test]
fn nobody_has_messages_waiting_and_only_the_owner_asks() {
    let mut bench = Bench::new(settings());
    let (_, first) = subscribed(&mut bench, "m", "sip:1003@pbx.test", MAILBOX);
    assert_eq!(header(&first, "Event"), "message-summary");
    assert_eq!(header(&first, "Content-Type"), "application/simple-message-summary");
    let body = first.split("\r\n\r\n").nth(1).expect("a body");
    assert_eq!(
        body.lines().collect::<Vec<_>>(),
        ["Messages-Waiting: no", "Message-Account: sip:1003@pbx.test", "Voice-Message: 0/0 (0/0)"]
    );
    let heard = ask("n", "sip:1002@pbx.test", MAILBOX).send(&mut bench);
    assert!(heard[0].starts_with("SIP/2.0 403") && heard.len() == 1, "{heard:#?}");
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing() {
    let mut bench = Bench::new(settings());
    for (name, lines) in [
        ("p", "Event: presence\r\n".to_owned()),
        ("q", String::new()),
        ("r", format!("Event: dialog;id={}\r\n", "x".repeat(65))),
    ] {
        bench.say(PANEL, &ask(name, "sip:1002@pbx.test", &lines).text(""));
        let refused = bench.only(PANEL, "SIP/2.0 489");
        assert_eq!(header(&refused, "Allow-Events"), "dialog, message-summary, refer");
    }
    for (name, target, lines, status) in [
        ("a", "sip:7777@pbx.test", BUSY, "404"),
        ("b", "sip:1002@carrier.test", BUSY, "404"),
        ("c", "sip:1002@pbx.test", "Event: dialog\r\nAccept: text/plain\r\n", "406"),
        ("d", "sip:1002@pbx.test", "Event: dialog\r\nExpires: 59\r\n", "423"),
    ] {
        let heard = ask(name, target, lines).send(&mut bench);
        assert_eq!(heard.len(), 1, "{heard:#?}");
        assert!(heard[0].starts_with(&format!("SIP/2.0 {status}")), "{heard:#?}");
        if status == "423" {
            assert_eq!(header(&heard[0], "Min-Expires"), "60");
        }
    }
    // Ben's password does not make one Cleo.
    let other = ask("e", "sip:1001@pbx.test", BUSY);
    bench.say(PANEL, &other.text(""));
    let line = header(&bench.only(PANEL, "SIP/2.0 401"), "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let own =
        sip::auth::answer(&parsed, "1002", "secret-1002", "SUBSCRIBE", other.target, 1, "abc");
    let again = Ask { cseq: 2, ..other };
    bench.say(PANEL, &again.text(&format!("Authorization: {own}\r\n")));
    bench.only(PANEL, "SIP/2.0 403");
    // A dialog that is not there (RFC 6665 4.1.2.2), and one that is no subscription.
    let gone = Ask {
        to_tag: "rg000000000000000000ff0123456789abcdef",
        ..ask("f", "sip:1002@pbx.test", BUSY)
    };
    bench.say(PANEL, &gone.text(""));
    bench.only(PANEL, "SIP/2.0 481");
    assert_eq!(bench.core.counters().of(Counter::SubscriptionsBegun), 0);
    assert_nothing_watched(&mut bench);
}

#[test]
fn a_subscription_lasts_as_long_as_it_is_refreshed() {
    let mut bench = Bench::new(settings());
    let long = format!("{BUSY}Expires: 86400\r\n");
    let heard = ask("l", "sip:1002@pbx.test", &long).send(&mut bench);
    assert_eq!(header(&heard[0], "Expires"), "7200");
    taken(&mut bench, &heard[1]);
    let lines = format!("{BUSY}Expires: 60\r\n");
    let (ours, _) = subscribed(&mut bench, "w", "sip:1002@pbx.test", &lines);
    bench.pass(Duration::from_secs(59));
    let refresh = Ask { cseq: 3, to_tag: &ours, ..ask("w", "sip:1002@pbx.test", &lines) };
    bench.say(PANEL, &refresh.text(""));
    let heard = bench.heard(PANEL);
    assert!(heard[0].starts_with("SIP/2.0 200"), "{heard:#?}");
    assert_eq!(header(&heard[1], "Subscription-State"), "active;expires=60");
    says(&heard[1], &["version=\"1\" state=\"full\""]);
    taken(&mut bench, &heard[1]);
    // The same number again is an old one; another event is another subscription.
    bench.say(PANEL, &refresh.text("").replace("z9hG4bKw3", "z9hG4bKold"));
    bench.only(PANEL, "SIP/2.0 500");
    let other = Ask { cseq: 4, lines: MAILBOX, ..refresh };
    bench.say(PANEL, &other.text(""));
    bench.only(PANEL, "SIP/2.0 489");
    let last = next(&mut bench, 60_000);
    assert_eq!(header(&last, "Subscription-State"), "terminated;reason=timeout");
    let late = Ask { cseq: 6, lines: &lines, ..other };
    bench.say(PANEL, &late.text(""));
    bench.only(PANEL, "SIP/2.0 481");
}

#[test]
fn a_fetch_is_one_notify() {
    let mut bench = Bench::new(settings());
    established(&mut bench);
    let lines = format!("{BUSY}Expires: 0\r\n");
    let (_, notify) = subscribed(&mut bench, "w", "sip:1002@pbx.test", &lines);
    assert_eq!(header(&notify, "Subscription-State"), "terminated;reason=timeout");
    says(&notify, &["state=\"full\"", "<state>confirmed</state>"]);
    let census = bench.core.census();
    assert_eq!((census.subscriptions, census.watched), (0, 0), "{census:?}");
}

/// RFC 6665 4.2.2: who does not know the subscription, or does not answer, is told nothing more.
#[test]
fn a_notify_that_is_not_taken_ends_it() {
    let mut bench = Bench::new(settings());
    let heard = ask("w", "sip:1002@pbx.test", BUSY).send(&mut bench);
    bench.say(PANEL, &answer(&heard[1], "481 No Such Subscription", "", "", ""));
    assert_eq!(bench.core.census().subscriptions, 0);
    let heard = ask("v", "sip:1002@pbx.test", BUSY).send(&mut bench);
    assert!(heard[1].starts_with("NOTIFY"));
    bench.pass(Duration::from_secs(33));
    assert_eq!(bench.core.counters().of(Counter::SubscriptionsLost), 2);
    assert_nothing_watched(&mut bench);
}

/// The `id` of an Event keeps subscriptions of one phone apart, and comes back.
#[test]
fn an_event_keeps_its_id() {
    let mut bench = Bench::new(settings());
    let (_, notify) = subscribed(&mut bench, "w", "sip:1002@pbx.test", "Event: dialog;id=7a\r\n");
    assert_eq!(header(&notify, "Event"), "dialog;id=7a");
}

#[test]
fn one_user_holds_so_many_and_no_more() {
    let mut bench = Bench::new(settings());
    for number in 0..256 {
        let name = format!("n{number}x");
        subscribed(&mut bench, &name, "sip:1003@pbx.test", MAILBOX);
    }
    let heard = ask("more", "sip:1003@pbx.test", MAILBOX).send(&mut bench);
    assert!(heard[0].starts_with("SIP/2.0 503") && heard.len() == 1, "{heard:#?}");
    assert!(!header(&heard[0], "Retry-After").is_empty());
    assert_eq!(bench.core.census().subscriptions, 256);
    bench.pass(Duration::from_secs(3_700));
    assert_nothing_watched(&mut bench);
}

#[test]
fn a_gateway_that_stops_sends_its_watchers_elsewhere() {
    let mut bench = Bench::new(settings());
    subscribed(&mut bench, "w", "sip:1002@pbx.test", BUSY);
    bench.input(Input::Command(Command::Drain));
    assert_eq!(bench.core.census().subscriptions, 1, "whoever watches goes on watching");
    // Who comes now comes for a short time: somebody else may serve soon.
    let heard = ask("v", "sip:1002@pbx.test", BUSY).send(&mut bench);
    assert_eq!(header(&heard[0], "Expires"), "60");
    taken(&mut bench, &heard[1]);
    bench.input(Input::Command(Command::Stop));
    let heard = bench.heard(PANEL);
    assert_eq!(heard.len(), 2, "{heard:#?}");
    for notify in &heard {
        assert_eq!(header(notify, "Subscription-State"), "terminated;reason=deactivated");
        taken(&mut bench, notify);
    }
    assert_nothing_watched(&mut bench);
}

/// A connection that closes takes the way to its subscriber with it, not the subscription: the next one
/// brings a refresh, and that hears what was missed.
#[test]
fn who_comes_back_over_another_connection_hears_everything() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    let (ours, _) = subscribed(&mut bench, "w", "sip:1002@pbx.test", BUSY);
    let over = |slot| Source {
        transport: Transport::Tcp,
        local: world::US.parse().expect("an address"),
        peer: "10.0.0.41:41000".parse().expect("an address"),
        flow: Some(FlowKey { shard: ShardId(0), slot, generation: 0 }),
    };
    let refresh = |cseq| {
        let ask = Ask { cseq, to_tag: &ours, ..ask("w", "sip:1002@pbx.test", BUSY) };
        ask.text("").replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    };
    bench.input(Input::Received { from: over(1), bytes: refresh(3).as_bytes() });
    let heard = bench.heard("10.0.0.41:41000");
    assert_eq!(heard.len(), 2, "the answer and the NOTIFY go over it: {heard:#?}");
    let ok = answer(&heard[1], "200 OK", "", "", "");
    bench.input(Input::Received { from: over(1), bytes: ok.as_bytes() });
    let closed = FlowKey { shard: ShardId(0), slot: 1, generation: 0 };
    bench.input(Input::FlowClosed(closed));
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.pass(Duration::from_secs(2));
    assert!(bench.heard("10.0.0.41:41000").is_empty(), "there is no way to it");
    bench.input(Input::Received { from: over(2), bytes: refresh(4).as_bytes() });
    let heard = bench.heard("10.0.0.41:41000");
    assert_eq!(heard.len(), 2, "{heard:#?}");
    says(&heard[1], &["state=\"full\"", "<state>trying</state>"]);
}

/// Two shards, and what they say to each other.
struct Two([Bench; 2]);

impl Two {
    fn new() -> Self {
        let bench = |shard| {
            let seed = [shard + 1; 32];
            let own = shared::settings::ShardSettings {
                shard: ShardId(shard),
                shards: 2,
                random_seed: seed,
                ..settings()
            };
            // Without a limit of its own, which the two would share.
            let carrier = CARRIER.parse().expect("an address");
            let trunk = Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp);
            Bench::with(own, Snapshot { trunks: Arc::new(vec![trunk]), ..world::snapshot() })
        };
        Self([bench(0), bench(1)])
    }

    /// Carries words until there are none; `true` for those that are lost.
    fn carry(&mut self, is_lost: impl Fn(&MeshMessage) -> bool) {
        loop {
            let mut words = Vec::new();
            for (from, bench) in self.0.iter_mut().enumerate() {
                words.extend(bench.mesh.drain(..).map(|(to, message)| (from, to, message)));
            }
            if words.is_empty() {
                return;
            }
            for (from, to, message) in words.into_iter().filter(|(.., word)| !is_lost(word)) {
                let from = ShardId(u8::try_from(from).expect("two"));
                self.0[usize::from(to.0)].input(Input::Mesh { from, message });
            }
        }
    }

    fn say(&mut self, peer: &str, text: &str) {
        self.0[0].say(peer, text);
        self.carry(|_| false);
    }

    fn heard(&mut self, peer: &str) -> Vec<String> {
        self.0.iter_mut().flat_map(|bench| bench.heard(peer)).collect()
    }

    fn pass(&mut self, ms: u64) {
        for bench in &mut self.0 {
            bench.pass(Duration::from_millis(ms));
        }
        self.carry(|_| false);
    }

    /// Subscribes by this Call-ID; the NOTIFY that came.
    fn subscribe(&mut self, name: &str) -> String {
        let first = ask(name, "sip:1001@pbx.test", BUSY);
        self.say(PANEL, &first.text(""));
        let challenge = self.heard(PANEL).pop().expect("a challenge");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let own =
            sip::auth::answer(&parsed, "1003", "secret-1003", "SUBSCRIBE", first.target, 1, "abc");
        let again = Ask { cseq: 2, ..first };
        self.say(PANEL, &again.text(&format!("Authorization: {own}\r\n")));
        let heard = self.heard(PANEL);
        assert_eq!(heard.len(), 2, "{heard:#?}");
        self.say(PANEL, &answer(&heard[1], "200 OK", "", "", ""));
        heard[1].clone()
    }

    /// Ann dials a number of the carrier; her call is on the shard of its Call-ID.
    fn dial(&mut self, call_id: &str) {
        let text =
            from_ann("INVITE", "sip:55@carrier.test", 1, call_id, "", &sdp("10.0.0.11", 4000));
        self.say(ANN, &text.replace("call-ann", call_id));
    }
}

/// A Call-ID of that shard.
fn named(shard: u8, start: &str) -> String {
    let mut names = (0..).map(|number| format!("{start}{number}"));
    names.find(|name| ShardId::of_name(name.as_bytes(), 2) == ShardId(shard)).expect("half are")
}

#[test]
fn a_watcher_hears_of_calls_on_every_shard() {
    let mut two = Two::new();
    two.dial(&named(1, "there"));
    for watcher in [0, 1] {
        let first = two.subscribe(&named(watcher, "w"));
        says(&first, &["state=\"full\"", "direction=\"initiator\"", "<state>trying</state>"]);
        let dialogs = first.matches("<dialog ").count();
        assert_eq!(dialogs, 1 + usize::from(watcher), "one call, then two: {first}");
        two.pass(1_500);
        assert!(two.heard(PANEL).is_empty(), "nothing has changed");
        if watcher == 0 {
            two.dial(&named(0, "here"));
        }
        for notify in two.heard(PANEL) {
            says(&notify, &["state=\"partial\"", "<state>trying</state>"]);
            two.say(PANEL, &answer(&notify, "200 OK", "", "", ""));
        }
    }
}

/// The queue to another shard was full: the first NOTIFY says what is known here, and a shard that tells
/// what nobody wants is told so.
#[test]
fn a_word_that_is_lost_between_shards_holds_nobody_up() {
    let mut two = Two::new();
    two.dial(&named(1, "there"));
    let (name, lines) = (named(0, "w"), BUSY);
    let first = ask(&name, "sip:1001@pbx.test", lines);
    two.say(PANEL, &first.text(""));
    let challenge = two.heard(PANEL).pop().expect("a challenge");
    let parsed = header(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(parsed.as_bytes()).expect("a digest challenge");
    let own =
        sip::auth::answer(&parsed, "1003", "secret-1003", "SUBSCRIBE", first.target, 1, "abc");
    let again = Ask { cseq: 2, ..first };
    two.0[0].say(PANEL, &again.text(&format!("Authorization: {own}\r\n")));
    two.carry(|word| matches!(word, MeshMessage::Dialogs(_)));
    let ok = two.0[0].only(PANEL, "SIP/2.0 200");
    two.0[0].pass(Duration::from_millis(499));
    assert!(two.heard(PANEL).is_empty(), "it waits for the other shard");
    two.0[0].pass(Duration::from_millis(1));
    let notify = two.0[0].only(PANEL, "NOTIFY");
    says(&notify, &["version=\"0\" state=\"full\""]);
    two.say(PANEL, &answer(&notify, "200 OK", "", "", ""));
    // A refresh asks again.
    let to_tag = tag(&header(&ok, "To"));
    let refresh = Ask { cseq: 3, to_tag: &to_tag, ..ask(&name, "sip:1001@pbx.test", lines) };
    two.say(PANEL, &refresh.text(""));
    let heard = two.heard(PANEL);
    says(&heard[1], &["version=\"1\" state=\"full\"", "<state>trying</state>"]);
    two.say(PANEL, &answer(&heard[1], "200 OK", "", "", ""));
    // The other shard does not hear that nobody watches any more.
    let lines = format!("{BUSY}Expires: 0\r\n");
    let leave = Ask { cseq: 4, to_tag: &to_tag, ..ask(&name, "sip:1001@pbx.test", &lines) };
    two.0[0].say(PANEL, &leave.text(""));
    two.carry(|word| matches!(word, MeshMessage::Dialogs(_)));
    assert!(two.0[1].core.census().watched > 0);
    two.dial(&named(1, "again"));
    let left = [0, 1].map(|shard| two.0[shard].core.census().watched);
    assert_eq!(left, [0, 0], "a shard that tells nobody was told so");
}

/// Whoever takes a place by an INVITE of its own has called (RFC 3891, RFC 4235 4.1.2).
#[test]
fn who_comes_by_replaces_is_an_initiator() {
    const CLEO: &str = "10.0.0.13:5060";
    let mut bench = Bench::new(settings());
    let (_, ours) = established(&mut bench);
    subscribed(&mut bench, "w", "sip:1003@pbx.test", BUSY);
    let uri = "sip:1002@pbx.test";
    let place = |cseq, lines: &str| {
        let text = from_ann("INVITE", uri, cseq, &format!("c{cseq}"), "", &sdp("10.0.0.13", 6000));
        let text = text.replace("\"Ann\" <sip:1001@pbx.test>;tag=ann", "<sip:1003@pbx.test>;tag=c");
        let lines = format!("{lines}Replaces: call-ann;to-tag={ours};from-tag=ann\r\nContent-Type");
        text.replace(ANN, CLEO).replace("call-ann", "call-cleo").replacen("Content-Type", &lines, 1)
    };
    bench.say(CLEO, &place(1, ""));
    let line = header(&bench.only(CLEO, "SIP/2.0 407"), "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let own = sip::auth::answer(&parsed, "1003", "secret-1003", "INVITE", uri, 1, "abc");
    bench.say(CLEO, &place(2, &format!("Proxy-Authorization: {own}\r\n")));
    let change = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
    bench.pass(Duration::from_secs(1));
    let notify = bench.heard(PANEL).pop().expect("she is in a call");
    says(&notify, &["direction=\"initiator\"", "<remote><identity>sip:1002@pbx.test"]);
}

/// A shard with so many users and ports that crowds fit in. Users are called `u0`, `u1` and so on.
fn crowd(users: usize) -> Bench {
    let mut own = settings();
    own.rtp_ports = shared::settings::PortSlice { first: 20_000, last: 59_999 };
    let mut snapshot = world::snapshot();
    let known = Arc::make_mut(&mut snapshot.users);
    for number in 0..users {
        let name = format!("u{number}");
        let secret = shared::snapshot::Secret::Plain("secret".into());
        let user = (*known["1001"]).clone();
        let user = shared::snapshot::User { username: name.as_str().into(), secret, ..user };
        known.insert(name.into(), Arc::new(user));
    }
    let carrier = CARRIER.parse().expect("an address");
    let trunk = Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp);
    Bench::with(own, Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot })
}

/// SUBSCRIBEs of many, with one nonce for all.
struct Crowd {
    challenge: String,
    sent: u32,
}

impl Crowd {
    fn new(bench: &mut Bench) -> Self {
        bench.say(PANEL, &ask("first", "sip:u0@pbx.test", BUSY).text(""));
        let challenge = header(&bench.only(PANEL, "SIP/2.0 401"), "WWW-Authenticate");
        Self { challenge, sent: 0 }
    }

    fn subscribe(&mut self, bench: &mut Bench, user: &str, target: &str) {
        self.sent += 1;
        let name = format!("s{}x", self.sent);
        let ask = Ask { user, ..ask(&name, target, BUSY) };
        let nc = self.sent;
        let challenge =
            sip::auth::Challenge::parse(self.challenge.as_bytes()).expect("a challenge");
        let own = sip::auth::answer(&challenge, user, "secret", "SUBSCRIBE", target, nc, "abc");
        bench.say(PANEL, &ask.text(&format!("Authorization: {own}\r\n")));
    }
}

/// Names that nobody watched yet are looked for by one walk through the calls, a part at a time: SUBSCRIBEs
/// for many of them cost the shard no walk each.
#[test]
fn many_names_share_one_walk_and_no_turn_has_a_whole_one() {
    let mut bench = crowd(64);
    for number in 0..1_000 {
        let uri = "sip:55@carrier.test";
        let offer = sdp("10.0.0.11", 4000);
        let text = from_ann("INVITE", uri, 1, &format!("n{number}x"), "", &offer);
        let text = text.replace("call-ann", &format!("call-{number}"));
        bench.say(ANN, &text.replace("sip:1001@", &format!("sip:u{}@", number % 100)));
    }
    assert_eq!(bench.core.census().calls, 1_000);
    bench.sent.clear();
    let mut crowd = Crowd::new(&mut bench);
    for number in 0..50 {
        crowd.subscribe(&mut bench, "u0", &format!("sip:u{number}@pbx.test"));
    }
    let heard = bench.heard(PANEL);
    assert!(heard.iter().all(|text| text.starts_with("SIP/2.0 200")), "{heard:#?}");
    assert_eq!(heard.len(), 50, "no turn has looked at all the calls");
    // The first name has a walk of its own, all the others share the second.
    bench.pass(Duration::from_millis(17));
    let told = bench.heard(PANEL);
    assert_eq!(told.len(), 50);
    for notify in &told {
        assert_eq!(notify.matches("<dialog ").count(), 10, "{notify}");
        bench.say(PANEL, &answer(notify, "200 OK", "", "", ""));
    }
}

/// What begins and ends while the walk goes on is told as it is when the walk is over.
#[test]
fn a_walk_tells_what_holds_at_its_end() {
    let mut bench = crowd(2);
    let invite = |number: usize, user: &str| {
        let uri = "sip:55@carrier.test";
        let offer = sdp("10.0.0.11", 4000);
        let text = from_ann("INVITE", uri, 1, &format!("n{number}x"), "", &offer);
        text.replace("call-ann", &format!("call-{number}"))
            .replace("sip:1001@", &format!("sip:{user}@"))
    };
    for number in 0..300 {
        bench.say(ANN, &invite(number, if number == 299 { "u1" } else { "1001" }));
    }
    // A place that the walk passes at once becomes free for somebody who calls meanwhile.
    let cancel = |number: usize, user: &str| {
        let text = invite(number, user).replace("INVITE", "CANCEL");
        let (head, _) = text.split_once("Content-Type").expect("a body");
        format!("{head}Content-Length: 0\r\n\r\n")
    };
    bench.sent.clear();
    let mut crowd = Crowd::new(&mut bench);
    crowd.subscribe(&mut bench, "u0", "sip:u1@pbx.test");
    assert_eq!(bench.heard(PANEL).len(), 1, "the walk is not through");
    bench.say(ANN, &invite(300, "u1"));
    let rings = bench.heard(CARRIER);
    for text in rings.iter().filter(|text| text.contains("sip:u1@")) {
        bench.say(CARRIER, &answer(text, "180 Ringing", "c", CARRIER, ""));
    }
    bench.say(ANN, &cancel(299, "u1"));
    bench.pass(Duration::from_millis(5));
    let notify = bench.only(PANEL, "NOTIFY");
    says(&notify, &["state=\"full\"", "call-id=\"call-300\""]);
    assert_eq!(notify.matches("<dialog ").count(), 1, "{notify}");
}

/// 20 000 lamps of one user go out in steps, and all of them do; what changes meanwhile is told as well.
#[test]
fn a_crowd_of_watchers_is_told_in_steps() {
    const WATCHERS: usize = 20_000;
    let mut bench = crowd(80);
    bench.register("1002", BEN);
    let mut crowd = Crowd::new(&mut bench);
    for number in 0..WATCHERS {
        crowd.subscribe(&mut bench, &format!("u{}", number / 256), "sip:1002@pbx.test");
        let first = bench.heard(PANEL).pop().expect("a NOTIFY");
        bench.say(PANEL, &answer(&first, "200 OK", "", "", ""));
    }
    assert_eq!(bench.core.census().subscriptions, WATCHERS);
    bench.pass(Duration::from_secs(2));
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let mut turns = vec![bench.heard(PANEL)];
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", BEN, ""));
    turns.push(bench.heard(PANEL));
    let until = bench.now + Duration::from_millis(400);
    while let Some(at) = bench.core.deadline().filter(|at| *at <= until) {
        bench.now = bench.now.max(at);
        bench.input(Input::Timeout);
        turns.push(bench.heard(PANEL));
    }
    let longest = turns.iter().map(Vec::len).max().expect("turns");
    assert_eq!(longest, 64, "a turn tells so many");
    let told: Vec<&String> = turns.iter().flatten().collect();
    assert_eq!(told.len(), WATCHERS, "each once within its second");
    // Whoever was not told when it ended hears of no ringing any more.
    assert!(told.iter().skip(64).all(|text| text.contains("<state>terminated</state>")));
    assert!(told.iter().take(64).all(|text| text.contains("<state>trying</state>")));
}
