//! One pass over a message: where its start line, headers and body are (RFC 3261 7).
//! Owns:  `scan` and `Message`, a table of offsets beside the bytes.
//! Gives: raw values, trimmed; the typed readers of `header` take it from there.
//! Never: allocates, copies, or looks into a value.
//! Holds: every span lies inside the bytes; a header name is a token.

use memchr::memchr;
use shared::limits::{HEADER_LINE_BYTES_MAX, HEADERS_MAX, SIP_MESSAGE_BYTES_MAX};

use super::header::list;
use super::{HeaderName, Malformed, Method};

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u16,
    end: u16,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: HeaderName,
    written: Span,
    value: Span,
}

/// All bits zero, so that an empty table is one fill.
const NO_LINE: Line = Line {
    name: HeaderName::ALL[0],
    written: Span { start: 0, end: 0 },
    value: Span { start: 0, end: 0 },
};

/// A scanned message. Cheap to look into, 1.3 KB to move: pass it by reference.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    start: Start<'a>,
    lines: [Line; HEADERS_MAX],
    count: usize,
    body: Span,
    /// The first thing that was wrong behind the start line.
    fault: Option<Malformed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    Request { method: Method, method_text: &'a [u8], uri: &'a [u8] },
    Response { status: u16, reason: &'a [u8] },
}

/// Reads one whole message: a datagram, or what `frame` cut out of a stream. A bare LF ends a line
/// as CRLF does: that cannot move the border of a message, because the length of a datagram and the
/// Content-Length of a stream decide it.
///
/// # Errors
/// Only for bytes whose start line is none of SIP. A fault behind it is kept with the message, and
/// the line that has it is left out: `check_request` reports it, and an answer can still be built.
pub fn scan(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    if bytes.len() > SIP_MESSAGE_BYTES_MAX {
        return Err(Malformed::MessageTooLong);
    }
    // RFC 3261 7.5: empty lines before the start line are skipped.
    let lead = bytes.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    let (line_end, mut at) = line_end(bytes, lead).ok_or(Malformed::NotSip)?;
    let start = start_line(&bytes[lead..line_end])?;
    let mut message = Message {
        bytes,
        start,
        lines: [NO_LINE; HEADERS_MAX],
        count: 0,
        body: span(0, 0),
        fault: None,
    };
    loop {
        let Some((end, next)) = header_end(bytes, at) else {
            message.note(Malformed::NoEnd);
            at = bytes.len();
            break;
        };
        if end == at {
            at = next;
            break;
        }
        let added = if end - at > HEADER_LINE_BYTES_MAX {
            Err(Malformed::LineTooLong)
        } else {
            message.add_line(at, end)
        };
        if let Err(fault) = added {
            message.note(fault);
        }
        at = next;
    }
    message.body = span(at, bytes.len());
    Ok(message)
}

