//! One dialog as one of its ends sees it (RFC 3261 12).
//! Owns:  tags, Call-ID, sequence numbers, remote target and route set.
//! Gives: the headers of the next request, and a verdict on the next received one.
//! Never: a transaction, an address to send to, an SDP.
//! Holds: `local_cseq` only grows; a received CSeq below the last one is out of order.

use crate::wire::{HeaderName, Message, NameAddr, Writer};

#[derive(Clone, Debug)]
pub struct Dialog {
    pub state: State,
    pub call_id: Vec<u8>,
    pub local_tag: String,
    /// Empty until the peer's first response with a tag.
    pub remote_tag: Vec<u8>,
    /// Our From value without tag, e.g. `"Ann" <sip:1001@pbx>`.
    pub local_party: Vec<u8>,
    /// The peer's value without tag.
    pub remote_party: Vec<u8>,
    /// The peer's Contact URI: Request-URI of what we send it.
    pub remote_target: Vec<u8>,
    /// Route values, first hop first.
    pub routes: Vec<Vec<u8>>,
    pub local_cseq: u32,
    pub remote_cseq: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Confirmed,
    Early,
    Terminated,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "Confirmed",
            Self::Early => "Early",
            Self::Terminated => "Terminated",
        }
    }
}

/// Whether a request's CSeq fits (RFC 3261 12.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Next,
    /// Lower than, or equal to, one that we have seen: answer 500.
    OutOfOrder,
}

impl Dialog {
    /// The UAS side, from a request that creates a dialog (RFC 3261 12.1.1).
    pub fn from_request(request: &Message<'_>, local_tag: String) -> Option<Self> {
        let (from, to) = (request.from().ok()?, request.to().ok()?);
        Some(Self {
            state: State::Early,
            call_id: request.call_id().ok()?.to_vec(),
            local_tag,
            remote_tag: from.tag().unwrap_or_default().to_vec(),
            local_party: party(&to),
            remote_party: party(&from),
            remote_target: contact_uri(request).unwrap_or_default().to_vec(),
            routes: request.values(HeaderName::RecordRoute).map(<[u8]>::to_vec).collect(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq().ok()?.number),
        })
    }

    /// The UAC side learns from a response with a To tag (RFC 3261 12.1.2).
    pub fn learn(&mut self, response: &Message<'_>) {
        if let Some(tag) = response.to().ok().and_then(|to| to.tag()) {
            self.remote_tag = tag.to_vec();
        }
        if let Some(uri) = contact_uri(response) {
            self.remote_target = uri.to_vec();
        }
        let mut routes: Vec<_> =
            response.values(HeaderName::RecordRoute).map(<[u8]>::to_vec).collect();
        routes.reverse();
        if !routes.is_empty() {
            self.routes = routes;
        }
        if response.status().is_some_and(|status| (200..300).contains(&status)) {
            self.state = State::Confirmed;
        }
    }

    /// Notes the CSeq of a received request; ACK and CANCEL are not asked about.
    pub fn accept_cseq(&mut self, number: u32) -> Order {
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Order::OutOfOrder;
        }
        self.remote_cseq = Some(number);
        Order::Next
    }

    /// A target refresh (RFC 3261 12.2.2): re-INVITE and UPDATE move the peer's Contact.
    pub fn refresh_target(&mut self, message: &Message<'_>) {
        if let Some(uri) = contact_uri(message) {
            self.remote_target = uri.to_vec();
        }
    }

    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Route, From, To, Call-ID and CSeq of a request that we send inside this dialog.
    pub fn write_request_headers(&self, out: &mut Writer<'_>, cseq: u32, method: &str) {
        // A strict router sits in the Request-URI, and the target travels as the last Route.
        let strict = self.strict_router().is_some();
        for route in self.routes.iter().skip(usize::from(strict)) {
            out.header("Route", route);
        }
        if strict {
            out.header("Route", &[b"<", self.remote_target.as_slice(), b">"].concat());
        }
        out.header("From", &with_tag(&self.local_party, self.local_tag.as_bytes()));
        out.header("To", &with_tag(&self.remote_party, &self.remote_tag));
        out.header("Call-ID", &self.call_id);
        out.header_fmt("CSeq", format_args!("{cseq} {method}"));
    }

    /// The Request-URI: the remote target, or the first route of a strict router (RFC 3261 12.2.1.1).
    pub fn request_uri(&self) -> &[u8] {
        match self.strict_router() {
            Some(uri) => uri,
            None => &self.remote_target,
        }
    }

    /// Whether `tags` of a received message are this dialog's. An early peer may not have a tag yet.
    pub fn matches(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> bool {
        self.call_id == call_id
            && self.local_tag.as_bytes() == local_tag
            && (self.remote_tag.is_empty() || self.remote_tag == remote_tag)
    }

    fn strict_router(&self) -> Option<&[u8]> {
        let first = NameAddr::parse(self.routes.first()?).ok()?;
        let loose = first.parsed_uri().is_ok_and(|uri| uri.param("lr").is_some());
        if loose { None } else { Some(first.uri) }
    }
}

