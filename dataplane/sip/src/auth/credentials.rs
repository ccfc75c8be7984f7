//! The Authorization and Proxy-Authorization header of a peer (RFC 7616 3.4, RFC 3261 22.4).
//! Owns:  which parameters must be there and which forms are accepted.
//! Gives: slices of the header; `refusal()` says why readable credentials are still no use.
//! Never: looks a user up, hashes anything.
//! Holds: no known parameter comes twice; with a qop there is a count and a cnonce.

use std::borrow::Cow;

use super::params::{Param, cut_scheme, parse_params, unescape};
use super::{Algorithm, Refusal};
use crate::wire::Malformed;

/// What a peer claims. Text is as written between the quotes, quoted pairs included.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    pub username: &'a [u8],
    pub realm: &'a [u8],
    pub nonce: &'a [u8],
    /// What is hashed; that it names the same as the Request-URI is for the reader to check.
    pub uri: &'a [u8],
    pub response: &'a [u8],
    /// Empty when missing.
    pub cnonce: &'a [u8],
    /// Empty when missing.
    pub opaque: &'a [u8],
    /// MD5 when none is named, and when `refusal()` speaks of the algorithm.
    pub algorithm: Algorithm,
    pub qop: Option<&'a [u8]>,
    pub nc: Option<u32>,
    /// The count as written: its digits are hashed.
    pub(super) nc_text: &'a [u8],
    algorithm_text: Option<&'a [u8]>,
}

const MALFORMED: Malformed = Malformed::BadHeader("Authorization");

impl<'a> Credentials<'a> {
    /// One header value; see `is_digest` for those of other schemes.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let list = cut_scheme(value).ok_or(MALFORMED)?;
        let mut fields = Fields::default();
        parse_params(list, MALFORMED, |param| fields.set(param))?;
        fields.check()
    }

    /// The user name with quoted pairs resolved; `None` when it is not UTF-8 and so nobody's.
    pub fn username_text(&self) -> Option<Cow<'a, str>> {
        match unescape(self.username) {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
    }

    /// The realm with quoted pairs resolved.
    pub fn realm_text(&self) -> Cow<'a, [u8]> {
        unescape(self.realm)
    }

    /// Why these credentials can never be right here; `verify` is false for all of them.
    pub fn refusal(&self) -> Option<Refusal> {
        let algorithm = self.algorithm_text.map_or(Ok(Algorithm::Md5), parse_algorithm);
        match (algorithm, self.qop) {
            (Err(refusal), _) => Some(refusal),
            (Ok(Algorithm::Md5), None) => None,
            (Ok(_), None) => Some(Refusal::QopMissing),
            (Ok(_), Some(qop)) if qop.eq_ignore_ascii_case(b"auth") => None,
            (Ok(_), Some(qop)) if qop.eq_ignore_ascii_case(b"auth-int") => {
                Some(Refusal::QopAuthInt)
            }
            (Ok(_), Some(_)) => Some(Refusal::QopUnknown),
        }
    }
}

pub(super) fn parse_algorithm(word: &[u8]) -> Result<Algorithm, Refusal> {
    const SESS: &[u8] = b"-sess";
    if let Some(algorithm) = Algorithm::parse(word) {
        return Ok(algorithm);
    }
    let is_sess =
        word.len().checked_sub(SESS.len()).is_some_and(|at| word[at..].eq_ignore_ascii_case(SESS));
    Err(if is_sess { Refusal::AlgorithmSess } else { Refusal::AlgorithmUnknown })
}

