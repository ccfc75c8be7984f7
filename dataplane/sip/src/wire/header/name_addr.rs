//! Addresses with a name: From, To, Contact, Route and their kin (RFC 3261 20.10, 25.1).
//! Owns:  the split into display name, URI and header parameters.
//! Gives: `NameAddr::parse`, `tag`, `param`.
//! Never: reads the URI; `parsed_uri` does.
//! Holds: without brackets, parameters belong to the header, not to the URI (RFC 3261 20.10).

use super::super::{Malformed, Uri};
use super::params;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Without its quotes, escapes still in it.
    pub display: &'a [u8],
    pub uri: &'a [u8],
    /// From the first `;` behind the URI, or empty.
    pub params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// # Errors
    /// Refuses an unbalanced quote or bracket, and an empty URI.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::BadHeader("an address");
        let value = value.trim_ascii();
        let (display, rest) = if let Some(quoted) = value.strip_prefix(b"\"") {
            let end = closing_quote(quoted).ok_or(BAD)?;
            let rest = quoted[end + 1..].trim_ascii_start();
            if !rest.starts_with(b"<") {
                return Err(BAD);
            }
            (&quoted[..end], rest)
        } else {
            match value.iter().position(|&byte| byte == b'<') {
                Some(open) => (value[..open].trim_ascii(), &value[open..]),
                None => return Self::bare(value),
            }
        };
        if !value.starts_with(b"\"") && !is_display(display) {
            return Err(BAD);
        }
        let close = rest.iter().position(|&byte| byte == b'>').ok_or(BAD)?;
        let uri = &rest[1..close];
        let params = rest[close + 1..].trim_ascii();
        if uri.is_empty() || !params::well_formed(params) {
            return Err(BAD);
        }
        Ok(Self { display, uri, params })
    }

    fn bare(value: &'a [u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::BadHeader("an address");
        let end = bare_end(value);
        let uri = value[..end].trim_ascii_end();
        let params = value[end..].trim_ascii();
        let blank = uri.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'"');
        // RFC 3261 20: a URI with a comma or question mark has to stand in brackets.
        let needs_brackets = uri.iter().any(|byte| matches!(byte, b',' | b'?'));
        if uri.is_empty() || blank || needs_brackets || !params::well_formed(params) {
            return Err(BAD);
        }
        Ok(Self { display: b"", uri, params })
    }

    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag").flatten().filter(|tag| !tag.is_empty())
    }

    /// A header parameter: `Some(None)` for one without a value.
    pub fn param(&self, name: &str) -> Option<Option<&'a [u8]>> {
        params::find(self.params, name)
    }

    /// # Errors
    /// As `Uri::parse`.
    pub fn parsed_uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }
}

/// Where a URI without brackets ends: at the first `;` behind its host. A user part may hold one.
fn bare_end(value: &[u8]) -> usize {
    let at = value.iter().position(|&byte| byte == b'@').unwrap_or(0);
    let user_ends = if value[..at].contains(&b' ') { 0 } else { at };
    value[user_ends..]
        .iter()
        .position(|&byte| byte == b';')
        .map_or(value.len(), |end| user_ends + end)
}

/// Tokens and LWS; the field also writes names with other bytes, such as UTF-8 and dots.
fn is_display(text: &[u8]) -> bool {
    text.iter().all(|&byte| {
        let separator = matches!(byte, b'"' | b',' | b';' | b'<' | b'>' | b'@' | b'\\');
        !separator && (byte >= b' ' && byte != 0x7f || byte.is_ascii_whitespace())
    })
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'"' => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_read() {
        let quoted = NameAddr::parse(b"\"J \\\" <x>\" <sip:j@h;lr>;tag=a").expect("it reads");
        assert_eq!((quoted.display, quoted.uri), (&b"J \\\" <x>"[..], &b"sip:j@h;lr"[..]));
        assert_eq!(quoted.tag(), Some(&b"a"[..]));
        let plain = NameAddr::parse(b"Ann Lee <sip:a@h>").expect("it reads");
        assert_eq!((plain.display, plain.params), (&b"Ann Lee"[..], &b""[..]));
        let bare = NameAddr::parse(b"sip:u;par@h;tag=b ;x").expect("it reads");
        assert_eq!((bare.uri, bare.tag()), (&b"sip:u;par@h"[..], Some(&b"b"[..])));
        assert_eq!(bare.param("x"), Some(None));
    }

    #[test]
    fn what_is_unbalanced_is_refused() {
        for text in [&b"\"a <sip:a@h>"[..], b"<sip:a@h", b"", b"<>", b"a b", b"\"a\" sip:a@h"] {
            assert!(NameAddr::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
