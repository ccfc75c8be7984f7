//! TLS where both sides show a certificate, on the real data plane: rustls, and openssl, which we did not
//! write, as carriers at either end.
//! Owns:  authorities for a test; clients and servers that show a certificate or none.
//! Gives: proof whose calls are a trunk's, who is sent away and how that is told, and that a carrier which
//!        refuses us is left for the next one.
//! Never: sleeps: sockets and events are waited for, with deadlines.
//! Holds: every shard and every program that a test starts is ended by it.

mod authority;
mod plane;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use authority::{Authority, plain};
use plane::{DEADLINE, Phone, Plane, audio, folder, value, vias};
use rcgen::SanType;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use shared::config::Network;
use shared::document::Flaws;
use shared::event::Event;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::route::RouteTable;
use shared::settings::{ClientFiles, ShardSettings, TlsFiles};
use shared::snapshot::{Secret, Snapshot, Trunk, User};
use shared::trunk_options::TrunkOptions;

const NAME: &str = "pbx.test";

/// 1002 is not registered: who may call hears 480, who is nobody in particular 407.
fn snapshot() -> Snapshot {
    let user = User {
        username: "1002".into(),
        secret: Secret::Plain("secret".into()),
        display_name: None,
        enabled: true,
        allow_guest_calls: false,
        forwarding: None,
        backend: 0,
    };
    let names = ["sbc.test", "uri.test", "common.test"];
    let options = TrunkOptions { tls_names: names.map(Into::into).to_vec(), ..Default::default() };
    let elsewhere = "192.0.2.1:5060".parse().expect("an address");
    let trunk = Trunk {
        options: Arc::new(options),
        ..Trunk::plain("carrier", "carrier.test", elsewhere, Transport::Udp)
    };
    let users = Arc::new([("1002".into(), Arc::new(user))].into_iter().collect());
    Snapshot { users, trunks: Arc::new(vec![trunk]), ..Snapshot::default() }
}

/// A gateway that believes clients and servers of these authorities, and itself is `NAME`.
fn start(test: &str, ports: u16, snapshot: Snapshot, files: TlsFiles) -> Plane {
    let secure = |settings: &mut ShardSettings| {
        settings.tls = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.tls_files = Some(files.clone());
        settings.call_auth = true;
    };
    Plane::start_with(test, 2, snapshot, ports, secure)
}

fn files(own: &ClientFiles, clients: &Authority) -> TlsFiles {
    TlsFiles {
        certificate: own.certificate.clone(),
        private_key: own.private_key.clone(),
        authorities: vec![clients.certificate.clone()],
        client_authorities: vec![clients.certificate.clone()],
        clients: Vec::new(),
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("a key")
}

fn believing(authority: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)).expect("it can be believed");
    roots
}

struct Client(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Client {
    fn dial(at: SocketAddr, believed: &Path, shown: Option<&ClientFiles>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = builder.with_root_certificates(believing(believed));
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(
                    vec![certificate(&files.certificate)],
                    key(&files.private_key),
                )
                .expect("they belong together"),
        };
        let stream = TcpStream::connect(at).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let name = ServerName::try_from(NAME).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        Self(BufReader::new(StreamOwned::new(connection, stream)))
    }

    /// The status of the final answer to an INVITE of this call.
    fn invite(&mut self, call: &str) -> String {
        self.0.get_mut().write_all(invite(call).as_bytes()).expect("sent");
        loop {
            let head = self.head();
            let status = head.split(' ').nth(1).expect("a status").to_owned();
            if head.contains(&format!("Call-ID: {call}\r\n")) && !status.starts_with('1') {
                return status;
            }
        }
    }

    /// The next message, none of which has a body.
    fn head(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut text).expect("an answer");
            assert!(read > 0, "the end came after {text:?}");
        }
        text
    }

    /// Whether the connection ends without an answer.
    fn is_sent_away(&mut self) -> bool {
        let mut read = Vec::new();
        // With TLS 1.3 the refusal comes behind what we send.
        let sent = self.0.get_mut().write_all(invite("refused").as_bytes());
        sent.is_err() || self.0.read_to_end(&mut read).map_or(true, |_| read.is_empty())
    }
}

