//! The real thing, small: shards on this machine's CPUs, sockets on 127.0.0.1, the real core.
//! Owns:  a call between two phones; the plane and its phones are in `plane`.
//! Gives: proof that start, SIP over UDP and TCP, a call with media and its capture, and stop work
//!        together; everything finer is tested where it is written, or in the simulator.
//! Never: sleeps: sockets and events are waited for, with deadlines.
//! Holds: every shard that a test starts is joined by it.

mod plane;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use plane::{
    DEADLINE, Phone, Plane, audio, audio_port, folder, options, rtp, settings, trunk, value, vias,
};
use shard::{StartError, spawn};
use shared::cdr::{CallStatus, HangupReason};
use shared::command::{Command, Question};
use shared::event::{Answer, CaptureClosed, Event};
use shared::ids::ShardId;
use shared::journal::Entry;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::snapshot::Snapshot;

const MEDIA_PACKETS: u16 = 200;

#[test]
fn options_is_answered_over_udp_and_over_tcp_in_pieces() {
    let mut plane = Plane::start("options", 2, Snapshot::default(), 41_000);
    for shard in 0..2 {
        plane.event("Started", |event| match event {
            Event::Started(id) => (id.0 == shard).then_some(()),
            _ => None,
        });
    }
    let udp = plane.address(Transport::Udp);
    // Several phones and Call-IDs: some of the messages have to change shards.
    for number in 0..8 {
        let phone = Phone::new();
        phone.send(udp, &options(&format!("udp-{number}"), "UDP"));
        let answer = phone.hear("SIP/2.0 200");
        assert_eq!(value(&answer, "Call-ID"), format!("udp-{number}"));
        assert!(answer.contains(&format!("rport={}", phone.address().port())), "{answer}");
    }
    let mut stream = TcpStream::connect(plane.address(Transport::Tcp)).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    stream.set_nodelay(true).expect("open");
    for piece in options("tcp-1", "TCP").as_bytes().chunks(7) {
        stream.write_all(piece).expect("sent");
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"SIP/2.0 200 ");
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the rest of the answer");
        rest.push(byte[0]);
    }
    stream.write_all(b"\r\n\r\n").expect("sent");
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).expect("a pong");
    assert_eq!(&pong, b"\r\n");
    // What cannot be cut is answered where that can be done, and the flow ends.
    let broken = options("tcp-2", "TCP").replace("Content-Length: 0\r\n", "");
    stream.write_all(broken.as_bytes()).expect("sent");
    let mut end = String::new();
    stream.read_to_string(&mut end).expect("an answer, then the end");
    assert!(end.starts_with("SIP/2.0 400") && end.contains("tcp-2"), "{end:?}");
    let tcp = plane.address(Transport::Tcp);
    let counters = plane.stop();
    UdpSocket::bind(udp).expect("the port is free at once");
    TcpListener::bind(tcp).expect("the port is free at once");
    assert_eq!((counters.of(Counter::Responses2xx), counters.of(Counter::SipKeepAlives)), (9, 1));
    assert_eq!((counters.of(Counter::FlowsCut), counters.of(Counter::Flows)), (1, 0));
}

/// A call that two phones have set up through the gateway.
struct Talk {
    gateway: SocketAddr,
    caller: Phone,
    callee: Phone,
    caller_media: Phone,
    callee_media: Phone,
    /// The callee's side of the dialog, with the gateway's tag.
    to: String,
    /// Where the gateway wants the audio of the caller, and of the callee.
    caller_sends_to: SocketAddr,
    callee_sends_to: SocketAddr,
}

