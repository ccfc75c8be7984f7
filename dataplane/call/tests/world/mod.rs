//! A core on a bench: raw text in, raw text out, virtual time, relays that open at once.
//! Owns:  the core, the clock, what it sent and reported.
//! Gives: `say` and `heard`, and the few message builders that every test needs.
//! Never: a socket; the phones are the text of the tests.
//! Holds: outputs are applied in order, as the shell does.
#![allow(dead_code, missing_debug_implementations, unreachable_pub)] // each test uses its part

pub mod acting;
pub mod tolls;
pub mod trunks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use call::io::Rung;
use call::{Core, Input, MeshMessage, Output};
use media::edit::{RelayEdit, RelayReport};
use shared::ask::MediaProxy;
use shared::cdr::{Cdr, StreamQuality};
use shared::event::Event;
use shared::ids::{CallId, FlowKey, ShardId};
use shared::journal::Entry;
use shared::net::{Destination, Source, Transport};
use shared::settings::{
    DigestAlgorithm, JournalSettings, MediaLock, MediaSettings, PortSlice, RecordingSettings,
    RegistrarSettings, ShardSettings, SipTimers,
};
use shared::snapshot::{Secret, Snapshot, Trunk, User};
use shared::time::{Instant, Now, WallMs};

pub const US: &str = "10.0.0.1:5060";
pub const ANN: &str = "10.0.0.11:5060";
pub const BEN: &str = "10.0.0.12:5060";
pub const CARRIER: &str = "10.0.0.99:5060";
/// Wall time of the start, minus the monotonic start.
const WALL_START: i64 = 1_795_000_000_000;

pub struct Bench {
    pub core: Core,
    pub now: Instant,
    pub sent: Vec<(SocketAddr, String)>,
    pub edits: Vec<RelayEdit>,
    pub cdrs: Vec<Cdr>,
    /// Starts of calls, in the order of the journal.
    pub starts: Vec<Cdr>,
    pub events: Vec<Event>,
    /// Every message that the core said to be of a call.
    pub ladder: Vec<(Rung, String)>,
    /// What other shards were told.
    pub mesh: Vec<(ShardId, MeshMessage)>,
    /// Flows that were to be cut.
    pub cut: Vec<FlowKey>,
    /// The way of each message of `sent`, also of those that were heard since.
    pub ways: Vec<Destination>,
    /// Refuse this many relay openings.
    pub refuse_relays: usize,
}

