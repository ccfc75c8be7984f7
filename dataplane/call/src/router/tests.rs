//! The dial plan on a desk: what each rule does to a call, and that an explanation says the same.
//! Owns:  a desk with a few users and trunks, and a small language for rules.
//! Gives: decisions of calls written as text, and explanations of trials of the same calls.
//! Never: a call; the bench of the crate's own tests carries those.
//! Holds: ten thousand random calls under random rules: explain equals route.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::ask::MediaProxy;
use shared::document::{Flaws, Path};
use shared::ids::ShardId;
use shared::net::Transport;
use shared::route::{Chosen, Emergency, Explanation, RouteTable, RuleVerdict, Trial, check};
use shared::settings::{
    DigestAlgorithm, JournalSettings, MediaLock, MediaSettings, PortSlice, RecordingSettings,
    RegistrarSettings, ShardSettings, SipTimers,
};
use shared::snapshot::{Entrance, Secret, Snapshot, TrunkDirection, User};
use shared::time::{Instant, Now, WallMs};
use sip::wire::{Start, scan};

use super::*;

const US: &str = "10.0.0.1:5060";

pub(crate) fn settings() -> ShardSettings {
    ShardSettings {
        shard: ShardId(0),
        shards: 1,
        cpu: 0,
        udp: vec![US.parse().expect("an address")],
        tcp: Vec::new(),
        tls: Vec::new(),
        tls_files: None,
        web: shared::settings::WebListeners::default(),
        external_ip: Vec::new(),
        media_bind: Vec::new(),
        rtp_ports: PortSlice { first: 20_000, last: 20_199 },
        realm: "pbx.test".to_owned(),
        algorithms: DigestAlgorithm::DEFAULT.to_vec(),
        domains: Vec::new(),
        product: "Ringgate-test".to_owned(),
        call_auth: false,
        timers: SipTimers::RFC3261,
        registrar: RegistrarSettings {
            expires_min_s: 10,
            expires_default_s: 300,
            expires_max_s: 3_600,
        },
        media: MediaSettings {
            lock: MediaLock::Strict,
            probation_packets: 3,
            rtp_timeout: Duration::from_secs(60),
            hold_timeout: Duration::from_secs(3_600),
            proxy: MediaProxy::Auto,
        },
        recording: RecordingSettings { auto_start: false, captures: "captures".into() },
        journal: JournalSettings {
            folder: "journal".into(),
            front: None,
            run: 1,
            segment_bytes: JournalSettings::SEGMENT_BYTES,
        },
        sipflow: None,
        random_seed: [7; 32],
        nonce_key: [9; 32],
    }
}

fn user(name: &str, enabled: bool) -> (Box<str>, Arc<User>) {
    let user = User {
        username: name.into(),
        secret: Secret::Plain("secret".into()),
        display_name: None,
        enabled,
        allow_guest_calls: false,
        forwarding: None,
        backend: 0,
    };
    (name.into(), Arc::new(user))
}

fn trunk(name: &str, last: u8) -> Trunk {
    let address = ([10, 0, 0, last], 5_060).into();
    Trunk::plain(name, &format!("{name}.test"), address, Transport::Udp)
}

fn rules(documents: &[Value]) -> Vec<Route> {
    let mut flaws = Flaws::default();
    let read = |document| check(document, &Path::default(), &mut flaws);
    let routes: Vec<_> = documents.iter().filter_map(read).collect();
    assert_eq!(routes.len(), documents.len(), "{flaws:?}");
    routes
}

/// Users 1001 and 1002, and 1009 who is disabled; trunks a, b, c of which c gives calls only.
fn desk(documents: &[Value], emergency: Option<Emergency>) -> Desk {
    let one_way = Trunk { direction: TrunkDirection::Inbound, ..trunk("c", 93) };
    let at = ([10, 0, 0, 92], 5_070).into();
    let other_port = Trunk { weight: 300, ..Trunk::plain("b", "b.test", at, Transport::Udp) };
    let snapshot = Snapshot {
        generation: 4,
        users: Arc::new([user("1001", true), user("1002", true), user("1009", false)].into()),
        trunks: Arc::new(vec![trunk("a", 91), other_port, one_way]),
        routes: Arc::new(RouteTable::sorted(rules(documents), emergency)),
        ..Snapshot::default()
    };
    let now = Now { mono: Instant::from_millis(1_000), wall: WallMs(0) };
    Desk::new(now, Arc::new(settings()), Arc::new(snapshot))
}

