//! Digest answers of a phone (RFC 7616, RFC 8760), computed apart from the gateway's code.
//! Owns:  `Challenge`, `Hash`, the Authorization value.
//! Gives: the credentials for one request; the nonce count grows with every use of a nonce.
//! Never: `sip::auth`; rsip's digest, which knows neither SHA-256's name nor large nonce counts.
//! Holds: of several challenges the phone takes the first that it can compute (RFC 8760 2.4).

use std::fmt::Write as _;

use md5::Digest as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Md5,
    Sha256,
    Sha512_256,
}

impl Hash {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512_256];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    pub(crate) fn hex(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&md5::Md5::digest(text)),
            Self::Sha256 => hex(&sha2::Sha256::digest(text)),
            Self::Sha512_256 => hex(&sha2::Sha512_256::digest(text)),
        }
    }
}

/// One challenge line that a phone keeps, and how often it used the nonce.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub hash: Hash,
    pub stale: bool,
    qop_auth: bool,
    count: u32,
}

impl Challenge {
    /// The first of the challenges whose algorithm is among `known`.
    pub fn choose<'v>(values: impl Iterator<Item = &'v str>, known: &[Hash]) -> Option<Self> {
        values.filter_map(Self::read).find(|challenge| known.contains(&challenge.hash))
    }

    fn read(value: &str) -> Option<Self> {
        let rest = value.trim().strip_prefix("Digest ")?;
        let parameters = parameters(rest);
        let find = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let algorithm = find("algorithm").unwrap_or_else(|| "MD5".to_owned());
        let hash = Hash::ALL.into_iter().find(|h| h.word().eq_ignore_ascii_case(&algorithm))?;
        let qop = find("qop");
        Some(Self {
            realm: find("realm")?,
            nonce: find("nonce")?,
            opaque: find("opaque"),
            hash,
            stale: find("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            qop_auth: qop.is_some_and(|qop| qop.split(',').any(|word| word.trim() == "auth")),
            count: 0,
        })
    }

    /// The value of Authorization or Proxy-Authorization for one request.
    pub fn answer(&mut self, who: (&str, &str), method: &str, uri: &str, cnonce: &str) -> String {
        let (username, password) = who;
        let ha1 = self.hash.hex(&format!("{username}:{}:{password}", self.realm));
        let ha2 = self.hash.hex(&format!("{method}:{uri}"));
        let nonce = &self.nonce;
        self.count += 1;
        let count = format!("{:08x}", self.count);
        let response = if self.qop_auth {
            self.hash.hex(&format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"))
        } else {
            self.hash.hex(&format!("{ha1}:{nonce}:{ha2}"))
        };
        let mut out = format!(
            "Digest username=\"{username}\", realm=\"{}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={}",
            self.realm,
            self.hash.word()
        );
        if self.qop_auth {
            let _ = write!(out, ", cnonce=\"{cnonce}\", qop=auth, nc={count}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(out, ", opaque=\"{opaque}\"");
        }
        out
    }
}

/// `name=token` and `name="quoted"` pairs; commas inside quotes do not part them.
pub(crate) fn parameters(text: &str) -> Vec<(String, String)> {
    let (mut parts, mut quoted, mut part) = (Vec::new(), false, String::new());
    for letter in text.chars() {
        quoted ^= letter == '"';
        if letter == ',' && !quoted {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
    }
    parts.push(part);
    let pair = |part: &String| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    parts.iter().filter_map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 3.9.1: the worked example, both algorithms.
    #[test]
    fn the_example_of_rfc_7616_comes_out() {
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let line = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let known = Hash::ALL;
            let challenge = Challenge::choose([line.as_str()].into_iter(), &known);
            let mut challenge = challenge.expect("a challenge");
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let who = ("Mufasa", "Circle of Life");
            let answer = challenge.answer(who, "GET", "/dir/index.html", cnonce);
            assert!(answer.contains(&format!("response=\"{expected}\"")), "{answer}");
            assert!(answer.contains("nc=00000001"));
        }
    }

    #[test]
    fn a_phone_takes_the_first_challenge_it_can_compute() {
        let lines = [
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"",
            "Digest realm=\"r\", nonce=\"m\", algorithm=MD5, stale=TRUE",
        ];
        let old = Challenge::choose(lines.into_iter(), &[Hash::Md5]).expect("MD5 is offered");
        assert_eq!((old.nonce.as_str(), old.stale), ("m", true));
        let new = Challenge::choose(lines.into_iter(), &Hash::ALL).expect("any will do");
        assert_eq!(new.hash, Hash::Sha256);
    }
}
