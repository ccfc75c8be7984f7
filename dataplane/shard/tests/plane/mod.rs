//! The data plane on a bench: settings for a test, phones that are plain sockets with raw text.
//! Owns:  the shards that a test started, and everything that they said.
//! Gives: waits with deadlines for events; readings of SIP and SDP texts.
//! Never: sleeps.
//! Holds: a plane that is stopped has joined every shard, and its folder is gone.
#![allow(dead_code, missing_debug_implementations, unreachable_pub)] // each test uses its part

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shard::{Shards, spawn};
use shared::ask::MediaProxy;
use shared::cdr::Cdr;
use shared::command::Command;
use shared::event::Event;
use shared::ids::ShardId;
use shared::journal::{Entry, Found, Position, SEGMENT_BYTES_MIN, Scan, Segment, Stream};
use shared::metrics::Counters;
use shared::net::Transport;
use shared::settings::{
    JournalSettings, MediaLock, MediaSettings, PortSlice, RecordingSettings, RegistrarSettings,
    ShardSettings, SipFlowSettings, SipTimers,
};
use shared::snapshot::{Snapshot, Trunk};

pub const DEADLINE: Duration = Duration::from_secs(10);

/// A started data plane and everything that it said.
pub struct Plane {
    pub shards: Shards,
    pub events: Vec<Event>,
    pub folder: PathBuf,
}

impl Plane {
    pub fn start(test: &str, count: u8, snapshot: Snapshot, first_port: u16) -> Self {
        Self::start_with(test, count, snapshot, first_port, |_| ())
    }

    /// The same with settings that are changed first.
    pub fn start_with(
        test: &str,
        count: u8,
        snapshot: Snapshot,
        first_port: u16,
        change: impl Fn(&mut ShardSettings),
    ) -> Self {
        let folder = folder(test);
        let one = |shard| {
            let mut one = settings(shard, count, &folder, first_port);
            change(&mut one);
            one
        };
        let all = (0..count).map(one).collect();
        let shards = spawn(all, Arc::new(snapshot)).unwrap_or_else(|error| panic!("{error}"));
        Self { shards, events: Vec::new(), folder }
    }

    pub fn address(&self, transport: Transport) -> SocketAddr {
        let mut all = self.shards.listeners().iter();
        all.find(|(listens, _)| *listens == transport).expect("a listener").1
    }

    /// Waits until an event says what is asked for.
    pub fn event<T>(&mut self, what: &str, mut found: impl FnMut(&Event) -> Option<T>) -> T {
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
    pub fn journal(&self) -> (Vec<Entry>, Position) {
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
    pub fn only_end(&mut self) -> Cdr {
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
    pub fn stop(mut self) -> Counters {
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

pub fn folder(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("shard-smoke-{test}-{}", std::process::id()))
}

pub fn settings(shard: u8, shards: u8, folder: &std::path::Path, first_port: u16) -> ShardSettings {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let cpus = allowed_cpus();
    let slice = first_port + 400 * u16::from(shard);
    ShardSettings {
        shard: ShardId(shard),
        shards,
        cpu: cpus[usize::from(shard) % cpus.len()],
        udp: vec![any],
        tcp: vec![any],
        tls: Vec::new(),
        tls_files: None,
        web: shared::settings::WebListeners::default(),
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
            front: Some(folder.join("front")),
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
pub fn allowed_cpus() -> Vec<usize> {
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

pub fn options(call_id: &str, transport: &str) -> String {
    format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;rport;\
         branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=t\r\n\
         To: <sip:127.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A phone that is a socket.
pub struct Phone(pub UdpSocket);

impl Phone {
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    pub fn send(&self, to: SocketAddr, text: &str) {
        self.0.send_to(text.as_bytes(), to).expect("sent");
    }

    /// The next message whose first line starts so; others are passed over.
    pub fn hear(&self, start: &str) -> String {
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
pub fn value<'t>(text: &'t str, name: &str) -> &'t str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name}"))
}

pub fn vias(text: &str) -> String {
    text.lines()
        .filter(|line| line.starts_with("Via: "))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

pub fn audio(media: &UdpSocket) -> String {
    let port = media.local_addr().expect("bound").port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where the SDP of a message wants its audio.
pub fn audio_port(text: &str) -> SocketAddr {
    let line = text.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("audio");
    let port = line.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub fn rtp(number: u16, source: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, source]);
    packet.resize(172, source);
    packet
}

pub fn trunk(name: &str, address: SocketAddr) -> Trunk {
    let host = address.ip().to_string();
    let mut trunk = Trunk::plain(name, &host, address, Transport::Udp);
    trunk.entrances[0].local = Some(address.ip());
    trunk
}
