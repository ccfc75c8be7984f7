//! `[proxy]`: listeners, realm, registrar, timers, media rules.
//! Owns:  `Sip`, already in the types that a shard is started with.
//! Gives: values within bounds; defaults where the file says nothing.
//! Never: a user or a trunk; those can change while the gateway runs.
//! Holds: there is at least one listener, and the default expiry lies within its bounds.

use std::net::IpAddr;
use std::time::Duration;

use super::file::ProxyFile;
use super::problem::Report;
use super::rules::nearest;
use crate::ask::MediaProxy;
use crate::settings::{
    DigestAlgorithm, MediaLock, MediaSettings, RegistrarSettings, SessionTimerMode, SessionTimers,
    SipTimers,
};

#[derive(Clone, Debug)]
pub struct Sip {
    addr: Option<IpAddr>,
    udp_ports: Vec<u16>,
    tcp_port: Option<u16>,
    realms: Vec<String>,
    algorithms: Vec<DigestAlgorithm>,
    call_auth: bool,
    product: Option<String>,
    timers: SipTimers,
    registrar: RegistrarSettings,
    media: MediaSettings,
}

/// Realm of the challenges when the file names none.
pub const REALM_DEFAULT: &str = "ringgate";
const SIP_PORT: u16 = 5060;
/// Shorter registrations cost more than they give; a lower maximum lowers it.
const EXPIRES_MIN_S: u32 = 60;
const EXPIRES_DEFAULT_S: u32 = 3_600;
const EXPIRES_MAX_S: u32 = 7_200;
/// `max_ring_time = 0` asks for no limit; an hour is ours, so that nothing rings for ever.
const RING_MAX_S: u64 = 3_600;
/// A held call may be silent for an hour.
const HOLD_TIMEOUT: Duration = Duration::from_secs(3_600);
const PROBATION_PACKETS: u8 = 6;

impl Sip {
    /// The only address to listen on; `None` is every address of both families.
    pub const fn addr(&self) -> Option<IpAddr> {
        self.addr
    }

    pub fn udp_ports(&self) -> &[u16] {
        &self.udp_ports
    }

    pub const fn tcp_port(&self) -> Option<u16> {
        self.tcp_port
    }

    /// Realm of our challenges.
    pub fn realm(&self) -> &str {
        realm(&self.realms)
    }

    /// Every name that is us, in the order written; `*` left out.
    pub fn realms(&self) -> &[String] {
        &self.realms
    }

    /// Digest algorithms, in the order in which they are offered.
    pub fn algorithms(&self) -> &[DigestAlgorithm] {
        &self.algorithms
    }

    pub const fn call_auth(&self) -> bool {
        self.call_auth
    }

    /// Value of Server and User-Agent, when the file names one.
    pub fn product(&self) -> Option<&str> {
        self.product.as_deref()
    }

    pub const fn timers(&self) -> SipTimers {
        self.timers
    }

    pub const fn registrar(&self) -> RegistrarSettings {
        self.registrar
    }

    pub const fn media(&self) -> MediaSettings {
        self.media
    }

    pub(super) fn check(file: &ProxyFile, lock: MediaLock, report: &mut Report<'_>) -> Self {
        let addr = file.addr.as_deref().and_then(|text| match text.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                let hint = "write \"0.0.0.0\", or leave it out for every address";
                report.error_try("proxy.addr", format!("\"{text}\" is not an IP address"), hint);
                None
            }
        });
        let udp_ports = udp_ports(file, report);
        let tcp_port = Some(file.tcp_port.unwrap_or(SIP_PORT)).filter(|port| *port > 0);
        if udp_ports.is_empty() && tcp_port.is_none() {
            report.error("proxy.udp_port", "UDP and TCP are both off: no phone could reach us");
        }
        if file.enable_latching == Some(false) {
            let text = "latching cannot be switched off yet: media still follows its first source";
            report.warning("proxy.enable_latching", text);
        }
        Self {
            addr,
            udp_ports,
            tcp_port,
            realms: realms(file.realms.as_deref(), report),
            algorithms: algorithms(file.digest_algorithms.as_deref(), report),
            call_auth: modules(file.modules.as_deref(), report),
            product: product(file.useragent.as_deref(), report),
            timers: SipTimers { session: session_timers(file, report), ..timers(file) },
            registrar: registrar(file, report),
            media: MediaSettings {
                lock,
                probation_packets: file.latching_probation_max_packets.unwrap_or(PROBATION_PACKETS),
                rtp_timeout: Duration::from_secs(file.rtp_timeout.unwrap_or(60)),
                hold_timeout: HOLD_TIMEOUT,
                proxy: media_proxy(file),
            },
        }
    }
}

pub(super) fn realm(realms: &[String]) -> &str {
    realms.first().map_or(REALM_DEFAULT, String::as_str)
}

fn algorithms(words: Option<&[String]>, report: &mut Report<'_>) -> Vec<DigestAlgorithm> {
    let mut found = Vec::new();
    for word in words.unwrap_or_default() {
        match DigestAlgorithm::parse(word) {
            Some(algorithm) if !found.contains(&algorithm) => found.push(algorithm),
            Some(_) => {}
            None => {
                let text = format!("\"{word}\" is not a digest algorithm");
                let hint = "write \"MD5\", \"SHA-256\" or \"SHA-512-256\"";
                report.error_try("proxy.digest_algorithms", text, hint);
            }
        }
    }
    if found.is_empty() { DigestAlgorithm::DEFAULT.to_vec() } else { found }
}

