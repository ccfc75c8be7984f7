//! Name servers as they are: one that refuses, answers that do not fit, names that are other names.
//! Owns:  `Server`, a name server on a port of its own, over UDP and TCP, which says what a test wrote.
//! Gives: one test per kind of answer.
//! Never: a name server of this host; a wait that a test depends on.
//! Holds: what is asked is asked over real sockets, by the resolver that the gateway uses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use controlplane::names::{Missing, NameServers, Records, Serves, find};
use shared::config::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const A: u16 = 1;
const CNAME: u16 = 5;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// Name, type and data of a record.
type Record = (&'static str, u16, Vec<u8>);

#[derive(Debug, Default)]
struct Zone {
    answers: HashMap<(&'static str, u16), Vec<Record>>,
    /// Every question is answered with this code.
    refuses: Option<u8>,
    /// Over UDP nothing fits.
    is_long: bool,
    over_udp: AtomicUsize,
    over_tcp: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn with(mut self, name: &'static str, kind: u16, records: Vec<Record>) -> Self {
        self.answers.insert((name, kind), records);
        self
    }

    fn answer(&self, question: &[u8], over_tcp: bool) -> Vec<u8> {
        let count = if over_tcp { &self.over_tcp } else { &self.over_udp };
        count.fetch_add(1, Ordering::Relaxed);
        let (name, kind, end) = asked(question);
        self.asked.lock().expect("no test panics with it").push(format!("{name} {kind}"));
        let is_cut = self.is_long && !over_tcp;
        let mut found = self.answers.get(&(name.as_str(), kind)).cloned().unwrap_or_default();
        if is_cut || self.refuses.is_some() {
            found.clear();
        }
        let mut text = question[..2].to_vec();
        // Response, recursion desired and available; truncated.
        text.push(0x81 | if is_cut { 0x02 } else { 0 });
        text.push(0x80 | self.refuses.unwrap_or(0));
        text.extend([0, 1, 0, u8::try_from(found.len()).expect("few"), 0, 0, 0, 0]);
        text.extend(&question[12..end]);
        for (name, kind, rdata) in found {
            text.extend(labels(name));
            text.extend(kind.to_be_bytes());
            text.extend([0, 1, 0, 0, 0, 60]);
            text.extend(u16::try_from(rdata.len()).expect("short").to_be_bytes());
            text.extend(rdata);
        }
        text
    }
}

/// The name and type that are asked for, and where the question ends.
fn asked(question: &[u8]) -> (String, u16, usize) {
    let (mut at, mut name) = (12, String::new());
    while question[at] > 0 {
        let length = usize::from(question[at]);
        name.push_str(&String::from_utf8_lossy(&question[at + 1..=at + length]));
        name.push('.');
        at += length + 1;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    (name.trim_end_matches('.').to_ascii_lowercase(), kind, at + 5)
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn at(name: &'static str, ip: [u8; 4]) -> Record {
    (name, A, ip.to_vec())
}

fn alias(name: &'static str, of: &str) -> Record {
    (name, CNAME, labels(of))
}

fn service(name: &'static str, port: u16, target: &str) -> Record {
    let numbers = [0, 10, port].map(u16::to_be_bytes).concat();
    (name, SRV, [numbers, labels(target)].concat())
}

struct Server {
    at: SocketAddr,
    zone: Arc<Zone>,
}

impl Server {
    async fn start(zone: Zone) -> Self {
        let zone = Arc::new(zone);
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let at = tcp.local_addr().expect("an address");
            if let Ok(udp) = UdpSocket::bind(at).await {
                break (udp, tcp);
            }
        };
        let at = tcp.local_addr().expect("an address");
        tokio::spawn(by_udp(udp, Arc::clone(&zone)));
        tokio::spawn(by_tcp(tcp, Arc::clone(&zone)));
        Self { at, zone }
    }

    fn asked(&self) -> usize {
        self.zone.over_udp.load(Ordering::Relaxed) + self.zone.over_tcp.load(Ordering::Relaxed)
    }
}

async fn by_udp(socket: UdpSocket, zone: Arc<Zone>) {
    let mut bytes = [0; 1_500];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        let answer = zone.answer(&bytes[..length], false);
        drop(socket.send_to(&answer, from).await);
    }
}

async fn by_tcp(listener: TcpListener, zone: Arc<Zone>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let zone = Arc::clone(&zone);
        tokio::spawn(async move { while one_by_tcp(&mut stream, &zone).await.is_ok() {} });
    }
}

async fn one_by_tcp(stream: &mut TcpStream, zone: &Zone) -> std::io::Result<()> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await?;
    let answer = zone.answer(&question, true);
    stream.write_u16(u16::try_from(answer.len()).expect("short")).await?;
    stream.write_all(&answer).await
}

async fn addresses(servers: &[&Server], name: &str) -> Result<Vec<String>, Missing> {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.at).collect();
    let servers = NameServers::new(&servers).expect("a resolver");
    let answer = servers.addresses(name.to_owned()).await?;
    Ok(answer.records.iter().map(ToString::to_string).collect())
}

fn known() -> Zone {
    Zone::default().with("gw.test", A, vec![at("gw.test", [192, 0, 2, 7])])
}

/// Whichever of them is asked first, and however often: SERVFAIL and REFUSED are no answers.
#[tokio::test]
async fn a_server_that_refuses_is_not_the_last_word() {
    for code in [SERVFAIL, REFUSED] {
        let broken = Server::start(Zone { refuses: Some(code), ..Zone::default() }).await;
        let good = Server::start(known()).await;
        for servers in [[&broken, &good], [&good, &broken]] {
            let found = addresses(&servers, "gw.test").await;
            assert_eq!(found, Ok(vec!["192.0.2.7".to_owned()]), "code {code}");
        }
        assert!(broken.asked() > 0 && good.asked() > 0);
    }
}

