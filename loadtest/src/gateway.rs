//! The gateway under test as a child process, with a configuration and a data folder of its own.
//! Owns:  spare ports, a temporary folder, the process; both are gone when it is dropped.
//! Gives: its addresses, its health, metrics, dialogs, CDRs and recordings as programs see them.
//! Never: looks into the gateway by another way than its API, /proc and its log.
//! Holds: `start` returns only when health says `running`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use shared::config::TOKEN_SCOPES;

use crate::process::{Running, Usage};
use crate::{http, netns, wait};

/// Time for a start on a busy machine in debug build.
const START: Duration = Duration::from_secs(30);
/// A CDR is stored and visible this long after hang-up at the latest.
const STORED: Duration = Duration::from_secs(15);

/// What a test wants of the gateway.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ip: IpAddr,
    /// Name and password.
    pub users: Vec<(String, String)>,
    /// Further fields of a user, by name.
    pub user_fields: Vec<(String, String)>,
    /// Listens on every address of both families; `ip` is where it is looked for.
    pub every_address: bool,
    /// Name and destination URI of each trunk.
    pub trunks: Vec<(String, String)>,
    /// Digest algorithms offered, in this order. SIPp 3.6 reads only the first challenge and
    /// baresip 1.0 gives up when any is not MD5, so their tests offer MD5 alone.
    pub digest_algorithms: Vec<&'static str>,
    pub recording: bool,
    /// Whether calls need credentials.
    pub call_auth: bool,
    /// CPU list for the shards.
    pub cores: String,
    /// Seconds that a callee may ring.
    pub ring_s: Option<u32>,
    pub rtp_ports: u16,
    /// Instead of a SQLite file in the gateway's own folder.
    pub database_url: Option<String>,
    /// Further lines for the `[proxy]` section.
    pub proxy_lines: Vec<String>,
    /// Further lines for the `[dataplane]` section.
    pub dataplane_lines: Vec<String>,
    /// Further sections, at the end.
    pub sections: Vec<String>,
    /// Runs the gateway inside this network namespace.
    pub namespace: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let user = |name: &str| (name.to_owned(), format!("secret-{name}"));
        Self {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            users: vec![user("1001"), user("1002"), user("1003")],
            user_fields: Vec::new(),
            every_address: false,
            trunks: Vec::new(),
            digest_algorithms: vec!["MD5"],
            recording: false,
            call_auth: true,
            cores: "0".to_owned(),
            ring_s: None,
            rtp_ports: 400,
            database_url: None,
            proxy_lines: Vec::new(),
            dataplane_lines: Vec::new(),
            sections: Vec::new(),
            namespace: None,
        }
    }
}

#[derive(Debug)]
pub struct Gateway {
    process: Running,
    folder: Folder,
    pub sip: SocketAddr,
    pub http: SocketAddr,
    /// Of the gateway's configuration, with every scope.
    pub token: String,
    plan: Plan,
    starts: u32,
}

impl Gateway {
    /// Tries other ports when somebody was faster on one of them.
    pub fn start(plan: Plan) -> Result<Self, String> {
        let mut outcome = Self::start_once(plan.clone());
        for _ in 0..2 {
            match outcome {
                Err(error) if error.contains("is taken by another process") => {
                    outcome = Self::start_once(plan.clone());
                }
                decided => return decided,
            }
        }
        outcome
    }