fn udp_ports(file: &ProxyFile, report: &mut Report<'_>) -> Vec<u16> {
    let mut ports = vec![file.udp_port.unwrap_or(SIP_PORT)];
    match &file.udp_ports {
        None => {}
        Some(toml::Value::Array(list)) => {
            for (place, value) in list.iter().enumerate() {
                let port = value.as_integer().and_then(|port| u16::try_from(port).ok());
                match port.filter(|port| *port > 0) {
                    Some(port) => ports.push(port),
                    None => report.error(&format!("proxy.udp_ports[{place}]"), "is not a port"),
                }
            }
        }
        Some(_) => report.error("proxy.udp_ports", "must be a list of ports"),
    }
    ports.retain(|port| *port > 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn realms(written: Option<&[String]>, report: &mut Report<'_>) -> Vec<String> {
    let mut realms = Vec::new();
    for (place, realm) in written.unwrap_or_default().iter().enumerate() {
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == '"' || c == '\\';
        if realm.is_empty() || realm.contains(odd) {
            let key = format!("proxy.realms[{place}]");
            report.error(&key, format!("{realm:?} cannot be a realm"));
        } else if realm != "*" {
            realms.push(realm.clone());
        }
    }
    realms
}

/// Whether calls need credentials. Modules that we always run or do not have yet are named.
fn modules(written: Option<&[String]>, report: &mut Report<'_>) -> bool {
    const KEY: &str = "proxy.modules";
    const SERVED: [&str; 4] = ["acl", "auth", "call", "registrar"];
    const NOT_YET: [&str; 1] = ["presence"];
    let Some(modules) = written else { return true };
    for module in modules {
        if NOT_YET.contains(&module.as_str()) {
            report.warning(KEY, format!("module \"{module}\" is accepted, not used yet"));
        } else if !SERVED.contains(&module.as_str()) {
            let near = nearest(module, SERVED.into_iter().chain(NOT_YET));
            let near = near.map(|word| format!(": did you mean \"{word}\"?")).unwrap_or_default();
            report.warning(KEY, format!("there is no module \"{module}\"{near}"));
        }
    }
    for needed in ["registrar", "call"] {
        if !modules.iter().any(|module| module == needed) {
            report.warning(KEY, format!("\"{needed}\" cannot be switched off yet: it is served"));
        }
    }
    let auth = modules.iter().any(|module| module == "auth");
    if !auth {
        report.warning(KEY, "\"auth\" is not there: calls need no password");
    }
    auth
}

/// Other words do not get here. `nat` is `auto`: whether somebody is behind one shows too late.
fn media_proxy(file: &ProxyFile) -> MediaProxy {
    match file.media_proxy.as_deref() {
        Some("all") => MediaProxy::Always,
        Some("bypass") => MediaProxy::Bypass,
        Some("nat") => MediaProxy::Nat,
        Some("none") => MediaProxy::Never,
        _ => MediaProxy::Auto,
    }
}

fn product(written: Option<&str>, report: &mut Report<'_>) -> Option<String> {
    let product = written.filter(|text| !text.is_empty())?;
    if product.chars().any(char::is_control) || product.len() > 128 {
        report.error("proxy.useragent", "must be one line of at most 128 bytes");
        return None;
    }
    Some(product.to_owned())
}

fn timers(file: &ProxyFile) -> SipTimers {
    let t1 = file.t1_timer.map_or(SipTimers::RFC3261.t1, Duration::from_millis);
    let ring_s = match file.max_ring_time {
        None => return SipTimers { t1, no_response: 64 * t1, ..SipTimers::RFC3261 },
        Some(0) => RING_MAX_S,
        Some(seconds) => seconds,
    };
    let ring = Duration::from_secs(ring_s);
    // The ring time also bounds how long a silent next hop is waited for.
    SipTimers { t1, ring, no_response: ring.min(64 * t1), ..SipTimers::RFC3261 }
}

/// `session_timer_always` asks for more than `session_timer`, so it needs no other key beside it.
fn session_timers(file: &ProxyFile, report: &mut Report<'_>) -> SessionTimers {
    let mode = match (file.session_timer_always, file.session_timer) {
        (true, _) => SessionTimerMode::Always,
        (false, true) => SessionTimerMode::Supported,
        (false, false) => SessionTimerMode::Off,
    };
    let asked = file.session_expires.unwrap_or(SipTimers::RFC3261.session.expires_s);
    let least = SessionTimers::MIN_S;
    if asked < least {
        let text = format!("RFC 4028 allows nothing below {least} s: that is used");
        report.warning("proxy.session_expires", text);
    }
    SessionTimers { mode, expires_s: asked.max(least) }
}

fn registrar(file: &ProxyFile, report: &mut Report<'_>) -> RegistrarSettings {
    let max = file.max_registrar_expires;
    let default = file.registrar_expires;
    if let (Some(default), Some(max)) = (default, max)
        && default > max
    {
        let text = format!("{default} s is more than max_registrar_expires, {max} s");
        report.error("proxy.registrar_expires", text);
    }
    let expires_max_s = max.unwrap_or_else(|| EXPIRES_MAX_S.max(default.unwrap_or(0)));
    let expires_default_s = default.unwrap_or(EXPIRES_DEFAULT_S).min(expires_max_s);
    RegistrarSettings {
        expires_min_s: EXPIRES_MIN_S.min(expires_default_s),
        expires_default_s,
        expires_max_s,
    }
}
