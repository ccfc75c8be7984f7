//! The SIP domains that a certificate stands for (RFC 5922 7.1).
//! Owns:  which parts of a certificate name a domain, and which of them counts.
//! Gives: `of`: a few names in lower case.
//! Never: a look at who issued it: the handshake has done that.
//! Holds: a name is as it is written there; a wildcard is none, and matches nothing (RFC 5922 7.2).

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A certificate with more of them keeps the first.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 253;

/// id-ce-subjectAltName and id-at-commonName, as they are written in a certificate.
const ALTERNATIVE_NAME: &[u8] = &[6, 3, 0x55, 0x1d, 0x11];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 6;
/// UTF8String, PrintableString, IA5String: those that a DNS name is written in.
const TEXTS: [u8; 3] = [12, 19, 22];

/// SIP URIs go first; DNS names count where there is none.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(read_out) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris = read(read_out.valid_uri_names().filter_map(domain));
    if !uris.is_empty() {
        return uris;
    }
    let names = read(read_out.valid_dns_names());
    // The common name counts only where there is no alternative name at all, of whatever kind.
    let has_alternative = || certificate.windows(5).any(|part| part == ALTERNATIVE_NAME);
    if names.is_empty() && !has_alternative() {
        return read(subject_names(read_out.subject()).into_iter());
    }
    names
}

/// Of a subject, which is a sequence of sets of attributes (RFC 5280 4.1.2.4) without its own head.
fn subject_names(mut subject: &[u8]) -> Vec<&str> {
    let mut names = Vec::new();
    while let Some((SET, mut attributes, rest)) = part(subject) {
        subject = rest;
        while let Some((SEQUENCE, attribute, rest)) = part(attributes) {
            attributes = rest;
            if let Some((OBJECT_ID, COMMON_NAME, value)) = part(attribute)
                && let Some((_, text, _)) = part(value).filter(|(kind, ..)| TEXTS.contains(kind))
                && let Ok(text) = std::str::from_utf8(text)
            {
                names.push(text);
            }
        }
    }
    names
}

/// The first element of some DER: its kind, what is in it, and what follows.
fn part(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None, // a name of more than 64 KiB
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

/// The host of a `sip` URI without a user: one with a user is about that user alone.
fn domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_domain = scheme.eq_ignore_ascii_case("sip") && !rest.contains('@');
    let end = rest.find([':', ';', '?']).unwrap_or(rest.len());
    is_domain.then(|| &rest[..end])
}

fn read<'c>(names: impl Iterator<Item = &'c str>) -> Vec<Box<str>> {
    let letters = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let names = names.map(|name| name.strip_suffix('.').unwrap_or(name));
    let fit = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len()) && letters(name);
    names.filter(fit).take(NAMES_MAX).map(|name| name.to_ascii_lowercase().into()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: &str, dns: &[&str], uris: &[&str], ip: bool) -> Vec<u8> {
        let ia5 = |text: &&str| Ia5String::try_from(*text).expect("ASCII");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        let names = dns.iter().map(ia5).map(SanType::DnsName);
        params.subject_alt_names = names.chain(uris.iter().map(ia5).map(SanType::URI)).collect();
        if ip {
            let address = [192, 0, 2, 1].into();
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn names(common: &str, dns: &[&str], uris: &[&str], ip: bool) -> Vec<Box<str>> {
        of(&certificate(common, dns, uris, ip).into())
    }

    fn boxed(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn rfc5922_7_1_sip_uris_go_before_dns_names_and_those_before_the_subject() {
        let uris = ["sip:Example.COM", "sips:other.test", "sip:ann@user.test", "https://web.test"];
        assert_eq!(names("cn.test", &["dns.test"], &uris, false), boxed(&["example.com"]));
        let nobody = &uris[1..];
        assert_eq!(
            names("cn.test", &["dns.test", "B.test."], nobody, false),
            boxed(&["dns.test", "b.test"])
        );
        assert_eq!(names("cn.test", &[], &[], false), boxed(&["cn.test"]));
        // An alternative name of whatever kind leaves the common name without a say.
        assert_eq!(names("cn.test", &[], &[], true), boxed(&[]));
        assert_eq!(names("cn.test", &[], nobody, false), boxed(&[]));
    }

    #[test]
    fn rfc5922_7_2_a_wildcard_is_no_name() {
        assert_eq!(
            names("x", &["*.carrier.test", "sbc.carrier.test"], &[], false),
            boxed(&["sbc.carrier.test"])
        );
        assert_eq!(names("*.carrier.test", &[], &[], false), boxed(&[]));
        assert_eq!(names("A Carrier Ltd", &[], &[], false), boxed(&[]));
    }

    #[test]
    fn what_is_no_certificate_has_no_name_and_a_long_list_ends() {
        assert_eq!(of(&CertificateDer::from(&b"no certificate"[..])), boxed(&[]));
        let whole = certificate("cn.test", &["dns.test"], &[], false);
        for length in 0..whole.len() {
            let cut = of(&CertificateDer::from(&whole[..length]));
            assert!(cut.is_empty(), "{length}: {cut:?}");
        }
        let many: Vec<String> = (0..100).map(|number| format!("{number}.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(names("cn.test", &many, &[], false).len(), NAMES_MAX);
    }
}