    fn start_once(plan: Plan) -> Result<Self, String> {
        let folder = Folder::new("gateway")?;
        let inside = plan.namespace.is_some();
        // In a namespace of its own every port is spare.
        let sip_port = if inside { 5060 } else { spare_port(plan.ip)? };
        let http_port = if inside { 8080 } else { spare_port(IpAddr::V4(Ipv4Addr::LOCALHOST))? };
        let config = folder.path.join("ringgate.toml");
        let token = format!("{:032x}", rand::random::<u128>());
        let mut text = configuration(&plan, &folder.path, sip_port, http_port);
        let _ = write!(
            text,
            "\n[console]\napi_tokens = [{{ token = \"{token}\", scopes = {TOKEN_SCOPES:?} }}]\n"
        );
        fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        let log = folder.path.join("ringgate.log");
        let process = Running::start("ringgate", &mut command(&plan, &folder.path)?, &log)?;
        let mut gateway = Self {
            process,
            folder,
            sip: SocketAddr::new(plan.ip, sip_port),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, http_port)),
            token,
            plan,
            starts: 1,
        };
        gateway.await_health()?;
        Ok(gateway)
    }

    /// SIGKILL: it has no time for a last word. Returns when the process is gone.
    pub fn kill(&mut self) -> Result<(), String> {
        self.process.signal(libc::SIGKILL);
        self.process.wait(START).map(drop)
    }

    /// The same configuration, folder and ports once more, after `kill`.
    pub fn restart(&mut self) -> Result<(), String> {
        self.starts += 1;
        let log = self.folder.path.join(format!("ringgate-{}.log", self.starts));
        let mut command = command(&self.plan, &self.folder.path)?;
        self.process = Running::start("ringgate", &mut command, &log)?;
        self.await_health()
    }

    fn await_health(&mut self) -> Result<(), String> {
        let up = wait::until("health of the gateway", START, || {
            if !self.process.is_running() {
                return Some(false);
            }
            let health = self.json("/ami/v1/health").ok()?;
            (health["status"] == "running").then_some(true)
        });
        match up {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the gateway left at once:\n{}", self.process.tail())),
            Err(error) => Err(format!("{error}\n{}", self.process.tail())),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    pub fn log_tail(&self) -> String {
        self.process.tail()
    }

    pub fn usage(&self) -> Result<Usage, String> {
        Usage::of(self.pid()).map_err(|error| format!("/proc of the gateway: {error}"))
    }

    pub fn password(&self, user: &str) -> &str {
        let found = self.plan.users.iter().find(|(name, _)| name == user);
        found.map_or("", |(_, password)| password)
    }

    pub fn get(&self, path: &str) -> Result<http::Answer, String> {
        let Some(space) = &self.plan.namespace else {
            return http::get(self.http, path, Some(&self.token));
        };
        let (server, path, token) = (self.http, path.to_owned(), self.token.clone());
        netns::within(space, move || http::get(server, &path, Some(&token)))?
    }

    /// Sends a JSON body with the gateway's own token.
    pub fn post(&self, path: &str, body: &Value) -> Result<http::Answer, String> {
        self.request("POST", path, body)
    }

    /// A request with a JSON body, and what came back: a status and a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let answer = self.request(method, path, body)?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Result<http::Answer, String> {
        let Some(space) = &self.plan.namespace else {
            return http::send(self.http, method, path, Some(&self.token), body);
        };
        let (server, method, path) = (self.http, method.to_owned(), path.to_owned());
        let (token, body) = (self.token.clone(), body.clone());
        netns::within(space, move || http::send(server, &method, &path, Some(&token), &body))?
    }

    /// What SIGHUP does.
    pub fn reload(&self) {
        self.process.signal(libc::SIGHUP);
    }

    /// The generation that each shard serves.
    pub fn generations(&self) -> Result<Vec<u64>, String> {
        let health = self.json("/ami/v1/health")?;
        let shards = health["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(shards.iter().filter_map(|shard| shard["generation"].as_u64()).collect())
    }

    pub fn json(&self, path: &str) -> Result<Value, String> {
        let answer = self.get(path)?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("GET {path}: {} {body}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("GET {path}: {error}"))
    }

    /// Sums over shards, by name without the `ringgate_` prefix.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>, String> {
        let answer = self.get("/metrics")?;
        if answer.status != 200 {
            return Err(format!("GET /metrics: {}", answer.status));
        }
        let mut sums = BTreeMap::new();
        for line in String::from_utf8_lossy(&answer.body).lines() {
            let Some((series, number)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series);
            if let (Some(name), Ok(number)) =
                (name.strip_prefix("ringgate_"), number.parse::<f64>())
            {
                *sums.entry(name.to_owned()).or_insert(0.0) += number;
            }
        }
        Ok(sums)
    }

    /// One metric, 0 where it is not there.
    pub fn metric(&self, name: &str) -> Result<f64, String> {
        Ok(self.metrics()?.get(name).copied().unwrap_or(0.0))
    }

    /// Waits until a metric satisfies `test`. Counters reach the control plane once a second.
    pub fn await_metric(&self, name: &str, test: impl Fn(f64) -> bool) -> Result<f64, String> {
        let mut last = Ok(0.0);
        let found = wait::until(&format!("metric {name}"), STORED, || {
            last = self.metric(name);
            last.as_ref().ok().copied().filter(|value| test(*value))
        });
        found.map_err(|error| format!("{error}, last {last:?}"))
    }

    /// The CDR of the call that has a leg with this Call-ID.
    pub fn await_record(&self, sip_call_id: &str) -> Result<Value, String> {
        let path = format!("/console/call-records/{sip_call_id}");
        self.await_body(&format!("CDR of {sip_call_id}"), &path).and_then(|body| {
            serde_json::from_slice(&body).map_err(|error| format!("CDR of {sip_call_id}: {error}"))
        })
    }

    /// The stereo WAV of a call, once the finalizer has written it.
    pub fn await_recording(&self, sip_call_id: &str) -> Result<Vec<u8>, String> {
        let path = format!("/console/call-records/{sip_call_id}/recording");
        self.await_body(&format!("recording of {sip_call_id}"), &path)
    }

    fn await_body(&self, what: &str, path: &str) -> Result<Vec<u8>, String> {
        let mut last = String::new();
        let found = wait::until(what, STORED, || match self.get(path) {
            Ok(answer) if answer.status == 200 => Some(answer.body),
            Ok(answer) => {
                last = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
                None
            }
            Err(error) => {
                last = error;
                None
            }
        });
        found.map_err(|error| format!("{error}: {last}"))
    }

    /// Everything that a call uses must be given back; ports that rest are not in use.
    pub fn await_drained(&self, limit: Duration) -> Result<(), String> {
        const GAUGES: [&str; 6] =
            ["calls", "calls_talking", "dialogs", "relays", "ports_in_use", "captures"];
        let mut left = String::new();
        wait::until("all gauges at zero", limit, || {
            let metrics = self.metrics().ok()?;
            let standing: Vec<String> = GAUGES
                .iter()
                .filter_map(|name| metrics.get(*name).map(|value| (name, *value)))
                .filter(|(_, value)| *value != 0.0)
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            left = standing.join(" ");
            standing.is_empty().then_some(())
        })
        .map_err(|error| format!("{error}: {left}"))
    }

    /// SIGTERM and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.process.end().and_then(|status| status.code())
    }
}

