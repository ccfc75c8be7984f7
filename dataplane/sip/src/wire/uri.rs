//! URIs: sip, sips, tel, and the rest by name only (RFC 3261 19.1, RFC 3966).
//! Owns:  the split into user, host, port, parameters, headers; the comparison of two URIs.
//! Gives: `Uri::parse`, `user_unescaped`, `param`, `equals`.
//! Never: resolves a name.
//! Holds: an IPv6 host stands in brackets (RFC 3261 25.1, RFC 5118 4.1).

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memrchr};

use super::Malformed;
use super::header::{params, parse_number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Other,
    Sip,
    Sips,
    Tel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    Name(&'a [u8]),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&String::from_utf8_lossy(name)),
            Self::V4(ip) => write!(f, "{ip}"),
            Self::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    pub scheme: Scheme,
    /// Without password, escapes still in it. A tel URI keeps its number here.
    pub user: Option<&'a [u8]>,
    pub host: Host<'a>,
    pub port: Option<u16>,
    /// From the first `;` behind the host, or empty.
    pub params: &'a [u8],
    /// Behind `?`, or empty.
    pub headers: &'a [u8],
}

/// Bytes that a URI of the field may hold: no blank, no control byte, no bracket, no quote.
const CLEAN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let dirty = at <= 0x20 || matches!(at, 0x22 | 0x3c | 0x3e | 0x7f); // " < > DEL
        table[at] = !dirty;
        at += 1;
    }
    table
};

impl<'a> Uri<'a> {
    /// # Errors
    /// Refuses blanks, brackets and control bytes, a missing scheme, a host or port that is none.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::BadHeader("a URI");
        if text.is_empty() || !text.iter().all(|&byte| CLEAN[usize::from(byte)]) {
            return Err(BAD);
        }
        let colon = memchr(b':', text).ok_or(BAD)?;
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        let scheme_reads =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.iter().all(scheme_reads) || rest.is_empty() {
            return Err(BAD);
        }
        if scheme.eq_ignore_ascii_case(b"sip") {
            Self::parse_sip(Scheme::Sip, rest).ok_or(BAD)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Self::parse_sip(Scheme::Sips, rest).ok_or(BAD)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            let end = memchr(b';', rest).unwrap_or(rest.len());
            Ok(Self::opaque(Scheme::Tel, Some(&rest[..end]), &rest[end..]))
        } else {
            Ok(Self::opaque(Scheme::Other, None, b""))
        }
    }

    const fn opaque(scheme: Scheme, user: Option<&'a [u8]>, params: &'a [u8]) -> Self {
        Self { scheme, user, host: Host::Name(b""), port: None, params, headers: b"" }
    }

    fn parse_sip(scheme: Scheme, rest: &'a [u8]) -> Option<Self> {
        // The user part may hold `;` and `?`; the host may not hold `@`.
        let at = memrchr(b'@', rest);
        let (user, rest) = match at {
            Some(at) => {
                let whole = &rest[..at];
                let end = memchr(b':', whole).unwrap_or(at);
                if end == 0 || whole.contains(&b'@') || !escapes_read(whole) {
                    return None;
                }
                (Some(&whole[..end]), &rest[at + 1..])
            }
            None => (None, rest),
        };
        let question = memchr(b'?', rest);
        let (rest, headers) = match question {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        let end = memchr(b';', rest).unwrap_or(rest.len());
        let (host, port) = parse_host_port(&rest[..end])?;
        Some(Self { scheme, user, host, port, params: &rest[end..], headers })
    }

    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// A URI parameter: `Some(None)` for one without a value, such as `lr`.
    pub fn param(&self, name: &str) -> Option<Option<&'a [u8]>> {
        params::find(self.params, name)
    }

    /// The user part with `%xx` read (RFC 3261 19.1.2); empty when there is none.
    pub fn user_unescaped(&self) -> Cow<'a, [u8]> {
        unescape(self.user.unwrap_or_default())
    }

    /// The headers that it brings for the request, escapes undone, in their order.
    pub fn header_values(&self) -> impl Iterator<Item = (Cow<'a, [u8]>, Cow<'a, [u8]>)> + use<'a> {
        let pairs = self.headers.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let end = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
            (unescape(&pair[..end]), unescape(pair.get(end + 1..).unwrap_or_default()))
        })
    }

    /// RFC 3261 19.1.4.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        let host = match (self.host, other.host) {
            (Host::Name(mine), Host::Name(theirs)) => mine.eq_ignore_ascii_case(theirs),
            (Host::V4(mine), Host::V4(theirs)) => mine == theirs,
            (Host::V6(mine), Host::V6(theirs)) => mine == theirs,
            _ => false,
        };
        self.scheme == other.scheme
            && self.user.is_some() == other.user.is_some()
            && self.user_unescaped() == other.user_unescaped()
            && host
            && self.port == other.port
            && params_agree(self.params, other.params)
            && params_agree(other.params, self.params)
            && unescape(self.headers).eq_ignore_ascii_case(&unescape(other.headers))
    }
}

