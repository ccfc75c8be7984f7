//! Digest credentials of a user agent (RFC 7616, RFC 8760; RFC 2069 form when no qop is offered).
//! Owns:  reading a challenge, choosing among several, computing the response.
//! Gives: the value of an Authorization or Proxy-Authorization header.
//! Never: anything of the gateway's own digest code: this is the other side of it.
//! Holds: the checks against the examples of RFC 2617 3.5 and RFC 7616 3.9.1 below.

use md5::Md5;
use sha2::{Digest, Sha256};

/// The hash of a challenge, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256].into_iter().find(|a| a.as_str().eq_ignore_ascii_case(text))
    }

    fn hex(self, text: &str) -> String {
        let bytes = match self {
            Self::Md5 => Md5::digest(text.as_bytes()).to_vec(),
            Self::Sha256 => Sha256::digest(text.as_bytes()).to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One WWW-Authenticate or Proxy-Authenticate value that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub algorithm: Algorithm,
    /// Whether `auth` is among the offered qop values.
    pub qop_auth: bool,
    pub stale: bool,
}

impl Challenge {
    /// `None` where the scheme, the algorithm or a needed parameter is not one that we know.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let params = parameters(rest);
        let find = |name: &str| {
            params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
        };
        let algorithm = match find("algorithm") {
            Some(name) => Algorithm::parse(&name)?,
            None => Algorithm::Md5,
        };
        Some(Self {
            realm: find("realm")?,
            nonce: find("nonce")?,
            opaque: find("opaque"),
            algorithm,
            qop_auth: find("qop").is_some_and(|q| q.split(',').any(|one| one.trim() == "auth")),
            stale: find("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// The strongest of several challenges, or the one with the algorithm that the caller insists on.
    pub fn choose<'a>(
        values: impl Iterator<Item = &'a str>,
        only: Option<Algorithm>,
    ) -> Option<Self> {
        values
            .filter_map(Self::parse)
            .filter(|challenge| only.is_none_or(|wanted| challenge.algorithm == wanted))
            .max_by_key(|challenge| challenge.algorithm)
    }
}

/// Who answers a challenge, and how often this nonce was used before (starting at 1).
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub cnonce: &'a str,
    pub nonce_count: u32,
}

/// The value of the header that answers `challenge` for one request.
pub fn authorization(
    challenge: &Challenge,
    credentials: Credentials<'_>,
    method: &str,
    uri: &str,
) -> String {
    let Credentials { username, password, cnonce, nonce_count } = credentials;
    let Challenge { realm, nonce, algorithm, .. } = challenge;
    let ha1 = algorithm.hex(&format!("{username}:{realm}:{password}"));
    let ha2 = algorithm.hex(&format!("{method}:{uri}"));
    let mut value = format!(
        "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         algorithm={}",
        algorithm.as_str()
    );
    let response = if challenge.qop_auth {
        value.push_str(&format!(", qop=auth, nc={nonce_count:08x}, cnonce=\"{cnonce}\""));
        algorithm.hex(&format!("{ha1}:{nonce}:{nonce_count:08x}:{cnonce}:auth:{ha2}"))
    } else {
        algorithm.hex(&format!("{ha1}:{nonce}:{ha2}"))
    };
    value.push_str(&format!(", response=\"{response}\""));
    if let Some(opaque) = &challenge.opaque {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    value
}

/// `key=value` pairs, values with or without quotes, quoted commas and escapes respected.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        let key: String = std::iter::from_fn(|| rest.next_if(|c| *c != '=')).collect();
        if rest.next().is_none() {
            return pairs;
        }
        let mut value = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next_if(|c| *c != '"') {
                value.extend(if c == '\\' { rest.next() } else { Some(c) });
            }
            while rest.next_if(|c| *c != ',').is_some() {}
        } else {
            value.extend(std::iter::from_fn(|| rest.next_if(|c| *c != ',')));
        }
        rest.next();
        let key = key.trim_start_matches([',', ' ', '\t', '\r', '\n']).trim_end().to_owned();
        pairs.push((key, value.trim_end().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_matches_the_example_of_rfc_2617_3_5() {
        let challenge = Challenge::parse(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        )
        .expect("a digest challenge");
        let credentials = Credentials {
            username: "Mufasa",
            password: "Circle Of Life",
            cnonce: "0a4f113b",
            nonce_count: 1,
        };
        let value = authorization(&challenge, credentials, "GET", "/dir/index.html");
        assert!(value.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{value}");
        assert!(value.contains("nc=00000001"), "{value}");
    }

    #[test]
    fn sha256_matches_the_example_of_rfc_7616_3_9_1() {
        let challenge = Challenge::parse(
            "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
        )
        .expect("a digest challenge");
        let credentials = Credentials {
            username: "Mufasa",
            password: "Circle of Life",
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nonce_count: 1,
        };
        let value = authorization(&challenge, credentials, "GET", "/dir/index.html");
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(value.contains(expected), "{value}");
    }

    #[test]
    fn the_strongest_known_algorithm_is_chosen_unless_one_is_asked_for() {
        let offers = [
            "Digest realm=\"r\", nonce=\"a\", algorithm=SHA-512-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"b\", algorithm=SHA-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"c\", algorithm=MD5, qop=\"auth\", stale=TRUE",
        ];
        let chosen = Challenge::choose(offers.into_iter(), None).expect("one is known");
        assert_eq!((chosen.algorithm, chosen.nonce.as_str()), (Algorithm::Sha256, "b"));
        let md5 = Challenge::choose(offers.into_iter(), Some(Algorithm::Md5)).expect("offered");
        assert!(md5.stale && md5.nonce == "c");
    }
}
