//! The real thing, small: shards on this machine's CPUs, sockets on 127.0.0.1, the real core.
//! Owns:  settings for a test, phones that are plain sockets with raw text.
//! Gives: proof that start, SIP over UDP and TCP, a call with media and its capture, and stop work
//!        together; everything finer is tested where it is written, or in the simulator.
//! Never: sleeps: sockets and events are waited for, with deadlines.
//! Holds: every shard that a test starts is joined by it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shard::{Shards, StartError, spawn};
use shared::ask::MediaProxy;
use shared::cdr::{CallStatus, Cdr, HangupReason};
use shared::command::{Command, Question};
use shared::event::{Answer, CaptureClosed, Event};
use shared::ids::ShardId;
use shared::journal::{Entry, Found, Position, SEGMENT_BYTES_MIN, Scan, Segment, Stream};
use shared::metrics::{Counter, Counters};
use shared::net::Transport;
use shared::settings::{
    JournalSettings, MediaLock, MediaSettings, PortSlice, RecordingSettings, RegistrarSettings,
    ShardSettings, SipFlowSettings, SipTimers,
};
use shared::snapshot::{Snapshot, Trunk};

const DEADLINE: Duration = Duration::from_secs(10);
const MEDIA_PACKETS: u16 = 200;

/// A started data plane and everything that it said.
struct Plane {
    shards: Shards,
    events: Vec<Event>,
    folder: PathBuf,
}

impl Plane {
    fn start(test: &str, count: u8, snapshot: Snapshot, first_port: u16) -> Self {
        let folder = folder(test);
        let all = (0..count).map(|shard| settings(shard, count, &folder, first_port)).collect();
        let shards = spawn(all, Arc::new(snapshot)).unwrap_or_else(|error| panic!("{error}"));
        Self { shards, events: Vec::new(), folder }
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        let mut all = self.shards.listeners().iter();
        all.find(|(listens, _)| *listens == transport).expect("a listener").1
    }