fn invite(call: &str) -> String {
    format!(
        "INVITE sip:1002@smoke.test SIP/2.0\r\n\
         Via: SIP/2.0/TLS 127.0.0.1:9;rport;branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
         From: <sip:+4930@far.test>;tag={call}\r\nTo: <sip:1002@smoke.test>\r\n\
         Call-ID: {call}\r\nCSeq: 1 INVITE\r\nContact: <sip:far@127.0.0.1:9>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_client_is_the_trunk_that_its_certificate_names_on_every_shard() {
    let folder = folder("mutual-in").join("tls");
    let carriers = Authority::new(&folder, "carriers");
    let own = carriers.named("own", NAME);
    let mut uri = plain("somebody", &["dns.test"]);
    let text = "sip:URI.test".try_into().expect("ASCII");
    uri.subject_alt_names.push(SanType::URI(text));
    let shown = [
        carriers.named("dns", "sbc.test"),
        carriers.issue("uri", &uri),
        carriers.issue("common", &plain("common.test", &[])),
    ];
    let plane = start("mutual-in", 53_000, snapshot(), files(&own, &carriers));
    let at = plane.address(Transport::Tls);
    let mut phone = Client::dial(at, &carriers.certificate, None);
    for (number, files) in shown.iter().enumerate() {
        let mut trunk = Client::dial(at, &carriers.certificate, Some(files));
        // Eight Call-IDs are on both shards but once in a hundred names.
        for call in 0..8 {
            assert_eq!(trunk.invite(&format!("call-{number}-{call}")), "480", "{number} {call}");
            assert_eq!(phone.invite(&format!("other-{number}-{call}")), "407", "{number} {call}");
        }
    }
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::TlsHandshakes), 4);
    assert_eq!(counters.of(Counter::TlsNamesUnknown), 0);
}

#[test]
fn who_has_no_right_to_a_name_is_sent_away_and_told_apart_and_phones_go_on() {
    let folder = folder("mutual-out").join("tls");
    let carriers = Authority::new(&folder, "carriers");
    let strangers = Authority::new(&folder, "strangers");
    let own = carriers.named("own", NAME);
    let mut expired = plain("a host", &["sbc.test"]);
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let refused = [
        (strangers.named("stranger", "sbc.test"), "UnknownIssuer"),
        (carriers.issue("expired", &expired), "expired"),
        (carriers.named("other", "other.test"), "tls_name_unknown"),
        (carriers.named("wild", "*.test"), "tls_name_unknown"),
    ];
    let mut plane = start("mutual-out", 54_000, snapshot(), files(&own, &carriers));
    let at = plane.address(Transport::Tls);
    let mut phone = Client::dial(at, &carriers.certificate, None);
    assert_eq!(phone.invite("first"), "407");
    for (number, (files, reason)) in refused.iter().enumerate() {
        let mut client = Client::dial(at, &carriers.certificate, Some(files));
        assert!(client.is_sent_away(), "{reason}");
        let line = plane.event(reason, |event| match event {
            Event::Notice(notice) if notice.detail.contains(reason) => Some(notice.detail.clone()),
            _ => None,
        });
        assert!(line.starts_with("security event=tls_"), "{line}");
        assert_eq!(phone.invite(&format!("after-{number}")), "407");
        plane.events.retain(|event| !matches!(event, Event::Notice(_)));
    }
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::TlsFailedCertificate), 2);
    assert_eq!(counters.of(Counter::TlsHandshakesFailed), 2);
    assert_eq!(counters.of(Counter::TlsNamesUnknown), 2);
}

/// A program that is ended with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().expect("it ended");
    }
}

fn openssl(arguments: &[&str], files: Option<&ClientFiles>, authority: &Path) -> Running {
    let mut program = Program::new("openssl");
    program.args(arguments).arg("-CAfile").arg(authority);
    if let Some(files) = files {
        program.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.private_key);
    }
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Running(program.spawn().expect("openssl is installed"))
}

#[test]
fn openssl_with_a_certificate_is_the_trunk_and_without_one_nobody() {
    let folder = folder("mutual-client").join("tls");
    let carriers = Authority::new(&folder, "carriers");
    let own = carriers.named("own", NAME);
    let client = carriers.named("client", "sbc.test");
    let plane = start("mutual-client", 55_000, snapshot(), files(&own, &carriers));
    let at = plane.address(Transport::Tls).to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        for (shown, expected) in [(Some(&client), "480"), (None, "407")] {
            let arguments = ["s_client", "-connect", &at, version, "-quiet", "-servername", NAME];
            let mut openssl = openssl(&arguments, shown, &carriers.certificate);
            let mut stdin = openssl.0.stdin.take().expect("piped");
            let call = format!("openssl{version}-{expected}");
            stdin.write_all(invite(&call).as_bytes()).expect("sent");
            let stdout = BufReader::new(openssl.0.stdout.take().expect("piped"));
            let mut statuses = stdout.lines().map(|line| line.expect("text"));
            let mut statuses = statuses.by_ref().filter(|line| line.starts_with("SIP/2.0 "));
            let last = statuses.find(|line| !line.starts_with("SIP/2.0 1")).expect("an answer");
            assert!(last.starts_with(&format!("SIP/2.0 {expected}")), "{version}: {last}");
        }
    }
    plane.stop();
}

