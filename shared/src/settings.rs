//! What a shard is started with: fixed for the life of the process.
//! Owns:  `ShardSettings` and its parts, already checked.
//! Gives: plain values; the control plane fills them from the checked configuration.
//! Never: a secret of a user or trunk; those come with the snapshot.
//! Holds: `rtp_ports` of two shards never overlap.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::ask::MediaProxy;
use crate::ids::{CertificateId, ShardId};

#[derive(Clone, Debug)]
pub struct ShardSettings {
    pub shard: ShardId,
    /// Shards of this process, at least 1.
    pub shards: u8,
    /// The CPU that the shard is pinned to.
    pub cpu: usize,
    /// UDP listeners, all shards bind the same ones.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners, all shards bind the same ones.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners, all shards bind the same ones.
    pub tls: Vec<SocketAddr>,
    /// Without them nothing goes over TLS; a TLS listener needs them.
    pub tls_files: Option<TlsFiles>,
    /// WebSocket listeners.
    pub web: WebListeners,
    /// Written into Via, Contact and SDP instead of the local address, per address family.
    pub external_ip: Vec<IpAddr>,
    /// Where media sockets bind: the wildcard of each family that is served.
    pub media_bind: Vec<IpAddr>,
    /// This shard's slice of the RTP range.
    pub rtp_ports: PortSlice,
    /// Realm of our digest challenges.
    pub realm: String,
    /// Host names and addresses that are us; empty means every host that is not a trunk.
    pub domains: Vec<String>,
    /// Value of Server and User-Agent.
    pub product: String,
    /// Digest algorithms in the order of the challenge lines (RFC 8760 2.4); never empty.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Whether calls need digest credentials (`[proxy] modules` has `auth`).
    pub call_auth: bool,
    pub timers: SipTimers,
    pub registrar: RegistrarSettings,
    pub media: MediaSettings,
    pub recording: RecordingSettings,
    pub journal: JournalSettings,
    /// `None`: the messages of calls are not kept.
    pub sipflow: Option<SipFlowSettings>,
    /// Seeds the shard's CSPRNG: tags, branches, first ports. Differs per shard and per start.
    pub random_seed: [u8; 32],
    /// Signs digest nonces; the same on every shard of one process.
    pub nonce_key: [u8; 32],
}

/// PEM files; they are read at the start, and again when the shards are told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Authorities of the servers that we connect to; none: those of the system.
    pub authorities: Vec<PathBuf>,
    /// Authorities of clients that prove a name to us; none: no client is asked for a certificate.
    pub client_authorities: Vec<PathBuf>,
    /// What we prove ourselves with to trunks that ask for it.
    pub clients: Vec<ClientFiles>,
}

/// PEM files of one trunk: our certificate towards it with its chain, and the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub id: CertificateId,
}

impl ClientFiles {
    pub fn new(certificate: PathBuf, private_key: PathBuf) -> Self {
        let id = CertificateId::of_files(&certificate, &private_key);
        Self { certificate, private_key, id }
    }
}

/// Where SIP over WebSocket is served (RFC 7118); all shards bind the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebListeners {
    pub ws: Vec<SocketAddr>,
    /// Over TLS, with the certificate of `tls_files`.
    pub wss: Vec<SocketAddr>,
    /// The only path that is served.
    pub path: String,
}

/// What a digest challenge may ask for (RFC 7616, RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl DigestAlgorithm {
    /// MD5 stands first although it is the weakest: phones and tools of before RFC 8760 (SIPp 3.6
    /// among them) read the first challenge line and give up on an algorithm that they do not know.
    pub const DEFAULT: [Self; 2] = [Self::Md5, Self::Sha256];

    /// The word of the configuration and of the challenge.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "MD5" => Some(Self::Md5),
            "SHA-256" => Some(Self::Sha256),
            "SHA-512-256" => Some(Self::Sha512_256),
            _ => None,
        }
    }
}

/// Ports `first..=last`; `first` is even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSlice {
    pub first: u16,
    pub last: u16,
}

/// RFC 3261 17.1.1.1 and the times that people notice.
#[derive(Clone, Copy, Debug)]
pub struct SipTimers {
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
    /// How long a B leg may ring before the caller hears 408 or 480.
    pub ring: Duration,
    /// Timer C's role for a B2BUA: how long a silent B leg is waited for.
    pub no_response: Duration,
    pub session: SessionTimers,
}

impl SipTimers {
    pub const RFC3261: Self = Self {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        ring: Duration::from_secs(60),
        no_response: Duration::from_secs(32),
        session: SessionTimers { mode: SessionTimerMode::Off, expires_s: 600 },
    };
}

/// How standing calls are shown to be alive (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimers {
    pub mode: SessionTimerMode,
    /// The interval that we ask for and grant, at least `MIN_S`.
    pub expires_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionTimerMode {
    /// Legs whose peer knows no timers are refreshed too, by us.
    Always,
    Off,
    /// Legs whose peer knows timers.
    Supported,
}

impl SessionTimers {
    /// Shorter intervals are answered 422 (RFC 4028 4).
    pub const MIN_S: u32 = 90;
    /// A peer that wants to be left alone for longer is not asked again.
    pub const MAX_S: u32 = 86_400;

    pub fn is_on(&self) -> bool {
        self.mode != SessionTimerMode::Off
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RegistrarSettings {
    /// Shorter asks are answered 423 with Min-Expires.
    pub expires_min_s: u32,
    /// Granted when the phone names none.
    pub expires_default_s: u32,
    /// Longer asks are cut to this.
    pub expires_max_s: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct MediaSettings {
    pub lock: MediaLock,
    /// Consistent packets from one address before a stream latches to it.
    pub probation_packets: u8,
    /// No packet in either direction for this long ends the call; zero switches it off.
    pub rtp_timeout: Duration,
    /// The same while a side holds.
    pub hold_timeout: Duration,
    /// For calls whose router says nothing about it.
    pub proxy: MediaProxy,
}

/// What a latched stream does with another source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaLock {
    /// Packets are forwarded whatever their source.
    Off,
    /// Another source takes over after its own probation, when the old one is silent.
    Relearn,
    /// Another source is dropped and counted until a re-INVITE names it.
    Strict,
}

#[derive(Clone, Debug)]
pub struct RecordingSettings {
    /// Record every call from its first media packet.
    pub auto_start: bool,
    /// Where capture files are written, one per call.
    pub captures: PathBuf,
}

/// Where a shard writes down what it promised (`journal`).
#[derive(Clone, Debug)]
pub struct JournalSettings {
    pub folder: PathBuf,
    /// Where it is written first, in memory. `None`: where the system has such a place, else in `folder`.
    pub front: Option<PathBuf>,
    /// Of this start of the process; the same for all shards.
    pub run: u64,
    /// At least `journal::SEGMENT_BYTES_MIN`.
    pub segment_bytes: u64,
}

/// Where a shard keeps the messages of its calls (`sipflow`).
#[derive(Clone, Debug)]
pub struct SipFlowSettings {
    pub folder: PathBuf,
    /// Of this start of the process; the same for all shards.
    pub run: u64,
    pub segment_bytes: u64,
    /// Of all segments together, those of earlier starts included; the oldest go first.
    pub bytes_max: u64,
    /// Segments that nobody has written to for so long go.
    pub ttl: Duration,
}

impl JournalSettings {
    pub const SEGMENT_BYTES: u64 = 16 * 1_024 * 1_024;
}