    /// Waits until an event says what is asked for.
    fn event<T>(&mut self, what: &str, mut found: impl FnMut(&Event) -> Option<T>) -> T {
        let give_up_at = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = self.events.iter().find_map(&mut found) {
                return found;
            }
            assert!(Instant::now() < give_up_at, "{what} never came: {:?}", self.events);
            self.shards.clear_event_fd();
            if self.shards.take_events(100, &mut self.events) == 0 {
                std::thread::yield_now();
            }
        }
    }

    /// Everything that shard 0 has written down so far, and where it ends.
    fn journal(&self) -> (Vec<Entry>, Position) {
        let stream = Stream { run: 7, shard: ShardId(0) };
        let segment = Segment { stream, number: Segment::FIRST };
        let path = self.folder.join("journal").join(segment.file_name());
        let bytes = std::fs::read(path).expect("the first segment");
        assert_eq!(Segment::read(&bytes), Ok(segment));
        let base = shared::journal::HEADER_BYTES;
        let mut scan = Scan::whole(segment, base as u64, &bytes[base..]);
        let mut entries = Vec::new();
        let mut position = Position { segment: Segment::FIRST, offset: base as u64 };
        loop {
            match scan.next() {
                Found::Record(record) => {
                    position.offset = record.next;
                    entries.push(record.entry().expect("an entry of this version"));
                }
                Found::End => return (entries, position),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The one call that has ended, once the shard has told of it.
    fn only_end(&mut self) -> Cdr {
        let told = self.event("the end of a call", |event| match event {
            Event::Journaled { position, ends: 1, .. } => Some(*position),
            _ => None,
        });
        let (entries, end) = self.journal();
        assert!(told <= end, "what is told is in the file");
        let mut ends = entries.into_iter().filter_map(|entry| match entry {
            Entry::End(cdr) => Some(*cdr),
            _ => None,
        });
        let only = ends.next().expect("an end");
        assert_eq!(ends.next(), None, "one end of one call");
        only
    }

    /// Stops the shards and returns the last counters of all of them together.
    fn stop(mut self) -> Counters {
        let shards = self.shards.count();
        assert_eq!(self.shards.broadcast(Command::Stop), 0);
        for shard in 0..shards {
            self.event("Stopped", |event| match event {
                Event::Stopped(id) if id.0 == shard => Some(()),
                _ => None,
            });
        }
        let mut total = Counters::default();
        for shard in 0..shards {
            let of_shard = self.events.iter().rev().find_map(|event| match event {
                Event::Counters { shard: id, counters } if id.0 == shard => Some(counters),
                _ => None,
            });
            total.merge(of_shard.expect("counters come before Stopped"));
        }
        for (shard, outcome) in self.shards.join() {
            assert_eq!(outcome, Ok(()), "{shard:?}");
        }
        std::fs::remove_dir_all(&self.folder).expect("it was created");
        total
    }
}

fn folder(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("shard-smoke-{test}-{}", std::process::id()))
}

fn settings(shard: u8, shards: u8, folder: &std::path::Path, first_port: u16) -> ShardSettings {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let cpus = allowed_cpus();
    let slice = first_port + 400 * u16::from(shard);
    ShardSettings {
        shard: ShardId(shard),
        shards,
        cpu: cpus[usize::from(shard) % cpus.len()],
        udp: vec![any],
        tcp: vec![any],
        external_ip: Vec::new(),
        media_bind: vec!["127.0.0.1".parse().expect("an address")],
        rtp_ports: PortSlice { first: slice, last: slice + 399 },
        realm: "smoke.test".to_owned(),
        algorithms: shared::settings::DigestAlgorithm::DEFAULT.to_vec(),
        domains: Vec::new(),
        product: "smoke".to_owned(),
        call_auth: false,
        timers: SipTimers::RFC3261,
        registrar: RegistrarSettings {
            expires_min_s: 60,
            expires_default_s: 300,
            expires_max_s: 600,
        },
        media: MediaSettings {
            lock: MediaLock::Strict,
            probation_packets: 2,
            rtp_timeout: Duration::from_secs(60),
            hold_timeout: Duration::from_secs(60),
            proxy: MediaProxy::Auto,
        },
        recording: RecordingSettings { auto_start: true, captures: folder.join("captures") },
        journal: JournalSettings {
            folder: folder.join("journal"),
            run: 7,
            segment_bytes: SEGMENT_BYTES_MIN,
        },
        sipflow: Some(SipFlowSettings {
            folder: folder.join("sipflow"),
            run: 7,
            segment_bytes: shared::sipflow::SEGMENT_BYTES_MIN,
            bytes_max: u64::MAX,
            ttl: Duration::from_secs(86_400),
        }),
        random_seed: [shard; 32],
        nonce_key: [9; 32],
    }
}

/// The CPUs that this test may use; one may have to serve several shards.
fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let number = |text: &str| text.trim().parse().expect("a number");
    list.expect("a list of CPUs")
        .split(',')
        .flat_map(|part| match part.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(part)..=number(part),
        })
        .collect()
}

fn options(call_id: &str, transport: &str) -> String {
    format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;rport;\
         branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=t\r\n\
         To: <sip:127.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A phone that is a socket.
struct Phone(UdpSocket);

impl Phone {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    fn send(&self, to: SocketAddr, text: &str) {
        self.0.send_to(text.as_bytes(), to).expect("sent");
    }

    /// The next message whose first line starts so; others are passed over.
    fn hear(&self, start: &str) -> String {
        let mut bytes = vec![0; 65_536];
        loop {
            let length = self.0.recv(&mut bytes).unwrap_or_else(|e| panic!("no {start}: {e}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    }
}

/// The value of a header, or of its parameter.
fn value<'t>(text: &'t str, name: &str) -> &'t str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name}"))
}

fn vias(text: &str) -> String {
    text.lines()
        .filter(|line| line.starts_with("Via: "))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

fn audio(media: &UdpSocket) -> String {
    let port = media.local_addr().expect("bound").port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where the SDP of a message wants its audio.
fn audio_port(text: &str) -> SocketAddr {
    let line = text.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("audio");
    let port = line.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn rtp(number: u16, source: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, source]);
    packet.resize(172, source);
    packet
}

fn trunk(name: &str, address: SocketAddr) -> Trunk {
    let host = address.ip().to_string();
    Trunk { local: Some(address.ip()), ..Trunk::plain(name, &host, address, Transport::Udp) }
}

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