/// One call in both forms.
#[derive(Clone, Debug)]
struct Sample {
    trunk: Option<&'static str>,
    from: String,
    to: String,
    uri: String,
    headers: Vec<(String, String)>,
}

impl Sample {
    fn user(number: &str) -> Self {
        Self::from_trunk(None, number)
    }

    fn from_trunk(trunk: Option<&'static str>, number: &str) -> Self {
        Self {
            trunk,
            from: "sip:1001@pbx.test".to_owned(),
            to: format!("sip:{number}@pbx.test"),
            uri: format!("sip:{number}@pbx.test"),
            headers: Vec::new(),
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn peer(&self) -> std::net::SocketAddr {
        let last = match self.trunk {
            Some("a") => 91,
            Some("b") => 92,
            Some(_) => 93,
            None => 11,
        };
        ([10, 0, 0, last], 5_060).into()
    }

    fn source(&self) -> Source {
        let local = US.parse().expect("an address");
        Source { transport: Transport::Udp, local, peer: self.peer(), flow: None }
    }

    fn decide(&self, desk: &Desk, turns: &Turns) -> Decision {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!(
            "INVITE {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK1\r\n\
             From: \"Ann\" <{}>;tag=1\r\nTo: <{}>\r\nCall-ID: the-call\r\nCSeq: 1 INVITE\r\n\
             {headers}Content-Length: 0\r\n\r\n",
            self.uri,
            self.peer(),
            self.from,
            self.to
        );
        let message = scan(text.as_bytes()).expect("a whole message");
        let Start::Request { uri, .. } = message.start() else { panic!("a request") };
        let source = self.source();
        let dialled =
            Dialled::of_request(&message, uri, source.peer.ip(), self.trunk).expect("it reads");
        decide(
            Outlook { desk, from: &source, turns, random: 0, unregistered: false },
            &dialled,
            &mut |_| {},
        )
    }

    fn explain(&self, desk: &Desk, turns: &Turns) -> Explanation {
        let trial = Trial {
            from: self.from.clone(),
            to: self.to.clone(),
            request_uri: self.uri.clone(),
            source_trunk: self.trunk.map(str::to_owned),
            source_ip: Some(self.peer().ip()),
            call_id: "the-call".to_owned(),
            headers: self.headers.clone(),
        };
        let source = self.source();
        let trunk = desk.snapshot.trunks.iter().find(|known| Some(&*known.name) == self.trunk);
        explain(
            Outlook { desk, from: &source, turns, random: 0, unregistered: false },
            &trial,
            &source,
            trunk,
        )
    }
}

fn outcome(documents: &[Value], sample: &Sample) -> Chosen {
    explain::chosen(&sample.decide(&desk(documents, None), &Turns::default()))
}

fn refused(status: u16) -> impl Fn(Chosen) -> bool {
    move |chosen| matches!(chosen, Chosen::Refuse { status: found, .. } if found == status)
}

/// The trunks in their order, and the user part that is called there.
fn trunks(chosen: Chosen) -> (Vec<String>, String) {
    match chosen {
        Chosen::Trunks { trunks, request_user, .. } => (trunks, request_user),
        other => panic!("{other:?}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn our_own_users_come_before_the_rules_and_strangers_after() {
    let all = [json!({ "name": "all", "dest": "a" })];
    assert_eq!(outcome(&all, &Sample::user("1002")), Chosen::User { user: "1002".to_owned() });
    assert!(refused(480)(outcome(&all, &Sample::user("1009"))), "a disabled user is nobody else");
    assert_eq!(trunks(outcome(&all, &Sample::user("777"))), (vec!["a".to_owned()], "777".into()));
    assert!(refused(404)(outcome(&[], &Sample::user("777"))));
    let address = Sample { uri: "sip:5@b.test:5070".to_owned(), ..Sample::user("5") };
    assert_eq!(
        trunks(outcome(&all, &address)).0,
        ["b"],
        "a trunk's own address is called as it is"
    );
    let sips = Sample { uri: "sips:777@pbx.test".to_owned(), ..Sample::user("777") };
    assert!(refused(416)(outcome(&all, &sips)));
}

#[test]
fn calls_of_trunks_ask_the_rules_first_and_then_our_users() {
    let did = [json!({
        "name": "did", "direction": "inbound", "match": { "to.user": "^\\+4930(1\\d{3})$" },
        "rewrite": { "to.user": "{1}" },
    })];
    let call = |number: &str| Sample::from_trunk(Some("a"), number);
    assert_eq!(outcome(&did, &call("+49301002")), Chosen::User { user: "1002".to_owned() });
    assert_eq!(outcome(&did, &call("1001")), Chosen::User { user: "1001".to_owned() });
    assert!(refused(404)(outcome(&did, &call("+49301777"))), "the rule leads to nobody");
    assert!(refused(404)(outcome(&did, &Sample::user("+49301002"))), "it is for trunks only");
    let to_trunk = Sample { uri: "sip:5@b.test:5070".to_owned(), ..call("5") };
    assert!(refused(403)(outcome(&did, &to_trunk)));
    let transit = [json!({ "name": "t", "source_trunk": "a", "dest": "b" })];
    assert_eq!(trunks(outcome(&transit, &to_trunk)).0, ["b"]);
    assert!(refused(404)(outcome(&transit, &Sample::from_trunk(Some("c"), "5"))));
    let over = [json!({ "name": "o", "match": { "to.user": "1001" }, "action": "busy" })];
    assert!(refused(486)(outcome(&over, &call("1001"))), "a rule comes before a user of that name");
}

#[test]
fn the_highest_priority_decides_then_the_order_of_writing() {
    let rules = [
        json!({ "name": "low", "priority": 1, "reject": 601 }),
        json!({ "name": "off", "priority": 9, "disabled": true, "reject": 602 }),
        json!({ "name": "first", "priority": 5, "reject": 603 }),
        json!({ "name": "second", "priority": 5, "reject": 604 }),
        json!({ "name": "other", "priority": 7, "match": { "to.user": "9" }, "reject": 605 }),
    ];
    assert!(refused(603)(outcome(&rules, &Sample::user("777"))));
    let explanation = Sample::user("777").explain(&desk(&rules, None), &Turns::default());
    let names: Vec<_> = explanation.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["off", "other", "first"], "what comes after the match was never asked");
    assert_eq!(explanation.rules[0].verdict, RuleVerdict::Disabled);
    let failed = RuleVerdict::Failed {
        condition: "to.user".to_owned(),
        expected: "9".to_owned(),
        found: Some("777".to_owned()),
    };
    assert_eq!(explanation.rules[1].verdict, failed);
    assert_eq!(explanation.matched.as_deref(), Some("first"));
    assert_eq!(explanation.generation, 4);
}

#[test]
fn a_prefix_is_stripped_and_the_trunks_host_is_dialled() {
    let strip = [json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": {
            "to.user": "{1}", "from.user": "+4930{0}", "header.X-Route": "via {1}",
        },
        "dest": "b", "max_ring_time": 20,
    })];
    let decision = Sample::user("9123").decide(&desk(&strip, None), &Turns::default());
    let Decision::Trunks(mut to) = decision else { panic!("{decision:?}") };
    let choice = to.choices.remove(0);
    assert_eq!(text(&choice.target.uri), "sip:123@b.test:5070");
    assert_eq!(choice.target.way.peer.to_string(), "10.0.0.92:5070");
    let changes = choice.changes;
    assert_eq!(changes.to_uri.map(|uri| text(&uri)), Some("sip:123@b.test".to_owned()));
    let from = changes.from_uri.map(|uri| text(&uri));
    assert_eq!(from, Some("sip:+49309123@b.test".to_owned()), "the only expression gives {{0}}");
    let header = shared::headers::ExtraHeader::new("X-Route", "via 123").expect("a plain line");
    assert_eq!(changes.headers, [header]);
    assert_eq!(changes.ring, Some(Duration::from_secs(20)));
    let explanation = Sample::user("9123").explain(&desk(&strip, None), &Turns::default());
    let rewrites: Vec<_> =
        explanation.rewrites.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(rewrites, ["from.user=+49309123", "to.user=123", "header.X-Route=via 123"]);
}

