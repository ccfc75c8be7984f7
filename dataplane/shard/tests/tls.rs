//! SIP over TLS on the real data plane: rustls phones, and openssl, which we did not write.
//! Owns:  certificates for a test; phones that speak TLS.
//! Gives: proof that a phone registers, is called and is hung up over its flow, that a new certificate
//!        drops nothing, and that a start without usable files is one line.
//! Never: sleeps: sockets and events are waited for, with deadlines.
//! Holds: every shard that a test starts is joined by it.

mod plane;
mod tls_ends;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use plane::{DEADLINE, Phone, Plane, audio, folder, options, settings, value, vias};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use shard::{Keys, spawn};
use shared::metrics::Counter;
use shared::net::Transport;
use shared::settings::{ShardSettings, TlsFiles};
use shared::snapshot::{Secret, Snapshot, Trunk, User};
use tls_ends::{NAME, certify, next_message, secure};

fn start(test: &str, count: u8, snapshot: Snapshot, first_port: u16) -> (Plane, TlsFiles) {
    let files = certify(&folder(test).join("tls"));
    let secure = |settings: &mut ShardSettings| {
        settings.tls = vec!["127.0.0.1:0".parse().expect("an address")];
        settings.tls_files = Some(files.clone());
    };
    (Plane::start_with(test, count, snapshot, first_port, secure), files)
}