impl Talk {
    fn begin(gateway: SocketAddr, caller: Phone, callee: Phone) -> Self {
        let (caller_media, callee_media) = (Phone::new(), Phone::new());
        let anyone = "<sip:2000@127.0.0.1>";
        let offer = audio(&caller_media.0);
        caller.send(gateway, &request(&caller, &callee, "INVITE", 1, anyone, &offer));
        let invited = callee.hear("INVITE ");
        callee.send(gateway, &ok(&callee, &invited, &audio(&callee_media.0)));
        callee.hear("ACK ");
        let answer = caller.hear("SIP/2.0 200");
        let to = value(&answer, "To").to_owned();
        caller.send(gateway, &request(&caller, &callee, "ACK", 1, &to, ""));
        let (caller_sends_to, callee_sends_to) = (audio_port(&answer), audio_port(&invited));
        Self {
            gateway,
            caller,
            callee,
            caller_media,
            callee_media,
            to,
            caller_sends_to,
            callee_sends_to,
        }
    }

    /// Each side sends one packet at a time and hears the other's.
    fn speak(&self, packets: u16) {
        for number in 0..packets {
            self.caller_media.0.send_to(&rtp(number, 1), self.caller_sends_to).expect("sent");
            self.callee_media.0.send_to(&rtp(number, 2), self.callee_sends_to).expect("sent");
            for (phone, speaker, port) in [
                (&self.caller_media, 2, self.caller_sends_to),
                (&self.callee_media, 1, self.callee_sends_to),
            ] {
                let mut packet = [0; 2_048];
                let (length, from) = phone.0.recv_from(&mut packet).expect("relayed");
                assert_eq!(packet[..length], rtp(number, speaker));
                assert_eq!(from, port, "from the port that the SDP names");
            }
        }
    }

    fn hang_up(&self) {
        let bye = request(&self.caller, &self.callee, "BYE", 2, &self.to, "");
        self.caller.send(self.gateway, &bye);
        let bye = self.callee.hear("BYE ");
        self.callee.send(self.gateway, &ok(&self.callee, &bye, ""));
        self.caller.hear("SIP/2.0 200");
    }
}

fn request(
    from: &Phone,
    to: &Phone,
    method: &str,
    number: u8,
    to_header: &str,
    body: &str,
) -> String {
    let (from, to) = (from.address(), to.address());
    format!(
        "{method} sip:2000@{to} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};rport;branch=z9hG4bK{method}{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:1000@127.0.0.1>;tag=caller\r\nTo: {to_header}\r\nCall-ID: smoke-call\r\n\
         CSeq: {number} {method}\r\nContact: <sip:1000@{from}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(phone: &Phone, request: &str, body: &str) -> String {
    let to = value(request, "To").split(";tag=").next().unwrap_or_default();
    format!(
        "SIP/2.0 200 OK\r\n{}From: {}\r\nTo: {to};tag=callee\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:2000@{}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        vias(request),
        value(request, "From"),
        value(request, "Call-ID"),
        value(request, "CSeq"),
        phone.address(),
        body.len()
    )
}

#[test]
fn a_call_to_a_trunk_relays_audio_records_it_and_leaves_one_cdr() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let trunks = Arc::new(vec![trunk("out", callee.address())]);
    let mut plane = Plane::start("call", 1, Snapshot { trunks, ..Snapshot::default() }, 42_000);
    let talk = Talk::begin(plane.address(Transport::Udp), caller, callee);
    talk.speak(MEDIA_PACKETS);
    let calls = Command::Ask { id: 7, question: Question::Calls };
    plane.shards.send(ShardId(0), calls).expect("room");
    let standing = plane.event("the answer", |event| match event {
        Event::Answer { id: 7, answer: Answer::Calls(calls), .. } => Some(calls.clone()),
        _ => None,
    });
    assert_eq!((standing.len(), standing[0].recording), (1, true));
    // The caller has heard its 200, so the start is in the file, with all that a crash needs.
    let (entries, _) = plane.journal();
    let starts = entries.iter().filter_map(|entry| match entry {
        Entry::Start(start) => Some(start),
        _ => None,
    });
    let [start] = starts.collect::<Vec<_>>()[..] else { panic!("{entries:?}") };
    assert_eq!((start.session_id, start.status_code), (standing[0].id, 200));
    assert_eq!(start.hangup_reason, HangupReason::SystemCrash);
    talk.hang_up();

    let capture: CaptureClosed = plane.event("the capture", |event| match event {
        Event::CaptureClosed(capture) => Some(capture.clone()),
        _ => None,
    });
    let cdr = plane.only_end();
    assert_eq!((cdr.status, cdr.status_code, cdr.recorded), (CallStatus::Completed, 200, true));
    let packets = u64::from(MEDIA_PACKETS);
    let counts: Vec<_> = cdr.media_quality.iter().map(|q| (q.packets, q.forwarded)).collect();
    assert_eq!(counts, [(packets, packets); 2]);
    assert_eq!((capture.packets, capture.lost, capture.error), (2 * packets, 0, None));
    let file = std::fs::read(&capture.path).expect("the capture");
    let reader = media::capture::Reader::new(&file).expect("a capture");
    assert_eq!(reader.count() as u64, 2 * packets);

    assert!(cdr.sip_flow.is_some(), "the record names where its messages are");
    let counters = plane.stop();
    // INVITE, 100, INVITE, 200, ACK, 200, ACK; BYE, 200, BYE, 200. The last may come after the end.
    assert!(counters.of(Counter::SipFlowMessages) >= 10, "{counters:?}");
    assert_eq!(counters.of(Counter::SipFlowDropped), 0);
    assert_eq!(counters.of(Counter::RtpForwarded), 2 * packets);
    for gauge in [Counter::Calls, Counter::Relays, Counter::PortsInUse, Counter::Captures] {
        assert_eq!(counters.of(gauge), 0, "{gauge:?}");
    }
}

