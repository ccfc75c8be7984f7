//! Building and reading SIP messages with rsip: the phones' side of the wire.
//! Owns:  the few headers that a phone needs, as rsip values.
//! Gives: requests, responses and the fields that steer them.
//! Never: decides anything; `phone` does.
//! Holds: what rsip 0.4 cannot read (IPv6 hosts, compact names, folds) is not sent by the gateway
//!        to a phone that did not use it first, so reading fails loudly instead of guessing.

use rsip::headers::{Header, UntypedHeader};
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Method, Request, Response, SipMessage, StatusCode, Uri, Version};

/// The reason why bytes are no message for us; shown in test failures.
pub type ReadError = rsip::Error;

pub fn read(bytes: &[u8]) -> Result<SipMessage, ReadError> {
    SipMessage::try_from(bytes)
}

/// A request without its body; `seal` completes it.
pub fn request(method: Method, uri: &str, headers: Vec<Header>) -> Result<Request, ReadError> {
    Ok(Request {
        method,
        uri: Uri::try_from(uri)?,
        version: Version::V2,
        headers: headers.into(),
        body: Vec::new(),
    })
}

/// RFC 3261 8.2.6.2: Via, From, To, Call-ID, CSeq come back as they were; To gets our tag.
pub fn response(request: &Request, status: u16, to_tag: &str) -> Response {
    let mut headers: Vec<Header> = request
        .headers()
        .iter()
        .filter(|header| {
            matches!(
                header,
                Header::Via(_)
                    | Header::RecordRoute(_)
                    | Header::From(_)
                    | Header::CallId(_)
                    | Header::CSeq(_)
            )
        })
        .cloned()
        .collect();
    if let Ok(to) = request.to_header() {
        let tagged = match tag(to.value()) {
            Some(_) => to.value().to_owned(),
            None => format!("{};tag={to_tag}", to.value()),
        };
        headers.push(Header::To(tagged.into()));
    }
    Response {
        status_code: StatusCode::from(status),
        version: Version::V2,
        headers: headers.into(),
        body: Vec::new(),
    }
}

/// Adds Content-Length (and Content-Type for SDP) and gives the bytes.
pub fn seal(message: impl Into<SipMessage>, sdp: Option<&str>) -> Vec<u8> {
    let mut message = message.into();
    let body = sdp.unwrap_or_default();
    let headers = message.headers_mut();
    if sdp.is_some() {
        headers.push(Header::ContentType("application/sdp".into()));
    }
    headers.push(Header::ContentLength(body.len().to_string().into()));
    match &mut message {
        SipMessage::Request(request) => request.body = body.as_bytes().to_vec(),
        SipMessage::Response(response) => response.body = body.as_bytes().to_vec(),
    }
    message.into()
}

/// The `tag` parameter of a From or To value.
pub fn tag(value: &str) -> Option<&str> {
    let params = value.rsplit_once('>').map_or(value, |(_, after)| after);
    params.split(';').skip(1).find_map(|param| param.trim().strip_prefix("tag="))
}

/// The URI inside a name-addr or addr-spec.
pub fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

pub fn call_id(message: &impl HeadersExt) -> String {
    message.call_id_header().map(|header| header.value().to_owned()).unwrap_or_default()
}

/// Number and method of CSeq.
pub fn cseq(message: &impl HeadersExt) -> Option<(u32, String)> {
    let value = message.cseq_header().ok()?.value().to_owned();
    let (number, method) = value.split_once(' ')?;
    Some((number.parse().ok()?, method.trim().to_owned()))
}

/// The branch of the topmost Via.
pub fn branch(message: &impl HeadersExt) -> Option<String> {
    let via = message.via_header().ok()?;
    let branch = via.value().split(';').find_map(|param| param.trim().strip_prefix("branch="))?;
    Some(branch.split(',').next().unwrap_or(branch).trim().to_owned())
}

/// Values of the challenges of a 401 or 407.
pub fn challenges(response: &Response) -> Vec<&str> {
    let challenge = |header: &'_ Header| -> bool {
        matches!(header, Header::WwwAuthenticate(_) | Header::ProxyAuthenticate(_))
    };
    response
        .headers()
        .iter()
        .filter(|header| challenge(header))
        .map(|header| match header {
            Header::WwwAuthenticate(value) => value.value(),
            Header::ProxyAuthenticate(value) => value.value(),
            _ => "",
        })
        .collect()
}

/// One line for a ladder: `INVITE sip:1002@...` or `200 OK (INVITE)`.
pub fn summary(message: &SipMessage) -> String {
    match message {
        SipMessage::Request(request) => format!("{} {}", request.method, request.uri),
        SipMessage::Response(response) => {
            let method = cseq(response).map(|(_, method)| method).unwrap_or_default();
            format!("{} {} ({method})", response.status_code.code(), reason(response))
        }
    }
}

/// rsip keeps no reason phrase for codes that it knows, so a ladder spells the common ones.
fn reason(response: &Response) -> String {
    let phrase = match response.status_code.code() {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        503 => "Service Unavailable",
        _ => "",
    };
    phrase.to_owned()
}
