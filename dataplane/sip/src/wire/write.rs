//! Writing messages: values in, bytes out, nothing that a value holds can end its line (RFC 3261 7.3).
//! Owns:  `Writer`, `reply`, the reason phrases.
//! Gives: whole messages, appended to the caller's buffer.
//! Never: writes CR, LF or NUL from a value; a fold becomes one blank.
//! Holds: what was written scans to what was meant.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{HeaderName, Message, scan::is_token};

#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Writer<'b> {
    pub fn request(out: &'b mut Vec<u8>, method: &[u8], uri: &[u8]) -> Self {
        // A blank or a line break would make another start line of it.
        let solid = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0);
        out.extend(method.iter().copied().filter(solid));
        out.push(b' ');
        out.extend(uri.iter().copied().filter(solid));
        out.extend_from_slice(b" SIP/2.0\r\n");
        Self { out }
    }

    pub fn response(out: &'b mut Vec<u8>, status: u16, reason: &[u8]) -> Self {
        out.extend_from_slice(b"SIP/2.0 ");
        let digits = [status / 100 % 10, status / 10 % 10, status % 10];
        out.extend(digits.map(|digit| b'0' + u8::try_from(digit).expect("one digit")));
        out.push(b' ');
        let mut writer = Self { out };
        writer.value(reason);
        writer.out.extend_from_slice(b"\r\n");
        writer
    }

    /// One header line; the value is unfolded on the way.
    pub fn header(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.value(value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// The same for a value in parts.
    fn header_of(&mut self, name: &str, parts: &[&[u8]]) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        for part in parts {
            self.value(part);
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    pub fn header_fmt(&mut self, name: &str, value: fmt::Arguments<'_>) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        Clean { out: self.out }.write_fmt(value).expect("a Vec takes all");
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Every line of that header, with its canonical name, in order; of `Other` with the names
    /// that the peer wrote.
    pub fn copy(&mut self, message: &Message<'_>, name: HeaderName) -> &mut Self {
        for (_, written, value) in message.lines().filter(|line| line.0 == name) {
            match name {
                HeaderName::Other => self.line(written, value),
                _ => self.header(name.as_str(), value),
            };
        }
        self
    }

    /// A header whose name the peer wrote; one that is no token is left out.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return self;
        }
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.value(value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    pub fn body(mut self, content_type: &[u8], body: &[u8]) {
        self.header("Content-Type", content_type);
        self.header_fmt("Content-Length", format_args!("{}", body.len()));
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
    }

    pub fn end(self) {
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    fn value(&mut self, value: &[u8]) {
        if !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return self.out.extend_from_slice(value);
        }
        let mut rest = value;
        while let [byte, tail @ ..] = rest {
            match byte {
                b'\r' | b'\n' => {
                    self.out.push(b' ');
                    rest = rest.trim_ascii_start();
                }
                0 => rest = tail,
                _ => {
                    self.out.push(*byte);
                    rest = tail;
                }
            }
        }
    }
}

/// Formatted text on its way into a header line.
struct Clean<'v> {
    out: &'v mut Vec<u8>,
}

impl fmt::Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        Ok(())
    }
}

/// What every response repeats of its request (RFC 3261 8.2.6.2): all Via, the top one completed
/// with where the request really came from (RFC 3581 4), From, To with a tag, Call-ID, CSeq.
pub fn reply<'b>(
    out: &'b mut Vec<u8>,
    request: &Message<'_>,
    status: u16,
    to_tag: Option<&[u8]>,
    peer: SocketAddr,
) -> Writer<'b> {
    let mut writer = Writer::response(out, status, reason_phrase(status).as_bytes());
    for (index, value) in request.all(HeaderName::Via).enumerate() {
        if index == 0 {
            write_top_via(&mut writer, value, peer)
        } else {
            writer.header("Via", value);
        }
    }
    for value in request.all(HeaderName::From).take(1) {
        writer.header("From", value);
    }
    let tagged = request.to().is_ok_and(|to| to.tag().is_some());
    for value in request.all(HeaderName::To).take(1) {
        match to_tag.filter(|_| !tagged) {
            Some(tag) => writer.header_of("To", &[value, b";tag=", tag]),
            None => writer.header("To", value),
        };
    }
    for name in [HeaderName::CallId, HeaderName::CSeq] {
        for value in request.all(name).take(1) {
            writer.header(name.as_str(), value);
        }
    }
    if status == 100 {
        writer.copy(request, HeaderName::Timestamp);
    }
    writer
}

