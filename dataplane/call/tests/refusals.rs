//! INVITEs that are refused at sight: what the answer says, what comes back, and who is never refused.
//! Owns:  one test per promise of `call::overload` that is not about waits.
//! Gives: raw text in, raw text out, the counters; a storm of messages by seed.
//! Never: real time.
//! Holds: what belongs to something that stands is never answered 503, whatever waits.

mod world;

use std::sync::Arc;
use std::time::Duration;

use shared::acl::{Acl, AclRule};
use shared::metrics::Counter;
use shared::snapshot::Snapshot;
use world::{ANN, BEN, Bench, answer, established, from_ann, header, sdp, settings, tag};

const STRANGER: &str = "203.0.113.66:5060";

/// Keeps the core in overload for long enough that it believes it: every new INVITE is refused.
fn bury(bench: &mut Bench) {
    for _ in 0..3 {
        bench.core.waited(bench.now, Duration::from_millis(500));
        bench.pass(Duration::from_millis(60));
    }
    bench.core.waited(bench.now, Duration::from_millis(500));
}

fn invite(number: usize) -> String {
    let body = sdp("10.0.0.11", 4_000);
    let text = from_ann("INVITE", "sip:1002@pbx.test", 1, &format!("r{number}"), "", &body);
    text.replace("call-ann", &format!("call-{number}"))
}

fn count(bench: &mut Bench, counter: Counter) -> u64 {
    bench.core.counters().of(counter)
}

/// RFC 3261 8.2.6.2 and RFC 3581 4.
#[test]
fn a_refusal_repeats_what_its_request_said() {
    let mut bench = Bench::new(settings());
    bury(&mut bench);
    let asked = "INVITE sip:1002@pbx.test SIP/2.0\r\n\
        v: SIP/2.0/UDP phone.test:5070;rport;branch=z9hG4bKx1, SIP/2.0/UDP p1;branch=z9hG4bKp1\r\n\
        Via: SIP/2.0/TCP p2;branch=z9hG4bKp2\r\nMax-Forwards: 70\r\n\
        f: \"A, \\\"n\" <sip:1001@pbx.test>;tag=ann\r\nt: \"B\" <sip:1002@pbx.test>\r\n\
        i: c-1@x\r\nCSeq: 4711 INVITE\r\nm: <sip:1001@10.0.0.11>\r\nl: 0\r\n\r\n";
    bench.say(ANN, asked);
    let refusal = bench.only(ANN, "SIP/2.0 503 Service Unavailable\r\n");
    let own = tag(&header(&refusal, "To"));
    let wait = header(&refusal, "Retry-After");
    let expected = format!(
        "SIP/2.0 503 Service Unavailable\r\n\
         Via: SIP/2.0/UDP phone.test:5070;branch=z9hG4bKx1;received=10.0.0.11;rport=5060, \
         SIP/2.0/UDP p1;branch=z9hG4bKp1\r\nVia: SIP/2.0/TCP p2;branch=z9hG4bKp2\r\n\
         From: \"A, \\\"n\" <sip:1001@pbx.test>;tag=ann\r\n\
         To: \"B\" <sip:1002@pbx.test>;tag={own}\r\nCall-ID: c-1@x\r\nCSeq: 4711 INVITE\r\n\
         Retry-After: {wait}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(refusal, expected);
}

/// RFC 3261 8.2.7: whoever keeps nothing has to say the same again.
#[test]
fn a_repeat_of_a_refused_invite_gets_the_same_tag_and_its_ack_is_no_stray() {
    let mut bench = Bench::new(settings());
    bury(&mut bench);
    let mut tags = Vec::new();
    for _ in 0..2 {
        bench.say(ANN, &invite(1));
        tags.push(tag(&header(&bench.only(ANN, "SIP/2.0 503"), "To")));
    }
    assert_eq!(tags[0], tags[1]);
    let ack = from_ann("ACK", "sip:1002@pbx.test", 1, "r1", &tags[0], "");
    bench.say(ANN, &ack);
    assert_eq!((count(&mut bench, Counter::SipStrays), bench.sent.len()), (0, 0));
    // Somebody else's branch with that tag is not its ACK.
    bench.say(ANN, &ack.replace("z9hG4bKr1", "z9hG4bKr2"));
    assert_eq!(count(&mut bench, Counter::SipStrays), 1);
    bench.say(ANN, &invite(2));
    assert_ne!(tag(&header(&bench.only(ANN, "SIP/2.0 503"), "To")), tags[0]);
    assert_eq!(bench.core.census().server_transactions, 0);
}

#[test]
fn a_repeat_of_an_invite_that_was_taken_gets_what_came_of_it() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &invite(1));
    bench.only(ANN, "SIP/2.0 100");
    let relayed = bench.only(BEN, "INVITE");
    bury(&mut bench);
    bench.say(ANN, &invite(1));
    bench.only(ANN, "SIP/2.0 100");
    bench.say(BEN, &answer(&relayed, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    bench.say(ANN, &invite(1));
    bench.only(ANN, "SIP/2.0 180");
    assert_eq!(count(&mut bench, Counter::OverloadShed), 0);
}

#[test]
fn what_is_broken_or_not_admitted_is_treated_as_ever_in_overload() {
    let acl = Arc::new(Acl(vec![AclRule::parse("deny 203.0.113.0/24").expect("a rule")]));
    let mut bench = Bench::with(settings(), Snapshot { acl, ..world::snapshot() });
    bury(&mut bench);
    bench.say(STRANGER, &invite(1).replace(ANN, STRANGER));
    assert!(bench.heard(STRANGER).is_empty(), "a forged source brings nobody an answer");
    assert_eq!(count(&mut bench, Counter::SipNotAdmitted), 1);
    for (number, (good, bad)) in
        [("CSeq: 1 INVITE", "CSeq: 1 BYE"), ("Call-ID: ", "Call-ID: a\r\ni: ")]
            .into_iter()
            .enumerate()
    {
        bench.say(ANN, &invite(10 + number).replace(good, bad));
        bench.only(ANN, "SIP/2.0 400");
    }
    bench.say(ANN, &invite(20).replace("X-Case: 42", "User-Agent: friendly-scanner"));
    assert!(bench.heard(ANN).is_empty(), "a scanner hears nothing");
    assert_eq!(count(&mut bench, Counter::ScannersDropped), 1);
    assert_eq!(count(&mut bench, Counter::OverloadShed), 0);
}

/// A shard that is told to take no more calls needs no transaction to say so.
#[test]
fn a_shard_that_drains_refuses_at_sight() {
    let mut bench = Bench::new(settings());
    let (_, ours) = established(&mut bench);
    let standing = bench.core.census().server_transactions;
    bench.input(call::Input::Command(shared::command::Command::Drain));
    bench.say(ANN, &invite(1));
    let refusal = bench.only(ANN, "SIP/2.0 503");
    assert!((2..=10).contains(&header(&refusal, "Retry-After").parse().expect("seconds")));
    assert_eq!(bench.core.census().server_transactions, standing);
    assert_eq!(count(&mut bench, Counter::OverloadRefused), 1);
    assert_eq!(count(&mut bench, Counter::OverloadShed), 0);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "gone", "foreign", ""));
    bench.only(ANN, "SIP/2.0 481");
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
}

