//! Parameters behind a value: `;name=value;flag` (RFC 3261 25.1 generic-param).
//! Owns:  the walk over them.
//! Gives: `find`, `well_formed`.
//! Never: an order or a known list.
//! Holds: names compare without case; a quoted value keeps its quotes.

use memchr::{memchr, memchr2, memchr3};

/// `;a=1;b` starting with `;` or blanks: the value of `name`, `Some(None)` for a flag.
pub(crate) fn find<'a>(params: &'a [u8], name: &str) -> Option<Option<&'a [u8]>> {
    find_bytes(params, name.as_bytes())
}

pub(crate) fn find_bytes<'a>(params: &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
    each(params).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

pub(crate) fn each(params: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = params;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_ascii_start();
            rest = rest.strip_prefix(b";")?;
            let end = next_semicolon(rest);
            let text = rest[..end].trim_ascii();
            rest = &rest[end..];
            if text.is_empty() {
                continue;
            }
            return Some(match text.iter().position(|&byte| byte == b'=') {
                Some(at) => (text[..at].trim_ascii_end(), Some(text[at + 1..].trim_ascii_start())),
                None => (text, None),
            });
        }
    })
}

/// Whether everything behind a value is parameters: `;`, then anything that keeps its quotes
/// balanced. A bracket or a comma outside of quotes belongs to another address (RFC 3261 25.1), so
/// parameters that hold one would read differently to the next hop.
pub(crate) fn well_formed(params: &[u8]) -> bool {
    let text = params.trim_ascii();
    if memchr(b'"', text).is_none() {
        return memchr3(b'<', b'>', b',', text).is_none() && (text.is_empty() || text[0] == b';');
    }
    let (mut quoted, mut at) = (false, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'<' | b'>' | b',' if !quoted => return false,
            _ => {}
        }
        at += 1;
    }
    // A backslash as the last byte escapes nothing: `at` is then beyond the end.
    !quoted && at == text.len() && (text.is_empty() || text[0] == b';')
}

fn next_semicolon(text: &[u8]) -> usize {
    let mut at = match memchr2(b';', b'"', text) {
        None => return text.len(),
        Some(at) if text[at] == b';' => return at,
        Some(at) => at,
    };
    let mut quoted = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b';' if !quoted => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_decide_what_is_a_parameter() {
        for good in [&b""[..], b" ;a=1 ; b", b";a=\"x\\\\\"", b";a=\"<x>, \\\" ;y\";b", b";;"] {
            assert!(well_formed(good), "{}", String::from_utf8_lossy(good));
        }
        for bad in [&b"a"[..], b";a=\"", b";a=\"\\\"", b";a=<x>", b";a=1,b", b";a=\"\\"] {
            assert!(!well_formed(bad), "{}", String::from_utf8_lossy(bad));
        }
    }
}
