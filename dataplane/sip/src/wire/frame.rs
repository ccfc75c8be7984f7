//! Messages out of a byte stream (RFC 3261 18.3, RFC 5626 4.4.1).
//! Owns:  where a message in a stream ends.
//! Gives: `next_frame`: one decision about the front of the buffer.
//! Never: keeps bytes; the caller's buffer is the only state.
//! Holds: limits are enforced before the message is complete.

use memchr::memchr;
use shared::limits::{HEADER_LINE_BYTES_MAX, HEADERS_MAX, SIP_MESSAGE_BYTES_MAX};

use super::{HeaderName, Malformed, header::parse_number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// CRLFs between messages: skip `length` bytes; `ping` wants a CRLF back (RFC 5626 4.4.1).
    KeepAlive {
        length: usize,
        ping: bool,
    },
    /// The stream cannot be cut any more: answer if you can, then close.
    Malformed(Malformed),
    /// The first `length` bytes are one message.
    Message {
        length: usize,
    },
    NeedMore,
}

/// Headers of one message together: no sane peer needs more.
const HEAD_BYTES_MAX: usize = 32_768;
const _: () = assert!(HEAD_BYTES_MAX > HEADER_LINE_BYTES_MAX && HEADERS_MAX > 0);

pub fn next_frame(buffer: &[u8]) -> Frame {
    let blanks = buffer.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    if blanks > 0 {
        // A lone CR may be the first half of a CRLF; two CRLF are a ping, one is a pong.
        if blanks == buffer.len() && buffer.len() < 4 && buffer != b"\r\n" {
            return Frame::NeedMore;
        }
        return Frame::KeepAlive { length: blanks, ping: buffer.starts_with(b"\r\n\r\n") };
    }
    let Some((end, declared)) = head(buffer) else {
        return if buffer.len() > HEAD_BYTES_MAX {
            Frame::Malformed(Malformed::MessageTooLong)
        } else if !could_be_sip(buffer) {
            Frame::Malformed(Malformed::NotSip)
        } else {
            Frame::NeedMore
        };
    };
    if end > HEAD_BYTES_MAX {
        return Frame::Malformed(Malformed::MessageTooLong);
    }
    match declared {
        Err(why) => Frame::Malformed(why),
        Ok(declared) if end + declared > SIP_MESSAGE_BYTES_MAX => {
            Frame::Malformed(Malformed::MessageTooLong)
        }
        Ok(declared) if end + declared <= buffer.len() => Frame::Message { length: end + declared },
        Ok(_) => Frame::NeedMore,
    }
}

/// One past the empty line that ends the headers, and the length of the body that they declare.
/// One walk from line to line, which never looks into the body.
fn head(buffer: &[u8]) -> Option<(usize, Result<usize, Malformed>)> {
    let mut at = memchr(b'\n', buffer)? + 1; // the start line
    let mut found = Ok(None);
    loop {
        let feed = at + memchr(b'\n', &buffer[at..])?;
        let line = &buffer[at..feed];
        at = feed + 1;
        match line {
            [] | [b'\r'] => break,
            // A fold begins with a blank; a folded Content-Length is not worth understanding.
            [b'c' | b'C' | b'l' | b'L', ..] => found = found.and_then(|was| declared(line, was)),
            _ => {}
        }
    }
    let length = found.and_then(|found| found.ok_or(Malformed::LengthMissing));
    Some((at, length))
}

/// The length known so far, with what this line says.
fn declared(line: &[u8], was: Option<usize>) -> Result<Option<usize>, Malformed> {
    let Some(colon) = memchr(b':', line) else { return Ok(was) };
    let name = &line[..colon];
    let blank = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let length = name.iter().rposition(blank).map_or(0, |last| last + 1);
    if HeaderName::parse(&name[..length]) != HeaderName::ContentLength {
        return Ok(was);
    }
    let value = line[colon + 1..].trim_ascii();
    let number = if value.len() > 9 { None } else { parse_number(value) };
    let number = number.ok_or(Malformed::LengthUnreadable)? as usize;
    if was.is_some_and(|before| before != number) {
        return Err(Malformed::LengthUnreadable);
    }
    Ok(Some(number))
}

/// The first bytes of a stream tell garbage early: a method or `SIP/` starts with a letter.
fn could_be_sip(buffer: &[u8]) -> bool {
    let line = buffer.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    word.len() <= 64
        && word.iter().all(|&byte| super::scan::is_token(byte) || matches!(byte, b'/' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\nl: 3\r\n\r\nabcBYE sip:b SIP/2.0\r\n\
        Content-Length : 0\r\n\r\n";

    fn cut(stream: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match next_frame(&buffer) {
                    Frame::NeedMore => break,
                    Frame::KeepAlive { length, .. } => drop(buffer.drain(..length)),
                    Frame::Message { length } => found.push(buffer.drain(..length).collect()),
                    Frame::Malformed(why) => panic!("{why}"),
                }
            }
        }
        assert!(buffer.is_empty(), "bytes were left");
        found
    }

    #[test]
    fn segmentation_does_not_matter() {
        let whole = cut(TWO, TWO.len());
        assert_eq!(whole.len(), 2);
        for step in 1..TWO.len() {
            assert_eq!(cut(TWO, step), whole, "in pieces of {step}");
        }
    }

    #[test]
    fn lengths_that_lie_end_the_stream() {
        for head in
            ["", "l: -1\r\n", "l: 9999999999\r\n", "l: 1\r\nContent-Length: 2\r\n", "l: x\r\n"]
        {
            let text = format!("BYE sip:b SIP/2.0\r\n{head}\r\n");
            assert!(matches!(next_frame(text.as_bytes()), Frame::Malformed(_)), "{head:?}");
        }
        let long = format!("BYE sip:b SIP/2.0\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(next_frame(long.as_bytes()), Frame::Malformed(Malformed::MessageTooLong));
        assert_eq!(next_frame(&[0x16, 3, 1, 2]), Frame::Malformed(Malformed::NotSip));
    }
}