pub fn settings() -> ShardSettings {
    ShardSettings {
        shard: ShardId(0),
        shards: 1,
        cpu: 0,
        udp: vec![US.parse().expect("an address")],
        tcp: vec![US.parse().expect("an address")],
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

fn user(name: &str) -> (Box<str>, Arc<User>) {
    let user = User {
        username: name.into(),
        secret: Secret::Plain(format!("secret-{name}").into()),
        display_name: None,
        enabled: true,
        allow_guest_calls: false,
        forwarding: None,
        backend: 0,
    };
    (name.into(), Arc::new(user))
}

pub fn snapshot() -> Snapshot {
    let carrier: SocketAddr = CARRIER.parse().expect("an address");
    let trunk = Trunk {
        max_calls: Some(1),
        ..Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp)
    };
    Snapshot {
        generation: 1,
        users: Arc::new(["1001", "1002", "1003"].into_iter().map(user).collect()),
        trunks: Arc::new(vec![trunk]),
        ..Snapshot::default()
    }
}

impl Bench {
    pub fn new(settings: ShardSettings) -> Self {
        Self::with(settings, snapshot())
    }

    pub fn with(settings: ShardSettings, snapshot: Snapshot) -> Self {
        let now = Now { mono: Instant::from_millis(1_000), wall: WallMs(WALL_START) };
        Self {
            core: Core::new(now, Arc::new(settings), Arc::new(snapshot)),
            now: now.mono,
            sent: Vec::new(),
            edits: Vec::new(),
            cdrs: Vec::new(),
            starts: Vec::new(),
            events: Vec::new(),
            ladder: Vec::new(),
            mesh: Vec::new(),
            cut: Vec::new(),
            ways: Vec::new(),
            refuse_relays: 0,
        }
    }

    fn clock(&self) -> Now {
        let ms = i64::try_from(self.now.as_millis()).expect("a test is short");
        Now { mono: self.now, wall: WallMs(WALL_START + ms) }
    }

    pub fn input(&mut self, input: Input<'_>) {
        let heard = match &input {
            Input::Moved { bytes, .. } | Input::Received { bytes, .. } => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => String::new(),
        };
        self.core.handle_input(self.clock(), input);
        while let Some(earlier) = self.core.poll_earlier() {
            let text = String::from_utf8_lossy(&earlier.bytes).into_owned();
            self.passed(Some(earlier.rung), earlier.came, &text);
        }
        self.passed(self.core.heard(), true, &heard);
        while let Some(output) = self.core.poll_output() {
            let answer = match output {
                Output::Send { to, bytes, rung } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.passed(rung, false, &text);
                    self.sent.push((to.peer, text));
                    self.ways.push(to);
                    None
                }
                Output::Relay(edit) => {
                    self.edits.push(edit.clone());
                    self.relay_answer(edit)
                }
                Output::Journal(entry) => {
                    match entry {
                        Entry::Beat => {}
                        Entry::End(cdr) => self.cdrs.push(*cdr),
                        Entry::Start(cdr) => self.starts.push(*cdr),
                    }
                    None
                }
                Output::Event(event) => {
                    self.events.push(event);
                    None
                }
                Output::Keep { rung, came, bytes, .. } => {
                    self.passed(Some(rung), came, &String::from_utf8_lossy(&bytes));
                    None
                }
                Output::Mesh { to, message } => {
                    self.mesh.push((to, message));
                    None
                }
                Output::CloseFlow(flow) => {
                    self.cut.push(flow);
                    None
                }
            };
            if let Some(answer) = answer {
                self.core.handle_input(self.clock(), answer);
            }
        }
    }

    /// Notes a message of a call as `> INVITE` or `< 200 INVITE`, `>` being towards us.
    fn passed(&mut self, rung: Option<Rung>, came: bool, text: &str) {
        let Some(rung) = rung else { return };
        let start = text.lines().next().unwrap_or_default();
        let mut words = start.split(' ');
        let what = match words.next() {
            Some("SIP/2.0") => {
                let cseq = header(text, "CSeq");
                let method = cseq.split(' ').next_back().unwrap_or_default();
                format!("{} {method}", words.next().unwrap_or_default())
            }
            first => first.unwrap_or_default().to_owned(),
        };
        let way = if came { '>' } else { '<' };
        self.ladder.push((rung, format!("{way} {what}")));
    }

    /// What passed for the one call there is, with who is on the other end.
    pub fn ladder_of(&self, call: CallId) -> Vec<String> {
        let own = self.ladder.iter().filter(|(rung, _)| rung.call == call);
        own.map(|(rung, what)| format!("{:?} {what}", rung.side)).collect()
    }

    fn relay_answer(&mut self, edit: RelayEdit) -> Option<Input<'static>> {
        match edit {
            RelayEdit::Open { relay, .. } if self.refuse_relays > 0 => {
                self.refuse_relays -= 1;
                Some(Input::RelayRefused(relay))
            }
            RelayEdit::Open { relay, .. } => Some(Input::RelayOpened(relay)),
            RelayEdit::Close(relay) => {
                let streams = [StreamQuality::default(), StreamQuality::default()];
                Some(Input::RelayClosed(RelayReport { relay, streams, capture: None }))
            }
            RelayEdit::Hush { .. }
            | RelayEdit::Mute { .. }
            | RelayEdit::Record { .. }
            | RelayEdit::RecordPause { .. }
            | RelayEdit::Remote { .. }
            | RelayEdit::Say { .. }
            | RelayEdit::Timeout { .. } => None,
        }
    }

    /// One UDP datagram from `peer`.
    pub fn say(&mut self, peer: &str, text: &str) {
        let from = Source {
            transport: Transport::Udp,
            local: US.parse().expect("an address"),
            peer: peer.parse().expect("an address"),
            flow: None,
        };
        self.input(Input::Received { from, bytes: text.as_bytes() });
    }

    /// What was sent to `peer` since the last call, oldest first.
    pub fn heard(&mut self, peer: &str) -> Vec<String> {
        let peer: SocketAddr = peer.parse().expect("an address");
        let (theirs, others) =
            std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == peer);
        self.sent = others;
        let theirs: Vec<(SocketAddr, String)> = theirs;
        theirs.into_iter().map(|(_, text)| text).collect()
    }

    /// The one message that was sent to `peer`, and it starts like this.
    pub fn only(&mut self, peer: &str, start: &str) -> String {
        let mut heard = self.heard(peer);
        assert_eq!(heard.len(), 1, "{peer} heard {heard:#?}");
        let text = heard.pop().expect("one");
        assert!(text.starts_with(start), "{peer} heard {text}");
        text
    }

    /// Runs time forward, timer by timer.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while let Some(next) = self.core.deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.input(Input::Timeout);
            steps += 1;
            assert!(steps < 100_000, "the core spins");
        }
        self.now = until;
    }

    /// Registers a user without a challenge in between: the nonce is fetched first.
    pub fn register(&mut self, user: &str, at: &str) {
        self.say(at, &register(user, at, 1, ""));
        let challenge = self.only(at, "SIP/2.0 401");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let uri = "sip:pbx.test";
        let credentials =
            sip::auth::answer(&parsed, user, &format!("secret-{user}"), "REGISTER", uri, 1, "abc");
        self.say(at, &register(user, at, 2, &format!("Authorization: {credentials}\r\n")));
        self.only(at, "SIP/2.0 200");
    }

    /// Everything is over: nothing is left behind.
    pub fn assert_quiet(&mut self) {
        self.pass(Duration::from_secs(120));
        let census = self.core.census();
        let left = (census.calls, census.client_transactions, census.server_transactions);
        assert_eq!(left, (0, 0, 0), "{census:?}");
        assert_eq!((census.ports_in_use, census.relays), (0, 0), "{census:?}");
    }
}

