//! What a world is made of: its weather, its gateway, its phones.
//! Owns:  `WorldSettings`, `PhoneSpec`, and the gateway settings that follow from them.
//! Gives: defaults for a calm world with one shard; a test names what differs.
//! Never: a running thing.
//! Holds: addresses follow from a phone's place in the list, so a seed names the same hosts again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::account::Account;
use shared::ask::MediaProxy;
use shared::forwarding::{Forwarding, Redirects};
use shared::ids::ShardId;
use shared::net::Transport;
use shared::route::{Route, RouteTable};
use shared::settings::{
    DigestAlgorithm, JournalSettings, MediaLock, MediaSettings, PortSlice, RecordingSettings,
    RegistrarSettings, ShardSettings, SipTimers,
};
use shared::snapshot::{
    Entrance, HttpRouterRules, RemoteUsers, Secret, Snapshot, Trunk, User, Users,
};

use crate::broken::Broken;
use crate::network::Weather;
use crate::phone::carrier::CarrierPlan;
use crate::phone::plan::{Callee, CalleePlan, PhoneSettings};
use crate::phone::reliable::Reliability;
use crate::phone::timers::TimerPlan;
use crate::random::Random;
use crate::speech::Dialect;
use crate::speech::digest::Hash;

pub const DOMAIN: &str = "ringgate.test";
pub const CARRIER: &str = "carrier.test";
pub const GATEWAY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const GATEWAY: SocketAddr = SocketAddr::new(GATEWAY_IP, 5060);

#[derive(Clone, Debug)]
pub struct WorldSettings {
    pub seed: u64,
    pub shards: u8,
    pub weather: Weather,
    /// Every datagram lands on a random shard, not on the one that its source hashes to.
    pub scatter: bool,
    pub call_auth: bool,
    pub recording: bool,
    pub timers: SipTimers,
    pub rtp_timeout: Duration,
    pub hold_timeout: Duration,
    pub media_proxy: MediaProxy,
    pub probation_packets: u8,
    /// Ports of one shard; few make port pressure.
    pub ports_per_shard: u16,
    /// Of 100 relays that the core opens, how many find their ports taken by somebody else.
    pub refused_relays: u32,
    /// Of 100 datagrams to a phone that is gone, how many come back as unreachable (ICMP).
    pub unreachable: u32,
    /// Users that exist and never register.
    pub absent_users: Vec<String>,
    /// Whose 3xx sends a call on.
    pub redirects: Redirects,
    /// Users whose calls go on elsewhere.
    pub forwards: Vec<(String, Forwarding)>,
    /// The dial plan.
    pub routes: Vec<Route>,
    /// The HTTP router that calls ask.
    pub http_router: Option<HttpRouterRules>,
    /// User backends behind the shard's own users, and who is known to them alone.
    pub remote_users: Option<RemoteUsers>,
    pub known_remotely: Vec<String>,
    /// Place of the shard's own users in the chain; behind `remote_users.first` they are asked about.
    pub own_backend: u8,
    /// Phones may be led to each other, as a router may want it.
    pub media_past_us: bool,
    /// What the trunks' far ends were promised: limits, failover, health checks.
    pub trunk_terms: fn(Trunk) -> Trunk,
    pub loud: bool,
    pub broken: Option<Broken>,
}

impl WorldSettings {
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            shards: 1,
            weather: Weather::CALM,
            scatter: false,
            call_auth: true,
            recording: false,
            timers: SipTimers::RFC3261,
            rtp_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(120),
            media_proxy: MediaProxy::Auto,
            probation_packets: 2,
            ports_per_shard: 400,
            refused_relays: 0,
            unreachable: 0,
            absent_users: Vec::new(),
            redirects: Redirects::PassedOn,
            forwards: Vec::new(),
            routes: Vec::new(),
            http_router: None,
            remote_users: None,
            known_remotely: Vec::new(),
            own_backend: 0,
            media_past_us: false,
            trunk_terms: |trunk| trunk,
            loud: false,
            broken: None,
        }
    }

    /// The weather that the issue names.
    pub fn rough(seed: u64) -> Self {
        Self { weather: Weather::ROUGH, ..Self::calm(seed) }
    }

    pub fn shard(&self, shard: u8, random: &mut Random, nonce_key: [u8; 32]) -> ShardSettings {
        let first = 12_000 + u16::from(shard) * self.ports_per_shard;
        ShardSettings {
            shard: ShardId(shard),
            shards: self.shards,
            cpu: usize::from(shard),
            udp: vec![GATEWAY],
            tcp: vec![GATEWAY],
            tls: Vec::new(),
            tls_files: None,
            web: shared::settings::WebListeners::default(),
            external_ip: vec![GATEWAY_IP],
            media_bind: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            rtp_ports: PortSlice { first, last: first + self.ports_per_shard - 1 },
            realm: DOMAIN.to_owned(),
            algorithms: vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
            domains: Vec::new(),
            product: "Ringgate in the test world".to_owned(),
            call_auth: self.call_auth,
            timers: self.timers,
            registrar: RegistrarSettings {
                expires_min_s: 60,
                expires_default_s: 3_600,
                expires_max_s: 7_200,
            },
            media: MediaSettings {
                lock: MediaLock::Strict,
                probation_packets: self.probation_packets,
                rtp_timeout: self.rtp_timeout,
                hold_timeout: self.hold_timeout,
                proxy: self.media_proxy,
            },
            recording: RecordingSettings {
                auto_start: self.recording,
                captures: PathBuf::from("captures"),
            },
            journal: JournalSettings {
                folder: PathBuf::from("journal"),
                front: None,
                run: 1,
                segment_bytes: JournalSettings::SEGMENT_BYTES,
            },
            sipflow: None,
            random_seed: random.bytes32(),
            nonce_key,
        }
    }

    pub fn snapshot(&self, phones: &[PhoneSpec]) -> Snapshot {
        let users = phones.iter().filter(|phone| !phone.is_trunk).map(|phone| phone.user.as_str());
        let users = users.chain(self.absent_users.iter().map(String::as_str));
        let users = users.filter(|name| !self.known_remotely.iter().any(|known| known == name));
        let wish = |name: &str| self.forwards.iter().find(|(user, _)| user == name);
        let own = |name| {
            let forwarding = wish(name).map(|(_, wish)| Box::new(wish.clone()));
            Arc::new(User { backend: self.own_backend, forwarding, ..user(name) })
        };
        let users: Users = users.map(|name| (name.into(), own(name))).collect();
        let trunks = self.trunks(phones);
        let routes = Arc::new(RouteTable::sorted(self.routes.clone(), None));
        Snapshot {
            generation: 1,
            users: Arc::new(users),
            trunks: Arc::new(trunks),
            routes,
            acl: Arc::default(),
            edge: Arc::default(),
            http_router: self.http_router,
            remote_users: self.remote_users,
            redirects: self.redirects,
            toll: None,
        }
    }

    /// The second far end of one name is the first one's `backup_dest`.
    fn trunks(&self, phones: &[PhoneSpec]) -> Vec<Trunk> {
        let mut trunks: Vec<Trunk> = Vec::new();
        for (number, phone) in phones.iter().enumerate().filter(|(_, phone)| phone.is_trunk) {
            let (name, transport) = (phone.user.as_str(), phone.transport);
            let (host, address) = (format!("{name}.test"), home_of(number, false));
            let local = Some(GATEWAY_IP);
            if let Some(first) = trunks.iter_mut().find(|trunk| *trunk.name == *name) {
                let backup = Entrance::plain(&format!("backup.{host}"), address, transport);
                *first = first.clone().with_backup(Entrance { local, ..backup });
                continue;
            }
            let mut trunk = Trunk::plain(name, &host, address, transport);
            trunk.entrances[0].local = local;
            trunk.account = phone.carrier.as_ref().map(account_at);
            trunks.push(trunk);
        }
        trunks.into_iter().map(self.trunk_terms).collect()
    }

    pub fn backend_users(&self) -> Vec<User> {
        self.known_remotely.iter().map(|name| user(name)).collect()
    }
}