/// As `Display` writes it, which takes longer than all the rest of an answer's top Via.
fn write_v4(out: &mut Vec<u8>, ip: Ipv4Addr) {
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        write_number(out, u16::from(octet));
    }
}

fn write_number(out: &mut Vec<u8>, number: u16) {
    let (mut digits, mut at, mut rest) = ([0; 5], 5, number);
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("one digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_top_via(writer: &mut Writer<'_>, line: &[u8], peer: SocketAddr) {
    let end = super::header::list::elements(line).next().map_or(0, |first| {
        // The element lies inside the line: its end is where the others begin.
        (first.as_ptr() as usize - line.as_ptr() as usize) + first.len()
    });
    let (top, others) = line.split_at(end);
    let Ok(via) = super::Via::parse(top) else {
        writer.header("Via", line);
        return;
    };
    let head = top.len() - via.params.len();
    writer.out.extend_from_slice(b"Via: ");
    writer.value(top[..head].trim_ascii_end());
    for (name, value) in super::header::params::each(via.params) {
        if name.eq_ignore_ascii_case(b"rport") || name.eq_ignore_ascii_case(b"received") {
            continue;
        }
        writer.out.push(b';');
        writer.value(name);
        if let Some(value) = value {
            writer.out.push(b'=');
            writer.value(value);
        }
    }
    let differs = match via.host {
        super::Host::V4(ip) => IpAddr::V4(ip) != peer.ip(),
        super::Host::V6(ip) => IpAddr::V6(ip) != peer.ip(),
        super::Host::Name(_) => true,
    };
    if differs || via.rport.is_some() {
        writer.out.extend_from_slice(b";received=");
        match peer.ip() {
            IpAddr::V4(ip) => write_v4(writer.out, ip),
            IpAddr::V6(ip) => {
                write!(Clean { out: writer.out }, "{ip}").expect("a Vec takes all");
            }
        }
    }
    if via.rport.is_some() {
        writer.out.extend_from_slice(b";rport=");
        write_number(writer.out, peer.port());
    }
    writer.value(others);
    writer.out.extend_from_slice(b"\r\n");
}

/// RFC 3261 21 and the extensions' own phrases.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        433 => "Anonymity Disallowed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    const REQUEST: &[u8] = b"OPTIONS sip:a SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx;rport, SIP/2.0/UDP p;branch=z9hG4bKy\r\n\
        v: SIP/2.0/TCP q;branch=z9hG4bKz\r\nf: <sip:b@h>;tag=1\r\nt: sip:a@h\r\ni: c\r\n\
        CSeq: 1 OPTIONS\r\nl: 0\r\n\r\n";

    #[test]
    fn a_reply_tells_where_the_request_came_from() {
        let request = scan(REQUEST).expect("it scans");
        let mut out = Vec::new();
        let peer = "192.0.2.7:40000".parse().expect("an address");
        reply(&mut out, &request, 200, Some(b"t1"), peer).end();
        let text = String::from_utf8(out).expect("text");
        let expected = "SIP/2.0 200 OK\r\n\
            Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx;received=192.0.2.7;rport=40000, \
            SIP/2.0/UDP p;branch=z9hG4bKy\r\nVia: SIP/2.0/TCP q;branch=z9hG4bKz\r\n\
            From: <sip:b@h>;tag=1\r\nTo: sip:a@h;tag=t1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\
            Content-Length: 0\r\n\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn addresses_and_ports_are_written_as_display_writes_them() {
        for number in 0..=u16::MAX {
            let ip = Ipv4Addr::from(u32::from(number).wrapping_mul(0x9e37_79b1));
            let mut out = Vec::new();
            write_v4(&mut out, ip);
            out.push(b':');
            write_number(&mut out, number);
            assert_eq!(out, format!("{ip}:{number}").into_bytes());
        }
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = Vec::new();
        let mut writer = Writer::response(&mut out, 404, b"No\r\nX: y");
        writer
            .header("Subject", b"a\r\n\tb\r\nEvil: 1\0")
            .line(b"X-A b", b"c")
            .line(b"X-A", b"\nd");
        writer.header_fmt("Y", format_args!("{}", "e\r\nf"));
        writer.end();
        let message = scan(&out).expect("it scans");
        let lines: Vec<_> = message.lines().map(|(_, name, value)| (name, value)).collect();
        let expected: [(&[u8], &[u8]); 4] = [
            (b"Subject", b"a b Evil: 1"),
            (b"X-A", b"d"),
            (b"Y", b"ef"),
            (b"Content-Length", b"0"),
        ];
        assert_eq!(lines, expected);
    }
}
