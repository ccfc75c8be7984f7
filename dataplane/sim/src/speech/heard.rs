//! What a phone hears: one message read by rsip, with what a user agent looks at already taken out.
//! Owns:  `Heard`.
//! Gives: typed Via, From, To, CSeq and Contact through rsip; the rest as headers to copy.
//! Never: our own wire layer; a panic on bytes that rsip cannot read.
//! Holds: a message that came from the gateway and does not read is a finding, not a loss.

use std::net::SocketAddr;

use rsip::headers::{ToTypedHeader as _, UntypedHeader as _};
use rsip::message::{HasHeaders as _, HeadersExt as _};
use rsip::{Header, Method, SipMessage};

#[derive(Clone, Debug)]
pub struct Heard {
    /// Of the request; for a response, of its CSeq.
    pub method: Method,
    /// Request-URI; empty for a response.
    pub uri: String,
    /// `None` for a request.
    pub status: Option<u16>,
    pub branch: String,
    pub vias: usize,
    pub from_uri: String,
    pub from_tag: String,
    pub to_uri: String,
    pub to_tag: Option<String>,
    pub call_id: String,
    pub cseq: u32,
    pub cseq_method: Method,
    /// URI of the first Contact.
    pub contact: Option<String>,
    pub record_routes: Vec<String>,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let message = SipMessage::try_from(bytes).map_err(|e| format!("rsip: {e}"))?;
        Self::take(message).map_err(|e| format!("rsip, typed headers: {e}"))
    }

    fn take(message: SipMessage) -> Result<Self, rsip::Error> {
        let via = message.via_header()?.typed()?;
        let from = message.from_header()?.typed()?;
        let to = message.to_header()?.typed()?;
        let cseq = message.cseq_header()?.typed()?;
        let contact = match message.contact_headers().first() {
            Some(contact) if contact.value().trim() == "*" => Some("*".to_owned()),
            Some(contact) => Some(contact.typed()?.uri.to_string()),
            None => None,
        };
        let (method, uri, status) = match &message {
            SipMessage::Request(request) => (request.method, request.uri.to_string(), None),
            SipMessage::Response(response) => {
                (cseq.method, String::new(), Some(response.status_code.code()))
            }
        };
        let to_tag = to.tag().map(ToString::to_string);
        let call_id = message.call_id_header()?.value().to_owned();
        let body = message.body().clone();
        let headers: Vec<Header> = message.headers().iter().cloned().collect();
        Ok(Self {
            method,
            uri,
            status,
            branch: via.branch().map(ToString::to_string).unwrap_or_default(),
            vias: headers.iter().filter(|header| matches!(header, Header::Via(_))).count(),
            from_tag: from.tag().map(ToString::to_string).unwrap_or_default(),
            from_uri: from.uri.to_string(),
            to_uri: to.uri.to_string(),
            to_tag,
            call_id,
            cseq: cseq.seq,
            cseq_method: cseq.method,
            contact,
            record_routes: headers.iter().filter_map(record_route).collect(),
            headers,
            body,
        })
    }

    /// Values of a header by name, one per line, as written.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.headers.iter().filter_map(move |header| match (name, header) {
            ("WWW-Authenticate", Header::WwwAuthenticate(value)) => Some(value.value()),
            ("Proxy-Authenticate", Header::ProxyAuthenticate(value)) => Some(value.value()),
            ("Contact", Header::Contact(value)) => Some(value.value()),
            ("Expires", Header::Expires(value)) => Some(value.value()),
            ("Min-Expires", Header::MinExpires(value)) => Some(value.value()),
            ("Subscription-State", Header::SubscriptionState(value)) => Some(value.value()),
            ("Retry-After", Header::RetryAfter(value)) => Some(value.value()),
            ("Content-Type", Header::ContentType(value)) => Some(value.value()),
            ("Supported", Header::Supported(value)) => Some(value.value()),
            ("Require", Header::Require(value)) => Some(value.value()),
            ("Allow", Header::Allow(value)) => Some(value.value()),
            (name, Header::Other(other, value)) if other.eq_ignore_ascii_case(name) => {
                Some(value.as_str())
            }
            _ => None,
        })
    }

    pub fn value<'h>(&'h self, name: &'h str) -> Option<&'h str> {
        self.values(name).next()
    }

    /// The SDP text, when the body is one.
    pub fn sdp(&self) -> Option<&str> {
        let is_sdp =
            self.value("Content-Type").is_some_and(|kind| kind.starts_with("application/sdp"));
        if is_sdp && !self.body.is_empty() { std::str::from_utf8(&self.body).ok() } else { None }
    }
}

fn record_route(header: &Header) -> Option<String> {
    match header {
        Header::RecordRoute(value) => Some(value.value().to_owned()),
        _ => None,
    }
}

/// Where a URI points, when its host is an address.
pub fn address_of(uri: &str) -> Option<SocketAddr> {
    let uri = rsip::Uri::try_from(uri).ok()?;
    uri.host_with_port.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_sip_are_an_error_with_words() {
        assert!(Heard::read(b"hello").is_err());
        assert!(Heard::read(b"SIP/2.0 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_contact_uri_with_an_address_is_a_place_to_send_to() {
        let there = address_of("sip:1001@10.0.0.1:5070;transport=udp");
        assert_eq!(there, Some("10.0.0.1:5070".parse().expect("an address")));
        assert_eq!(address_of("sip:1001@ringgate.test"), None);
    }
}