/// The account that such a carrier gave out.
fn account_at(carrier: &CarrierPlan) -> Arc<Account> {
    let account = Account::new(&carrier.username, &carrier.password).expect("both are plain");
    Arc::new(Account { realm: Some(carrier.realm.as_str().into()), ..account })
}

fn user(name: &str) -> User {
    User {
        username: name.into(),
        secret: Secret::Plain(password_of(name).into()),
        display_name: None,
        enabled: true,
        allow_guest_calls: false,
        forwarding: None,
        backend: 0,
    }
}

fn password_of(user: &str) -> String {
    format!("secret of {user}")
}

/// One phone, or the trunk's far end, before it is switched on.
#[derive(Clone, Debug)]
pub struct PhoneSpec {
    pub user: String,
    pub is_trunk: bool,
    pub behind_nat: bool,
    pub transport: Transport,
    pub dialect: Dialect,
    pub hashes: Vec<Hash>,
    pub registers: Option<Duration>,
    pub voice_every: Duration,
    pub timer: Option<TimerPlan>,
    pub carrier: Option<CarrierPlan>,
    pub reliability: Reliability,
    pub callee: Callee,
}

impl PhoneSpec {
    pub fn user(name: &str) -> Self {
        Self {
            user: name.to_owned(),
            is_trunk: false,
            behind_nat: false,
            transport: Transport::Udp,
            dialect: Dialect::Long,
            hashes: vec![Hash::Sha256, Hash::Md5],
            registers: Some(Duration::from_secs(3_600)),
            voice_every: Duration::from_secs(1),
            timer: None,
            carrier: None,
            reliability: Reliability::Off,
            callee: Callee::Always(CalleePlan::answer()),
        }
    }

    /// The far end of a trunk: a static address, no digest.
    pub fn trunk() -> Self {
        Self::trunk_named("carrier")
    }

    pub fn trunk_named(name: &str) -> Self {
        Self { is_trunk: true, registers: None, ..Self::user(name) }
    }

    pub fn behind_nat(self) -> Self {
        Self { behind_nat: true, ..self }
    }

    pub fn over_tcp(self) -> Self {
        Self { transport: Transport::Tcp, ..self }
    }

    pub fn registering_for(self, expires: Duration) -> Self {
        Self { registers: Some(expires), ..self }
    }

    pub fn settings(&self, number: usize) -> PhoneSettings {
        PhoneSettings {
            user: self.user.clone(),
            password: password_of(&self.user),
            domain: DOMAIN.to_owned(),
            home: home_of(number, self.behind_nat),
            gateway: GATEWAY,
            transport: self.transport,
            dialect: self.dialect,
            hashes: self.hashes.clone(),
            registers: self.registers,
            voice_every: self.voice_every,
            timer: self.timer,
            carrier: self.carrier.clone(),
            reliability: self.reliability,
            callee: self.callee.clone(),
        }
    }
}

fn home_of(number: usize, behind_nat: bool) -> SocketAddr {
    let last = u8::try_from(number + 2).expect("fewer than 250 phones");
    let ip = if behind_nat { [192, 168, 1, last] } else { [10, 1, 0, last] };
    SocketAddr::new(ip.into(), 5060)
}

/// The outside address of a phone's NAT box.
pub fn outside_of(number: usize) -> IpAddr {
    let last = u8::try_from(number + 2).expect("fewer than 250 phones");
    [203, 0, 113, last].into()
}
