//! Passing a description on as it is: media goes from its writer to its reader, past us.
//! Owns:  what has to differ nevertheless: the order of versions, a direction, codecs that go.
//! Gives: `pass`.
//! Never: an address, a port or an ICE attribute of ours.
//! Holds: where nothing has to differ, the body leaves byte by byte as it came.

use std::borrow::Cow;

use super::codecs::{Allowed, Kept};
use super::lines::{Line, lines, number, words};
use super::rewrite::write_line;
use super::{Description, Direction, MediaLine, parse};

#[derive(Clone, Copy, Debug, Default)]
pub struct Pass<'p> {
    /// What the reader was told before; empty: nothing. It goes by one `o=` for the whole dialog,
    /// whoever writes, and by a version that grows with each change (RFC 3264 8).
    pub before: &'p [u8],
    pub codecs: Allowed<'p>,
    /// What every line that is not refused says instead of its own direction.
    pub direction: Option<Direction>,
    /// Who hears it is put on hold. No relay keeps its peer quiet, so nobody is to send.
    pub hold: bool,
}

/// The body for the reader.
pub fn pass(said: &Description<'_>, how: &Pass<'_>) -> Vec<u8> {
    let plain = write(said, how, None);
    let Ok(before) = parse(how.before) else { return plain };
    let (Some(told), Some(own)) = (Origin::read(before.origin), Origin::read(said.origin)) else {
        return plain;
    };
    let is_known = own.user == told.user && own.id == told.id && own.rest == told.rest;
    if plain == how.before || (is_known && own.version > told.version) {
        return plain;
    }
    // Nothing but its origin is new to the reader: nothing is.
    if write(said, how, Some(told)) == how.before {
        return how.before.to_vec();
    }
    let version = own.version.max(told.version.saturating_add(1));
    write(said, how, Some(Origin { version, ..told }))
}

/// The words of `o=` (RFC 8866 5.2).
#[derive(Clone, Copy)]
struct Origin<'a> {
    user: &'a [u8],
    id: &'a [u8],
    version: u64,
    /// Network, family and address.
    rest: [&'a [u8]; 3],
}

impl<'a> Origin<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let mut words = words(value);
        let mut next = || words.next();
        let (user, id, version) = (next()?, next()?, number(next()?)?);
        Some(Self { user, id, version, rest: [next()?, next()?, next()?] })
    }

    fn value(&self) -> Vec<u8> {
        let version = self.version.to_string();
        let [network, family, address] = self.rest;
        [self.user, self.id, version.as_bytes(), network, family, address].join(&b' ')
    }
}

fn write(said: &Description<'_>, how: &Pass<'_>, origin: Option<Origin<'_>>) -> Vec<u8> {
    if origin.is_none() && how.codecs.names.is_empty() && how.direction.is_none() && !how.hold {
        return said.text().to_vec();
    }
    let mut out = Vec::with_capacity(said.text().len() + 16);
    let value = origin.map(|origin| origin.value());
    for line in lines(said.head) {
        match &value {
            Some(value) if line.kind == b'o' => write_line(&mut out, Line { kind: b'o', value }),
            _ => write_line(&mut out, line),
        }
    }
    for line in &said.media {
        write_media(line, how, &mut out);
    }
    out
}