/// A phone that believes one certificate.
struct Secure(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Secure {
    fn dial(at: SocketAddr, believed: &Path) -> Self {
        let stream = TcpStream::connect(at).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        Self(BufReader::new(secure(stream, believed)))
    }

    /// Whether whoever listens there bears this certificate.
    fn is_believed(at: SocketAddr, believed: &Path) -> bool {
        let mut phone = Self::dial(at, believed);
        let StreamOwned { conn, sock } = phone.0.get_mut();
        conn.complete_io(sock).is_ok()
    }

    fn local(&self) -> SocketAddr {
        self.0.get_ref().sock.local_addr().expect("connected")
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    /// The next message, which starts so.
    fn hear(&mut self, start: &str) -> String {
        starting(&mut self.0, start)
    }

    fn register(&mut self, user: &str) {
        let local = self.local();
        let text = |cseq: u8, extra: &str| {
            format!(
                "REGISTER sip:smoke.test SIP/2.0\r\n\
                 Via: SIP/2.0/TLS {local};rport;branch=z9hG4bKreg{cseq}\r\nMax-Forwards: 70\r\n\
                 From: <sip:{user}@smoke.test>;tag=r\r\nTo: <sip:{user}@smoke.test>\r\n\
                 Call-ID: register-{local}\r\nCSeq: {cseq} REGISTER\r\n\
                 Contact: <sip:{user}@{local};transport=tls>\r\n{extra}Content-Length: 0\r\n\r\n"
            )
        };
        self.send(&text(1, ""));
        let challenge = self.hear("SIP/2.0 401");
        let line = value(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let uri = "sip:smoke.test";
        let credentials = sip::auth::answer(&parsed, user, "secret", "REGISTER", uri, 1, "abc");
        self.send(&text(2, &format!("Authorization: {credentials}\r\n")));
        self.hear("SIP/2.0 200");
    }
}

/// The next message of a stream, which starts so.
fn starting(stream: &mut impl BufRead, start: &str) -> String {
    let text = next_message(stream, start);
    assert!(text.starts_with(start), "{text}");
    text
}

fn snapshot() -> Snapshot {
    let user = User {
        username: "1002".into(),
        secret: Secret::Plain("secret".into()),
        display_name: None,
        enabled: true,
        allow_guest_calls: true,
        forwarding: None,
        backend: 0,
    };
    let users = Arc::new([("1002".into(), Arc::new(user))].into_iter().collect());
    Snapshot { users, ..Snapshot::default() }
}

fn from_caller(caller: &Phone, method: &str, cseq: u8, to: &str, body: &str) -> String {
    let at = caller.address();
    format!(
        "{method} sip:1002@smoke.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK{method}{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:1000@smoke.test>;tag=caller\r\nTo: {to}\r\nCall-ID: tls-call\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:1000@{at}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(phone: &Secure, request: &str, body: &str) -> String {
    let to = value(request, "To").split(";tag=").next().unwrap_or_default();
    format!(
        "SIP/2.0 200 OK\r\n{}From: {}\r\nTo: {to};tag=callee\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:1002@{};transport=tls>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        vias(request),
        value(request, "From"),
        value(request, "Call-ID"),
        value(request, "CSeq"),
        phone.local(),
        body.len()
    )
}

/// The AOR may live on another shard than the flow.
#[test]
fn a_phone_registers_and_is_called_over_its_own_flow() {
    let (mut plane, files) = start("tls-call", 2, snapshot(), 45_000);
    let at = plane.address(Transport::Tls);
    let mut callee = Secure::dial(at, &files.certificate);
    callee.register("1002");
    let (caller, caller_media, callee_media) = (Phone::new(), Phone::new(), Phone::new());
    let gateway = plane.address(Transport::Udp);
    let offer = audio(&caller_media.0);
    let anyone = "<sip:1002@smoke.test>";
    caller.send(gateway, &from_caller(&caller, "INVITE", 1, anyone, &offer));
    let invited = callee.hear("INVITE ");
    let via = format!("SIP/2.0/TLS {at};");
    assert!(value(&invited, "Via").starts_with(&via), "{invited}");
    assert_eq!(value(&invited, "Contact"), format!("<sip:{at};transport=tls>"));
    let answer = ok(&callee, &invited, &audio(&callee_media.0));
    callee.send(&answer);
    callee.hear("ACK ");
    let answered = caller.hear("SIP/2.0 200");
    let to = value(&answered, "To").to_owned();
    caller.send(gateway, &from_caller(&caller, "ACK", 1, &to, ""));
    caller.send(gateway, &from_caller(&caller, "BYE", 2, &to, ""));
    let bye = callee.hear("BYE ");
    let answer = ok(&callee, &bye, "");
    callee.send(&answer);
    caller.hear("SIP/2.0 200");
    plane.event("the end of the call", |event| match event {
        shared::event::Event::Journaled { ends: 1, .. } => Some(()),
        _ => None,
    });
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::TlsHandshakes), 1);
    assert_eq!(counters.of(Counter::RegistrationsAccepted), 1);
    assert_eq!((counters.of(Counter::FlowsCut), counters.of(Counter::Calls)), (0, 0));
}

/// A trunk with this certificate that refuses the one call it gets; gives the INVITE.
fn busy_trunk(listener: TcpListener, files: &TlsFiles) -> JoinHandle<String> {
    let certificate = CertificateDer::from_pem_file(&files.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&files.private_key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    let connection = ServerConnection::new(Arc::new(config.expect("keys"))).expect("a server");
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let invite = starting(&mut stream, "INVITE ");
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
        starting(&mut stream, "ACK ");
        invite
    })
}

#[test]
fn a_trunk_is_called_over_tls_under_the_name_of_its_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let carrier = listener.local_addr().expect("bound");
    let local = Some(carrier.ip());
    let mut trunk = Trunk::plain("secure", NAME, carrier, Transport::Tls);
    trunk.entrances[0].local = local;
    let snapshot = Snapshot { trunks: Arc::new(vec![trunk]), ..Snapshot::default() };
    let (plane, files) = start("tls-trunk", 1, snapshot, 49_000);
    let trunk = busy_trunk(listener, &files);
    let (caller, media) = (Phone::new(), Phone::new());
    let gateway = plane.address(Transport::Udp);
    let target = format!("sip:0123456@{NAME}:{}", carrier.port());
    let to = format!("<{target}>");
    let dial = |method, to: &str, body: &str| {
        let text = from_caller(&caller, method, 1, to, body);
        caller.send(gateway, &text.replacen("sip:1002@smoke.test", &target, 1));
    };
    dial("INVITE", &to, &audio(&media.0));
    let refused = caller.hear("SIP/2.0 486");
    dial("ACK", value(&refused, "To"), "");
    let invite = trunk.join().expect("it was called");
    let at = plane.address(Transport::Tls);
    assert!(value(&invite, "Via").starts_with(&format!("SIP/2.0/TLS {at};")), "{invite}");
    assert_eq!(value(&invite, "Contact"), format!("<sip:{at};transport=tls>"));
    assert_eq!(plane.stop().of(Counter::TlsHandshakes), 1);
}