#[tokio::test]
async fn when_all_refuse_nobody_could_say() {
    let zone = || Zone { refuses: Some(SERVFAIL), ..Zone::default() };
    let (one, other) = (Server::start(zone()).await, Server::start(zone()).await);
    let missing = addresses(&[&one, &other], "gw.test").await.expect_err("nobody knows");
    assert!(matches!(missing, Missing::Failed(_)), "{missing:?}");
    assert!(one.asked() < 20 && other.asked() < 20, "and nobody is asked without end");
}

/// RFC 7766: what does not fit into a datagram is asked for again over TCP.
#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let server = Server::start(Zone { is_long: true, ..known() }).await;
    assert_eq!(addresses(&[&server], "gw.test").await, Ok(vec!["192.0.2.7".to_owned()]));
    assert!(server.zone.over_tcp.load(Ordering::Relaxed) > 0);
}

/// The name of the service is an alias of an alias, as hosted carriers have it (RFC 1034 3.6.2), told in one
/// answer or step by step.
#[tokio::test]
async fn srv_records_behind_two_aliases_are_found() {
    const OWNER: &str = "_sip._udp.carrier.test";
    const HOSTED: &str = "_sip._udp.hosted.test";
    const REAL: &str = "_sip._udp.real.test";
    let (first, second) = (alias(OWNER, HOSTED), alias(HOSTED, REAL));
    let record = service(REAL, 5_080, "sip.real.test");
    let known = || {
        Zone::default()
            .with(OWNER, CNAME, vec![first.clone()])
            .with(HOSTED, CNAME, vec![second.clone()])
            .with(REAL, SRV, vec![record.clone()])
            .with("sip.real.test", A, vec![at("sip.real.test", [192, 0, 2, 11])])
    };
    let whole = known().with(OWNER, SRV, vec![first.clone(), second.clone(), record.clone()]).with(
        HOSTED,
        SRV,
        vec![second.clone(), record.clone()],
    );
    let in_parts =
        known().with(OWNER, SRV, vec![first.clone()]).with(HOSTED, SRV, vec![second.clone()]);
    for zone in [whole, in_parts] {
        let server = Server::start(zone).await;
        let servers = NameServers::new(&[server.at]).expect("a resolver");
        let dest = HostPort::parse("carrier.test").expect("a host");
        let serves = Serves { udp: true, tcp: false, tls: false, ipv4: true, ipv6: false };
        let udp = Some(shared::net::Transport::Udp);
        let found = find(&servers, &dest, udp, serves).await;
        let found = found.map(|found| found.hops.iter().map(|hop| hop.address).collect::<Vec<_>>());
        let asked = server.zone.asked.lock().expect("no test panics with it").clone();
        let expected = vec!["192.0.2.11:5080".parse().expect("an address")];
        assert_eq!(found, Ok(expected), "{asked:?}");
    }
}

/// Aliases that lead round in a circle end, and nobody is asked without end.
#[tokio::test]
async fn aliases_that_lead_in_a_circle_are_no_address() {
    const OWNER: &str = "_sip._udp.carrier.test";
    const OTHER: &str = "_sip._udp.other.test";
    let (there, back) = (alias(OWNER, OTHER), alias(OTHER, OWNER));
    let zone = Zone::default()
        .with(OWNER, SRV, vec![there.clone()])
        .with(OTHER, SRV, vec![back.clone()])
        .with(OWNER, CNAME, vec![there])
        .with(OTHER, CNAME, vec![back]);
    let server = Server::start(zone).await;
    let servers = NameServers::new(&[server.at]).expect("a resolver");
    let dest = HostPort::parse("carrier.test").expect("a host");
    let serves = Serves { udp: true, tcp: false, tls: false, ipv4: true, ipv6: false };
    let found = find(&servers, &dest, Some(shared::net::Transport::Udp), serves).await;
    assert!(found.is_err(), "{found:?}");
    assert!(server.asked() < 100, "{}", server.asked());
}

/// RFC 2782 forbids it and carriers do it: the target of an SRV record is an alias, whose own address comes
/// with it or has to be asked for.
#[tokio::test]
async fn an_srv_target_behind_an_alias_is_found() {
    const OWNER: &str = "_sip._udp.carrier.test";
    let target = alias("sip.carrier.test", "edge.test");
    let edge = at("edge.test", [192, 0, 2, 9]);
    let record = |name| service(name, 5_070, "sip.carrier.test");
    let whole = Zone::default().with(OWNER, SRV, vec![record(OWNER)]).with(
        "sip.carrier.test",
        A,
        vec![target.clone(), edge.clone()],
    );
    let in_parts = Zone::default()
        .with(OWNER, SRV, vec![record(OWNER)])
        .with("sip.carrier.test", A, vec![target.clone()])
        .with("edge.test", A, vec![edge.clone()]);
    for zone in [whole, in_parts] {
        let server = Server::start(zone).await;
        let servers = NameServers::new(&[server.at]).expect("a resolver");
        let dest = HostPort::parse("carrier.test").expect("a host");
        let serves = Serves { udp: true, tcp: false, tls: false, ipv4: true, ipv6: false };
        let udp = Some(shared::net::Transport::Udp);
        let found = find(&servers, &dest, udp, serves).await;
        let found = found.map(|found| found.hops.iter().map(|hop| hop.address).collect::<Vec<_>>());
        let asked = server.zone.asked.lock().expect("no test panics with it").clone();
        let expected = vec!["192.0.2.9:5070".parse().expect("an address")];
        assert_eq!(found, Ok(expected), "{asked:?}");
    }
}