fn command(plan: &Plan, folder: &Path) -> Result<Command, String> {
    let binary = binary()?;
    let mut command = match &plan.namespace {
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name]).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.arg("--config").arg(folder.join("ringgate.toml")).arg("serve").current_dir(folder);
    Ok(command)
}

fn configuration(plan: &Plan, folder: &Path, sip_port: u16, http_port: u16) -> String {
    let folder = folder.display();
    // Below the kernel's ephemeral range, so that nobody's outgoing socket sits on our ports.
    let random = if plan.rtp_ports > 1_000 { 0 } else { 2 * (rand::random::<u16>() % 9_000) };
    let rtp_first = 12_000 + random;
    let own_database = || format!("sqlite://{folder}/ringgate.sqlite3");
    let database = plan.database_url.clone().unwrap_or_else(own_database);
    let mut text = format!(
        "http_addr = \"127.0.0.1:{http_port}\"\n\
         database_url = {database:?}\n\
         rtp_start_port = {rtp_first}\nrtp_end_port = {}\n\n\
         [proxy]\nudp_port = {sip_port}\ntcp_port = {sip_port}\n\
         realms = [\"ringgate.test\"]\n",
        rtp_first + plan.rtp_ports
    );
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    if !plan.every_address {
        line(format!("addr = \"{}\"", plan.ip));
    }
    let quoted: Vec<String> =
        plan.digest_algorithms.iter().map(|name| format!("{name:?}")).collect();
    line(format!("digest_algorithms = [{}]", quoted.join(", ")));
    if !plan.call_auth {
        line("modules = [\"acl\", \"registrar\", \"call\"]".to_owned());
    }
    if let Some(seconds) = plan.ring_s {
        line(format!("max_ring_time = {seconds}"));
    }
    plan.proxy_lines.iter().cloned().for_each(&mut line);
    let user = |(name, password): &(String, String)| {
        let more = plan.user_fields.iter().filter(|(of, _)| of == name);
        let more: String = more.map(|(_, fields)| format!(", {fields}")).collect();
        format!("{{ username = {name:?}, password = {password:?}{more} }}")
    };
    let users: Vec<String> = plan.users.iter().map(user).collect();
    line(format!("\n[[proxy.user_backends]]\ntype = \"memory\"\nusers = [{}]", users.join(", ")));
    for (name, destination) in &plan.trunks {
        line(format!("\n[proxy.trunks.{name}]\ndest = {destination:?}"));
    }
    let on = plan.recording;
    let _ = write!(
        text,
        "\n[recording]\nenabled = {on}\nauto_start = {on}\npath = \"{folder}/recordings\"\n\
         \n[dataplane]\ncores = {:?}\n",
        plan.cores
    );
    for line in &plan.dataplane_lines {
        text.push_str(line);
        text.push('\n');
    }
    text + &plan.sections.join("\n")
}

/// RINGGATE_BIN, or `ringgate` beside the folder of the running test or tool.
fn binary() -> Result<PathBuf, String> {
    match std::env::var_os("RINGGATE_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => beside_us("ringgate").map_err(|error| format!("{error} or set RINGGATE_BIN")),
    }
}

/// A program of this workspace that was built with the running test or tool.
pub(crate) fn beside_us(name: &str) -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("no {name} binary: run `cargo build --workspace` first"))
}

/// Ports of peers and gateways: above the RTP ranges of `configuration`, below the kernel's
/// ephemeral range.
const PORT_FIRST: u16 = 31_000;
const PORT_PAIRS: u16 = 850;

/// A port that is free for UDP and for TCP, and so is the one above (SIP over TLS takes it).
/// No port is given twice in a process, so tests that run side by side do not meet.
pub fn spare_port(ip: IpAddr) -> Result<u16, String> {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    for _ in 0..PORT_PAIRS {
        let port = PORT_FIRST + 2 * (next.fetch_add(1, Ordering::Relaxed) % PORT_PAIRS);
        let free = |port: u16| {
            UdpSocket::bind((ip, port)).is_ok() && TcpListener::bind((ip, port)).is_ok()
        };
        if free(port) && free(port + 1) {
            return Ok(port);
        }
    }
    Err(format!("no spare port on {ip}"))
}

/// A temporary folder that goes away with its owner, unless LOADTEST_KEEP is set.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new(purpose: &str) -> Result<Self, String> {
        let name = format!("ringgate-{purpose}-{:012x}", rand::random::<u64>() >> 16);
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("LOADTEST_KEEP").is_none() {
            // A folder that cannot be removed is a nuisance in /tmp, not a failed test.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