#[test]
fn the_request_uri_may_differ_from_to() {
    let rule = [json!({
        "name": "r", "rewrite": { "request_uri.user": "5", "request_uri.host": "h.test",
                                   "request_uri.port": "5080", "to.user": "6" }, "dest": "a",
    })];
    let decision = Sample::user("777").decide(&desk(&rule, None), &Turns::default());
    let Decision::Trunks(to) = decision else { panic!("{decision:?}") };
    assert_eq!(text(&to.choices[0].target.uri), "sip:5@h.test:5080");
    let to_uri = to.choices[0].changes.to_uri.as_deref().map(text);
    assert_eq!(to_uri.as_deref(), Some("sip:6@a.test"));
}

#[test]
fn a_value_of_the_caller_cannot_break_out_of_its_place() {
    let rule = |rewrite: Value| {
        [
            json!({ "name": "r", "match": { "header.X-In": "(.*)" }, "rewrite": rewrite, "dest": "a" }),
        ]
    };
    let call = Sample::user("777").header("X-In", "a@b;x=1");
    let decision = call.decide(&desk(&rule(json!({ "to.user": "{1}" })), None), &Turns::default());
    let Decision::Trunks(to) = decision else { panic!("{decision:?}") };
    assert_eq!(text(&to.choices[0].target.uri), "sip:a%40b;x=1@a.test");
    let host = outcome(&rule(json!({ "to.host": "{1}" })), &call);
    assert!(refused(500)(host), "a host that is none is not dialled");
    let port = outcome(&rule(json!({ "to.port": "{1}" })), &call);
    assert!(refused(500)(port));
    let long = Sample::user("777").header("X-In", &"9".repeat(2_000));
    assert!(refused(500)(outcome(&rule(json!({ "to.user": "{1}" })), &long)));
}

