//! REGISTER as text, for phones in quantity (RFC 3261 10.2).
//! Owns:  the lines of the request.
//! Gives: `Register::write`.
//! Never: keeps state; who registers knows its nonce and its numbers.
//! Holds: the same phone keeps its Call-ID and From tag from one REGISTER to the next.

use std::fmt::Write as _;

/// Names of one phone on the wire.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `SIP/2.0/UDP 192.0.2.1:5060`, what is in front of the Via's parameters.
    pub(super) via: String,
    /// The whole value: `<sip:1001@192.0.2.1:5060>`.
    pub(super) contact: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Register<'r> {
    pub(super) names: &'r Names,
    pub(super) user: &'r str,
    /// Host of the AOR and of the Request-URI.
    pub(super) domain: &'r str,
    pub(super) call_id: &'r str,
    pub(super) cseq: u32,
    pub(super) expires_s: u32,
}

impl Register<'_> {
    pub(super) fn uri(&self) -> String {
        format!("sip:{}", self.domain)
    }

    /// `authorization`: the value of the header, where there is one.
    pub(super) fn write(&self, authorization: Option<&str>) -> String {
        let Self { names: Names { via, contact }, user, domain, call_id, cseq, expires_s } = self;
        let mut text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: {via};branch=z9hG4bK{call_id}.{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{domain}>;tag={call_id}\r\n\
             To: <sip:{user}@{domain}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: {contact}\r\nExpires: {expires_s}\r\nUser-Agent: Desk Phone 4.2.1\r\n"
        );
        if let Some(value) = authorization {
            // Writing into a String cannot fail.
            let _ = write!(text, "Authorization: {value}\r\n");
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        text
    }
}