pub fn register(user: &str, at: &str, cseq: u32, extra: &str) -> String {
    format!(
        "REGISTER sip:pbx.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};branch=z9hG4bKreg{user}{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.test>;tag=r{user}\r\n\
         To: <sip:{user}@pbx.test>\r\nCall-ID: reg-{user}-{at}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@{at}>\r\nExpires: 300\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

pub fn sdp(ip: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}

/// A request of Ann's, in the dialog when `to_tag` is given.
pub fn from_ann(
    method: &str,
    uri: &str,
    cseq: u32,
    branch: &str,
    to_tag: &str,
    body: &str,
) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ANN};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Ann\" <sip:1001@pbx.test>;tag=ann\r\n\
         To: <{uri}>{to_tag}\r\nCall-ID: call-ann\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:1001@{ANN}>\r\nX-Case: 42\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A response to `request` as a phone would write it.
pub fn answer(request: &str, status: &str, tag: &str, contact: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let value = header(request, name);
        let tag = if name == "To" && !value.contains("tag=") && !tag.is_empty() {
            format!(";tag={tag}")
        } else {
            String::new()
        };
        text.push_str(&format!("{name}: {value}{tag}\r\n"));
    }
    if !contact.is_empty() {
        text.push_str(&format!("Contact: <sip:phone@{contact}>\r\n"));
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

pub fn header(text: &str, name: &str) -> String {
    let start = format!("{name}: ");
    let line = text.lines().find(|line| line.starts_with(&start));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))[start.len()..].to_owned()
}

pub fn tag(value: &str) -> String {
    value.split("tag=").nth(1).expect("a tag").split(';').next().expect("text").to_owned()
}

/// A request of Ben's inside the dialog that `invite` (to him) and his tag `ben` made.
pub fn from_ben(method: &str, invite: &str, cseq: u32, branch: &str, body: &str) -> String {
    from_called(BEN, "ben", method, invite, cseq, branch, body)
}

/// The same of whoever was called at `peer` and answered with `tag`.
pub fn from_called(
    peer: &str,
    tag: &str,
    method: &str,
    invite: &str,
    cseq: u32,
    branch: &str,
    body: &str,
) -> String {
    let (from, to) = (header(invite, "To"), header(invite, "From"));
    let contact = header(invite, "Contact");
    let uri = contact.trim_start_matches('<').trim_end_matches('>');
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: {from};tag={tag}\r\nTo: {to}\r\nCall-ID: {}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:{tag}@{peer}>\r\n{kind}Content-Length: {}\r\n\r\n\
         {body}",
        header(invite, "Call-ID"),
        body.len()
    )
}

/// Ann calls Ben, he answers; returns the INVITE that Ben saw and our tag towards Ann.
pub fn established(bench: &mut Bench) -> (String, String) {
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    bench.pass(Duration::from_secs(2));
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    (invite, ours)
}
