//! How the phones speak SIP: built and read by rsip, so our wire layer cannot cancel its bugs out.
//! Owns:  requests, responses and the dialects that a phone may write them in.
//! Gives: bytes for the network; `heard` reads them back, `glance` reads raw text for the checker.
//! Never: `sip::wire`; a default of rsip that draws random numbers of its own.
//! Holds: what is built has exactly one of each mandatory header (RFC 3261 8.1.1).

pub mod digest;
pub mod glance;
pub mod heard;
pub mod sdp;

use std::net::SocketAddr;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};

use crate::speech::heard::Heard;

/// How a phone writes what rsip built for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Compact header names and folded lines (RFC 3261 7.3.1, 7.3.3).
    Compact,
    /// As rsip writes it.
    #[default]
    Long,
    /// Odd letter case and blanks before the colon's value.
    Odd,
}

/// Everything that a phone decides about a request.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub method: Method,
    pub uri: &'a str,
    pub transport: rsip::Transport,
    pub sent_by: SocketAddr,
    pub branch: &'a str,
    pub from: Party<'a>,
    pub to: Party<'a>,
    pub call_id: &'a str,
    pub cseq: u32,
    pub contact: Option<&'a str>,
    pub routes: &'a [String],
    pub more: Vec<Header>,
    pub body: Option<Body>,
}

#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    pub uri: &'a str,
    pub tag: Option<&'a str>,
}

#[derive(Clone, Debug)]
pub struct Body {
    pub content_type: &'static str,
    pub text: String,
}

impl Body {
    pub fn sdp(text: String) -> Self {
        Self { content_type: "application/sdp", text }
    }
}

/// What a phone answers with, beside what it copies from the request.
#[derive(Clone, Debug, Default)]
pub struct Reply<'a> {
    pub status: u16,
    pub to_tag: Option<&'a str>,
    pub contact: Option<&'a str>,
    pub more: Vec<Header>,
    pub body: Option<Body>,
}

/// The request in rsip's hand; `in_dialect` turns it into the phone's.
pub fn request(ask: Ask<'_>) -> String {
    let mut headers = vec![via(&ask)];
    headers.push(rsip::headers::MaxForwards::new("70").into());
    for route in ask.routes {
        headers.push(rsip::headers::Route::new(route.as_str()).into());
    }
    headers.push(rsip::headers::From::new(party(ask.from)).into());
    headers.push(rsip::headers::To::new(party(ask.to)).into());
    headers.push(rsip::headers::CallId::new(ask.call_id).into());
    headers.push(rsip::typed::CSeq { seq: ask.cseq, method: ask.method }.into());
    if let Some(contact) = ask.contact {
        headers.push(rsip::headers::Contact::new(contact).into());
    }
    headers.push(rsip::headers::UserAgent::new("sim phone").into());
    headers.extend(ask.more);
    let body = close(&mut headers, ask.body);
    let uri = rsip::Uri::try_from(ask.uri).expect("plans hold URIs that rsip reads");
    let message = rsip::Request {
        method: ask.method,
        uri,
        version: rsip::Version::V2,
        headers: headers.into(),
        body,
    };
    message.to_string()
}

/// RFC 3261 8.2.6.2: Via, From, To, Call-ID and CSeq come back as they were.
pub fn response(heard: &Heard, reply: Reply<'_>) -> String {
    let mut headers: Vec<Header> = Vec::with_capacity(heard.headers.len() + 4);
    for header in &heard.headers {
        match header {
            Header::Via(_) | Header::From(_) | Header::CallId(_) | Header::CSeq(_) => {
                headers.push(header.clone());
            }
            Header::RecordRoute(_) if reply.status > 100 => headers.push(header.clone()),
            Header::To(to) => headers.push(match (heard.to_tag.as_deref(), reply.to_tag) {
                (None, Some(tag)) => {
                    rsip::headers::To::new(format!("{};tag={tag}", to.value())).into()
                }
                _ => header.clone(),
            }),
            _ => {}
        }
    }
    if let Some(contact) = reply.contact {
        headers.push(rsip::headers::Contact::new(contact).into());
    }
    headers.extend(reply.more);
    let body = close(&mut headers, reply.body);
    let message = rsip::Response {
        status_code: rsip::StatusCode::from(reply.status),
        version: rsip::Version::V2,
        headers: headers.into(),
        body,
    };
    message.to_string()
}

/// RFC 3261 17.1.1.3: the ACK of a failure repeats branch, Request-URI and Route of the INVITE.
pub fn ack_of_failure(invite: &Heard, answer: &Heard) -> String {
    let mut headers: Vec<Header> = Vec::new();
    for header in &invite.headers {
        match header {
            Header::Via(_) | Header::From(_) | Header::CallId(_) | Header::Route(_) => {
                headers.push(header.clone());
            }
            Header::MaxForwards(_) => headers.push(header.clone()),
            _ => {}
        }
    }
    headers.extend(answer.headers.iter().filter(|h| matches!(h, Header::To(_))).cloned());
    headers.push(rsip::typed::CSeq { seq: invite.cseq, method: Method::Ack }.into());
    echo(invite, Method::Ack, headers)
}

/// RFC 3261 9.1: a CANCEL repeats Request-URI, Call-ID, To, From, CSeq number and top Via.
pub fn cancel_of(invite: &Heard) -> String {
    let mut headers: Vec<Header> = Vec::new();
    for header in &invite.headers {
        match header {
            Header::Via(_) | Header::From(_) | Header::To(_) | Header::CallId(_) => {
                headers.push(header.clone());
            }
            Header::Route(_) | Header::MaxForwards(_) => headers.push(header.clone()),
            _ => {}
        }
    }
    headers.push(rsip::typed::CSeq { seq: invite.cseq, method: Method::Cancel }.into());
    echo(invite, Method::Cancel, headers)
}