#[test]
fn trunks_take_turns_and_those_that_take_no_calls_are_left_out() {
    let rule = [json!({ "name": "rr", "dest": ["a", "c", "b", "gone"] })];
    let desk = desk(&rule, None);
    let mut turns = Turns::default();
    let mut firsts = Vec::new();
    for turn in 0..5 {
        turns.insert("rr".into(), turn);
        let decision = Sample::user("777").decide(&desk, &turns);
        firsts.push(trunks(explain::chosen(&decision)).0);
    }
    assert_eq!(firsts, [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"], ["a", "b"]]);
    let nobody = [json!({ "name": "n", "dest": ["c", "gone"] })];
    assert!(refused(503)(outcome(&nobody, &Sample::user("777"))));
}

/// Weighted, `b` has three parts of four; while it rests everything is `a`'s, and none is lost.
#[test]
fn a_trunk_that_rests_is_left_out_unless_there_is_no_other() {
    for select in ["weighted", "rr", "random", "hash", "sequential"] {
        let rule = [json!({ "name": "w", "dest": ["b", "a"], "select": select })];
        let mut desk = desk(&rule, None);
        let chosen = |desk: &Desk| {
            trunks(explain::chosen(&Sample::user("777").decide(desk, &Turns::default()))).0
        };
        assert_eq!(chosen(&desk).len(), 2, "{select}");
        let now = desk.now.mono;
        desk.trunks.rest(now, "b", ([10, 0, 0, 92], 5_070).into(), Duration::from_secs(9));
        assert_eq!(chosen(&desk), ["a"], "{select}");
        desk.trunks.rest(now, "a", ([10, 0, 0, 91], 5_060).into(), Duration::from_secs(9));
        assert_eq!(chosen(&desk).len(), 2, "{select}: better than nothing");
        desk.now.mono = now + Duration::from_secs(9);
        assert_eq!(chosen(&desk).len(), 2, "{select}");
    }
}

#[test]
fn the_second_destination_of_a_trunk_follows_the_first_under_its_own_host() {
    let rule = [json!({ "name": "o", "dest": ["a", "b"], "select": "sequential" })];
    let mut desk = desk(&rule, None);
    let mut snapshot = Snapshot::clone(&desk.snapshot);
    let mut all = Vec::clone(&snapshot.trunks);
    let address = ([10, 0, 0, 94], 5_080).into();
    let backup = Entrance::plain("backup.test", address, Transport::Udp);
    all[0] = all[0].clone().with_backup(backup);
    snapshot.trunks = Arc::new(all);
    desk.snapshot = Arc::new(snapshot);
    let decision = Sample::user("777").decide(&desk, &Turns::default());
    let Decision::Trunks(to) = &decision else { panic!("{decision:?}") };
    let uris: Vec<String> = to.choices.iter().map(|one| text(&one.target.uri)).collect();
    assert_eq!(uris, ["sip:777@a.test", "sip:777@backup.test:5080", "sip:777@b.test:5070"]);
    assert_eq!(to.choices[1].target.way.peer, address);
    assert_eq!(trunks(explain::chosen(&decision)).0, ["a", "b"]);
}

#[test]
fn what_is_not_built_is_501_and_a_rejection_keeps_its_reason() {
    let queue = [json!({ "name": "q", "action": "queue", "queue": "sales" })];
    assert!(refused(501)(outcome(&queue, &Sample::user("777"))));
    let closed = [json!({ "name": "c", "reject": { "code": 480, "reason": "Closed" } })];
    match outcome(&closed, &Sample::user("777")) {
        Chosen::Refuse { status: 480, reason, .. } => assert_eq!(reason.as_deref(), Some("Closed")),
        other => panic!("{other:?}"),
    }
}

/// The original looks for the number anywhere in what was dialled.
#[test]
fn only_the_emergency_number_itself_goes_to_the_emergency_trunk() {
    let emergency = Emergency { numbers: vec!["112".into()], trunk: "b".into() };
    let all = [json!({ "name": "all", "priority": 9, "reject": 403 })];
    let desk = desk(&all, Some(emergency.clone()));
    let decision = Sample::user("112").decide(&desk, &Turns::default());
    match decision {
        Decision::Trunks(to) => {
            assert!(to.emergency);
            assert_eq!(&*to.choices[0].trunk, "b");
        }
        other => panic!("{other:?}"),
    }
    for number in ["1120", "0112", "11", "+112"] {
        let chosen = explain::chosen(&Sample::user(number).decide(&desk, &Turns::default()));
        assert!(refused(403)(chosen), "{number}");
    }
    let inbound = Sample::from_trunk(Some("a"), "112").decide(&desk, &Turns::default());
    assert!(refused(403)(explain::chosen(&inbound)), "a trunk does not call for help through us");
    let lost = self::desk(&[], Some(Emergency { trunk: "c".into(), ..emergency }));
    assert!(refused(503)(explain::chosen(&Sample::user("112").decide(&lost, &Turns::default()))));
}

struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % count
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).expect("small")]
    }
}

