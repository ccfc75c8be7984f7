//! What holds between us and one trunk beyond its addresses: trust, codecs, our address, media, the way.
//! Owns:  `TrunkOptions`, `TrunkMedia`; which texts can be a codec's name or an outbound proxy.
//! Gives: what the snapshot carries with each trunk; the same readings for files and the database.
//! Never: a name that has to be resolved: the proxy's address is among the trunk's entrances.
//! Holds: the default is what a trunk that says nothing gets.

use std::net::IpAddr;

use crate::ask::MediaProxy;
use crate::config::{HostPort, parse_dest};
use crate::net::Transport;
use crate::settings::ClientFiles;

/// Names that a trunk's certificate may have.
pub const TLS_NAMES_PER_TRUNK_MAX: usize = 16;
/// Codecs that a trunk may list.
pub const CODECS_PER_TRUNK_MAX: usize = 32;
const CODEC_BYTES_MAX: usize = 32;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrunkOptions {
    /// It is told who calls even when that is a secret, and believed about it (RFC 3325 2.2).
    pub trusted: bool,
    /// If it is trusted, it is told and believed by Remote-Party-ID as well.
    pub remote_party_id: bool,
    /// Encoding names of audio, the best one first; empty: whatever the caller offers.
    pub codecs: Vec<Box<str>>,
    /// Our address as this trunk sees it, at most one of each family.
    pub external_ip: Vec<IpAddr>,
    pub media: TrunkMedia,
    /// The Route value of requests that begin something: its outbound proxy.
    pub route: Option<Box<str>>,
    /// What we prove ourselves with when it asks for it over TLS.
    pub client_files: Option<ClientFiles>,
    /// Whose certificate, over a flow that a client opened, makes its calls this trunk's.
    pub tls_names: Vec<Box<str>>,
}

/// Whether media of the trunk's calls passes through us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrunkMedia {
    /// As for all other calls.
    #[default]
    Auto,
    PastUs,
    ThroughUs,
}

impl TrunkMedia {
    pub const WORDS: [&str; 5] = ["auto", "all", "always", "bypass", "none"];

    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "auto" => Self::Auto,
            "all" | "always" => Self::ThroughUs,
            "bypass" | "none" => Self::PastUs,
            _ => return None,
        })
    }

    /// `None`: the trunk does not mind.
    pub const fn wish(self) -> Option<MediaProxy> {
        match self {
            Self::Auto => None,
            Self::PastUs => Some(MediaProxy::Never),
            Self::ThroughUs => Some(MediaProxy::Always),
        }
    }
}

/// An outbound proxy as it is written: where it is, how it is reached, and its Route value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundProxy {
    pub host: HostPort,
    pub transport: Option<Transport>,
    pub route: Box<str>,
}

impl OutboundProxy {
    /// `sip:proxy.example:5060;lr`; `named` is the trunk's transport, where it has one.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str, named: Option<Transport>) -> Result<Self, String> {
        let bare = text.trim().trim_start_matches('<').trim_end_matches('>');
        let loose = |param: &&str| !param.eq_ignore_ascii_case("lr");
        let bare: Vec<&str> = bare.split(';').filter(loose).collect();
        let (host, found) = parse_dest(&bare.join(";"))?;
        let transport = named.or(found);
        let word = match transport {
            None | Some(Transport::Udp) => String::new(),
            Some(other) => format!(";transport={}", other.uri_word()),
        };
        let route = format!("<sip:{host}{word};lr>").into();
        Ok(Self { host, transport, route })
    }
}

/// Addresses of ours as others see them, with commas between, at most one of each family.
///
/// # Errors
/// Says which of them is none.
pub fn external_addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let ip: IpAddr = part.parse().map_err(|_| format!("\"{part}\" is not an IP address"))?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(format!("{ip} is not an address that others could send to"));
        }
        if addresses.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            return Err("has two addresses of one family".to_owned());
        }
        addresses.push(ip);
    }
    Ok(addresses)
}

/// Why a text is no name of a certificate: a DNS name, without a wildcard.
pub fn odd_tls_name(name: &str) -> Option<String> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_number = name.parse::<IpAddr>().is_ok();
    let odd = name.len() > 253 || is_number || !name.split('.').all(label);
    odd.then(|| format!("\"{name}\" is not a DNS name"))
}

/// Why a text is no codec's name (RFC 8866 6.6: an encoding name is a token).
pub fn odd_codec(name: &str) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    let odd = name.is_empty() || name.len() > CODEC_BYTES_MAX || !name.bytes().all(token);
    odd.then(|| format!("\"{name}\" is not the name of a codec"))
}

/// What goes with every codec: a list may name it, which changes nothing.
pub fn goes_beside(name: &str) -> bool {
    ["telephone-event", "CN"].iter().any(|one| one.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_in_every_spelling_and_routes_loosely() {
        let route = |text, named| OutboundProxy::parse(text, named).map(|one| one.route.into());
        let plain: Result<String, String> = Ok("<sip:edge.example:5070;lr>".into());
        for text in ["sip:edge.example:5070", "edge.example:5070;lr", "<sip:edge.example:5070;lr>"]
        {
            assert_eq!(route(text, None), plain, "{text}");
        }
        assert_eq!(
            route("sip:edge.example;lr;transport=tcp", None),
            Ok("<sip:edge.example;transport=tcp;lr>".to_owned())
        );
        assert_eq!(
            route("[2001:db8::1]", Some(Transport::Tls)),
            Ok("<sip:[2001:db8::1];transport=tls;lr>".to_owned())
        );
        for wrong in ["", "sip:me@edge.example", "edge.example;x=1", "ed ge"] {
            assert!(OutboundProxy::parse(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_names_a_host() {
        assert_eq!(odd_tls_name("sbc-1.carrier.example"), None);
        for odd in ["", "*.carrier.example", "a..b", "192.0.2.1", "::1", "a b", "-a", "a.-b"] {
            assert!(odd_tls_name(odd).is_some(), "{odd}");
        }
    }

    #[test]
    fn a_codec_has_a_plain_name() {
        assert_eq!(odd_codec("PCMA"), None);
        assert_eq!(odd_codec("AMR-WB"), None);
        for odd in ["", "a b", "PCMA/8000", &"x".repeat(33)] {
            assert!(odd_codec(odd).is_some(), "{odd}");
        }
        assert!(goes_beside("cn") && goes_beside("telephone-event") && !goes_beside("PCMU"));
    }
}
