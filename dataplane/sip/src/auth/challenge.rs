//! WWW-Authenticate and Proxy-Authenticate: ours written, another's read and answered.
//! Owns:  the order of our challenges (RFC 8760 2.4) and the client side of digest.
//! Gives: header lines; the value of an Authorization header.
//! Never: chooses whether to answer: that is for the trunk's realm and address.
//! Holds: a `Challenge` that exists can be answered.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::algorithms::{Proof, hash_joined};
use super::credentials::parse_algorithm;
use super::params::{Param, cut_scheme, parse_params, quote, unescape};
use super::{Algorithm, Refusal};
use crate::wire::Malformed;
use crate::wire::write::Writer;

/// One header line for each of `algorithms`, in their order (RFC 8760 2.4), with qop "auth".
pub fn write_challenges(
    out: &mut Writer<'_>,
    name: &str,
    realm: &str,
    nonce: &str,
    stale: bool,
    algorithms: &[Algorithm],
) {
    let (realm, nonce) = (quote(realm), quote(nonce));
    let stale = if stale { ", stale=true" } else { "" };
    for algorithm in algorithms {
        let algorithm = algorithm.as_str();
        out.header_fmt(
            name,
            format_args!(
                "Digest realm={realm}, nonce={nonce}, algorithm={algorithm}, qop=\"auth\"{stale}"
            ),
        );
    }
}

/// A challenge that we can answer. Text is as written between the quotes.
#[derive(Clone, Debug)]
pub struct Challenge<'a> {
    pub realm: &'a [u8],
    pub nonce: &'a [u8],
    pub opaque: Option<&'a [u8]>,
    pub algorithm: Algorithm,
    /// `auth` is offered; without any offer the answer has the form of RFC 2069.
    pub offers_auth: bool,
    /// The nonce was the only fault of the last answer.
    pub stale: bool,
    names_algorithm: bool,
}

const MALFORMED: Malformed = Malformed::BadHeader("WWW-Authenticate");

impl<'a> Challenge<'a> {
    pub fn parse(value: &'a [u8]) -> Result<Self, Refusal> {
        let list = cut_scheme(value).ok_or(Refusal::NotDigest)?;
        let mut fields = Fields::default();
        parse_params(list, MALFORMED, |param| fields.set(param)).map_err(Refusal::Malformed)?;
        let missing = Refusal::Malformed(MALFORMED);
        Ok(Self {
            realm: fields.realm.ok_or(missing)?,
            nonce: fields.nonce.ok_or(missing)?,
            opaque: fields.opaque,
            algorithm: fields.algorithm.map_or(Ok(Algorithm::Md5), parse_algorithm)?,
            offers_auth: fields.qop.map_or(Ok(false), offers_auth)?,
            stale: fields.stale.is_some_and(|word| word.eq_ignore_ascii_case(b"true")),
            names_algorithm: fields.algorithm.is_some(),
        })
    }

    /// The realm with quoted pairs resolved.
    pub fn realm_text(&self) -> Cow<'a, [u8]> {
        unescape(self.realm)
    }
}

/// RFC 7616 3.3: a list of the qualities, of which we know `auth`.
fn offers_auth(list: &[u8]) -> Result<bool, Refusal> {
    let mut words = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    if words.clone().any(|word| word.eq_ignore_ascii_case(b"auth")) {
        return Ok(true);
    }
    let is_auth_int = words.any(|word| word.eq_ignore_ascii_case(b"auth-int"));
    Err(if is_auth_int { Refusal::QopAuthInt } else { Refusal::QopUnknown })
}

#[derive(Default)]
struct Fields<'a> {
    realm: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
    opaque: Option<&'a [u8]>,
    algorithm: Option<&'a [u8]>,
    qop: Option<&'a [u8]>,
    stale: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, param: Param<'a>) -> Result<(), Malformed> {
        let fields = [
            ("realm", &mut self.realm),
            ("nonce", &mut self.nonce),
            ("opaque", &mut self.opaque),
            ("algorithm", &mut self.algorithm),
            ("qop", &mut self.qop),
            ("stale", &mut self.stale),
        ];
        param.store(fields, MALFORMED)
    }
}

/// The value of the Authorization header that answers `challenge` (RFC 7616 3.4).
pub fn answer(
    challenge: &Challenge<'_>,
    username: &str,
    password: &str,
    method: &str,
    uri: &str,
    nc: u32,
    cnonce: &str,
) -> String {
    let algorithm = challenge.algorithm;
    let count = format!("{nc:08x}");
    let counted = challenge.offers_auth.then_some((count.as_bytes(), cnonce.as_bytes()));
    let realm = challenge.realm_text();
    let ha1 = hash_joined(algorithm, &[username.as_bytes(), &realm, password.as_bytes()]);
    let proof = Proof {
        algorithm,
        nonce: challenge.nonce,
        counted,
        method: method.as_bytes(),
        uri: uri.as_bytes(),
    };
    let response = proof.response(&ha1).hex();
    let mut value = format!("Digest username={}, realm=\"", quote(username));
    value.push_str(&String::from_utf8_lossy(challenge.realm));
    value.push_str("\", nonce=\"");
    value.push_str(&String::from_utf8_lossy(challenge.nonce));
    write!(value, "\", uri={}, response=\"{response}\"", quote(uri)).expect(STRING);
    if challenge.names_algorithm {
        write!(value, ", algorithm={}", algorithm.as_str()).expect(STRING);
    }
    if challenge.offers_auth {
        write!(value, ", qop=auth, nc={count}, cnonce={}", quote(cnonce)).expect(STRING);
    }
    if let Some(opaque) = challenge.opaque {
        write!(value, ", opaque=\"{}\"", String::from_utf8_lossy(opaque)).expect(STRING);
    }
    value
}