/// A trunk at this address, under the name in the certificates of carriers here.
fn carrier(name: &str, at: SocketAddr, shown: Option<&ClientFiles>) -> Trunk {
    let options = TrunkOptions { client_files: shown.cloned(), ..TrunkOptions::default() };
    let mut trunk = Trunk::plain(name, "carrier.test", at, Transport::Tls);
    trunk.entrances[0].local = Some(at.ip());
    Trunk { options: Arc::new(options), ..trunk }
}

/// Calls go to these, one after the other.
fn hunting(trunks: Vec<Trunk>) -> Snapshot {
    let names: Vec<&str> = trunks.iter().map(|trunk| &*trunk.name).collect();
    let caller = carrier("caller", "127.0.0.1:9".parse().expect("an address"), None);
    let caller =
        Trunk { inbound_networks: vec![Network::parse("127.0.0.0/8").expect("one")], ..caller };
    let document = serde_json::json!({
        "name": "out", "match": { "to.user": "^0" }, "dest": names, "select": "sequential",
    });
    let mut flaws = Flaws::default();
    let route = shared::route::check(&document, &Default::default(), &mut flaws);
    let routes = RouteTable::sorted(vec![route.unwrap_or_else(|| panic!("{flaws:?}"))], None);
    let trunks = Arc::new([trunks, vec![caller]].concat());
    Snapshot { trunks, routes: Arc::new(routes), ..Snapshot::default() }
}

fn dial(plane: &Plane, caller: &Phone, method: &str, to: &str, body: &str) {
    let at = caller.address();
    let text = format!(
        "{method} sip:0301234@smoke.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};rport;branch=z9hG4bKdial\r\nMax-Forwards: 70\r\n\
         From: <sip:+4930@far.test>;tag=caller\r\nTo: {to}\r\nCall-ID: mutual-call\r\n\
         CSeq: 1 {method}\r\nContact: <sip:far@{at}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    caller.send(plane.address(Transport::Udp), &text);
}

/// The caller is not let through, and says that it has heard so.
fn refused(plane: &Plane, caller: &Phone, status: &str) {
    let heard = caller.hear(&format!("SIP/2.0 {status}"));
    dial(plane, caller, "ACK", value(&heard, "To"), "");
}

/// A carrier that lets in clients of `believed` alone: who came in, or why not.
fn strict(
    own: &ClientFiles,
    believed: &Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> (SocketAddr, JoinHandle<Result<String, String>>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = Arc::new(believing(believed));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate(&own.certificate)], key(&own.private_key))
        .expect("a configuration");
    let connection = ServerConnection::new(Arc::new(config)).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let work = move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        busy(&mut BufReader::new(StreamOwned::new(connection, stream)))
    };
    (at, std::thread::spawn(work))
}

/// Answers one INVITE.
fn busy(
    stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>,
) -> Result<String, String> {
    let mut invite = String::new();
    while !invite.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut invite).map_err(|error| error.to_string())?;
        assert!(read > 0, "the end came after {invite:?}");
    }
    let length = value(&invite, "Content-Length").parse().expect("a length");
    stream.read_exact(&mut vec![0; length]).map_err(|error| error.to_string())?;
    let busy = format!(
        "SIP/2.0 486 Busy Here\r\n{}From: {}\r\nTo: {};tag=trunk\r\nCall-ID: {}\r\n\
         CSeq: {}\r\nContent-Length: 0\r\n\r\n",
        vias(&invite),
        value(&invite, "From"),
        value(&invite, "To"),
        value(&invite, "Call-ID"),
        value(&invite, "CSeq")
    );
    stream.get_mut().write_all(busy.as_bytes()).expect("sent");
    let mut ack = String::new();
    stream.read_line(&mut ack).map_err(|error| error.to_string())?;
    assert!(ack.starts_with("ACK "), "{ack}");
    Ok(invite)
}