impl<'a> Message<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn start(&self) -> Start<'a> {
        self.start
    }

    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// Of a response: the method of its CSeq, `Other` when that does not read.
    pub fn method(&self) -> Method {
        match self.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => self.cseq().map_or(Method::Other, |cseq| cseq.method),
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// The value of the first such line, trimmed; it may contain folds.
    pub fn first(&self, name: HeaderName) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// One value per header line.
    pub fn all(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        self.table()
            .iter()
            .filter(move |line| line.name == name)
            .map(move |line| line.value.of(bytes))
    }

    /// One value per element of comma-separated lists, over all lines (RFC 3261 7.3.1).
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(list::elements)
    }

    /// Every header line in order: name, name as written, value.
    pub fn lines(&self) -> impl Iterator<Item = (HeaderName, &'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        self.table()
            .iter()
            .map(move |line| (line.name, line.written.of(bytes), line.value.of(bytes)))
    }

    /// What follows the headers, cut to Content-Length where that is shorter.
    pub fn body(&self) -> &'a [u8] {
        let received = self.body.of(self.bytes);
        match self.content_length() {
            Ok(Some(declared)) => received.get(..declared as usize).unwrap_or(received),
            Ok(None) | Err(_) => received,
        }
    }

    /// Bytes after the headers, whatever Content-Length says.
    pub(super) fn received_body(&self) -> &'a [u8] {
        self.body.of(self.bytes)
    }

    /// The first name of the set `names` (one bit each) that has a second line.
    pub(super) fn repeated(&self, names: u64) -> Option<HeaderName> {
        let mut seen = 0_u64;
        self.table().iter().map(|line| line.name).find(|&name| {
            let bit = names & (1 << name as u8);
            let again = seen & bit != 0;
            seen |= bit;
            again
        })
    }

    fn table(&self) -> &[Line] {
        &self.lines[..self.count]
    }

    pub(super) fn fault(&self) -> Result<(), Malformed> {
        self.fault.map_or(Ok(()), Err)
    }

    fn note(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }

    fn add_line(&mut self, start: usize, end: usize) -> Result<(), Malformed> {
        let line = &self.bytes[start..end];
        let (name, written, behind) = match known_name(line) {
            Some(found) => found,
            None => any_name(line)?,
        };
        if self.count == HEADERS_MAX {
            return Err(Malformed::TooManyHeaders);
        }
        let rest = behind.trim_ascii_start();
        let value_start = end - rest.len();
        let value = rest.trim_ascii_end();
        self.lines[self.count] = Line {
            name,
            written: span(start, start + written),
            value: span(value_start, value_start + value.len()),
        };
        self.count += 1;
        Ok(())
    }
}

/// Longer than every name that we know, in words of eight bytes.
const NAME_WORDS: usize = 3;

/// The name that a line starts with, its length, and what follows the colon: only for names that we know
/// and that touch their colon, which is nearly every line. Such a name is a token.
fn known_name(line: &[u8]) -> Option<(HeaderName, usize, &[u8])> {
    let length = colon(line)?;
    let name = HeaderName::parse(&line[..length]);
    (name != HeaderName::Other).then(|| (name, length, &line[length + 1..]))
}

/// Where the first colon is, if among the first bytes; a machine word at a time.
fn colon(line: &[u8]) -> Option<usize> {
    let (words, _) = line.as_chunks::<8>();
    // A line of few bytes, or a name that nobody knows, has none here.
    first_in(words.iter().take(NAME_WORDS), b':')
}

/// Where the next line feed is. Lines are short: a call of memchr for each costs more.
fn line_feed(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let behind = bytes.len() - rest.len();
    let in_rest = || rest.iter().position(|&byte| byte == b'\n').map(|place| behind + place);
    first_in(words.iter(), b'\n').or_else(in_rest)
}

/// The first such byte of these words.
#[inline]
fn first_in<'w>(words: impl Iterator<Item = &'w [u8; 8]>, byte: u8) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    for (number, word) in words.enumerate() {
        // A byte that is the one looked for is zero here, and the lowest zero byte is the lowest with its
        // top bit set in the next line (a borrow reaches only bytes above it).
        let zero = u64::from_le_bytes(*word) ^ (EACH * u64::from(byte));
        let found = zero.wrapping_sub(EACH) & !zero & (EACH << 7);
        if found != 0 {
            return Some(8 * number + found.trailing_zeros() as usize / 8);
        }
    }
    None
}

/// The same for any name, with blanks behind it.
fn any_name(line: &[u8]) -> Result<(HeaderName, usize, &[u8]), Malformed> {
    // Blanks before the colon are allowed, folds are not (RFC 3261 25.1 HCOLON); anything else
    // that is not a token would let a header hide from a filter that compares names.
    let length = line.iter().take_while(|&&byte| is_token(byte)).count();
    let behind = &line[length..];
    let blanks = behind.iter().take_while(|&&byte| matches!(byte, b' ' | b'\t')).count();
    let (written, [b':', behind @ ..]) = (&line[..length], &behind[blanks..]) else {
        return Err(Malformed::BadHeaderLine);
    };
    if written.is_empty() {
        return Err(Malformed::BadHeaderLine);
    }
    Ok((HeaderName::parse(written), length, behind))
}

