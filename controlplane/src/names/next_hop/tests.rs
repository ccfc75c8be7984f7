//! The next hop by a zone that is a table: which questions are asked, and what becomes of the answers.
//! Owns:  `Zone`, a name server in memory.
//! Gives: one test per rule of RFC 3263 4 and RFC 2782.
//! Never: a socket.
//! Holds: a zone answers only what is in it; `failing` names are answered by nobody.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::Asking;
use super::*;

const ALL: Serves = Serves { udp: true, tcp: true, tls: true, ipv4: true, ipv6: true };

#[derive(Debug, Default)]
struct Zone {
    naptr: HashMap<&'static str, Vec<Naptr>>,
    srv: HashMap<&'static str, Vec<Srv>>,
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    failing: Vec<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn answer<T: Clone + Send + 'static>(
        &self,
        kind: &str,
        table: &HashMap<&'static str, Vec<T>>,
        name: &str,
        seconds: u64,
    ) -> Asking<T> {
        self.asked.lock().expect("no test panics with it").push(format!("{kind} {name}"));
        let found = table.get(name).cloned();
        let answer = match found {
            _ if self.failing.contains(&name) => Err(Missing::Failed("timed out".to_owned())),
            Some(records) => Ok(Answer { records, valid: Duration::from_secs(seconds) }),
            None => Err(Missing::Unknown),
        };
        Box::pin(std::future::ready(answer))
    }

    fn srv(mut self, name: &'static str, records: &[(u16, u16, u16, &str)]) -> Self {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        self.srv.insert(name, records.iter().map(record).collect());
        self
    }

    fn at(mut self, name: &'static str, addresses: &[&str]) -> Self {
        let ip = |text: &&str| text.parse().expect("an address");
        self.addresses.insert(name, addresses.iter().map(ip).collect());
        self
    }

    fn naptr(mut self, name: &'static str, records: &[(u16, &str, &str, &str)]) -> Self {
        let record = |(order, flags, service, replacement): &(u16, &str, &str, &str)| Naptr {
            order: *order,
            preference: 0,
            flags: (*flags).to_owned(),
            service: (*service).to_owned(),
            replacement: (*replacement).to_owned(),
        };
        self.naptr.insert(name, records.iter().map(record).collect());
        self
    }

    async fn find(
        &self,
        dest: &str,
        named: Option<Transport>,
        serves: Serves,
    ) -> Result<Vec<String>, String> {
        let dest = HostPort::parse(dest).expect("a host");
        let found = find(self, &dest, named, serves).await?;
        let text = |hop: &Hop| {
            let by = hop.transport.uri_word();
            format!("{} {by} {}:{}", hop.address, hop.rank, hop.weight)
        };
        Ok(found.hops.iter().map(text).collect())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

impl Records for Zone {
    fn naptr(&self, name: String) -> Asking<Naptr> {
        self.answer("NAPTR", &self.naptr, &name, 300)
    }

    fn srv(&self, name: String) -> Asking<Srv> {
        self.answer("SRV", &self.srv, &name, 200)
    }

    fn addresses(&self, name: String) -> Asking<IpAddr> {
        self.answer("IP", &self.addresses, &name, 100)
    }
}

#[tokio::test]
async fn a_number_and_a_port_ask_no_more_than_they_must() {
    let zone = Zone::default().at("gw.test", &["192.0.2.1"]);
    assert_eq!(zone.find("192.0.2.9", None, ALL).await, Ok(vec!["192.0.2.9:5060 udp 0:0".into()]));
    let tls = zone.find("[2001:db8::9]", Some(Transport::Tls), ALL).await;
    assert_eq!(tls, Ok(vec!["[2001:db8::9]:5061 tls 0:0".into()]));
    assert_eq!(zone.asked(), [""; 0]);
    let by_tcp = zone.find("gw.test:5080", Some(Transport::Tcp), ALL).await;
    assert_eq!(by_tcp, Ok(vec!["192.0.2.1:5080 tcp 0:0".into()]));
    assert_eq!(zone.asked(), ["IP gw.test"]);
}

#[tokio::test]
async fn naptr_picks_the_transports_in_its_order_of_those_we_speak() {
    let zone = Zone::default()
        .naptr(
            "carrier.test",
            &[
                (20, "s", "SIP+D2T", "_sip._tcp.carrier.test"),
                (10, "s", "SIPS+D2T", "_sips._tcp.carrier.test"),
                (5, "u", "E2U+sip", "elsewhere.test"),
                (30, "s", "SIP+D2U", "_sip._udp.carrier.test"),
            ],
        )
        .srv("_sip._tcp.carrier.test", &[(1, 0, 5070, "gw.carrier.test")])
        .srv("_sips._tcp.carrier.test", &[(1, 0, 5071, "gw.carrier.test")])
        .srv("_sip._udp.carrier.test", &[(1, 0, 5072, "gw.carrier.test")])
        .at("gw.carrier.test", &["192.0.2.1"]);
    let all = ["192.0.2.1:5071 tls 0:0", "192.0.2.1:5070 tcp 1:0", "192.0.2.1:5072 udp 2:0"];
    assert_eq!(zone.find("carrier.test", None, ALL).await.expect("found"), all);
    let plain = zone.find("carrier.test", None, Serves { tls: false, ..ALL }).await;
    assert_eq!(plain.expect("found"), ["192.0.2.1:5070 tcp 0:0", "192.0.2.1:5072 udp 1:0"]);
    let named = zone.find("carrier.test", Some(Transport::Udp), ALL).await;
    assert_eq!(named.expect("found"), ["192.0.2.1:5072 udp 0:0"]);
}

#[tokio::test]
async fn srv_ranks_by_priority_and_splits_a_weight_over_the_addresses_of_a_target() {
    let zone = Zone::default()
        .srv(
            "_sip._udp.carrier.test",
            &[(20, 0, 5060, "far.test"), (10, 30, 5060, "b.test"), (10, 70, 5064, "a.test")],
        )
        .at("a.test", &["192.0.2.1", "192.0.2.2"])
        .at("b.test", &["192.0.2.3", "2001:db8::3"])
        .at("far.test", &["192.0.2.4"]);
    let found = zone.find("carrier.test", None, ALL).await.expect("found");
    let expected = [
        "192.0.2.1:5064 udp 0:35",
        "192.0.2.2:5064 udp 0:35",
        "192.0.2.3:5060 udp 0:30",
        "[2001:db8::3]:5060 udp 1:30",
        "192.0.2.4:5060 udp 2:0",
    ];
    assert_eq!(found, expected);
    let ipv4 = zone.find("carrier.test", None, Serves { ipv6: false, ..ALL }).await;
    assert_eq!(ipv4.expect("found").len(), 4);
}

#[tokio::test]
async fn without_srv_the_host_itself_is_asked_for() {
    let zone = Zone::default().at("pbx.test", &["2001:db8::1", "192.0.2.1"]);
    let found = zone.find("pbx.test", None, ALL).await.expect("found");
    assert_eq!(found, ["192.0.2.1:5060 udp 0:0", "[2001:db8::1]:5060 udp 1:0"]);
    let asked =
        ["NAPTR pbx.test", "SRV _sip._udp.pbx.test", "SRV _sip._tcp.pbx.test", "IP pbx.test"];
    assert_eq!(zone.asked(), asked);
    let other = Serves { ipv4: false, ipv6: false, ..ALL };
    let error = zone.find("pbx.test", None, other).await;
    assert_eq!(error, Err("has no address of a family that we listen on".to_owned()));
    let error = zone.find("nobody.test", None, ALL).await;
    assert_eq!(error, Err("the name server knows no address of it".to_owned()));
}

#[tokio::test]
async fn a_service_that_is_said_to_be_absent_is_not_looked_for_elsewhere() {
    let zone =
        Zone::default().srv("_sip._udp.web.test", &[(0, 0, 0, ".")]).at("web.test", &["192.0.2.1"]);
    let error = zone.find("web.test", Some(Transport::Udp), ALL).await;
    assert_eq!(error, Err("says that it has no SIP server".to_owned()));
}

#[tokio::test]
async fn a_name_server_that_fails_is_not_taken_for_one_that_knows_nothing() {
    let mut zone = Zone::default().at("carrier.test", &["192.0.2.1"]);
    zone.failing = vec!["_sip._udp.carrier.test"];
    let error = zone.find("carrier.test", Some(Transport::Udp), ALL).await;
    assert_eq!(error, Err("timed out".to_owned()), "the host may be only the web's");
    // One target of two fails: the other one is used, and both are asked for again soon.
    let mut zone = Zone::default()
        .srv("_sip._udp.carrier.test", &[(1, 0, 5060, "a.test"), (2, 0, 5060, "b.test")])
        .at("b.test", &["192.0.2.2"]);
    zone.failing = vec!["a.test"];
    let dest = HostPort::parse("carrier.test").expect("a host");
    let found = find(&zone, &dest, None, ALL).await.expect("found");
    assert_eq!((found.hops.len(), found.partial, found.valid), (1, true, ASK_AGAIN));
}

#[tokio::test]
async fn what_is_found_holds_as_long_as_its_shortest_record() {
    let zone = Zone::default()
        .srv("_sip._udp.carrier.test", &[(1, 0, 5060, "a.test")])
        .at("a.test", &["192.0.2.1"]);
    let dest = HostPort::parse("carrier.test").expect("a host");
    let found = find(&zone, &dest, None, ALL).await.expect("found");
    assert_eq!(found.valid, Duration::from_secs(100));
}

#[tokio::test]
async fn an_answer_that_only_turns_round_is_the_same_answer() {
    let one = Zone::default().at("pool.test", &["192.0.2.2", "192.0.2.1", "192.0.2.3"]);
    let other = Zone::default().at("pool.test", &["192.0.2.3", "192.0.2.2", "192.0.2.1"]);
    let found = one.find("pool.test:5060", None, ALL).await;
    assert_eq!(found, other.find("pool.test:5060", None, ALL).await);
}

#[tokio::test]
async fn where_udp_is_off_a_bare_name_is_reached_over_tcp() {
    let zone = Zone::default().at("pbx.test", &["192.0.2.1"]);
    let found = zone.find("pbx.test", None, Serves { udp: false, ..ALL }).await;
    assert_eq!(found.expect("found"), ["192.0.2.1:5060 tcp 0:0"]);
}

#[tokio::test]
async fn a_carrier_with_a_thousand_addresses_fills_no_more_than_its_places() {
    let all: Vec<String> = (0..200).map(|last| format!("192.0.2.{last}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let zone = Zone::default().at("big.test", &all);
    let found = zone.find("big.test:5060", None, ALL).await.expect("found");
    assert_eq!(found.len(), ENTRANCES_PER_TRUNK_MAX);
}