/// The parameters as they come in.
#[derive(Default)]
struct Fields<'a> {
    username: Option<&'a [u8]>,
    realm: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    response: Option<&'a [u8]>,
    cnonce: Option<&'a [u8]>,
    opaque: Option<&'a [u8]>,
    algorithm: Option<&'a [u8]>,
    qop: Option<&'a [u8]>,
    nc: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, param: Param<'a>) -> Result<(), Malformed> {
        let fields = [
            ("username", &mut self.username),
            ("realm", &mut self.realm),
            ("nonce", &mut self.nonce),
            ("uri", &mut self.uri),
            ("response", &mut self.response),
            ("cnonce", &mut self.cnonce),
            ("opaque", &mut self.opaque),
            ("algorithm", &mut self.algorithm),
            ("qop", &mut self.qop),
            ("nc", &mut self.nc),
        ];
        param.store(fields, MALFORMED)
    }

    fn check(self) -> Result<Credentials<'a>, Malformed> {
        let nc = self.nc.map(parse_count).transpose()?;
        if self.qop.is_some() && (nc.is_none() || self.cnonce.is_none()) {
            return Err(MALFORMED);
        }
        let algorithm = self.algorithm.and_then(|word| parse_algorithm(word).ok());
        Ok(Credentials {
            username: self.username.ok_or(MALFORMED)?,
            realm: self.realm.ok_or(MALFORMED)?,
            nonce: self.nonce.ok_or(MALFORMED)?,
            uri: self.uri.ok_or(MALFORMED)?,
            response: self.response.ok_or(MALFORMED)?,
            cnonce: self.cnonce.unwrap_or_default(),
            opaque: self.opaque.unwrap_or_default(),
            algorithm: algorithm.unwrap_or(Algorithm::Md5),
            qop: self.qop,
            nc,
            nc_text: self.nc.unwrap_or_default(),
            algorithm_text: self.algorithm,
        })
    }
}

