//! Calls over two trunks with caps on who pays for them.
//! Owns:  the rules, the trunks, Ann's attempts at calling out.
//! Gives: the steps of one call over a trunk, the security log's lines about calls like that.
//! Never: real time.
//! Holds: Ann shows her password for every call.

use std::sync::Arc;

use serde_json::json;
use shared::cdr::Cdr;
use shared::document::{Flaws, Path};
use shared::event::Event;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::route::{Emergency, Route, RouteTable, check};
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, Trunk};
use shared::toll::TollRules;

use super::{ANN, Bench, CARRIER, answer, from_ann, header, sdp, settings, tag};

pub const OTHER: &str = "10.0.0.98:5060";

pub fn rules(change: impl FnOnce(&mut TollRules)) -> TollRules {
    let mut rules = TollRules { country: Some("49".into()), ..TollRules::default() };
    change(&mut rules);
    rules
}

pub fn trunks() -> Vec<Trunk> {
    let plain = |name: &str, at: &str| {
        Trunk::plain(name, &format!("{name}.test"), at.parse().expect("one"), Transport::Udp)
    };
    vec![plain("carrier", CARRIER), plain("other", OTHER)]
}

pub fn snapshot(rules: TollRules) -> Snapshot {
    let emergency = Emergency { numbers: vec!["112".into()], trunk: "carrier".into() };
    let document = json!({
        "name": "out", "match": { "to.user": "^0[1-9]" },
        "dest": ["carrier", "other"], "select": "sequential"
    });
    let mut flaws = Flaws::default();
    let route: Option<Route> = check(&document, &Path::default(), &mut flaws);
    let route = route.unwrap_or_else(|| panic!("{flaws:?}"));
    Snapshot {
        trunks: Arc::new(trunks()),
        routes: Arc::new(RouteTable::sorted(vec![route], Some(emergency))),
        toll: Some(Arc::new(rules)),
        ..super::snapshot()
    }
}

pub fn bench(rules: TollRules) -> Bench {
    Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot(rules))
}

/// One call of Ann's.
pub struct Attempt {
    pub number: usize,
    pub uri: String,
}

impl Attempt {
    pub fn to(number: usize, uri: &str) -> Self {
        Self { number, uri: uri.to_owned() }
    }

    pub fn request(
        &self,
        method: &str,
        cseq: u32,
        branch: &str,
        to_tag: &str,
        body: &str,
    ) -> String {
        let number = self.number;
        from_ann(method, &self.uri, cseq, &format!("{branch}{number}"), to_tag, body)
            .replace("call-ann", &format!("call-ann-{number}"))
            .replace("tag=ann", &format!("tag=ann{number}"))
    }

    /// Ann dials and shows her password. What she hears after 100.
    pub fn dial(&self, bench: &mut Bench) -> Vec<String> {
        self.dial_with(bench, |invite| invite)
    }

    pub fn dial_with(&self, bench: &mut Bench, dress: impl Fn(String) -> String) -> Vec<String> {
        let body = sdp("10.0.0.11", 4000);
        bench.say(ANN, &dress(self.request("INVITE", 1, "a", "", &body)));
        let line = header(&bench.only(ANN, "SIP/2.0 407"), "Proxy-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
        let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", &self.uri, 1, "c");
        let invite = dress(self.request("INVITE", 2, "b", "", &body));
        let line = format!("Proxy-Authorization: {own}\r\nX-Case: 42");
        bench.say(ANN, &invite.replace("X-Case: 42", &line));
        let mut heard = bench.heard(ANN);
        assert!(heard.remove(0).starts_with("SIP/2.0 100"));
        heard
    }

    /// Ann is refused; what with.
    pub fn refused(&self, bench: &mut Bench) -> String {
        let heard = self.dial(bench);
        assert_eq!(heard.len(), 1, "{heard:#?}");
        let ours = tag(&header(&heard[0], "To"));
        bench.say(ANN, &self.request("ACK", 2, "b", &ours, ""));
        assert!(bench.heard(CARRIER).is_empty() && bench.heard(OTHER).is_empty());
        heard[0].lines().next().unwrap_or_default().to_owned()
    }

    /// Ann's call rings at the carrier: the INVITE that it saw.
    pub fn goes_out(&self, bench: &mut Bench) -> String {
        let heard = self.dial(bench);
        assert!(heard.is_empty(), "{heard:#?}");
        bench.only(CARRIER, "INVITE")
    }

    pub fn answered(&self, bench: &mut Bench, invite: &str) -> String {
        let theirs = sdp("10.0.0.99", 6000);
        bench.say(CARRIER, &answer(invite, "200 OK", "c", CARRIER, &theirs));
        bench.only(CARRIER, "ACK");
        let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
        bench.say(ANN, &self.request("ACK", 2, "ack", &ours, ""));
        ours
    }

    pub fn hung_up(&self, bench: &mut Bench, ours: &str) {
        bench.say(ANN, &self.request("BYE", 3, "bye", ours, ""));
        bench.only(ANN, "SIP/2.0 200");
        let bye = bench.only(CARRIER, "BYE");
        bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    }

    /// The carrier has no line for it.
    pub fn busy(&self, bench: &mut Bench, invite: &str) {
        bench.say(CARRIER, &answer(invite, "486 Busy Here", "c", "", ""));
        bench.only(CARRIER, "ACK");
        let ours = tag(&header(&bench.only(ANN, "SIP/2.0 486"), "To"));
        bench.say(ANN, &self.request("ACK", 2, "b", &ours, ""));
    }
}

pub fn national(number: usize) -> Attempt {
    Attempt::to(number, &format!("sip:030{number}@carrier.test"))
}

/// Lines of the security log about calls over trunks.
pub fn log(bench: &Bench) -> Vec<String> {
    let lines = bench.events.iter().filter_map(|event| match event {
        Event::Notice(notice) => Some(notice.detail.clone()),
        _ => None,
    });
    lines.filter(|text| text.starts_with("security event=toll_")).collect()
}

pub fn last_error(bench: &Bench) -> (u16, String) {
    let record: &Cdr = bench.cdrs.last().expect("a record");
    let error = record.last_error.as_ref().expect("why it failed");
    (error.code, error.reason.clone())
}

pub fn count(bench: &mut Bench, counter: Counter) -> u64 {
    bench.core.counters().of(counter)
}

pub fn over(mut bench: Bench) {
    bench.assert_quiet();
    assert_eq!(bench.core.census().toll_calls, 0);
    assert_eq!(bench.core.census().trunk_calls, 0);
}