/// A call that still stands ends with its CDR, and its capture is complete.
#[test]
fn stopping_ends_standing_calls_with_their_cdr_and_their_capture() {
    let (caller, callee) = (Phone::new(), Phone::new());
    let trunks = Arc::new(vec![trunk("out", callee.address())]);
    let mut plane = Plane::start("stop", 1, Snapshot { trunks, ..Snapshot::default() }, 44_000);
    let talk = Talk::begin(plane.address(Transport::Udp), caller, callee);
    talk.speak(20);
    assert_eq!(plane.shards.broadcast(Command::Stop), 0);
    for phone in [&talk.caller, &talk.callee] {
        let bye = phone.hear("BYE ");
        phone.send(talk.gateway, &ok(phone, &bye, ""));
    }
    let capture: CaptureClosed = plane.event("the capture", |event| match event {
        Event::CaptureClosed(capture) => Some(capture.clone()),
        _ => None,
    });
    assert_eq!((capture.packets, capture.lost, capture.error), (40, 0, None));
    assert_eq!(plane.only_end().hangup_reason, HangupReason::BySystem);
    let counters = plane.stop();
    assert_eq!((counters.of(Counter::Calls), counters.of(Counter::Relays)), (0, 0));
}

#[test]
fn a_taken_port_and_a_missing_cpu_are_one_line_each_and_leave_nothing_behind() {
    let folder = folder("errors");
    let holder = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound");
    for shards in [1, 2] {
        let all = (0..shards)
            .map(|shard| {
                let mut one = settings(shard, shards, &folder, 43_000);
                one.udp = vec![taken];
                one
            })
            .collect();
        let error = spawn(all, Arc::default()).expect_err("the port is taken");
        assert_eq!(error.to_string(), format!("UDP {taken} is taken by another process"));
    }
    let mut one = settings(0, 1, &folder, 43_000);
    one.cpu = 4_095;
    let error = spawn(vec![one], Arc::default()).expect_err("there is no such CPU");
    assert!(matches!(error, StartError::CpuMissing { cpu: 4_095 }), "{error}");
    assert!(spawn(Vec::new(), Arc::default()).is_err(), "no shard at all");
    std::fs::remove_dir_all(folder).expect("preflight created it");
}
