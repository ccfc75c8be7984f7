//! `[webhooks]` and what every section says about the HTTP calls that we make: URL, headers, secrets.
//! Owns:  `Webhooks`, `SigningKey`, `WebHeader`; the form of a URL that we may call.
//! Gives: checks that every section with a URL uses.
//! Never: keeps a secret where `Debug` shows it; decides which addresses may be called (the guard does).
//! Holds: a key has 24 to 64 bytes, as Standard Webhooks asks; a header is none of those that are ours.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use url::Url;

use super::file::SecretText;
use super::problem::Report;
use super::secret::{self, ReadSecret};

/// Signatures of all outbound calls; empty means that none is signed.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    keys: Vec<SigningKey>,
}

/// One secret of Standard Webhooks: `whsec_` and the key in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Box<[u8]>);

/// A header that the configuration adds to a call.
#[derive(Clone, PartialEq, Eq)]
pub struct WebHeader {
    pub name: String,
    pub value: String,
}

/// Whom a section of the configuration wants to be called, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct WebTarget {
    pub url: Url,
    pub headers: Vec<WebHeader>,
    /// For a whole call, from the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
}

impl fmt::Debug for WebTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may carry a password or a token.
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "WebTarget({}://{host}/...)", self.url.scheme())
    }
}

const KEY_PREFIX: &str = "whsec_";
const KEY_BYTES_MIN: usize = 24;
const KEY_BYTES_MAX: usize = 64;
/// While rotating there are two; every key costs a pass over the body.
const KEYS_MAX: usize = 4;
const URL_BYTES_MAX: usize = 2_048;
const HEADERS_MAX: usize = 32;
const HEADER_BYTES_MAX: usize = 4_096;

/// Ours, or those that would change how the message is framed.
const RESERVED_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "proxy-authorization",
];

/// With and without padding; people cut it off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Webhooks {
    /// In the order of the file; every one signs.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    pub(super) fn check(
        file: &WebhooksFile,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Self {
        let mut keys = Vec::new();
        let written: Vec<(String, &SecretText)> = match &file.secret {
            None => Vec::new(),
            Some(OneOrMore::One(one)) => vec![("webhooks.secret".to_owned(), one)],
            Some(OneOrMore::More(list)) => {
                let key = |(place, text)| (format!("webhooks.secret[{place}]"), text);
                list.iter().enumerate().map(key).collect()
            }
        };
        if written.len() > KEYS_MAX {
            report.error("webhooks.secret", format!("has more than {KEYS_MAX} secrets"));
        }
        for (key, text) in written {
            let Some(text) = secret::resolve(text, &key, read, report) else { continue };
            match SigningKey::parse(&text) {
                Ok(found) => keys.push(found),
                Err(reason) => {
                    let hint = "make one with: echo whsec_$(openssl rand -base64 32)";
                    report.error_try(&key, reason, hint);
                }
            }
        }
        Self { keys }
    }
}

impl SigningKey {
    /// The error says what is wrong without showing the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(encoded) = text.strip_prefix(KEY_PREFIX) else {
            return Err(format!("must start with \"{KEY_PREFIX}\""));
        };
        let bytes = BASE64.decode(encoded).map_err(|_| "is not base64 after its prefix")?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            return Err(format!(
                "holds {} bytes; a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX}",
                bytes.len()
            ));
        }
        Ok(Self(bytes.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(...)")
    }
}

impl fmt::Debug for WebHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebHeader({}: ...)", self.name)
    }
}

/// A URL that we could call, wherever it was written: absolute, http or https, with a host.
pub fn parse_web_url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("is longer than {URL_BYTES_MAX} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must start with http:// or https://, not {}:", url.scheme()));
    }
    if url.host().is_none() {
        return Err("names no host".to_owned());
    }
    if url.port() == Some(0) {
        return Err("has port 0".to_owned());
    }
    Ok(url)
}

/// A header for an outbound call; the error says what is wrong with it and not its value.
pub fn check_web_header(name: &str, value: &str) -> Result<(), String> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(token) {
        return Err("is not a header name".to_owned());
    }
    if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
        return Err("is a header that the gateway writes itself".to_owned());
    }
    if name.len() + value.len() > HEADER_BYTES_MAX {
        return Err(format!("is longer than {HEADER_BYTES_MAX} bytes"));
    }
    // RFC 9110 5.5; bytes above ASCII are legal there and mean nothing to anybody.
    if !value.bytes().all(|c| c == b'\t' || (b' '..=b'~').contains(&c)) {
        return Err("has a value with bytes that a header cannot carry".to_owned());
    }
    Ok(())
}

/// The `url` of a section.
pub(super) fn url(
    written: Option<&SecretText>,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Url> {
    let Some(written) = written else {
        report.error_try(key, "is missing", "write url = \"https://...\"");
        return None;
    };
    let text = secret::resolve(written, key, read, report)?;
    match parse_web_url(&text) {
        Ok(url) => Some(url),
        Err(reason) => {
            report.error(key, reason);
            None
        }
    }
}

/// The `headers` of a section. A value may be `file:PATH` or `env:NAME`.
pub(super) fn headers(
    written: &BTreeMap<String, SecretText>,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<WebHeader> {
    if written.len() > HEADERS_MAX {
        report.error(key, format!("has more than {HEADERS_MAX} headers"));
    }
    let mut headers = Vec::new();
    for (name, value) in written {
        let key = format!("{key}.{name}");
        let Some(value) = secret::resolve(value, &key, read, report) else { continue };
        match check_web_header(name, &value) {
            Ok(()) => headers.push(WebHeader { name: name.clone(), value }),
            Err(reason) => report.error(&key, reason),
        }
    }
    headers
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WebhooksFile {
    pub(super) secret: Option<OneOrMore>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(SecretText),
    More(Vec<SecretText>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_and_without_padding_and_never_shown() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("24 bytes");
        assert_eq!(key.bytes().len(), 24);
        assert_eq!(key.bytes()[..2], [0x31, 0xf2]);
        assert_eq!(format!("{key:?}"), "SigningKey(...)");
        let padded = SigningKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==");
        let bare = SigningKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(padded.expect("25 bytes"), bare.expect("25 bytes"));
        for wrong in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_short",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        ] {
            let reason = SigningKey::parse(wrong).expect_err(wrong);
            assert!(!reason.contains("MfKQ"), "{reason}");
        }
        let long = format!("whsec_{}", "A".repeat(88));
        assert!(SigningKey::parse(&long).is_err());
    }

    #[test]
    fn urls_are_absolute_and_of_the_web() {
        for right in ["https://a.example/x?y=1", "http://10.0.0.5:8080", "HTTPS://[::1]/"] {
            assert!(parse_web_url(right).is_ok(), "{right}");
        }
        let long = format!("https://a.example/{}", "x".repeat(URL_BYTES_MAX));
        for wrong in [
            "",
            "/x",
            "a.example",
            "ftp://a.example/",
            "http://",
            "http://a:0/",
            "file:///x",
            &long,
        ] {
            assert!(parse_web_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_plain_and_not_ours() {
        assert_eq!(check_web_header("X-API-Key", "secret token\t1"), Ok(()));
        assert_eq!(check_web_header("Authorization", "Bearer x"), Ok(()));
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("Content-Length", "3"),
            ("webhook-id", "x"),
            ("Webhook-Signature", "x"),
            ("Host", "evil.example"),
            ("X", "a\r\nb: c"),
            ("X", "a\0"),
        ] {
            assert!(check_web_header(name, value).is_err(), "{name}: {value:?}");
        }
    }
}
