//! Two shards that join two calls, and words between them that are late or never arrive.
//! Owns:  two cores and the lane between them, which loses or holds back what a test says.
//! Gives: an attended transfer across shards under each such fault.
//! Never: real time; phones are the text of the tests.
//! Holds: after each test nothing is left in either core, and there is one record per call.

mod world;

use std::collections::VecDeque;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::ids::ShardId;
use shared::settings::ShardSettings;
use world::{ANN, BEN, Bench, answer, from_ann, header, register, sdp, settings, tag};

const CLEO: &str = "10.0.0.13:5060";

/// What becomes of the words about a leg of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lost(&'static str),
    Late(&'static str),
}

struct Pair {
    shards: [Bench; 2],
    fault: Fault,
    held: VecDeque<(usize, ShardId, MeshMessage)>,
    /// Kinds of words that passed, or were to.
    words: Vec<String>,
}

fn kind(message: &MeshMessage) -> Option<String> {
    let text = format!("{message:?}");
    let word = text.strip_prefix("Loan(Loan(")?;
    let end = word.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(word.len());
    Some(word[..end].to_owned())
}

impl Pair {
    fn new(fault: Fault) -> Self {
        let shard = |number| {
            let (shard, random_seed) = (ShardId(number), [7 + number; 32]);
            Bench::new(ShardSettings { shard, shards: 2, random_seed, ..settings() })
        };
        let (held, words) = (VecDeque::new(), Vec::new());
        Self { shards: [shard(0), shard(1)], fault, held, words }
    }

    fn say(&mut self, peer: &str, text: &str) {
        self.shards[0].say(peer, text);
        self.carry();
    }

    /// What each shard has for the other, until nothing is left.
    fn carry(&mut self) {
        while let Some(from) = (0..2).find(|shard| !self.shards[*shard].mesh.is_empty()) {
            for (to, message) in std::mem::take(&mut self.shards[from].mesh) {
                let word = kind(&message);
                self.words.extend(word.clone());
                match (self.fault, word.as_deref()) {
                    (Fault::Lost(lost), Some(word)) if lost == word => {}
                    (Fault::Late(late), Some(word)) if late == word => {
                        self.held.push_back((usize::from(to.0), ShardId(from as u8), message));
                    }
                    _ => self.deliver(usize::from(to.0), ShardId(from as u8), message),
                }
            }
        }
    }

    fn deliver(&mut self, to: usize, from: ShardId, message: MeshMessage) {
        self.shards[to].input(Input::Mesh { from, message });
    }

    /// The lane has room again.
    fn let_go(&mut self) {
        while let Some((to, from, message)) = self.held.pop_front() {
            self.deliver(to, from, message);
            self.carry();
        }
    }

    fn pass(&mut self, time: Duration) {
        let step = Duration::from_millis(500);
        let mut left = time;
        while !left.is_zero() {
            self.shards.iter_mut().for_each(|bench| bench.pass(step.min(left)));
            left = left.saturating_sub(step);
            self.carry();
        }
    }

    fn heard(&mut self, peer: &str) -> Vec<String> {
        self.shards.iter_mut().flat_map(|bench| bench.heard(peer)).collect()
    }

    /// Every phone answers whatever it is asked, for so long.
    fn let_phones_answer(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            for (peer, port) in [(ANN, 4000), (BEN, 5000), (CLEO, 6000)] {
                let ip = peer.split(':').next().expect("an address");
                for text in self.heard(peer) {
                    let method = text.split(' ').next().unwrap_or_default().to_owned();
                    let ok = match method.as_str() {
                        "INVITE" => answer(&text, "200 OK", "", peer, &sdp(ip, port)),
                        "ACK" | "SIP/2.0" => continue,
                        _ => answer(&text, "200 OK", "", "", ""),
                    };
                    self.say(peer, &ok);
                }
            }
            self.pass(Duration::from_secs(1));
        }
    }

    fn register(&mut self, user: &str, at: &str) {
        self.say(at, &register(user, at, 1, ""));
        let challenge = self.heard(at).pop().expect("a challenge");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let secret = format!("secret-{user}");
        let value = sip::auth::answer(&parsed, user, &secret, "REGISTER", "sip:pbx.test", 1, "abc");
        self.say(at, &register(user, at, 2, &format!("Authorization: {value}\r\n")));
        assert!(self.heard(at).pop().is_some_and(|text| text.starts_with("SIP/2.0 200")));
    }

    /// Ann calls `user` at `peer` with this Call-ID; our tag towards her.
    fn call(&mut self, user: &str, peer: &str, call_id: &str) -> String {
        let uri = format!("sip:{user}@pbx.test");
        let of_call = |text: String| text.replace("call-ann", call_id);
        let branch = format!("i{call_id}");
        let offer = sdp("10.0.0.11", 4000);
        self.say(ANN, &of_call(from_ann("INVITE", &uri, 1, &branch, "", &offer)));
        let invite = self.heard(peer).pop().expect("an INVITE");
        let ip = peer.split(':').next().expect("an address");
        self.say(peer, &answer(&invite, "200 OK", user, peer, &sdp(ip, 5000)));
        let ok = self.heard(ANN).pop().expect("a 200");
        assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
        let ours = tag(&header(&ok, "To"));
        let branch = format!("k{call_id}");
        self.say(ANN, &of_call(from_ann("ACK", &uri, 1, &branch, &ours, "")));
        self.heard(peer);
        ours
    }
}

