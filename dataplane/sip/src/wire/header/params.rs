//! Parameters behind a value: `;name=value;flag` (RFC 3261 25.1 generic-param).
//! Owns:  the walk over them.
//! Gives: `find`, `well_formed`.
//! Never: an order or a known list.
//! Holds: names compare without case; a quoted value keeps its quotes.

/// `;a=1;b` starting with `;` or blanks: the value of `name`, `Some(None)` for a flag.
pub(crate) fn find<'a>(params: &'a [u8], name: &str) -> Option<Option<&'a [u8]>> {
    each(params)
        .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
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

/// Whether everything behind a value is parameters: nothing but `;`, tokens and quoted strings.
pub(crate) fn well_formed(params: &[u8]) -> bool {
    let text = params.trim_ascii();
    if text.is_empty() {
        return true;
    }
    if !text.starts_with(b";") {
        return false;
    }
    let quotes = text.iter().filter(|&&byte| byte == b'"').count();
    let escaped = text.windows(2).filter(|pair| *pair == b"\\\"").count();
    (quotes - escaped) % 2 == 0
}

fn next_semicolon(text: &[u8]) -> usize {
    let (mut quoted, mut at) = (false, 0);
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