/// Eight hex digits (RFC 7616 3.4); fewer are accepted.
fn parse_count(word: &[u8]) -> Result<u32, Malformed> {
    if word.is_empty() || word.len() > 8 || !word.iter().all(u8::is_ascii_hexdigit) {
        return Err(MALFORMED);
    }
    let text = std::str::from_utf8(word).map_err(|_| MALFORMED)?;
    u32::from_str_radix(text, 16).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7616 3.9.1 in the shape of SIP.
    const VALUE: &str = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
        uri=\"sip:example.org\", algorithm=SHA-256, nonce=\"7ypf/xlj9XXwfDPEoM4U\", \
        nc=0000000a, cnonce=\"f2/wE4q74E6zIJEt\", qop=auth, response=\"7539\", \
        opaque=\"FQhe/qaU\"";

    fn parsed(value: &str) -> Credentials<'_> {
        Credentials::parse(value.as_bytes()).expect(value)
    }

    fn refusal_with(from: &str, to: &str) -> Option<Refusal> {
        assert!(VALUE.contains(from), "{from}");
        parsed(&VALUE.replace(from, to)).refusal()
    }

    #[test]
    fn all_parameters_read() {
        let credentials = parsed(VALUE);
        assert_eq!(credentials.username, b"Mufasa");
        assert_eq!(credentials.realm, b"http-auth@example.org");
        assert_eq!(credentials.nonce, b"7ypf/xlj9XXwfDPEoM4U");
        assert_eq!(credentials.uri, b"sip:example.org");
        assert_eq!(credentials.response, b"7539");
        assert_eq!(credentials.cnonce, b"f2/wE4q74E6zIJEt");
        assert_eq!(credentials.opaque, b"FQhe/qaU");
        assert_eq!(credentials.algorithm, Algorithm::Sha256);
        assert_eq!(credentials.qop, Some(&b"auth"[..]));
        assert_eq!(credentials.nc, Some(10));
        assert_eq!(credentials.refusal(), None);
    }

    /// RFC 7616 3.4: algorithm, qop and nc are bare words; phones quote them or change their case.
    #[test]
    fn quoted_words_and_other_cases_are_accepted() {
        assert_eq!(refusal_with("algorithm=SHA-256", "ALGORITHM=\"sha-256\""), None);
        assert_eq!(refusal_with("qop=auth", "Qop=\"AUTH\""), None);
        assert_eq!(parsed(&VALUE.replace("nc=0000000a", "nc=\"0000000A\"")).nc, Some(10));
        assert_eq!(parsed(&VALUE.replace("0000000a", "a")).nc, Some(10));
        assert_eq!(parsed(&VALUE.replace("\"Mufasa\"", "Mufasa")).username, b"Mufasa");
        assert_eq!(parsed(&VALUE.replace("\"sip:example.org\"", "sip:a")).uri, b"sip:a");
    }

    #[test]
    fn each_unsupported_form_has_its_reason() {
        for (algorithm, refusal) in [
            ("MD5-sess", Refusal::AlgorithmSess),
            ("SHA-256-sess", Refusal::AlgorithmSess),
            ("sha-512-256-SESS", Refusal::AlgorithmSess),
            ("SHA256", Refusal::AlgorithmUnknown),
            ("AKAv1-MD5", Refusal::AlgorithmUnknown),
            ("", Refusal::AlgorithmUnknown),
        ] {
            let named = format!("algorithm=\"{algorithm}\"");
            assert_eq!(refusal_with("algorithm=SHA-256", &named), Some(refusal), "{algorithm}");
        }
        assert_eq!(refusal_with("qop=auth", "qop=auth-int"), Some(Refusal::QopAuthInt));
        assert_eq!(refusal_with("qop=auth", "qop=\"auth,auth-int\""), Some(Refusal::QopUnknown));
        assert_eq!(refusal_with(", qop=auth", ""), Some(Refusal::QopMissing));
        let md5 = VALUE.replace("algorithm=SHA-256, ", "").replace(", qop=auth", "");
        assert_eq!(parsed(&md5).refusal(), None, "RFC 2069");
    }

    #[test]
    fn a_missing_or_repeated_parameter_is_malformed() {
        for name in ["username", "realm", "nonce", "uri", "response"] {
            let without = VALUE.replacen(name, &format!("x-{name}"), 1);
            assert!(Credentials::parse(without.as_bytes()).is_err(), "{name} is missing");
        }
        for name in ["username", "realm", "uri", "qop", "nc", "algorithm"] {
            let twice = format!("{VALUE}, {}=x", name.to_uppercase());
            assert!(Credentials::parse(twice.as_bytes()).is_err(), "{name} comes twice");
        }
        assert!(Credentials::parse(format!("{VALUE}, x=y, x=y").as_bytes()).is_ok());
    }

    #[test]
    fn a_qop_needs_a_count_and_a_cnonce() {
        for (from, to) in [
            (", cnonce=", ", x="),
            (" nc=", " x="),
            ("0000000a", "00000000a"),
            ("0000000a", "xyz"),
            ("0000000a", "+1"),
            ("0000000a", "\"\""),
        ] {
            assert!(VALUE.contains(from), "{from}");
            assert!(Credentials::parse(VALUE.replace(from, to).as_bytes()).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn another_scheme_is_malformed_here() {
        for value in ["", "Digest", "Basic YTpi", "Bearer x"] {
            assert!(Credentials::parse(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn names_resolve_quoted_pairs_and_must_be_utf_8() {
        let quoted = VALUE.replace("Mufasa", r#"O\"Bri\\en"#);
        assert_eq!(parsed(&quoted).username_text().as_deref(), Some(r#"O"Bri\en"#));
        assert_eq!(parsed(&VALUE.replace("Mufasa", "")).username_text().as_deref(), Some(""));
        let mut bytes = Vec::from(VALUE);
        bytes[17] = 0xff;
        let credentials = Credentials::parse(&bytes).expect("content is free");
        assert_eq!(credentials.username_text(), None);
    }

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut value = Vec::from(b"Digest ");
            value.extend(bytes);
            let _verdict = Credentials::parse(&value);
        }

        #[test]
        fn no_mutation_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut value = Vec::from(VALUE);
            for (at, byte) in changes {
                let at = at.index(value.len());
                value[at] = byte;
            }
            if let Ok(credentials) = Credentials::parse(&value) {
                let (_refusal, _name) = (credentials.refusal(), credentials.username_text());
            }
        }
    }
}
