//! Who may talk to the programs' side of the gateway: HTTP address, prefixes, AMI sources, tokens.
//! Owns:  `Http`, `Network`, `ApiToken`.
//! Gives: prefixes that do not collide, `Network::contains`, tokens with their scopes.
//! Never: shows a token in `Debug` or in a problem.
//! Holds: every prefix starts with a slash, ends without one, and has plain segments.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::file::{ConfigFile, TokenFile};
use super::problem::Report;
use super::rules::nearest;
use super::secret::{ReadSecret, resolve};

#[derive(Clone, Debug)]
pub struct Http {
    addr: SocketAddr,
    console: String,
    api: String,
    ami: String,
    ami_allows: Vec<Network>,
    api_tokens: Vec<ApiToken>,
    metrics_token: Option<ApiToken>,
    names: Vec<String>,
    secure_cookie: bool,
}

/// What a token may carry; the meaning of each word is the control plane's.
pub const TOKEN_SCOPES: [&str; 10] = [
    "ami",
    "calls:control",
    "calls:read",
    "cdr:read",
    "config:read",
    "config:write",
    "recordings:read",
    "system:admin",
    "system:read",
    "webhooks:write",
];
/// A shorter token can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// A token that the file names.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    token: String,
    scopes: Vec<String>,
}

impl ApiToken {
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// Each one is one of `TOKEN_SCOPES`.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken").field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// The prefix of our own REST API; not configurable.
pub const OWN_API_PREFIX: &str = "/api/v1";

impl Http {
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `/console`
    pub fn console_prefix(&self) -> &str {
        &self.console
    }

    /// `/api`
    pub fn api_prefix(&self) -> &str {
        &self.api
    }

    /// `/ami/v1`
    pub fn ami_prefix(&self) -> &str {
        &self.ami
    }

    pub fn ami_allows(&self) -> &[Network] {
        &self.ami_allows
    }

    /// In the order of the file.
    pub fn api_tokens(&self) -> &[ApiToken] {
        &self.api_tokens
    }

    /// Lets in to `/metrics` and nowhere else; it has no scopes.
    pub const fn metrics_token(&self) -> Option<&ApiToken> {
        self.metrics_token.as_ref()
    }

    /// Names of this gateway, by which an address alone may ask: the realms.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether browsers may send the session's cookie over TLS only.
    pub const fn secure_cookie(&self) -> bool {
        self.secure_cookie
    }

    pub(super) fn check(file: &ConfigFile, read: &ReadSecret<'_>, report: &mut Report<'_>) -> Self {
        let secure_cookie = file.console.secure_cookie.unwrap_or(false);
        let addr = match file.http_addr.as_deref() {
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            Some(text) => address(text, secure_cookie, report),
        };
        let written = [
            ("console.base_path", &file.console.base_path, "/console"),
            ("console.api_prefix", &file.console.api_prefix, "/api"),
            ("proxy.ami_path", &file.proxy.ami_path, "/ami/v1"),
        ];
        let [console, api, ami] = written.map(|(key, text, default)| match text {
            None => default.to_owned(),
            Some(text) => prefix(key, text, report),
        });
        if console == api || console == ami {
            report.error("console.base_path", format!("\"{console}\" is another prefix too"));
        } else if api == ami {
            report.error("console.api_prefix", format!("\"{api}\" is another prefix too"));
        }
        Self {
            addr,
            console,
            api,
            ami,
            ami_allows: allows(file.ami.allows.as_deref(), report),
            api_tokens: api_tokens(&file.console.api_tokens, read, report),
            metrics_token: metrics_token(file, read, report),
            names: file.proxy.realms.clone().unwrap_or_default(),
            secure_cookie,
        }
    }
}

fn address(text: &str, secure_cookie: bool, report: &mut Report<'_>) -> SocketAddr {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let Ok(addr) = named.as_deref().unwrap_or(text).parse::<SocketAddr>() else {
        let wrong = format!("\"{text}\" is not an address and port");
        report.error_try("http_addr", wrong, "write \"127.0.0.1:8080\"");
        return SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    };
    // Who sets secure_cookie has TLS before us.
    if !addr.ip().to_canonical().is_loopback() && !secure_cookie {
        report.warning_try(
            "http_addr",
            format!("{addr} is plain HTTP on the network: passwords and tokens can be read there"),
            "put a TLS proxy before it and set console.secure_cookie = true",
        );
    }
    addr
}

