//! Header lines that a program adds to an INVITE of ours (surface.md sections 3 and 5).
//! Owns:  `ExtraHeader`, and which names are not for programs.
//! Gives: `ExtraHeader::new`: holding one is the proof that it may be written as it is; `is_reserved`.
//! Never: a line that ends early: no CR, LF, NUL or other control byte.
//! Holds: what frames, routes, signs or identifies a message of ours stays ours.

use std::fmt;

/// Lines that one INVITE gets from programs.
pub const EXTRA_HEADERS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 1_024;

/// How the body is to be read, and who is asked for a password: all of these are ours.
const RESERVED_STARTS: [&str; 2] = ["content-", "proxy-"];
/// Long and compact names (RFC 3261 20, RFC 3262, RFC 3515, RFC 3891, RFC 4028, RFC 4538, RFC 6665).
const RESERVED: [&str; 51] = [
    "accept",
    "accept-encoding",
    "allow",
    "allow-events",
    "authentication-info",
    "authorization",
    "b",
    "c",
    "call-id",
    "contact",
    "cseq",
    "e",
    "event",
    "expires",
    "f",
    "from",
    "i",
    "join",
    "k",
    "l",
    "m",
    "max-forwards",
    "mime-version",
    "min-expires",
    "min-se",
    "o",
    "path",
    "r",
    "rack",
    "record-route",
    "refer-to",
    "referred-by",
    "replaces",
    "require",
    "route",
    "rseq",
    "server",
    "service-route",
    "session-expires",
    "supported",
    "t",
    "target-dialog",
    "timestamp",
    "to",
    "u",
    "unsupported",
    "user-agent",
    "v",
    "via",
    "www-authenticate",
    "x",
];

/// One line, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHeader {
    name: Box<str>,
    value: Box<str>,
}

/// Why a line is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRefused {
    /// The name is no token (RFC 3261 25.1), or too long.
    Name,
    /// The name belongs to us.
    Reserved,
    /// The value holds a control byte, or is too long.
    Value,
}

impl ExtraHeader {
    /// # Errors
    /// Says what is wrong with the line.
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderRefused> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(token) {
            return Err(HeaderRefused::Name);
        }
        if is_reserved(name) {
            return Err(HeaderRefused::Reserved);
        }
        let value = value.trim_matches([' ', '\t']);
        if value.len() > VALUE_BYTES_MAX || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(HeaderRefused::Value);
        }
        Ok(Self { name: name.into(), value: value.into() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Whether only we may write a header of this name.
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED.binary_search(&name.as_str()).is_ok()
        || RESERVED_STARTS.iter().any(|start| name.starts_with(start))
}

impl fmt::Display for HeaderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name is no SIP token of at most 64 bytes",
            Self::Reserved => "the gateway writes this header itself",
            Self::Value => "the value holds a control character or more than 1024 bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn a_plain_line_is_taken_and_keeps_its_words() {
        let line = ExtraHeader::new("X-Ticket", " 42; prio=high ").expect("a plain line");
        assert_eq!((line.name(), line.value()), ("X-Ticket", "42; prio=high"));
        assert!(ExtraHeader::new("Alert-Info", "<http://h/ring>").is_ok());
    }

    #[test]
    fn names_of_ours_and_broken_lines_are_refused() {
        for name in [
            "Via",
            "ROUTE",
            "contact",
            "v",
            "Content-Length",
            "Content-Disposition",
            "Proxy-Authorization",
            "Replaces",
            "x",
        ] {
            assert_eq!(ExtraHeader::new(name, "1"), Err(HeaderRefused::Reserved), "{name}");
        }
        for name in ["", "X A", "X:", "X\r\nVia", &"x".repeat(65)] {
            assert_eq!(ExtraHeader::new(name, "1"), Err(HeaderRefused::Name), "{name:?}");
        }
        for value in ["a\r\nVia: b", "a\0", "\u{85}", &"v".repeat(1_025)] {
            assert_eq!(ExtraHeader::new("X-A", value), Err(HeaderRefused::Value), "{value:?}");
        }
    }
}
