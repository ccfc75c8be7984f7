//! What a rule writes over: users, hosts and ports of the three addresses, and headers.
//! Owns:  `Rewritten`, the filling in of templates, the writing of an address.
//! Gives: the addresses of the INVITE that goes out.
//! Never: an address that cannot be read again; a user part with a byte that ends it.
//! Holds: what a rule does not write over stays as it was dialled.

use std::borrow::Cow;

use shared::headers::ExtraHeader;
use shared::route::{Field, Part, Rewrite, Route, Template};
use sip::wire::Uri;

use super::dialled::{Address, Dialled};

/// Values of the caller's own making could make a header grow without bound.
const VALUE_BYTES_MAX: usize = 1_024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub from: Over,
    pub to: Over,
    pub request: Over,
    pub headers: Vec<ExtraHeader>,
}

/// What was written over in one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Over {
    pub user: Option<Vec<u8>>,
    pub host: Option<Vec<u8>>,
    pub port: Option<u16>,
}

impl Over {
    pub(crate) fn is_empty(&self) -> bool {
        self.user.is_none() && self.host.is_none() && self.port.is_none()
    }
}

/// Fills in every template of the rule. `None`: a value cannot stand where the rule wants it.
pub(crate) fn rewrite(route: &Route, dialled: &Dialled<'_>) -> Option<Rewritten> {
    let mut rewritten = Rewritten::default();
    for Rewrite { field, template } in &route.rewrites {
        let value = fill(route, template, field, dialled);
        if value.len() > VALUE_BYTES_MAX || value.iter().any(u8::is_ascii_control) {
            return None;
        }
        put(&mut rewritten, field, value)?;
    }
    Some(rewritten)
}

fn fill(route: &Route, template: &Template, field: &Field, dialled: &Dialled<'_>) -> Vec<u8> {
    let condition = template.source.map(|place| &route.conditions[place]);
    let caught_from = condition.and_then(|condition| dialled.value(&condition.field));
    let caught = match (condition, &caught_from) {
        (Some(condition), Some(value)) => condition.pattern.captures(value),
        _ => None,
    };
    let mut out = Vec::new();
    for part in &template.parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Group(group) => match &caught {
                // A group that took no part in the match is empty.
                Some(caught) => {
                    out.extend_from_slice(caught.get(*group).map_or(b"", |found| found.as_bytes()));
                }
                None => out.extend_from_slice(&dialled.value(field).unwrap_or_default()),
            },
        }
    }
    out
}

fn put(rewritten: &mut Rewritten, field: &Field, value: Vec<u8>) -> Option<()> {
    match field {
        Field::FromUser => rewritten.from.user = Some(value),
        Field::FromHost => rewritten.from.host = Some(host(value)?),
        Field::ToUser => rewritten.to.user = Some(value),
        Field::ToHost => rewritten.to.host = Some(host(value)?),
        Field::ToPort => rewritten.to.port = Some(port(&value)?),
        Field::RequestUser => rewritten.request.user = Some(value),
        Field::RequestHost => rewritten.request.host = Some(host(value)?),
        Field::RequestPort => rewritten.request.port = Some(port(&value)?),
        Field::From | Field::Caller => whole(&mut rewritten.from, &value)?,
        Field::To | Field::Callee => whole(&mut rewritten.to, &value)?,
        Field::Header(name) => {
            let value = String::from_utf8_lossy(&value);
            rewritten.headers.push(ExtraHeader::new(name, &value).ok()?);
        }
    }
    Some(())
}

/// `user@host`, with or without a scheme, or a user alone.
fn whole(over: &mut Over, value: &[u8]) -> Option<()> {
    if !value.contains(&b'@') && !value.starts_with(b"sip:") {
        over.user = Some(value.to_vec());
        return Some(());
    }
    let text = if value.starts_with(b"sip:") {
        Cow::Borrowed(value)
    } else {
        Cow::Owned([b"sip:", value].concat())
    };
    let address = Address::parse(&text).ok()?;
    over.user = Some(address.user.into_owned());
    over.host = Some(address.host.into_owned());
    over.port = address.port;
    Some(())
}

fn host(value: Vec<u8>) -> Option<Vec<u8>> {
    let uri = [b"sip:".as_slice(), &value].concat();
    let parsed = Uri::parse(&uri).ok()?;
    // The whole value is the host: nothing else hides in it.
    (parsed.host.to_string().len() == value.len()).then_some(value)
}

fn port(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok().filter(|port| *port > 0)
}

/// `sip:user@host:port`; without a user `sip:host:port`.
pub(crate) fn write_uri(user: &[u8], host: &[u8], port: Option<u16>) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len() + host.len() + 16);
    out.extend_from_slice(b"sip:");
    if !user.is_empty() {
        escape_user(&mut out, user);
        out.push(b'@');
    }
    if host.contains(&b':') && !host.starts_with(b"[") {
        out.push(b'[');
        out.extend_from_slice(host);
        out.push(b']');
    } else {
        out.extend_from_slice(host);
    }
    if let Some(port) = port {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    out
}

/// RFC 3261 25.1: unreserved and user-unreserved stand for themselves, the rest is escaped.
fn escape_user(out: &mut Vec<u8>, user: &[u8]) {
    for &byte in user {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_again() {
        for (user, host, port, text) in [
            (&b"+49 30"[..], &b"h.example"[..], None, "sip:+49%2030@h.example"),
            (b"a@b", b"10.0.0.1", Some(5_070), "sip:a%40b@10.0.0.1:5070"),
            (b"", b"h", None, "sip:h"),
            (b"x", b"2001:db8::1", Some(5_060), "sip:x@[2001:db8::1]:5060"),
            (b"x<>\"\xff", b"h", None, "sip:x%3C%3E%22%FF@h"),
        ] {
            let uri = write_uri(user, host, port);
            assert_eq!(String::from_utf8_lossy(&uri), text);
            let parsed = Uri::parse(&uri).expect("it reads");
            assert_eq!(parsed.user_unescaped().as_ref(), user);
            assert_eq!(parsed.port, port);
        }
    }

    #[test]
    fn a_host_is_nothing_but_a_host() {
        for good in ["h.example", "10.0.0.1", "[2001:db8::1]"] {
            assert!(host(good.into()).is_some(), "{good}");
        }
        for bad in ["", "h;x=1", "h:5060", "u@h", "h?a=b", "a b", "1.2.3"] {
            assert!(host(bad.into()).is_none(), "{bad}");
        }
        assert_eq!(
            (port(b"5070"), port(b"0"), port(b"70000"), port(b"x")),
            (Some(5_070), None, None, None)
        );
    }

    #[test]
    fn a_whole_address_may_lack_its_scheme_and_its_host() {
        let read = |text: &str| {
            let mut over = Over::default();
            whole(&mut over, text.as_bytes())?;
            let text = |part: Option<Vec<u8>>| part.map(|p| String::from_utf8(p).expect("text"));
            Some((text(over.user), text(over.host), over.port))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("1001"), Some((some("1001"), None, None)));
        assert_eq!(read("1@h"), Some((some("1"), some("h"), None)));
        assert_eq!(read("sip:1@h:9"), Some((some("1"), some("h"), Some(9))));
        assert_eq!(read("1@h h"), None);
    }
}