fn api_tokens(
    written: &[TokenFile],
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<ApiToken> {
    let mut tokens = Vec::new();
    for (place, entry) in written.iter().enumerate() {
        let key = |name: &str| format!("console.api_tokens[{place}]{name}");
        let Some(secret) = &entry.token else {
            report.error_try(&key(""), "has no token", "write token = \"...\"");
            continue;
        };
        let Some(token) = resolve(secret, &key(".token"), read, report) else { continue };
        if token.is_empty() {
            report.error(&key(".token"), "is empty");
            continue;
        }
        if token.len() < TOKEN_CHARS_MIN {
            let text = format!("has less than {TOKEN_CHARS_MIN} characters: it can be guessed");
            report.warning_try(&key(".token"), text, "make one with: openssl rand -hex 32");
        }
        let scopes = scopes(entry.scopes.as_deref(), &key(""), report);
        tokens.push(ApiToken { token, scopes });
    }
    tokens
}

fn scopes(written: Option<&[String]>, key: &str, report: &mut Report<'_>) -> Vec<String> {
    let all = || TOKEN_SCOPES.join(", ");
    let Some(written) = written.filter(|scopes| !scopes.is_empty()) else {
        let text = "has no scopes and may do nothing: scopes are enforced here";
        report.warning_try(key, text, format!("give it the ones that it needs of: {}", all()));
        return Vec::new();
    };
    let mut known = Vec::new();
    for (place, scope) in written.iter().enumerate() {
        if TOKEN_SCOPES.contains(&scope.as_str()) {
            known.push(scope.clone());
            continue;
        }
        let near = nearest(scope, TOKEN_SCOPES.into_iter());
        let hint = near.map_or_else(
            || format!("the scopes are: {}", all()),
            |near| format!("did you mean \"{near}\"?"),
        );
        let key = format!("{key}.scopes[{place}]");
        report.warning_try(&key, format!("there is no scope \"{scope}\": it gives nothing"), hint);
    }
    known
}

fn metrics_token(
    file: &ConfigFile,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<ApiToken> {
    const KEY: &str = "metrics.token";
    let token = resolve(file.metrics.token.as_ref()?, KEY, read, report)?;
    if token.is_empty() {
        report.error_try(KEY, "is empty", "leave it out to allow loopback only");
        return None;
    }
    Some(ApiToken { token, scopes: Vec::new() })
}

fn prefix(key: &str, text: &str, report: &mut Report<'_>) -> String {
    let plain = |segment: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        !segment.is_empty() && segment.chars().all(fits)
    };
    let trimmed = text.trim_end_matches('/');
    let fits = trimmed.strip_prefix('/').is_some_and(|path| path.split('/').all(plain));
    if !fits {
        report.error_try(key, format!("\"{text}\" is not a path prefix"), "write \"/name\"");
    } else if trimmed == OWN_API_PREFIX {
        report.error(key, format!("\"{OWN_API_PREFIX}\" is the prefix of the newer API"));
    }
    trimmed.to_owned()
}

fn allows(written: Option<&[String]>, report: &mut Report<'_>) -> Vec<Network> {
    let Some(written) = written else { return Network::LOOPBACK.to_vec() };
    let mut networks = Vec::new();
    for (place, text) in written.iter().enumerate() {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => report.error_try(
                &format!("ami.allows[{place}]"),
                format!("\"{text}\" is neither an address nor a network"),
                "write \"10.0.0.5\", \"10.0.0.0/8\" or \"*\"",
            ),
        }
    }
    networks
}

/// A set of source addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    All,
    /// The first `bits` bits of the address count.
    Prefix {
        ip: IpAddr,
        bits: u8,
    },
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix { ip, bits } => write!(f, "{ip}/{bits}"),
        }
    }
}

impl Network {
    pub const LOOPBACK: [Self; 2] = [
        Self::Prefix { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 32 },
        Self::Prefix { ip: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    /// Every address by which this machine reaches itself.
    pub const LOOPBACK_ALL: [Self; 2] = [
        Self::Prefix { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 8 },
        Self::Prefix { ip: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    /// `*`, an address, or a network in CIDR form.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|b| *b <= most))?;
        Some(Self::Prefix { ip, bits })
    }

    /// An IPv4 address that came in over an IPv6 socket counts as IPv4.
    pub fn contains(&self, source: IpAddr) -> bool {
        let Self::Prefix { ip, bits } = self else { return true };
        match (*ip, source.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(source)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                (net.to_bits() ^ source.to_bits()) & mask == 0
            }
            (IpAddr::V6(net), IpAddr::V6(source)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                (net.to_bits() ^ source.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_their_bits_say() {
        let inside = |network: &str, source: &str| {
            let network = Network::parse(network).expect("a network");
            network.contains(source.parse().expect("an address"))
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(inside("0.0.0.0/0", "192.0.2.1"));
        assert!(!inside("0.0.0.0/0", "2001:db8::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::1"));
        assert!(inside("*", "2001:db8::1"));
        assert!(!inside("127.0.0.1", "127.0.0.2"));
        for wrong in ["", "10.0.0.0/33", "10.0.0", "::/129", "localhost", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
