//! The HTTP request that makes a WebSocket of a stream (RFC 6455 4.2, RFC 7118 4).
//! Owns:  what a client has to ask for, and the words of both answers.
//! Gives: one decision about the bytes that came so far.
//! Never: keeps bytes; asks where a page came from: phones send no Origin, and digest tells who calls.
//! Holds: a request that is refused is told why in a status.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Error, Header, Request, Status};
use sha1::{Digest, Sha1};

/// The request with all its headers. Browsers send cookies of other programs of the same host, too.
pub(super) const HEAD_BYTES_MAX: usize = 8_192;
const HEADERS_MAX: usize = 64;
/// RFC 6455 1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of the nonce in Sec-WebSocket-Key (RFC 6455 4.1).
const NONCE_BYTES: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// `used` bytes were the request; behind them the first frame may begin.
    Accepted {
        answer: Vec<u8>,
        used: usize,
    },
    NeedMore,
    Refused(Vec<u8>),
}

/// Why there will be no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    BadKey,
    NoHost,
    NoSubprotocol,
    NotGet,
    NotHttp,
    OtherPath,
    OtherVersion,
    TooLong,
    UpgradeMissing,
}

/// Reads the request at the front of `head`, in which `path` has to be asked for.
pub(super) fn read(head: &[u8], path: &str) -> Upgrade {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let outcome = match request.parse(head) {
        Ok(Status::Complete(used)) if used <= HEAD_BYTES_MAX => {
            check(&request, path).map(|key| (key, used))
        }
        Ok(Status::Partial) if head.len() <= HEAD_BYTES_MAX => return Upgrade::NeedMore,
        Ok(_) | Err(Error::TooManyHeaders) => Err(Refusal::TooLong),
        Err(_) => Err(Refusal::NotHttp),
    };
    match outcome {
        Ok((key, used)) => Upgrade::Accepted { answer: accepted(key), used },
        Err(refusal) => Upgrade::Refused(refused(refusal)),
    }
}

/// The key of a request that may have its WebSocket.
fn check<'r>(request: &Request<'_, 'r>, path: &str) -> Result<&'r [u8], Refusal> {
    let headers = &*request.headers;
    if request.version != Some(1) {
        return Err(Refusal::NotHttp);
    }
    let asked = request.path.unwrap_or_default();
    if asked.split('?').next() != Some(path) {
        return Err(Refusal::OtherPath);
    }
    if request.method != Some("GET") {
        return Err(Refusal::NotGet);
    }
    if !names(headers, "Upgrade", "websocket") || !names(headers, "Connection", "upgrade") {
        return Err(Refusal::UpgradeMissing);
    }
    if !names(headers, "Sec-WebSocket-Version", "13") {
        return Err(Refusal::OtherVersion);
    }
    value(headers, "Host").ok_or(Refusal::NoHost)?;
    let key = value(headers, "Sec-WebSocket-Key").ok_or(Refusal::BadKey)?;
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != NONCE_BYTES {
        return Err(Refusal::BadKey);
    }
    if names(headers, "Sec-WebSocket-Protocol", "sip") {
        Ok(key)
    } else {
        Err(Refusal::NoSubprotocol)
    }
}

/// The only value of a header; `None` when there are several.
fn value<'r>(headers: &[Header<'r>], name: &str) -> Option<&'r [u8]> {
    let mut all = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let first = all.next()?.value.trim_ascii();
    all.next().is_none().then_some(first)
}

/// Whether a header of words names this one.
fn names(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    let all = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut words = all.flat_map(|header| header.value.split(|byte| *byte == b','));
    words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

fn accepted(key: &[u8]) -> Vec<u8> {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(ACCEPT_GUID);
    let accept = STANDARD.encode(hash.finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
    .into_bytes()
}

fn refused(refusal: Refusal) -> Vec<u8> {
    let (status, more, why) = match refusal {
        Refusal::BadKey => ("400 Bad Request", "", "Sec-WebSocket-Key is not one nonce"),
        Refusal::NoHost => ("400 Bad Request", "", "Host is missing"),
        Refusal::NoSubprotocol => {
            ("400 Bad Request", "", "Sec-WebSocket-Protocol does not name sip (RFC 7118)")
        }
        Refusal::NotGet => ("405 Method Not Allowed", "Allow: GET\r\n", "only GET upgrades"),
        Refusal::NotHttp => ("400 Bad Request", "", "this is not HTTP/1.1"),
        Refusal::OtherPath => ("404 Not Found", "", "SIP is not served under this path"),
        Refusal::OtherVersion => (
            "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "version 13 of WebSocket is spoken here",
        ),
        Refusal::TooLong => ("431 Request Header Fields Too Large", "", "the head is too long"),
        Refusal::UpgradeMissing => {
            ("426 Upgrade Required", "Upgrade: websocket\r\n", "only WebSocket is spoken here")
        }
    };
    let length = why.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{more}Connection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{why}\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 1.3, with the subprotocol of RFC 7118.
    const ASKED: &str = "GET /ws HTTP/1.1\r\nHost: pbx.test\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn the_handshake_of_the_rfc_is_accepted_and_what_follows_is_left() {
        let bytes = [ASKED.as_bytes(), &[0x81, 0x80]].concat();
        let Upgrade::Accepted { answer, used } = read(&bytes, "/ws") else { panic!("refused") };
        assert_eq!(used, ASKED.len());
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: sip\r\n"), "{answer}");
        for length in 0..ASKED.len() {
            assert_eq!(read(&bytes[..length], "/ws"), Upgrade::NeedMore, "{length}");
        }
    }

    #[test]
    fn every_wrong_request_is_told_why() {
        let without = |line: &str| ASKED.replace(line, "");
        let cases = [
            (ASKED.replace("/ws", "/"), "404"),
            (ASKED.replace("/ws", "/ws/more"), "404"),
            (ASKED.replace("GET", "POST"), "405"),
            (ASKED.replace("HTTP/1.1", "HTTP/1.0"), "400"),
            (without("Host: pbx.test\r\n"), "400"),
            (without("Upgrade: websocket\r\n"), "426"),
            (ASKED.replace("keep-alive, Upgrade", "keep-alive"), "426"),
            (ASKED.replace("Version: 13", "Version: 8"), "426"),
            (without("Sec-WebSocket-Protocol: chat, sip\r\n"), "400"),
            (ASKED.replace("chat, sip", "chat, sips"), "400"),
            (ASKED.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400"),
            (ASKED.replace("Upgrade: ", "Sec-WebSocket-Key: x\r\nUpgrade: "), "400"),
            ("OPTIONS sip:a@b SIP/2.0\r\n\r\n".to_owned(), "400"),
            (ASKED.replace("Host", &("X: y\r\n".repeat(HEADERS_MAX) + "Host")), "431"),
            (ASKED.replace("pbx.test", &"x".repeat(HEAD_BYTES_MAX)), "431"),
            ("x".repeat(HEAD_BYTES_MAX + 1), "431"),
        ];
        for (text, status) in cases {
            let Upgrade::Refused(answer) = read(text.as_bytes(), "/ws") else {
                panic!("{text} is not refused");
            };
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text}\n{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("an end");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        }
    }

    #[test]
    fn a_query_behind_the_path_does_not_matter() {
        let text = ASKED.replace("/ws", "/ws?token=x");
        assert!(matches!(read(text.as_bytes(), "/ws"), Upgrade::Accepted { .. }));
    }
}