/// With TLS 1.3 our INVITE has left when the refusal comes; the call goes on to the next trunk all the
/// same, long before anything would time out.
#[test]
fn a_carrier_that_refuses_our_certificate_is_left_for_the_next_trunk() {
    for (test, ports, version) in [
        ("mutual-next-2", 56_000, &rustls::version::TLS12),
        ("mutual-next-3", 57_000, &rustls::version::TLS13),
    ] {
        let folder = folder(test).join("tls");
        let carriers = Authority::new(&folder, "carriers");
        let strangers = Authority::new(&folder, "strangers");
        let [own, ours] = [carriers.named("own", NAME), carriers.named("ours", NAME)];
        let server = carriers.named("server", "carrier.test");
        let (first_at, first) = strict(&server, &strangers.certificate, version);
        let (next_at, next) = strict(&server, &carriers.certificate, version);
        let files = TlsFiles { clients: vec![ours.clone()], ..files(&own, &carriers) };
        let trunks =
            vec![carrier("first", first_at, Some(&ours)), carrier("next", next_at, Some(&ours))];
        let mut plane = start(test, ports, hunting(trunks), files);
        let (caller, media) = (Phone::new(), Phone::new());
        dial(&plane, &caller, "INVITE", "<sip:0301234@smoke.test>", &audio(&media.0));
        refused(&plane, &caller, "486");
        let refusal = first.join().expect("it was called").expect_err("it refused");
        assert!(refusal.contains("certificate"), "{refusal}");
        let invite = next.join().expect("it was called").expect("it let us in");
        assert!(invite.starts_with("INVITE sip:0301234@carrier.test"), "{invite}");
        let line = plane.event("the reason", |event| match event {
            Event::Notice(notice) if notice.code == "tls_failed" => Some(notice.detail.clone()),
            _ => None,
        });
        let start = format!("to 127.0.0.1 port {}: the TLS handshake failed", first_at.port());
        assert!(line.starts_with(&start), "{line}");
        let counters = plane.stop();
        assert_eq!(counters.of(Counter::TlsHandshakesFailed), 1);
        assert_eq!(counters.of(Counter::TlsFailedCertificate), 1);
    }
}

/// openssl as a carrier that demands a certificate of the authority; what it says on its output.
fn demanding(
    server: &ClientFiles,
    authority: &Path,
    version: &str,
) -> (SocketAddr, Running, impl Iterator<Item = String>) {
    let arguments =
        ["s_server", "-accept", "127.0.0.1:0", version, "-Verify", "2", "-verify_return_error"];
    let mut openssl = openssl(&arguments, Some(server), authority);
    let stdout = BufReader::new(openssl.0.stdout.take().expect("piped"));
    let mut lines = stdout.lines().map(|line| line.expect("text"));
    let at = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned));
    let at = at.expect("it listens").parse().expect("an address");
    (at, openssl, lines)
}

#[test]
fn openssl_that_demands_a_certificate_gets_ours_with_the_call() {
    for (test, ports, version) in
        [("mutual-server-2", 58_000, "-tls1_2"), ("mutual-server-3", 59_000, "-tls1_3")]
    {
        let folder = folder(test).join("tls");
        let carriers = Authority::new(&folder, "carriers");
        let own = carriers.named("own", NAME);
        let ours = carriers.issue("ours", &plain("customer 4711", &[NAME]));
        let server = carriers.named("server", "carrier.test");
        // The first trunk shows nothing, and the same carrier lets nobody in who does so.
        let (first_at, _first, _) = demanding(&server, &carriers.certificate, version);
        let (next_at, next, mut lines) = demanding(&server, &carriers.certificate, version);
        let files = TlsFiles { clients: vec![ours.clone()], ..files(&own, &carriers) };
        let trunks = vec![carrier("first", first_at, None), carrier("next", next_at, Some(&ours))];
        let plane = start(test, ports, hunting(trunks), files);
        let (caller, media) = (Phone::new(), Phone::new());
        dial(&plane, &caller, "INVITE", "<sip:0301234@smoke.test>", &audio(&media.0));
        let subject = lines.find(|line| line.contains("customer 4711")).expect("it saw us");
        assert!(subject.contains("CN"), "{subject}");
        let invite = lines.find(|line| line.contains("INVITE sip:0301234@carrier.test")).is_some();
        assert!(invite, "the INVITE came");
        // It goes, without a word about the call: the caller hears that at once.
        drop(next);
        refused(&plane, &caller, "5");
        assert_eq!(plane.stop().of(Counter::TlsHandshakesFailed), 1);
    }
}
