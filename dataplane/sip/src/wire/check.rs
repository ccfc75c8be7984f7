//! What a message has to have before we act on it (RFC 3261 8.1.1, 8.2, 18.3; RFC 4475).
//! Owns:  the order of the checks, the readers of the headers that every message has.
//! Gives: `check_request`, `check_answerable`, `check_response` and typed getters on `Message`.
//! Never: a check that only one method needs; those live where the method is decided.
//! Holds: after `check_request` the typed getters of mandatory headers succeed.

use shared::limits::VIAS_MAX;

use super::header::{
    CSeq, NameAddr, RAck, SessionExpires, Via, list, parse_min_se, parse_number, parse_rseq,
};
use super::{HeaderName, Malformed, Message, Method, Start, Uri};

/// Headers that may stand only once (RFC 3261 7.3.1, 20).
const SINGLE: u64 = 1 << HeaderName::CallId as u8
    | 1 << HeaderName::ContentLength as u8
    | 1 << HeaderName::CSeq as u8
    | 1 << HeaderName::From as u8
    | 1 << HeaderName::MaxForwards as u8
    | 1 << HeaderName::To as u8;
const _: () = assert!((HeaderName::Other as u8) < 64, "one bit for each name");

impl<'a> Message<'a> {
    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'a>, Malformed> {
        let value = self.first(HeaderName::Via).ok_or(Malformed::HeaderMissing("Via"))?;
        Via::parse(list::elements(value).next().unwrap_or_default())
    }

    pub fn from(&self) -> Result<NameAddr<'a>, Malformed> {
        let value = self.first(HeaderName::From).ok_or(Malformed::HeaderMissing("From"))?;
        NameAddr::parse(value).map_err(|_| Malformed::BadHeader("From"))
    }

    pub fn to(&self) -> Result<NameAddr<'a>, Malformed> {
        let value = self.first(HeaderName::To).ok_or(Malformed::HeaderMissing("To"))?;
        NameAddr::parse(value).map_err(|_| Malformed::BadHeader("To"))
    }

    pub fn call_id(&self) -> Result<&'a [u8], Malformed> {
        let value = self.first(HeaderName::CallId).ok_or(Malformed::HeaderMissing("Call-ID"))?;
        let reads = !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic());
        if reads { Ok(value) } else { Err(Malformed::BadHeader("Call-ID")) }
    }

    pub fn cseq(&self) -> Result<CSeq, Malformed> {
        let value = self.first(HeaderName::CSeq).ok_or(Malformed::HeaderMissing("CSeq"))?;
        CSeq::parse(value)
    }

    pub fn session_expires(&self) -> Result<Option<SessionExpires>, Malformed> {
        self.first(HeaderName::SessionExpires).map(SessionExpires::parse).transpose()
    }

    pub fn min_se(&self) -> Result<Option<u32>, Malformed> {
        self.first(HeaderName::MinSe).map(parse_min_se).transpose()
    }

    pub fn rseq(&self) -> Result<Option<u32>, Malformed> {
        self.first(HeaderName::RSeq).map(parse_rseq).transpose()
    }

    pub fn rack(&self) -> Result<Option<RAck>, Malformed> {
        self.first(HeaderName::RAck).map(RAck::parse).transpose()
    }

    /// Whether a header of option tags names this one (RFC 3261 20.32, 20.37).
    pub fn names_option(&self, name: HeaderName, tag: &[u8]) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(tag))
    }

    /// 0..=255 (RFC 3261 20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        let Some(value) = self.first(HeaderName::MaxForwards) else { return Ok(None) };
        let number = parse_number(value).and_then(|number| u8::try_from(number).ok());
        number.map(Some).ok_or(Malformed::BadHeader("Max-Forwards"))
    }

    /// Seconds; what does not read counts as absent, what is too large as the most there is
    /// (RFC 3261 20.19).
    pub fn expires(&self) -> Option<u32> {
        let value = self.first(HeaderName::Expires)?;
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(parse_number(value).unwrap_or(u32::MAX))
    }

    /// The length that the message declares.
    pub fn content_length(&self) -> Result<Option<u32>, Malformed> {
        let Some(value) = self.first(HeaderName::ContentLength) else { return Ok(None) };
        let number = if value.len() > 9 { None } else { parse_number(value) };
        number.map(Some).ok_or(Malformed::LengthUnreadable)
    }

    /// Everything that lets us refuse a request for its form alone.
    pub fn check_request(&self) -> Result<(), Malformed> {
        let Start::Request { method, method_text, uri } = self.start() else {
            return Err(Malformed::NotSip);
        };
        self.check_version()?;
        self.check_both()?;
        let parsed = Uri::parse(uri).map_err(|_| Malformed::BadRequestUri)?;
        if !parsed.headers.is_empty() && parsed.is_sip() {
            // RFC 3261 19.1.1: headers are not allowed in a Request-URI.
            return Err(Malformed::BadRequestUri);
        }
        let cseq = self.cseq()?;
        let same = if method == Method::Other {
            let written = |value: &'a [u8]| value.rsplit(u8::is_ascii_whitespace).next();
            self.first(HeaderName::CSeq).and_then(written) == Some(method_text)
        } else {
            cseq.method == method
        };
        if !same {
            return Err(Malformed::CSeqMethod);
        }
        self.max_forwards()?;
        Ok(())
    }

    /// Everything that makes a response useless to us; there is nobody to tell.
    pub fn check_response(&self) -> Result<(), Malformed> {
        if self.is_request() {
            return Err(Malformed::NotSip);
        }
        self.check_both()?;
        // RFC 3261 8.1.3.3: a response with a second Via was meant for somebody else.
        if self.values(HeaderName::Via).nth(1).is_some() {
            return Err(Malformed::HeaderRepeated("Via"));
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), Malformed> {
        let bytes = self.bytes();
        let lead = bytes.len() - bytes.trim_ascii_start().len();
        let line = &bytes[lead..];
        let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
        let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
        let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        if version.is_empty() {
            return Err(Malformed::BadStartLine); // blanks behind the version
        }
        if version.eq_ignore_ascii_case(b"SIP/2.0") { Ok(()) } else { Err(Malformed::Version) }
    }

    /// Everything that an answer is made of (RFC 3261 8.2.6.2): enough for a refusal that has nothing
    /// to do with the rest of the request.
    pub fn check_answerable(&self) -> Result<(), Malformed> {
        let Start::Request { method, .. } = self.start() else { return Err(Malformed::NotSip) };
        self.check_version()?;
        self.check_head()?;
        self.from()?;
        self.to()?;
        self.call_id()?;
        if self.cseq()?.method == method { Ok(()) } else { Err(Malformed::CSeqMethod) }
    }

    fn check_head(&self) -> Result<(), Malformed> {
        self.fault()?;
        if let Some(name) = self.repeated(SINGLE) {
            return Err(Malformed::HeaderRepeated(name.as_str()));
        }
        let via = self.via()?;
        if via.branch.is_some_and(<[u8]>::is_empty) {
            return Err(Malformed::BadHeader("Via"));
        }
        Ok(())
    }

    fn check_both(&self) -> Result<(), Malformed> {
        self.check_head()?;
        for (index, value) in self.values(HeaderName::Via).enumerate().skip(1) {
            if index == VIAS_MAX {
                return Err(Malformed::TooManyVias);
            }
            Via::parse(value)?;
        }
        self.from()?.parsed_uri().map_err(|_| Malformed::BadHeader("From"))?;
        self.to()?.parsed_uri().map_err(|_| Malformed::BadHeader("To"))?;
        self.call_id()?;
        self.cseq()?;
        for value in self.values(HeaderName::Contact).filter(|value| *value != b"*") {
            let contact = NameAddr::parse(value).map_err(|_| Malformed::BadHeader("Contact"))?;
            contact.parsed_uri().map_err(|_| Malformed::BadHeader("Contact"))?;
        }
        let received = u32::try_from(self.received_body().len()).unwrap_or(u32::MAX);
        match self.content_length()? {
            Some(declared) if declared > received => {
                Err(Malformed::LengthBeyondDatagram { declared, received })
            }
            _ => Ok(()),
        }
    }
}