fn echo(invite: &Heard, method: Method, mut headers: Vec<Header>) -> String {
    let body = close(&mut headers, None);
    let uri = rsip::Uri::try_from(invite.uri.as_str()).expect("it was built from a URI");
    let version = rsip::Version::V2;
    let message = rsip::Request { method, uri, version, headers: headers.into(), body };
    message.to_string()
}

fn via(ask: &Ask<'_>) -> Header {
    let uri = rsip::Uri::from(rsip::HostWithPort::from(ask.sent_by));
    let uri = rsip::Uri { scheme: None, ..uri };
    let params = vec![
        rsip::Param::Other("rport".into(), None),
        rsip::Param::Branch(rsip::param::Branch::new(ask.branch)),
    ];
    rsip::typed::Via { version: rsip::Version::V2, transport: ask.transport, uri, params }.into()
}

fn party(party: Party<'_>) -> String {
    match party.tag {
        Some(tag) => format!("<{}>;tag={tag}", party.uri),
        None => format!("<{}>", party.uri),
    }
}

fn close(headers: &mut Vec<Header>, body: Option<Body>) -> Vec<u8> {
    let Some(Body { content_type, text }) = body else {
        headers.push(rsip::headers::ContentLength::new("0").into());
        return Vec::new();
    };
    headers.push(rsip::headers::ContentType::new(content_type).into());
    headers.push(rsip::headers::ContentLength::new(text.len().to_string()).into());
    text.into_bytes()
}

/// Rewrites header names, never values: the same message in another hand.
pub fn in_dialect(text: String, dialect: Dialect) -> Vec<u8> {
    if dialect == Dialect::Long {
        return text.into_bytes();
    }
    let (head, body) = text.split_once("\r\n\r\n").expect("rsip ends the head");
    let mut out = String::with_capacity(text.len());
    for (number, line) in head.split("\r\n").enumerate() {
        match line.split_once(": ") {
            Some((name, value)) if number > 0 && dialect == Dialect::Compact => {
                let blank = if matches!(name, "From" | "Contact") { "\r\n " } else { " " };
                out.extend([compact(name), ":", blank, value]);
            }
            Some((name, value)) if number > 0 => {
                out.extend([&name.to_ascii_uppercase(), ":\t", value, "  "]);
            }
            _ => out.push_str(line),
        }
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    out.push_str(body);
    out.into_bytes()
}

fn compact(name: &str) -> &str {
    match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        "Contact" => "m",
        "Content-Type" => "c",
        "Content-Length" => "l",
        "Supported" => "k",
        "Subject" => "s",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(dialect: Dialect) -> Vec<u8> {
        let ask = Ask {
            method: Method::Invite,
            uri: "sip:1002@ringgate.test",
            transport: rsip::Transport::Udp,
            sent_by: "10.1.0.1:5060".parse().expect("an address"),
            branch: "z9hG4bKabc",
            from: Party { uri: "sip:1001@ringgate.test", tag: Some("f1") },
            to: Party { uri: "sip:1002@ringgate.test", tag: None },
            call_id: "call-1",
            cseq: 7,
            contact: Some("<sip:1001@10.1.0.1:5060>"),
            routes: &[],
            more: vec![],
            body: Some(Body::sdp("v=0\r\n".to_owned())),
        };
        in_dialect(request(ask), dialect)
    }

    #[test]
    fn an_invite_reads_back_as_it_was_meant() {
        let heard = Heard::read(&invite(Dialect::Long)).expect("rsip reads what rsip wrote");
        assert_eq!((heard.method, heard.status), (Method::Invite, None));
        assert_eq!((heard.branch.as_str(), heard.cseq), ("z9hG4bKabc", 7));
        assert_eq!((heard.from_tag.as_str(), heard.to_tag.as_deref()), ("f1", None));
        assert_eq!(heard.contact.as_deref(), Some("sip:1001@10.1.0.1:5060"));
        assert_eq!(heard.body, b"v=0\r\n");
    }

    #[test]
    fn a_cancel_repeats_branch_and_number_of_its_invite() {
        let heard = Heard::read(&invite(Dialect::Long)).expect("readable");
        let cancel = Heard::read(cancel_of(&heard).as_bytes()).expect("readable");
        assert_eq!((cancel.branch, cancel.cseq), (heard.branch, heard.cseq));
        assert_eq!(cancel.cseq_method, Method::Cancel);
    }

    #[test]
    fn a_dialect_changes_the_hand_and_not_the_words() {
        let compact = String::from_utf8(invite(Dialect::Compact)).expect("text");
        assert!(compact.contains("\r\nf:\r\n <sip:1001@ringgate.test>;tag=f1\r\n"), "{compact}");
        let odd = invite(Dialect::Odd);
        for bytes in [compact.as_bytes(), &odd] {
            let glance = glance::Glance::read(bytes).expect("raw text reads every dialect");
            assert_eq!((glance.call_id, glance.cseq, glance.from_tag), ("call-1", 7, Some("f1")));
        }
    }

    #[test]
    fn an_answer_copies_and_adds_the_tag_once() {
        let heard = Heard::read(&invite(Dialect::Long)).expect("readable");
        let reply = Reply { status: 180, to_tag: Some("t1"), ..Reply::default() };
        let answer = Heard::read(response(&heard, reply).as_bytes()).expect("readable");
        assert_eq!((answer.status, answer.to_tag.as_deref()), (Some(180), Some("t1")));
        assert_eq!((answer.branch, answer.call_id), (heard.branch, heard.call_id));
    }
}
