//! `name=value, name="value"` behind a scheme: the form of every digest header (RFC 7616 3.3, 3.4).
//! Owns:  how such a list is cut, what a quoted pair means.
//! Gives: slices of the received header; unescaped text borrows where it can.
//! Never: knows what a parameter is for.
//! Holds: a list that is not closed, or is longer than `PARAMS_MAX`, is malformed.

use std::borrow::Cow;

use crate::wire::Malformed;

/// Parameters in one header: RFC 7616 names fifteen; further ones are extensions.
const PARAMS_MAX: usize = 32;

/// One parameter; the value is without its quotes, quoted pairs stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Param<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Param<'a> {
    /// Puts the value into the field of its name. A name may come once (RFC 7616 3.3, 3.4);
    /// unknown ones are extensions and are ignored.
    pub(super) fn store<const N: usize>(
        self,
        fields: [(&str, &mut Option<&'a [u8]>); N],
        malformed: Malformed,
    ) -> Result<(), Malformed> {
        for (name, field) in fields {
            if self.name.eq_ignore_ascii_case(name.as_bytes()) {
                return field.replace(self.value).map_or(Ok(()), |_| Err(malformed));
            }
        }
        Ok(())
    }
}

/// Does this header value speak of Digest? Others, such as Bearer, are for somebody else.
pub fn is_digest(value: &[u8]) -> bool {
    cut_scheme(value).is_some()
}

/// What follows the word Digest.
pub(super) fn cut_scheme(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Digest";
    let value = value.trim_ascii_start();
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (ends && scheme.eq_ignore_ascii_case(SCHEME)).then_some(rest)
}

/// Calls `each` for every parameter in turn.
pub(super) fn parse_params<'a>(
    list: &'a [u8],
    malformed: Malformed,
    mut each: impl FnMut(Param<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut rest = list;
    for _ in 0..PARAMS_MAX {
        rest = skip_separators(rest);
        if rest.is_empty() {
            return Ok(());
        }
        let (param, after) = cut_param(rest).ok_or(malformed)?;
        each(param)?;
        rest = after;
    }
    if skip_separators(rest).is_empty() { Ok(()) } else { Err(malformed) }
}

/// Empty elements are allowed in every comma separated list (RFC 9110 5.6.1).
fn skip_separators(list: &[u8]) -> &[u8] {
    let end = list.iter().position(|&byte| byte != b',' && !byte.is_ascii_whitespace());
    &list[end.unwrap_or(list.len())..]
}

fn cut_param(list: &[u8]) -> Option<(Param<'_>, &[u8])> {
    let equals = list.iter().position(|&byte| byte == b'=')?;
    let name = list[..equals].trim_ascii_end();
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return None;
    }
    let rest = list[equals + 1..].trim_ascii_start();
    let (value, after) = match rest.strip_prefix(b"\"") {
        Some(quoted) => cut_quoted(quoted)?,
        None => cut_bare(rest)?,
    };
    let after = after.trim_ascii_start();
    let ends = after.is_empty() || after[0] == b',';
    ends.then_some((Param { name, value }, after))
}

/// Up to the closing quote that no backslash escapes (RFC 3261 25.1).
fn cut_quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut is_escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

/// Some phones leave the quotes out even where the value is not a token.
fn cut_bare(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let ends = |&byte: &u8| byte == b',' || byte.is_ascii_whitespace();
    let end = text.iter().position(ends).unwrap_or(text.len());
    let (value, after) = text.split_at(end);
    let is_plain = !value.iter().any(|byte| matches!(byte, b'"' | b'\\'));
    is_plain.then_some((value, after))
}

/// RFC 3261 25.1.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// The text that quoted pairs stand for.
pub(super) fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    if !quoted.contains(&b'\\') {
        return Cow::Borrowed(quoted);
    }
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        // A lone backslash at the end cannot come out of `cut_quoted`.
        text.push(if byte == b'\\' { *bytes.next().unwrap_or(&byte) } else { byte });
    }
    Cow::Owned(text)
}

/// The quoted form of a text: `"` and `\` escaped, what may not stand in a header left out.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALFORMED: Malformed = Malformed::BadHeader("test");

    /// Every parameter as `name|value`, or `None` for a malformed list.
    fn all(list: &str) -> Option<Vec<String>> {
        let mut params = Vec::new();
        let collect = |Param { name, value }: Param<'_>| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            params.push(format!("{}|{}", text(name), text(value)));
            Ok(())
        };
        parse_params(list.as_bytes(), MALFORMED, collect).ok().map(|()| params)
    }

    #[test]
    fn quoted_and_bare_values_and_blanks_read() {
        let list = " a=1,b = \"x, y=z\" ,\r\n c=\"\",d=sip:u@[::1]:5060;x=y ,,, e=\"\\\"\\\\\" ";
        let expected = ["a|1", "b|x, y=z", "c|", "d|sip:u@[::1]:5060;x=y", r#"e|\"\\"#];
        assert_eq!(all(list).expect("it is well-formed"), expected);
        assert_eq!(all(""), Some(Vec::new()));
        assert_eq!(all(" , ,"), Some(Vec::new()));
        assert_eq!(all("a=").expect("empty is a value"), ["a|"]);
    }

    #[test]
    fn what_is_not_closed_or_not_named_is_malformed() {
        for list in [
            "a",
            "=b",
            " =b",
            "a b=c",
            "a=\"",
            "a=\"x",
            "a=\"x\\\"",
            "a=\"x\"y",
            "a=x y",
            "a=x\"y",
            "a=x\\",
            "a=b,c",
            "\"a\"=b",
            "a\0=b",
            "é=b",
        ] {
            assert_eq!(all(list), None, "{list}");
        }
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        assert_eq!(all(&"a=b,".repeat(PARAMS_MAX)).map(|params| params.len()), Some(PARAMS_MAX));
        assert_eq!(all(&"a=b,".repeat(PARAMS_MAX + 1)), None);
    }

    #[test]
    fn a_scheme_ends_with_a_blank() {
        for value in ["Digest a=b", "digest\ta=b", " DIGEST\r\n a=b", "Digest"] {
            assert!(is_digest(value.as_bytes()), "{value}");
        }
        for value in ["", "Digesta=b", "Basic YTpi", "Bearer x", "Dig", "Digest=x"] {
            assert!(!is_digest(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn quoted_pairs_stand_for_their_second_half() {
        assert_eq!(&*unescape(br#"a\"b\\c\d"#), br#"a"b\cd"#);
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(b"plain")));
        assert_eq!(quote("a\"b\\c\r\n\0d"), r#""a\"b\\cd""#);
        assert_eq!(&*unescape(br"\"), br"\", "no panic on what cannot be cut");
    }
}
