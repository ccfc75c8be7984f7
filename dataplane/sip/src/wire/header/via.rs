//! Via (RFC 3261 20.42, RFC 3581): the way back.
//! Owns:  sent-protocol, sent-by and the parameters that routing needs.
//! Gives: `Via::parse` for one element.
//! Never: decides where a response goes; the core does, with the packet's source.
//! Holds: `rport` is `Some(None)` when the peer asks, `Some(Some(port))` when a server answered.

use super::super::uri::{Host, parse_host_port};
use super::super::{Malformed, scan::is_token};
use super::{params, parse_number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, ... as written.
    pub transport: &'a [u8],
    pub host: Host<'a>,
    pub port: Option<u16>,
    pub branch: Option<&'a [u8]>,
    pub received: Option<&'a [u8]>,
    pub rport: Option<Option<u16>>,
    /// From the first `;` on.
    pub params: &'a [u8],
}

impl<'a> Via<'a> {
    /// # Errors
    /// Refuses what is not `SIP/2.0/transport host[:port][;params]`; blanks around `/` and `:` are
    /// allowed (RFC 4475 3.1.1.1).
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::BadHeader("Via");
        let rest = word(value, b"SIP").ok_or(BAD)?;
        let rest = word(slash(rest).ok_or(BAD)?, b"2.0").ok_or(BAD)?;
        let rest = slash(rest).ok_or(BAD)?;
        let end = rest.iter().position(|&byte| !is_token(byte)).ok_or(BAD)?;
        let (transport, rest) = rest.split_at(end);
        if transport.is_empty() || !rest[0].is_ascii_whitespace() {
            return Err(BAD);
        }
        let rest = rest.trim_ascii();
        let end = rest.iter().position(|&byte| byte == b';').unwrap_or(rest.len());
        let (host, port) = parse_host_port(rest[..end].trim_ascii()).ok_or(BAD)?;
        let parameters = &rest[end..];
        if !params::well_formed(parameters) {
            return Err(BAD);
        }
        let mut via = Self {
            transport,
            host,
            port,
            branch: None,
            received: None,
            rport: None,
            params: parameters,
        };
        for (name, value) in params::each(parameters) {
            if name.eq_ignore_ascii_case(b"branch") {
                // Two branches would be two transactions, depending on who reads (RFC 3261 7.3.1).
                if via.branch.is_some() {
                    return Err(BAD);
                }
                via.branch = Some(value.unwrap_or_default());
            } else if name.eq_ignore_ascii_case(b"received") {
                via.received = value;
            } else if name.eq_ignore_ascii_case(b"rport") {
                via.rport = Some(value.and_then(parse_number).and_then(|n| u16::try_from(n).ok()));
            }
        }
        Ok(via)
    }
}

fn word<'a>(text: &'a [u8], expected: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(expected.len())?;
    head.eq_ignore_ascii_case(expected).then_some(rest)
}

fn slash(text: &[u8]) -> Option<&[u8]> {
    Some(text.trim_ascii_start().strip_prefix(b"/")?.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_via_with_blanks_and_one_with_ipv6_read() {
        let odd = b"SIP  / 2.0\r\n / UDP\r\n\t192.0.2.2 : 5062 ; branch = z9hG4bKx ;rport";
        let via = Via::parse(odd).expect("RFC 4475 calls it valid");
        assert_eq!((via.transport, via.port), (&b"UDP"[..], Some(5062)));
        assert_eq!((via.branch, via.rport), (Some(&b"z9hG4bKx"[..]), Some(None)));
        let six =
            Via::parse(b"SIP/2.0/TCP [2001:db8::9]:50;received=[::1];rport=7").expect("it reads");
        assert_eq!(six.host, Host::V6("2001:db8::9".parse::<Ipv6Addr>().expect("an address")));
        assert_eq!((six.port, six.rport), (Some(50), Some(Some(7))));
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for text in [
            &b""[..],
            b"SIP/2.0",
            b"SIP/2.0/UDP",
            b"HTTP/1.1/UDP h",
            b"SIP/2.0/UDP h:99999",
            b"SIP/2.0/UDP h;branch=a;branch=b",
            b"SIP/2.0/UDP h;received=<, SIP/2.0/UDP p",
        ] {
            assert!(Via::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
