//! How a body falls into lines, sections, attributes and words.
//! Owns:  what counts as a line end and as a line.
//! Gives: iterators over the received bytes.
//! Never: judges what a line says.
//! Holds: a lone CR ends a line as well as LF does: a peer that reads it so sees what we see.

use std::str::FromStr;

/// One `x=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
}

/// The lines of the form `x=value` with a small letter; whatever else stands there is passed over.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    bytes.split(|&byte| is_line_end(byte)).filter_map(line)
}

/// Up to the first `m=` line, and from there.
pub(super) struct Cut<'a> {
    pub(super) before: &'a [u8],
    pub(super) media: Option<Media<'a>>,
}

/// The value of an `m=` line, and everything behind the line.
pub(super) struct Media<'a> {
    pub(super) value: &'a [u8],
    pub(super) rest: &'a [u8],
}

pub(super) fn cut_section(bytes: &[u8]) -> Cut<'_> {
    let mut at = 0;
    for text in bytes.split(|&byte| is_line_end(byte)) {
        if let Some(Line { kind: b'm', value }) = line(text) {
            let media = Media { value, rest: &bytes[at + text.len()..] };
            return Cut { before: &bytes[..at], media: Some(media) };
        }
        at += text.len() + 1;
    }
    Cut { before: bytes, media: None }
}

/// The attributes of a section: name, and what follows the colon.
pub(super) fn attributes(section: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    lines(section).filter(|line| line.kind == b'a').map(|line| attribute(line.value))
}

/// The name without blanks around it, and what follows the colon as written.
pub(super) fn attribute(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    match value.iter().position(|&byte| byte == b':') {
        Some(colon) => (value[..colon].trim_ascii(), Some(&value[colon + 1..])),
        None => (value.trim_ascii(), None),
    }
}

/// The words between blanks.
pub(super) fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty())
}

/// The first word, and what follows it without leading blanks.
pub(super) fn cut_word(value: &[u8]) -> (&[u8], &[u8]) {
    let value = value.trim_ascii();
    let end = value.iter().position(|&byte| is_blank(byte)).unwrap_or(value.len());
    (&value[..end], value[end..].trim_ascii_start())
}

/// Digits only: no sign, no blank, no overflow.
pub(super) fn number<N: FromStr>(word: &[u8]) -> Option<N> {
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn line(text: &[u8]) -> Option<Line<'_>> {
    match text {
        [kind @ b'a'..=b'z', b'=', value @ ..] => Some(Line { kind: *kind, value }),
        _ => None,
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