#[test]
fn openssl_is_answered() {
    let (plane, files) = start("tls-openssl", 1, Snapshot::default(), 46_000);
    let at = plane.address(Transport::Tls).to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut openssl = Program::new("openssl")
            .args(["s_client", "-connect", &at, version, "-quiet", "-servername", NAME])
            .args(["-verify_return_error", "-verify_hostname", NAME, "-CAfile"])
            .arg(&files.certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut stdin = openssl.stdin.take().expect("piped");
        stdin.write_all(options("openssl", "TLS").as_bytes()).expect("sent");
        let mut answer = BufReader::new(openssl.stdout.take().expect("piped"));
        let mut line = String::new();
        answer.read_line(&mut line).expect("a line");
        assert_eq!(line, "SIP/2.0 200 OK\r\n", "{version}");
        openssl.kill().expect("it runs");
        openssl.wait().expect("it ended");
    }
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::TlsHandshakes), 2);
    assert_eq!(counters.of(Counter::TlsHandshakesFailed), 0);
}

/// Flows that stood before go on, and so does what was registered over them.
#[test]
fn a_new_certificate_is_shown_to_new_phones_and_drops_no_flow() {
    let (mut plane, old) = start("tls-renew", 2, snapshot(), 48_000);
    let at = plane.address(Transport::Tls);
    let mut standing: Vec<Secure> = (0..6).map(|_| Secure::dial(at, &old.certificate)).collect();
    standing[0].register("1002");
    for (number, phone) in standing.iter_mut().enumerate() {
        phone.send(&options(&format!("before-{number}"), "TLS"));
        phone.hear("SIP/2.0 200");
    }
    let new = certify(&plane.folder.join("new"));
    let broken = TlsFiles { private_key: old.private_key.clone(), ..new.clone() };
    Keys::read(&broken).expect_err("they do not belong together");
    plane.shards.renew(&Arc::new(Keys::read(&new).expect("keys")));
    // Each shard takes them within a second, and the kernel picks the shard of a connection.
    let give_up_at = std::time::Instant::now() + DEADLINE;
    let mut in_a_row = 0;
    while in_a_row < 16 {
        assert!(std::time::Instant::now() < give_up_at, "the new certificate was never shown");
        in_a_row = if Secure::is_believed(at, &new.certificate) { in_a_row + 1 } else { 0 };
    }
    assert!(!Secure::is_believed(at, &old.certificate));
    for (number, phone) in standing.iter_mut().enumerate() {
        phone.send(&options(&format!("after-{number}"), "TLS"));
        phone.hear("SIP/2.0 200");
    }
    let caller = Phone::new();
    let gateway = plane.address(Transport::Udp);
    let media = Phone::new();
    let offer = audio(&media.0);
    caller.send(gateway, &from_caller(&caller, "INVITE", 1, "<sip:1002@smoke.test>", &offer));
    let invited = standing[0].hear("INVITE ");
    let busy = ok(&standing[0], &invited, "").replace("200 OK", "486 Busy Here");
    standing[0].send(&busy);
    standing[0].hear("ACK ");
    let refused = caller.hear("SIP/2.0 486");
    let to = value(&refused, "To").to_owned();
    caller.send(gateway, &from_caller(&caller, "ACK", 1, &to, ""));
    plane.event("the end of the call", |event| match event {
        shared::event::Event::Journaled { ends: 1, .. } => Some(()),
        _ => None,
    });
    assert_eq!(plane.stop().of(Counter::FlowsCut), 0);
}

#[test]
fn a_start_without_usable_files_is_one_line_and_leaves_nothing_behind() {
    let folder = folder("tls-files");
    let files = certify(&folder.join("tls"));
    let start = |files: TlsFiles| {
        let mut one = settings(0, 1, &folder, 47_000);
        one.tls = vec!["127.0.0.1:0".parse().expect("an address")];
        one.tls_files = Some(files);
        spawn(vec![one], Arc::default()).expect_err("refused").to_string()
    };
    let missing = folder.join("missing.pem");
    let line = start(TlsFiles { certificate: missing.clone(), ..files.clone() });
    let named = format!("TLS cannot use {}: No such file", missing.display());
    assert!(line.starts_with(&named), "{line}");
    let other = certify(&folder.join("other"));
    let line = start(TlsFiles { private_key: other.private_key, ..files });
    assert!(line.contains("it is not the key of"), "{line}");
    std::fs::remove_dir_all(folder).expect("it was made");
}