/// Two Call-IDs of which each shard owns one.
fn call_ids() -> [String; 2] {
    let owner = |call_id: &str| {
        let mut pair = Pair::new(Fault::None);
        let invite = from_ann("INVITE", "sip:7@pbx.test", 1, "x", "", "");
        pair.say(ANN, &invite.replace("call-ann", call_id));
        usize::from(pair.shards[1].core.census().server_transactions > 0)
    };
    let mut found = [None, None];
    for number in 0.. {
        let call_id = format!("call-{number}");
        let shard = owner(&call_id);
        found[shard].get_or_insert(call_id);
        if let [Some(first), Some(second)] = &found {
            return [first.clone(), second.clone()];
        }
    }
    unreachable!("one of them is found first")
}

/// The join, under this fault; what passed between the shards.
fn join(fault: Fault) -> Vec<String> {
    let [first, second] = call_ids();
    let mut pair = Pair::new(fault);
    pair.register("1002", BEN);
    pair.register("1003", CLEO);
    let ours = [pair.call("1002", BEN, &first), pair.call("1003", CLEO, &second)];
    let uri = "sip:1002@pbx.test";
    let replaces = format!("{second}%3Bto-tag%3D{}%3Bfrom-tag%3Dann", ours[1]);
    let refer = from_ann("REFER", uri, 2, "r2", &ours[0], "").replace("call-ann", &first);
    let line = format!("Refer-To: <sip:1003@pbx.test?Replaces={replaces}>\r\nContent-Length");
    pair.say(ANN, &refer.replacen("Content-Length", &line, 1));
    pair.let_phones_answer(Duration::from_secs(4));
    pair.let_go();
    pair.let_phones_answer(Duration::from_secs(20));
    pair.let_go();
    // Whoever still talks hangs up; who is in no call any more is told so.
    for (call_id, ours) in [&first, &second].into_iter().zip(&ours) {
        let bye = from_ann("BYE", uri, 90, &format!("bye{call_id}"), ours, "");
        pair.say(ANN, &bye.replace("call-ann", call_id));
    }
    pair.let_go();
    pair.let_phones_answer(Duration::from_secs(100));
    pair.let_go();
    pair.let_phones_answer(Duration::from_secs(200));
    if fault == Fault::None || matches!(fault, Fault::Late(_)) {
        hang_up_the_joined(&mut pair);
    }
    pair.let_go();
    pair.let_phones_answer(Duration::from_secs(120));
    pair.let_go();
    pair.let_phones_answer(Duration::from_secs(60));
    let records: usize = pair.shards.iter().map(|bench| bench.cdrs.len()).sum();
    assert_eq!(records, 2, "{fault:?}: {:?}", pair.words);
    for bench in &mut pair.shards {
        bench.assert_quiet();
        assert_eq!(bench.core.census().moved_legs, 0, "{fault:?}: {:?}", pair.words);
    }
    pair.words
}

/// A program ends what still stands.
fn hang_up_the_joined(pair: &mut Pair) {
    for shard in 0..2 {
        pair.shards[shard].input(Input::Command(shared::command::Command::Stop));
    }
    pair.carry();
}

#[test]
fn a_join_across_shards_says_these_words() {
    assert_eq!(join(Fault::None), ["Ask", "Lent", "Taken", "Left"]);
}

/// A full lane holds a word back; it arrives when there is room.
#[test]
fn words_that_are_late_leave_nothing_behind() {
    for word in ["Ask", "Lent", "Taken", "Left"] {
        join(Fault::Late(word));
    }
}

/// A shard that is in trouble answers nothing: who waits for a leg, or for one to come back, gives up.
#[test]
fn words_that_never_come_are_not_waited_for_forever() {
    for word in ["Ask", "Lent"] {
        join(Fault::Lost(word));
    }
}