const STRING: &str = "a String takes every text";

#[cfg(test)]
mod tests {
    use shared::snapshot::Secret;

    use super::super::{Credentials, verify};
    use super::*;

    fn lines(stale: bool, algorithms: &[Algorithm]) -> Vec<String> {
        let mut out = Vec::new();
        let mut writer = Writer::response(&mut out, 401, b"Unauthorized");
        write_challenges(&mut writer, "WWW-Authenticate", r#"a"b\c"#, "n0", stale, algorithms);
        writer.end();
        let text = String::from_utf8(out).expect("it is ASCII");
        let is_challenge = |line: &&str| line.starts_with("WWW-Authenticate: ");
        text.lines().filter(is_challenge).map(str::to_owned).collect()
    }

    /// RFC 8760 2.4: one line each, the one that the operator prefers on top.
    #[test]
    fn challenges_come_in_the_order_given() {
        let given = [Algorithm::Md5, Algorithm::Sha512_256, Algorithm::Sha256];
        let line = |algorithm| {
            format!(
                "WWW-Authenticate: Digest realm=\"a\\\"b\\\\c\", nonce=\"n0\", \
                 algorithm={algorithm}, qop=\"auth\""
            )
        };
        assert_eq!(lines(false, &given), ["MD5", "SHA-512-256", "SHA-256"].map(line));
        assert_eq!(lines(true, &[Algorithm::Md5]), [line("MD5") + ", stale=true"]);
        assert!(lines(false, &[]).is_empty());
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        for line in lines(true, &Algorithm::STRONGEST_FIRST) {
            let value = line.strip_prefix("WWW-Authenticate: ").expect("it has that name");
            let challenge = Challenge::parse(value.as_bytes()).expect(value);
            assert_eq!(&*challenge.realm_text(), br#"a"b\c"#);
            assert_eq!(challenge.nonce, b"n0");
            assert!(challenge.stale && challenge.offers_auth);
            assert!(value.contains(&format!("algorithm={}", challenge.algorithm.as_str())));
        }
    }

    #[test]
    fn each_unsupported_challenge_has_its_reason() {
        let refusal = |value: &str| Challenge::parse(value.as_bytes()).expect_err(value);
        let with = |rest: &str| refusal(&format!("Digest realm=\"r\", nonce=\"n\", {rest}"));
        assert_eq!(refusal("Basic realm=\"r\""), Refusal::NotDigest);
        assert_eq!(refusal("Digest realm=\"r\""), Refusal::Malformed(MALFORMED));
        assert_eq!(refusal("Digest nonce=\"n\""), Refusal::Malformed(MALFORMED));
        assert_eq!(with("realm=\"r\""), Refusal::Malformed(MALFORMED));
        assert_eq!(with("algorithm=MD5-sess"), Refusal::AlgorithmSess);
        assert_eq!(with("algorithm=FOO"), Refusal::AlgorithmUnknown);
        assert_eq!(with("qop=\"auth-int\""), Refusal::QopAuthInt);
        assert_eq!(with("qop=\"token\""), Refusal::QopUnknown);
        let both = b"Digest realm=r, nonce=n, qop=\"auth-int, auth\", stale=FALSE, domain=\"x\"";
        let challenge = Challenge::parse(both).expect("auth is among them");
        assert!(challenge.offers_auth && !challenge.stale);
    }

    /// RFC 7616 3.9.1, both answers word for word.
    #[test]
    fn the_example_of_the_rfc_is_answered() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let value = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let challenge = Challenge::parse(value.as_bytes()).expect("it is well-formed");
            let answer = answer(
                &challenge,
                "Mufasa",
                "Circle of Life",
                "GET",
                "/dir/index.html",
                1,
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            );
            let expected = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
                 response=\"{response}\", algorithm={algorithm}, qop=auth, nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn our_answers_verify_with_every_algorithm_and_awkward_names() {
        let names = [("1001", "ringgate.example"), (r#"O"Bri\en"#, r#"the "realm\"#), ("Jä", "x")];
        for (username, realm) in names {
            for algorithm in Algorithm::STRONGEST_FIRST {
                let name = algorithm.as_str();
                let value = format!(
                    "Digest realm={}, nonce=\"n\", algorithm={name}, qop=\"auth\"",
                    quote(realm)
                );
                let challenge = Challenge::parse(value.as_bytes()).expect(&value);
                let answer = answer(&challenge, username, "pw", "INVITE", "sip:2@x", 17, "c\"n");
                let credentials = Credentials::parse(answer.as_bytes()).expect(&answer);
                assert_eq!(credentials.username_text().as_deref(), Some(username));
                assert_eq!((credentials.nc, credentials.uri), (Some(17), &b"sip:2@x"[..]));
                assert_eq!(credentials.algorithm, algorithm);
                let is_right = |method: &[u8], password: &str| {
                    verify(&credentials, method, realm, &Secret::Plain(password.into()))
                };
                assert!(is_right(b"INVITE", "pw"), "{answer}");
                assert!(!is_right(b"INVITE", "pW") && !is_right(b"BYE", "pw"), "{answer}");
            }
        }
    }

    /// Without an offer of qop the answer has the form of RFC 2069.
    #[test]
    fn an_old_challenge_gets_an_old_answer() {
        let challenge = Challenge::parse(b"Digest realm=\"r\", nonce=\"n\"").expect("it is old");
        let answer = answer(&challenge, "u", "pw", "REGISTER", "sip:r", 1, "unused");
        assert!(["qop", "nc=", "algorithm"].iter().all(|word| !answer.contains(word)), "{answer}");
        let credentials = Credentials::parse(answer.as_bytes()).expect(&answer);
        assert!(verify(&credentials, b"REGISTER", "r", &Secret::Plain("pw".into())));
    }
}
