//! User-to-User of the BYE that ends a call (RFC 7433 3): it goes on with our BYE.
//! Owns:  what was said last, until the call is over.
//! Gives: `parting_of`; INVITE and its answers pass theirs on as any crossing header.
//! Never: a part of it: what is too long is left out whole.
//! Holds: what crosses has no control character (the writer unfolds it) and a bounded length.

use sip::wire::{HeaderName, Message, Writer};

/// RFC 7433 4.1 has 128 octets in mind, which are 256 digits, and one header for each package.
const VALUE_BYTES_MAX: usize = 1_024;
const VALUES_MAX: usize = 4;

pub(crate) type Parting = Option<Box<[Box<[u8]>]>>;

pub(crate) fn parting_of(bye: &Message<'_>) -> Parting {
    bye.first(HeaderName::UserToUser)?;
    let short = |value: &&[u8]| value.len() <= VALUE_BYTES_MAX;
    let values = bye.all(HeaderName::UserToUser).filter(short).take(VALUES_MAX);
    Some(values.map(Into::into).collect())
}

pub(crate) fn write_parting(parting: &Parting, out: &mut Writer<'_>) {
    for value in parting.iter().flatten() {
        out.header(HeaderName::UserToUser.as_str(), value);
    }
}