/// Name and URI in angle brackets, without header parameters such as the tag.
pub fn party(address: &NameAddr<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(address.display.len() + address.uri.len() + 5);
    if !address.display.is_empty() {
        text.push(b'"');
        text.extend_from_slice(address.display);
        text.extend_from_slice(b"\" ");
    }
    text.push(b'<');
    text.extend_from_slice(address.uri);
    text.push(b'>');
    text
}

fn with_tag(party: &[u8], tag: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(party.len() + tag.len() + 5);
    text.extend_from_slice(party);
    if !tag.is_empty() {
        text.extend_from_slice(b";tag=");
        text.extend_from_slice(tag);
    }
    text
}

/// The URI of the first Contact value.
pub fn contact_uri<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let value = message.values(HeaderName::Contact).next()?;
    NameAddr::parse(value).ok().map(|contact| contact.uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scan;

    const INVITE: &[u8] = b"INVITE sip:1002@pbx SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa\r\n\
        Record-Route: <sip:p2@192.0.2.9;lr>, <sip:p1@192.0.2.8;lr>\r\n\
        From: \"Ann\" <sip:1001@pbx>;tag=a1\r\nTo: <sip:1002@pbx>\r\n\
        Call-ID: c1@192.0.2.1\r\nCSeq: 4 INVITE\r\nContact: <sip:1001@192.0.2.1:5062>\r\n\
        Content-Length: 0\r\n\r\n";

    fn request_of(dialog: &Dialog, method: &str, cseq: u32) -> String {
        let mut bytes = Vec::new();
        let mut out = Writer::request(&mut bytes, method.as_bytes(), dialog.request_uri());
        dialog.write_request_headers(&mut out, cseq, method);
        out.end();
        String::from_utf8(bytes).expect("the writer wrote text")
    }

    #[test]
    fn the_uas_side_keeps_the_route_set_in_order() {
        let invite = scan(INVITE).expect("it is a request");
        let mut dialog = Dialog::from_request(&invite, "us".into()).expect("it has all it needs");
        let cseq = dialog.next_cseq();
        let bye = request_of(&dialog, "BYE", cseq);
        assert!(bye.starts_with("BYE sip:1001@192.0.2.1:5062 SIP/2.0\r\n"), "{bye}");
        let routes: Vec<_> = bye.lines().filter(|line| line.starts_with("Route:")).collect();
        assert_eq!(routes, ["Route: <sip:p2@192.0.2.9;lr>", "Route: <sip:p1@192.0.2.8;lr>"]);
        assert!(bye.contains("From: <sip:1002@pbx>;tag=us\r\n"), "{bye}");
        assert!(bye.contains("To: \"Ann\" <sip:1001@pbx>;tag=a1\r\n"), "{bye}");
    }

    #[test]
    fn a_strict_router_takes_the_request_uri() {
        let invite = scan(INVITE).expect("it is a request");
        let mut dialog = Dialog::from_request(&invite, "us".into()).expect("it has all it needs");
        dialog.routes = vec![b"<sip:strict@192.0.2.7>".to_vec(), b"<sip:b@192.0.2.6;lr>".to_vec()];
        let bye = request_of(&dialog, "BYE", 1);
        assert!(bye.starts_with("BYE sip:strict@192.0.2.7 SIP/2.0\r\n"), "{bye}");
        assert!(bye.contains("Route: <sip:b@192.0.2.6;lr>\r\nRoute: <sip:1001@"), "{bye}");
    }

    #[test]
    fn a_repeated_or_lower_cseq_is_out_of_order() {
        let invite = scan(INVITE).expect("it is a request");
        let mut dialog = Dialog::from_request(&invite, "us".into()).expect("it has all it needs");
        assert_eq!(dialog.accept_cseq(4), Order::OutOfOrder);
        assert_eq!(dialog.accept_cseq(6), Order::Next);
        assert_eq!(dialog.accept_cseq(5), Order::OutOfOrder);
    }
}
