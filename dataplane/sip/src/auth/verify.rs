//! Is the response of these credentials the one that the secret gives?
//! Owns:  the choice between a stored hash and a plain password.
//! Gives: yes or no, in a time that does not depend on how near a wrong response comes.
//! Never: checks the nonce (`Nonces` does), the URI or whose secret it is (the core does).
//! Holds: a stored hash serves only its realm and the algorithms that it was made for.

use shared::snapshot::Secret;

use super::algorithms::{Digest, Proof, hash_joined};
use super::params::unescape;
use super::{Algorithm, Credentials};

/// `secret` must be the one of `credentials.username_text()`; `realm` the one of our challenge.
pub fn verify(credentials: &Credentials<'_>, method: &[u8], realm: &str, secret: &Secret) -> bool {
    if credentials.refusal().is_some() || *credentials.realm_text() != *realm.as_bytes() {
        return false;
    }
    let Some(ha1) = ha1(credentials, realm, secret) else { return false };
    let cnonce = unescape(credentials.cnonce);
    let proof = Proof {
        algorithm: credentials.algorithm,
        nonce: credentials.nonce,
        counted: credentials.qop.map(|_| (credentials.nc_text, &*cnonce)),
        method,
        uri: credentials.uri,
    };
    proof.response(&ha1).equals_hex(credentials.response)
}

