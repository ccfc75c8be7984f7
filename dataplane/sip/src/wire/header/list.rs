//! Comma-separated header values (RFC 3261 7.3.1), quotes and angle brackets respected.
//! Owns:  the split.
//! Gives: trimmed elements; empty ones are left out.
//! Never: splits inside a quoted string or a bracketed URI.
//! Holds: an unbalanced quote makes the rest one element, which its reader then refuses.

use memchr::memchr;

pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let end = comma(text);
            rest = end.map(|end| &text[end + 1..]);
            let element = text[..end.unwrap_or(text.len())].trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

fn comma(text: &[u8]) -> Option<usize> {
    memchr(b',', text)?; // nearly every value is one element
    let (mut quoted, mut bracketed, mut at) = (false, false, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' if !bracketed => quoted = !quoted,
            b'<' if !quoted => bracketed = true,
            b'>' if !quoted => bracketed = false,
            b',' if !quoted && !bracketed => return Some(at),
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
    fn commas_in_quotes_and_brackets_do_not_split() {
        let value = b"\"a, \\\", b\" <sip:x,y@h>;q=1 ,, <sip:z@h>";
        let found: Vec<_> = elements(value).collect();
        assert_eq!(found, [&b"\"a, \\\", b\" <sip:x,y@h>;q=1"[..], b"<sip:z@h>"]);
    }
}