/// Numbers that look random and come again with their seed (xorshift).
struct Lot(u64);

impl Lot {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// One call stands, one rings; around them new INVITEs, repeats, ACKs and what the two calls say, in
/// any order and under any wait.
fn storm(seed: u64) {
    let mut lot = Lot(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bench = Bench::new(settings());
    let (_, ours) = established(&mut bench);
    bench.say(ANN, &invite(0));
    bench.heard(ANN);
    bench.heard(BEN);
    let (mut refused, mut cseq, mut taken) = (Vec::new(), 2, 1);
    for number in 1..200 {
        bench.pass(Duration::from_millis(lot.below(40) as u64));
        bench.core.waited(bench.now, Duration::from_millis(lot.below(160) as u64));
        let text = match lot.below(6) {
            0 | 1 => invite(number),
            2 => invite(0),
            3 if !refused.is_empty() => {
                let (number, own): &(usize, String) = &refused[lot.below(refused.len())];
                from_ann("ACK", "sip:1002@pbx.test", 1, &format!("r{number}"), own, "")
            }
            4 => {
                cseq += 1;
                from_ann("INFO", "sip:1002@pbx.test", cseq, &format!("i{number}"), &ours, "")
            }
            _ => {
                cseq += 1;
                from_ann("OPTIONS", "sip:1002@pbx.test", cseq, &format!("o{number}"), &ours, "")
            }
        };
        let is_new = text.contains(&format!("Call-ID: call-{number}\r\n"));
        bench.say(ANN, &text);
        for heard in bench.heard(ANN).iter().filter(|heard| heard.starts_with("SIP/2.0 503")) {
            assert!(is_new, "seed {seed}: {text} got {heard}");
            refused.push((number, tag(&header(heard, "To"))));
        }
        taken += usize::from(is_new && refused.last().is_none_or(|last| last.0 != number));
        bench.heard(BEN);
    }
    assert_eq!(count(&mut bench, Counter::SipStrays), 0, "seed {seed}");
    assert_eq!(count(&mut bench, Counter::OverloadShed), refused.len() as u64, "seed {seed}");
    assert!(!refused.is_empty() && taken > 1, "seed {seed}: {} refused", refused.len());
}

#[test]
fn what_belongs_to_something_that_stands_is_never_refused_in_a_storm() {
    (1..=50).for_each(storm);
}