/// H(A1) of RFC 7616 3.4.2.
fn ha1(credentials: &Credentials<'_>, realm: &str, secret: &Secret) -> Option<Digest> {
    match secret {
        Secret::Plain(password) => {
            let username = unescape(credentials.username);
            let parts = [&*username, realm.as_bytes(), password.as_bytes()];
            Some(hash_joined(credentials.algorithm, &parts))
        }
        Secret::Ha1 { realm: own, .. } if **own != *realm => None,
        Secret::Ha1 { md5, sha256, sha512_256, .. } => match credentials.algorithm {
            Algorithm::Md5 => md5.as_ref().map(|hash| Digest::new(hash)),
            Algorithm::Sha256 => sha256.as_ref().map(|hash| Digest::new(hash)),
            Algorithm::Sha512_256 => sha512_256.as_ref().map(|hash| Digest::new(hash)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(password: &str) -> Secret {
        Secret::Plain(password.into())
    }

    fn is_right(value: &str, method: &str, realm: &str, secret: &Secret) -> bool {
        let credentials = Credentials::parse(value.as_bytes()).expect(value);
        verify(&credentials, method.as_bytes(), realm, secret)
    }

    /// RFC 2617 3.5.
    #[test]
    fn the_example_of_rfc_2617_verifies() {
        let value = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, \
            nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
            opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let secret = plain("Circle Of Life");
        assert!(is_right(value, "GET", "testrealm@host.com", &secret));
        assert!(!is_right(value, "POST", "testrealm@host.com", &secret));
        assert!(!is_right(value, "GET", "testrealm@host.org", &secret));
        assert!(!is_right(value, "GET", "testrealm@host.com", &plain("Circle of Life")));
    }

    /// The parameters of RFC 2069 2.4; the response printed there is wrong, this one was computed
    /// by another implementation.
    #[test]
    fn the_example_of_rfc_2069_verifies_without_qop() {
        let value = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
            response=\"1949323746fe6a43ef61f9606e7febea\", \
            opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        assert!(is_right(value, "GET", "testrealm@host.com", &plain("CircleOfLife")));
        let counted = format!("{value}, nc=00000001, cnonce=\"x\"");
        assert!(is_right(&counted, "GET", "testrealm@host.com", &plain("CircleOfLife")));
    }

    /// RFC 7616 3.9.1.
    #[test]
    fn both_examples_of_rfc_7616_verify() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let value = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                 uri=\"/dir/index.html\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
                 response=\"{response}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            assert!(is_right(&value, "GET", "http-auth@example.org", &plain("Circle of Life")));
            let loud = value.replace(response, &response.to_uppercase());
            assert!(is_right(&loud, "GET", "http-auth@example.org", &plain("Circle of Life")));
        }
    }

    /// RFC 7616 3.9.2 as erratum 4897 corrects it: the RFC cut SHA-512 instead of SHA-512/256.
    #[test]
    fn the_sha_512_256_example_of_rfc_7616_verifies() {
        let value = "Digest username=\"J\u{e4}s\u{f8}n Doe\", realm=\"api@example.org\", \
            uri=\"/doe.json\", algorithm=SHA-512-256, \
            nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", nc=00000001, \
            cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v\", qop=auth, \
            response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"";
        assert!(is_right(value, "GET", "api@example.org", &plain("Secret, or not?")));
    }

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| {
            u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("the test writes hex")
        })
    }

    /// 1001 at ringgate.example with s3cret, hashed by another implementation.
    fn ha1() -> Secret {
        Secret::Ha1 {
            realm: "ringgate.example".into(),
            md5: Some(unhex("f2b1118ff3c42dca230b0a1e7f26649d")),
            sha256: Some(unhex("1c6b8afde9f693dc620d27ee0da5e0dd357270c4951cf5fab2b0c014ca09db98")),
            sha512_256: Some(unhex(
                "095c096188fe22bba09fc1c09df7c3203654c4165f1c6d9b4a4efda6377b53b4",
            )),
        }
    }

    /// The same user's REGISTER, answered by another implementation.
    const ANSWERS: [(&str, &str); 3] = [
        ("MD5", "2c43a945b7a56015f304eecafd732193"),
        ("SHA-256", "32be135c0ae59d6e7e50fe3a13886e939295f145acca9adeb125d9f0b906ac9e"),
        ("SHA-512-256", "7e031144ae97250c8444a33e6dedda358b2f7e0f813d79599e788b96701879e8"),
    ];

    fn register(algorithm: &str, response: &str) -> String {
        format!(
            "Digest username=\"1001\", realm=\"ringgate.example\", nonce=\"abc\", \
             uri=\"sip:ringgate.example\", algorithm={algorithm}, nc=00000002, cnonce=\"cn\", \
             qop=auth, response=\"{response}\""
        )
    }

    #[test]
    fn a_stored_hash_and_a_password_give_the_same_verdict() {
        for (algorithm, response) in ANSWERS {
            let value = register(algorithm, response);
            assert!(is_right(&value, "REGISTER", "ringgate.example", &ha1()), "{algorithm}");
            assert!(is_right(&value, "REGISTER", "ringgate.example", &plain("s3cret")));
            assert!(!is_right(&value, "REGISTER", "ringgate.example", &plain("s3cret ")));
            for (from, to) in [
                ("username=\"1001\"", "username=\"1002\""),
                ("nonce=\"abc\"", "nonce=\"abd\""),
                ("sip:ringgate", "sip:ringgat3"),
                ("nc=00000002", "nc=00000003"),
                ("nc=00000002", "nc=2"),
                ("cnonce=\"cn\"", "cnonce=\"cm\""),
            ] {
                assert!(value.contains(from));
                let forged = value.replace(from, to);
                let secret = plain("s3cret");
                assert!(!is_right(&forged, "REGISTER", "ringgate.example", &secret), "{forged}");
            }
        }
    }

    #[test]
    fn a_stored_hash_serves_its_realm_only() {
        let value = register(ANSWERS[0].0, ANSWERS[0].1);
        let Secret::Ha1 { md5, sha256, sha512_256, .. } = ha1() else { panic!("it is one") };
        let moved = Secret::Ha1 { realm: "other.example".into(), md5, sha256, sha512_256 };
        assert!(!is_right(&value, "REGISTER", "ringgate.example", &moved));
        assert!(!is_right(&value, "REGISTER", "other.example", &moved), "another realm answered");
        let elsewhere = value.replace("realm=\"ringgate.example\"", "realm=\"other.example\"");
        assert!(!is_right(&elsewhere, "REGISTER", "ringgate.example", &ha1()));
    }

    #[test]
    fn a_stored_hash_serves_the_algorithms_it_has() {
        let Secret::Ha1 { realm, sha256, .. } = ha1() else { panic!("it is one") };
        let only = Secret::Ha1 { realm, md5: None, sha256, sha512_256: None };
        let verdicts = ANSWERS.map(|(algorithm, response)| {
            is_right(&register(algorithm, response), "REGISTER", "ringgate.example", &only)
        });
        assert_eq!(verdicts, [false, true, false]);
    }

    #[test]
    fn a_response_of_another_length_or_alphabet_is_wrong() {
        let (algorithm, response) = ANSWERS[0];
        for wrong in
            ["", &response[..31], &format!("{response}0"), &"g".repeat(32), &"0".repeat(64)]
        {
            let value = register(algorithm, wrong);
            assert!(!is_right(&value, "REGISTER", "ringgate.example", &ha1()), "{wrong}");
        }
        for at in 0..response.len() {
            let mut wrong = Vec::from(response);
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let value = register(algorithm, std::str::from_utf8(&wrong).expect("it is hex"));
            assert!(!is_right(&value, "REGISTER", "ringgate.example", &ha1()), "digit {at}");
        }
    }

    /// RFC 8760: neither session hashes nor body hashes, and nothing but MD5 without qop.
    #[test]
    fn refused_forms_never_verify() {
        use super::super::Refusal;
        for (algorithm, response) in ANSWERS {
            let named = format!("algorithm={algorithm},");
            let without_qop =
                (algorithm != "MD5").then_some((" qop=auth,", "", Refusal::QopMissing));
            let refused = [
                (&*named, &*format!("algorithm={algorithm}-sess,"), Refusal::AlgorithmSess),
                (&*named, "algorithm=FOO,", Refusal::AlgorithmUnknown),
                ("qop=auth,", "qop=auth-int,", Refusal::QopAuthInt),
                ("qop=auth,", "qop=other,", Refusal::QopUnknown),
            ];
            for (from, to, refusal) in refused.into_iter().chain(without_qop) {
                let value = register(algorithm, response);
                assert!(value.contains(from), "{from}");
                let value = value.replace(from, to);
                let credentials = Credentials::parse(value.as_bytes()).expect(&value);
                assert_eq!(credentials.refusal(), Some(refusal), "{value}");
                assert!(!verify(&credentials, b"REGISTER", "ringgate.example", &ha1()), "{value}");
            }
        }
    }

    /// RFC 7616 3.4.2 hashes what the quoted pairs stand for.
    #[test]
    fn quoted_pairs_are_resolved_before_hashing() {
        for (algorithm, response) in [
            ("MD5", "209d408a6794fa14ba0496abb5e446ef"),
            ("SHA-256", "d42343f38f140a924903955843c5c9ea79c389e578796055c36b7b8355ece64f"),
            ("SHA-512-256", "58a239cb0881b8581022d91b3c014f9b6eeb45663766e594da19d97a30feb842"),
        ] {
            let value = format!(
                "Digest username=\"O\\\"Brien\\\\x\", realm=\"ring\\\"gate\", nonce=\"abc\", \
                 uri=\"sip:x\", algorithm={algorithm}, nc=00000001, cnonce=\"c\\\"n\", qop=auth, \
                 response=\"{response}\""
            );
            assert!(is_right(&value, "REGISTER", "ring\"gate", &plain("pw")), "{algorithm}");
        }
    }
}