/// A pattern and what it means, said without the engine.
type Meaning = (&'static str, fn(&str) -> bool);

const NUMBERS: [Meaning; 6] = [
    ("777", |v| v == "777"),
    ("^9", |v| v.starts_with('9')),
    ("7$", |v| v.ends_with('7')),
    ("^\\d{4}$", |v| v.len() == 4 && v.bytes().all(|b| b.is_ascii_digit())),
    ("1|2", |v| v.contains(['1', '2'])),
    ("+49", |v| v == "+49"),
];
const HOSTS: [Meaning; 3] = [
    ("pbx.test", |v| v.eq_ignore_ascii_case("pbx.test")),
    ("^x", |v| v.starts_with(['x', 'X'])),
    ("test$", |v| v.to_ascii_lowercase().ends_with("test")),
];

struct Expected {
    name: String,
    priority: i64,
    disabled: bool,
    direction: &'static str,
    trunk: Option<&'static str>,
    conditions: Vec<(&'static str, Meaning)>,
}

impl Expected {
    fn holds(&self, sample: &Sample) -> bool {
        let (user, host) = parts(&sample.to);
        let (caller, _) = parts(&sample.from);
        let way = if sample.trunk.is_some() { "inbound" } else { "outbound" };
        !self.disabled
            && (self.direction == "any" || self.direction == way)
            && self.trunk.is_none_or(|trunk| sample.trunk == Some(trunk))
            && self.conditions.iter().all(|(field, (_, meaning))| match *field {
                "to.user" => meaning(user),
                "to.host" => meaning(host),
                "from.user" => meaning(caller),
                "callee" => meaning(&format!("{user}@{host}")),
                _ => sample.headers.first().is_some_and(|(_, value)| meaning(value)),
            })
    }
}

fn parts(uri: &str) -> (&str, &str) {
    let rest = uri.strip_prefix("sip:").expect("a SIP URI");
    rest.split_once('@').expect("with a user")
}

fn random_rule(random: &mut Random, number: usize) -> (Value, Expected) {
    let mut expected = Expected {
        name: format!("rule-{number}"),
        priority: i64::try_from(random.below(4)).expect("small"),
        disabled: random.below(8) == 0,
        direction: random.pick(&["any", "any", "inbound", "outbound"]),
        trunk: random.pick(&[None, None, None, Some("a"), Some("c")]),
        conditions: Vec::new(),
    };
    let mut matches = serde_json::Map::new();
    for field in ["to.user", "to.host", "from.user", "callee", "header.X-Line"] {
        if random.below(3) > 0 {
            continue;
        }
        let meaning = if field == "to.host" { random.pick(&HOSTS) } else { random.pick(&NUMBERS) };
        matches.insert(field.to_owned(), meaning.0.into());
        expected.conditions.push((field, meaning));
    }
    let mut rule = json!({
        "name": expected.name, "priority": expected.priority, "disabled": expected.disabled,
        "direction": expected.direction, "source_trunk": expected.trunk, "match": matches,
    });
    match random.below(5) {
        0 => rule["reject"] = json!({ "code": 400 + random.below(99), "reason": "No" }),
        1 => rule["action"] = "busy".into(),
        2 => rule["rewrite"] = json!({ "to.user": "1002", "header.X-Rule": "{0}" }),
        _ => {
            let select = random.pick(&["rr", "hash", "random", "weighted", "sequential"]);
            rule["select"] = select.into();
            rule["hash_key"] = random.pick(&["call-id", "to.user", "from"]).into();
            rule["dest"] = json!(["a", "b", "c"]);
            rule["rewrite"] = json!({ "to.user": "00{0}", "from.host": "me.test" });
        }
    }
    (rule, expected)
}

fn random_sample(random: &mut Random) -> Sample {
    const USERS: [&str; 9] = ["777", "9123", "1002", "1009", "+49", "4711", "20", "912", "7"];
    let host = random.pick(&["pbx.test", "x.example", "PBX.Test", "10.0.0.1"]);
    let number = random.pick(&USERS);
    let mut sample = Sample::from_trunk(random.pick(&[None, None, Some("a"), Some("c")]), number);
    sample.to = format!("sip:{number}@{host}");
    sample.uri = format!("sip:{}@{host}", random.pick(&USERS));
    sample.from = format!("sip:{}@pbx.test", random.pick(&USERS));
    if random.below(2) == 0 {
        sample = sample.header("X-Line", random.pick(&USERS));
    }
    sample
}

/// The decision of a message and the explanation of a trial of it are one; and the rule that they
/// name is the one that the plain meaning of the rules names.
#[test]
fn explain_equals_route_on_ten_thousand_random_calls() {
    let mut random = Random(0x5eed);
    let (mut matched, mut unmatched) = (0, 0);
    for _ in 0..400 {
        let count = usize::try_from(random.below(8)).expect("small");
        let (documents, mut expected): (Vec<_>, Vec<_>) =
            (0..count).map(|number| random_rule(&mut random, number)).unzip();
        expected.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let desk = desk(&documents, None);
        let turns: Turns = documents
            .iter()
            .map(|rule| (rule["name"].as_str().expect("a name").into(), 5))
            .collect();
        for _ in 0..25 {
            let sample = random_sample(&mut random);
            let explanation = sample.explain(&desk, &turns);
            let decision = sample.decide(&desk, &turns);
            assert_eq!(explain::chosen(&decision), explanation.outcome, "{sample:?}");
            let rule = match &decision {
                Decision::Refuse(refusal) => refusal.rule.as_deref(),
                Decision::Trunks(to) => to.rule.as_deref(),
                Decision::User { .. } | Decision::Unlisted { .. } => explanation.matched.as_deref(),
            };
            assert_eq!(rule, explanation.matched.as_deref(), "{sample:?}");
            if explanation.before_rules.is_some() || explanation.rules.is_empty() {
                assert_eq!(explanation.matched, None);
                continue;
            }
            let first = expected.iter().find(|rule| rule.holds(&sample)).map(|rule| &rule.name);
            assert_eq!(explanation.matched.as_ref(), first, "{documents:?} {sample:?}");
            *if first.is_some() { &mut matched } else { &mut unmatched } += 1;
        }
    }
    assert!(matched > 1_000 && unmatched > 1_000, "{matched} matched, {unmatched} did not");
}