/// More parameters than this are not matched one by one: that would cost their square.
const PARAMS_COMPARED_MAX: usize = 64;

/// Parameters in both must match; these five may not stand in one alone. Equal text agrees, even
/// where a name stands twice, which RFC 3261 19.1.1 forbids.
fn params_agree(mine: &[u8], theirs: &[u8]) -> bool {
    const STRICT: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
    if mine.eq_ignore_ascii_case(theirs) {
        return true;
    }
    let many = |list| params::each(list).nth(PARAMS_COMPARED_MAX).is_some();
    if many(mine) || many(theirs) {
        return false;
    }
    params::each(mine).all(|(name, value)| match params::find_bytes(theirs, name) {
        Some(other) => value.unwrap_or_default().eq_ignore_ascii_case(other.unwrap_or_default()),
        None => !STRICT.iter().any(|known| name.eq_ignore_ascii_case(known)),
    })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; blanks around the colon are allowed (Via).
pub(crate) fn parse_host_port(text: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    if let Some(rest) = text.strip_prefix(b"[") {
        let close = memchr(b']', rest)?;
        let address: Ipv6Addr = std::str::from_utf8(&rest[..close]).ok()?.parse().ok()?;
        return Some((Host::V6(address), parse_port(&rest[close + 1..])?));
    }
    let end = memchr(b':', text).unwrap_or(text.len());
    let host = text[..end].trim_ascii_end();
    let port = parse_port(&text[end..])?;
    if host.is_empty() {
        return None;
    }
    let mut digits = true;
    for &byte in host {
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
            return None;
        }
        digits &= byte.is_ascii_digit() || byte == b'.';
    }
    if digits {
        let address = std::str::from_utf8(host).ok()?.parse().ok()?;
        return Some((Host::V4(address), port));
    }
    Some((Host::Name(host), port))
}

/// Empty, or `:port`. The outer `None` is a port that is none.
fn parse_port(text: &[u8]) -> Option<Option<u16>> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.strip_prefix(b":")?.trim_ascii();
    Some(Some(u16::try_from(parse_number(digits)?).ok()?))
}

fn escapes_read(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr(b'%', rest) {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return false;
        }
        rest = &rest[at + 3..];
    }
    true
}

fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *byte == b'%');
        let value = digits
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                rest = &tail[2..];
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts_of_a_uri() {
        let uri = parse("sip:user;par=u%40example.net:pw@[2001:db8::10]:5070;transport=tcp;lr?a=b");
        assert_eq!(uri.user_unescaped().as_ref(), b"user;par=u@example.net");
        assert_eq!((uri.port, uri.param("lr")), (Some(5070), Some(None)));
        assert_eq!(uri.param("Transport"), Some(Some(&b"tcp"[..])));
        assert_eq!(uri.headers, b"a=b");
        assert_eq!(uri.host.to_string(), "[2001:db8::10]");
        assert_eq!(parse("tel:+1-201;x=1").user, Some(&b"+1-201"[..]));
    }

    /// RFC 3261 19.1.4's own examples.
    #[test]
    fn equality_of_uris() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        ];
        for (mine, theirs) in same {
            assert!(parse(mine).equals(&parse(theirs)), "{mine} {theirs}");
        }
        let other = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ];
        for (mine, theirs) in other {
            assert!(!parse(mine).equals(&parse(theirs)), "{mine} {theirs}");
        }
    }

    #[test]
    fn a_uri_equals_itself_whatever_its_parameters() {
        for params in [";a=1;a=2", ";user=phon;user=phone", ";\u{e4}=1;=2", &";x".repeat(3_000)] {
            let text = format!("sip:a@h{params}");
            assert!(parse(&text).equals(&parse(&text)), "{text:.40}");
        }
        let (few, many) = (";x;y=1".repeat(30), ";y=1;x".repeat(3_000));
        assert!(parse(&format!("sip:a@h{few}")).equals(&parse("sip:a@h;y=1;x")));
        assert!(!parse(&format!("sip:a@h{many}")).equals(&parse("sip:a@h;y=1;x")));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        let bad = [
            "",
            "sip:",
            "1001",
            "sip:a b@h",
            "sip:@h",
            "sip:a@h:70000",
            "sip:a@[::1",
            "sip:a@::1",
            "<sip:a@h>",
            "sip:a%4@h",
            "sip:1.2.3.4.5",
            "sip:a@h:-1",
        ];
        for text in bad {
            assert!(Uri::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
