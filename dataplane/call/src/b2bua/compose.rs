//! What we write into messages of a call: identities, passed-through headers, the SDP body.
//! Owns:  the list of headers that may cross from one leg to the other.
//! Gives: `pass_through`, `pass_and_add`, `write_body`, `party_user`.
//! Never: lets Via, Route, Contact, credentials or dialog headers cross: each leg has its own.
//! Holds: a header crosses only when it is a token and its value was unfolded by the writer.

use shared::headers::{ExtraHeader, is_reserved};
use sip::dialog::party;
use sip::wire::{HeaderName, Message, NameAddr, Writer};

use super::identity::{TELLING, is_identity};

/// Known headers that mean the same to both ends.
const CROSSING: [HeaderName; 13] = [
    HeaderName::AlertInfo,
    HeaderName::CallInfo,
    HeaderName::ContentDisposition,
    HeaderName::ContentLanguage,
    HeaderName::Date,
    HeaderName::Event,
    HeaderName::InReplyTo,
    HeaderName::Organization,
    HeaderName::Priority,
    HeaderName::Reason,
    HeaderName::Subject,
    HeaderName::UserToUser,
    HeaderName::Warning,
];

/// Copies what may cross: the list above and private `X-` headers.
pub(crate) fn pass_through(out: &mut Writer<'_>, message: &Message<'_>) {
    for (name, written, value) in message.lines().filter(|line| crosses(line.0, line.1)) {
        write_line(out, name, written, value);
    }
}

/// The same for an INVITE that somebody spoke about: what `added` has under a name stands in place of
/// what the message says. `original`: `Orders::with_original_headers`. `hidden`: who calls is a secret.
pub(crate) fn pass_and_add(
    out: &mut Writer<'_>,
    message: &Message<'_>,
    original: Option<bool>,
    added: &[ExtraHeader],
    hidden: bool,
) {
    for (name, written, value) in message.lines() {
        if hidden && TELLING.contains(&name) {
            continue;
        }
        let may_cross = match original {
            Some(true) => crosses(name, written) || is_theirs(name, written),
            Some(false) => false,
            None => crosses(name, written),
        };
        if may_cross && !is_replaced(added, name, written) {
            write_line(out, name, written, value);
        }
    }
    add(out, added);
}

pub(crate) fn add(out: &mut Writer<'_>, added: &[ExtraHeader]) {
    for header in added {
        out.line(header.name().as_bytes(), header.value().as_bytes());
    }
}

/// Name and URI in angle brackets, without a tag; with the URI that a decision put in its place.
pub(crate) fn renamed(address: NameAddr<'_>, uri: Option<&[u8]>) -> Vec<u8> {
    party(&NameAddr { uri: uri.unwrap_or(address.uri), ..address })
}

/// A line of another message as it was, but for who warns.
pub(crate) fn write_line(out: &mut Writer<'_>, name: HeaderName, written: &[u8], value: &[u8]) {
    match name {
        HeaderName::Other => out.line(written, value),
        HeaderName::Warning => out.header(name.as_str(), &from_us(value)),
        known => out.header(known.as_str(), value),
    };
}

/// A Warning without the address of who warns (RFC 3261 20.43: a pseudonym may stand there).
fn from_us(value: &[u8]) -> Vec<u8> {
    let mut words = value.splitn(3, |byte| *byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some(code), Some(_), Some(text)) => [code, b"gateway", text].join(&b' '),
        _ => value.to_vec(),
    }
}

fn crosses(name: HeaderName, written: &[u8]) -> bool {
    CROSSING.contains(&name) || (name == HeaderName::Other && is_private(written))
}

/// What is neither ours to write nor an identity that only a trusted peer may assert (RFC 3325 5).
fn is_theirs(name: HeaderName, written: &[u8]) -> bool {
    if name == HeaderName::Server || is_identity(name, written) {
        return false;
    }
    let text = match name {
        HeaderName::Other => std::str::from_utf8(written).unwrap_or("via"),
        known => known.as_str(),
    };
    !is_reserved(text)
}

fn is_replaced(added: &[ExtraHeader], name: HeaderName, written: &[u8]) -> bool {
    added.iter().any(|header| {
        let added = header.name().as_bytes();
        match name {
            HeaderName::Other => added.eq_ignore_ascii_case(written),
            known => HeaderName::parse(added) == known,
        }
    })
}

/// The same of a value that was written before.
pub(crate) fn changed(party: Vec<u8>, uri: Option<Vec<u8>>) -> Vec<u8> {
    let address = NameAddr::parse(&party).ok();
    let changed = address.zip(uri).map(|(address, uri)| renamed(address, Some(&uri)));
    changed.unwrap_or(party)
}

/// `X-...`, and `Info-Package` of an INFO (RFC 6086).
fn is_private(name: &[u8]) -> bool {
    let private = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-"));
    private || name.eq_ignore_ascii_case(b"Info-Package")
}

/// Ends a message with a body of `message`'s type, or with none.
pub(crate) fn write_body(out: Writer<'_>, content_type: &[u8], body: &[u8]) {
    if body.is_empty() {
        out.end();
    } else {
        out.body(content_type, body);
    }
}

pub(crate) const SDP: &[u8] = b"application/sdp";

/// What `message` carries: nothing, SDP, or something that an INVITE may not carry here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Nothing,
    Other,
    Sdp,
}

pub(crate) fn carries(message: &Message<'_>) -> Carries {
    if message.body().is_empty() {
        return Carries::Nothing;
    }
    let value = message.first(HeaderName::ContentType).unwrap_or_default();
    let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
    if media_type.trim_ascii().eq_ignore_ascii_case(SDP) { Carries::Sdp } else { Carries::Other }
}

/// The user part for people and CDRs, or the host where there is none.
pub(crate) fn party_user(address: &NameAddr<'_>) -> String {
    let Ok(uri) = address.parsed_uri() else {
        return readable(address.uri);
    };
    match uri.user {
        Some(_) => readable(&uri.user_unescaped()),
        None => uri.host.to_string(),
    }
}

/// Text for a person, bounded, without control characters.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}