/// `start` and `end` lie inside a message of at most 65 535 bytes.
fn span(start: usize, end: usize) -> Span {
    let small = |at: usize| u16::try_from(at).expect("scan refused longer messages");
    Span { start: small(start), end: small(end) }
}

/// Where the line that starts at `at` ends, without its line break, and where the next one starts.
fn line_end(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let feed = at + line_feed(&bytes[at..])?;
    let end = if feed > at && bytes[feed - 1] == b'\r' { feed - 1 } else { feed };
    Some((end, feed + 1))
}

/// The same for a header line with its folds (RFC 3261 7.3.1).
fn header_end(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut from = at;
    loop {
        let (end, next) = line_end(bytes, from)?;
        let folds = end > at && matches!(bytes.get(next), Some(b' ' | b'\t'));
        if !folds {
            return Some((end, next));
        }
        from = next;
    }
}

fn start_line(line: &[u8]) -> Result<Start<'_>, Malformed> {
    if line.len() > HEADER_LINE_BYTES_MAX {
        return Err(Malformed::LineTooLong);
    }
    if line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(line);
    }
    let space = memchr(b' ', line).ok_or(Malformed::NotSip)?;
    let (method_text, rest) = (&line[..space], &line[space + 1..]);
    if method_text.is_empty() || !method_text.iter().all(|&byte| is_token(byte)) {
        return Err(Malformed::NotSip);
    }
    // The version is the last word; what lies between is the Request-URI, right or wrong.
    let last = rest.iter().rposition(|&byte| byte == b' ').ok_or(Malformed::NotSip)?;
    let (uri, version) = (&rest[..last], &rest[last + 1..]);
    if !version.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"SIP/")) {
        // `... SIP/2.0 ` with blanks behind it is SIP all the same, only broken.
        let sip = rest.trim_ascii_end().to_ascii_uppercase_ends_with(b"SIP/2.0");
        if !sip {
            return Err(Malformed::NotSip);
        }
    }
    Ok(Start::Request { method: Method::parse(method_text), method_text, uri })
}

trait EndsWith {
    fn to_ascii_uppercase_ends_with(&self, end: &[u8]) -> bool;
}

impl EndsWith for [u8] {
    fn to_ascii_uppercase_ends_with(&self, end: &[u8]) -> bool {
        self.len() >= end.len() && self[self.len() - end.len()..].eq_ignore_ascii_case(end)
    }
}

fn status_line(line: &[u8]) -> Result<Start<'_>, Malformed> {
    let rest = line.get(7..).filter(|_| line[..7].eq_ignore_ascii_case(b"SIP/2.0"));
    let Some([b' ', rest @ ..]) = rest else { return Err(Malformed::BadStatusLine) };
    let (Some(digits), after) = (rest.get(..3), rest.get(3)) else {
        return Err(Malformed::BadStatusLine);
    };
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after, None | Some(b' ')) {
        return Err(Malformed::BadStatusLine);
    }
    let status = digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    if !(100..=699).contains(&status) {
        return Err(Malformed::BadStatusLine);
    }
    Ok(Start::Response { status, reason: rest.get(4..).unwrap_or_default() })
}

/// RFC 3261 25.1 token.
pub(crate) const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_feed_is_found_wherever_it_is() {
        for length in 0..40 {
            for at in 0..=length {
                let mut bytes = vec![b'\n' ^ 0x80; length]; // what a careless comparison takes for it
                bytes.iter_mut().skip(at).for_each(|byte| *byte = b'\n');
                assert_eq!(line_feed(&bytes), (at < length).then_some(at), "{length} {at}");
            }
        }
    }
}