fn write_media(line: &MediaLine<'_>, how: &Pass<'_>, out: &mut Vec<u8>) {
    let kept = Kept::of(line, how.codecs);
    let refused = kept.as_ref().is_some_and(|kept| !kept.has_codec());
    let is_live = line.port != 0 && !refused;
    let mut formats = Vec::new();
    match kept.as_ref().filter(|_| !refused) {
        Some(kept) => kept.write_formats(line, &mut formats),
        None => formats.extend_from_slice(&[b" ", line.formats].concat()),
    }
    let port = if refused { Cow::Borrowed("0") } else { Cow::Owned(line.port.to_string()) };
    let head = [line.kind, port.as_bytes(), line.proto].join(&b' ');
    let value = [head.as_slice(), &formats].concat();
    write_line(out, Line { kind: b'm', value: value.trim_ascii_end() });
    let wanted = how.direction.filter(|_| is_live);
    let direction = match how.hold && is_live {
        true => Some(Direction::Inactive),
        false => wanted,
    };
    let is_direction =
        |line: &Line<'_>| line.kind == b'a' && Direction::parse(line.value.trim_ascii()).is_some();
    let goes = |line: &Line<'_>| {
        let kept = kept.as_ref().filter(|_| !refused);
        line.kind == b'a' && kept.is_some_and(|kept| kept.drops(line.value))
    };
    for part in lines(line.section).filter(|part| !goes(part)) {
        if direction.is_none() || !is_direction(&part) {
            write_line(out, part);
        }
    }
    if let Some(direction) = direction {
        write_line(out, Line { kind: b'a', value: direction.as_str().as_bytes() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, crlf};
    use super::*;

    fn passed(said: &[u8], how: &Pass<'_>) -> String {
        let out = pass(&parse(said).expect("readable"), how);
        assert!(parse(&out).is_ok());
        String::from_utf8(out).expect("ASCII")
    }

    fn body(origin: &str, port: u16) -> Vec<u8> {
        let text = format!(
            "v=0\no={origin}\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\na=sendrecv\n\
             m=audio {port} RTP/AVP 0 8 101\na=rtpmap:101 telephone-event/8000\na=sendrecv\n\
             a=ptime:20\na=candidate:1 1 UDP 1 192.0.2.1 {port}\n"
        );
        crlf(&text)
    }

    #[test]
    fn every_byte_passes_where_nothing_has_to_differ() {
        for text in [samples::YEALINK, samples::LINPHONE_VIDEO, samples::TRAILING_GARBAGE] {
            for said in [crlf(text), text.as_bytes().to_vec()] {
                assert_eq!(passed(&said, &Pass::default()).as_bytes(), said);
                let again = Pass { before: &said, ..Pass::default() };
                assert_eq!(passed(&said, &again).as_bytes(), said, "said once more");
            }
        }
        let said = body("- 7 1 IN IP4 192.0.2.1", 4_000);
        let again = Pass { before: &said, ..Pass::default() };
        assert_eq!(passed(&said, &again).as_bytes(), said);
        let later = body("- 7 2 IN IP4 192.0.2.1", 4_002);
        assert_eq!(passed(&later, &again).as_bytes(), later, "its writer counts by himself");
    }

    /// RFC 3264 8: within a dialog `o=` differs in its version only, and that grows.
    #[test]
    fn another_writer_goes_on_under_the_origin_that_the_reader_knows() {
        let first = body("ann 7 5 IN IP4 192.0.2.1", 4_000);
        let other = body("- 99 1 IN IP4 192.0.2.9", 5_000);
        let how = Pass { before: &first, ..Pass::default() };
        let told = passed(&other, &how);
        assert!(told.contains("\r\no=ann 7 6 IN IP4 192.0.2.1\r\n"), "{told}");
        assert!(told.contains("m=audio 5000 RTP/AVP 0 8 101\r\n"), "{told}");
        let how = Pass { before: told.as_bytes(), ..Pass::default() };
        assert_eq!(passed(&other, &how), told, "what did not change keeps its version");
        let moved = body("- 99 2 IN IP4 192.0.2.9", 5_002);
        assert!(passed(&moved, &how).contains("\r\no=ann 7 7 IN IP4 192.0.2.1\r\n"));
    }

    #[test]
    fn a_change_of_ours_has_a_version_of_its_own() {
        let said = body("- 7 1 IN IP4 192.0.2.1", 4_000);
        let hold = passed(&said, &Pass { before: &said, hold: true, ..Pass::default() });
        assert!(hold.contains("\r\no=- 7 2 IN IP4 192.0.2.1\r\n"), "{hold}");
        assert!(hold.ends_with("a=inactive\r\n") && hold.matches("a=sendrecv").count() == 1);
        assert!(hold.contains("a=candidate:1"), "media still goes past us: {hold}");
        let back = passed(&said, &Pass { before: hold.as_bytes(), ..Pass::default() });
        assert!(back.contains("\r\no=- 7 3 IN IP4 192.0.2.1\r\n"), "{back}");
        let wanted = Some(Direction::RecvOnly);
        let told = passed(&said, &Pass { direction: wanted, ..Pass::default() });
        assert!(told.ends_with("a=recvonly\r\n"), "{told}");
    }

    #[test]
    fn codecs_that_are_not_allowed_go() {
        let said = body("- 7 1 IN IP4 192.0.2.1", 4_000);
        let told = passed(
            &said,
            &Pass { codecs: Allowed::any_order(&["PCMA".into()]), ..Pass::default() },
        );
        assert!(told.contains("m=audio 4000 RTP/AVP 8 101\r\n"), "{told}");
        let told = passed(
            &said,
            &Pass { codecs: Allowed::any_order(&["opus".into()]), ..Pass::default() },
        );
        assert!(told.contains("m=audio 0 RTP/AVP 0 8 101\r\n"), "{told}");
    }

    #[test]
    fn an_origin_that_cannot_be_read_passes_as_it_is() {
        let said = body("- x y IN IP4 192.0.2.1", 4_000);
        let before = body("- 7 1 IN IP4 192.0.2.1", 4_000);
        let how = Pass { before: &before, ..Pass::default() };
        assert_eq!(passed(&said, &how).as_bytes(), said);
    }
}
