//! The checker's own reading: raw text, one pass, every dialect that a phone writes.
//! Owns:  `Glance`, spans over the bytes.
//! Gives: what the ledger files a message under: Call-ID, CSeq, branch, tags, status, SDP.
//! Never: rsip, our wire layer, an allocation.
//! Holds: folded values are taken with their folds; trimming is left to the reader of a value.

#[derive(Clone, Copy, Debug)]
pub struct Glance<'a> {
    /// `INVITE` for the request, or for the response to one.
    pub method: &'a str,
    pub status: Option<u16>,
    pub uri: &'a str,
    pub call_id: &'a str,
    pub cseq: u32,
    pub branch: &'a str,
    pub vias: usize,
    pub from: &'a str,
    pub from_tag: Option<&'a str>,
    pub to: &'a str,
    pub to_tag: Option<&'a str>,
    pub contact: Option<&'a str>,
    pub expires: Option<&'a str>,
    pub content_length: Option<&'a str>,
    pub head: &'a str,
    pub body: &'a str,
}

impl<'a> Glance<'a> {
    /// `None` when it is not a SIP message with the five headers that every one has.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let (start, lines) = head.split_once("\r\n")?;
        let mut words = start.split(' ');
        let (first, second) = (words.next()?, words.next()?);
        let status = if first == "SIP/2.0" { second.parse().ok() } else { None };
        let mut glance = Self {
            method: first,
            status,
            uri: if status.is_some() { "" } else { second },
            call_id: "",
            cseq: 0,
            branch: "",
            vias: 0,
            from: "",
            from_tag: None,
            to: "",
            to_tag: None,
            contact: None,
            expires: None,
            content_length: None,
            head,
            body,
        };
        let mut seen_cseq = false;
        for (name, value) in Fields(lines) {
            seen_cseq |= glance.file(name, value)?;
        }
        let whole = seen_cseq && glance.vias > 0 && !glance.call_id.is_empty();
        (whole && !glance.from.is_empty() && !glance.to.is_empty()).then_some(glance)
    }

    /// Says whether this was the CSeq.
    fn file(&mut self, name: &str, value: &'a str) -> Option<bool> {
        let is = |long: &str, short: &str| {
            name.eq_ignore_ascii_case(long) || name.eq_ignore_ascii_case(short)
        };
        if is("Via", "v") {
            if self.vias == 0 {
                self.branch = parameter(value, "branch").unwrap_or_default();
            }
            self.vias += 1;
        } else if is("Call-ID", "i") {
            self.call_id = value;
        } else if is("CSeq", "CSeq") {
            let (number, method) = value.split_once([' ', '\t'])?;
            self.cseq = number.parse().ok()?;
            if self.status.is_some() {
                self.method = method.trim();
            }
            return Some(true);
        } else if is("From", "f") {
            (self.from, self.from_tag) = (value, parameter(value, "tag"));
        } else if is("To", "t") {
            (self.to, self.to_tag) = (value, parameter(value, "tag"));
        } else if is("Contact", "m") {
            self.contact = self.contact.or(Some(value));
        } else if is("Expires", "Expires") {
            self.expires = Some(value);
        } else if is("Content-Length", "l") {
            self.content_length = Some(value);
        }
        Some(false)
    }

    /// Values of one header, one per line.
    pub fn values(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let lines = self.head.split_once("\r\n").map_or("", |(_, lines)| lines);
        Fields(lines)
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub fn is_final(&self) -> bool {
        self.status.is_some_and(|status| status >= 200)
    }

    pub fn is_request(&self, method: &str) -> bool {
        self.status.is_none() && self.method == method
    }

    pub fn is_response_to(&self, method: &str) -> bool {
        self.status.is_some() && self.method == method
    }
}

/// Header lines with their continuation lines (RFC 3261 7.3.1).
struct Fields<'a>(&'a str);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            let end = field_end(self.0);
            let (field, rest) = self.0.split_at(end);
            self.0 = rest.strip_prefix("\r\n").unwrap_or("");
            if let Some((name, value)) = field.split_once(':') {
                return Some((name.trim(), value.trim()));
            }
        }
    }
}

fn field_end(lines: &str) -> usize {
    let mut from = 0;
    while let Some(at) = lines[from..].find("\r\n") {
        let end = from + at;
        if !lines[end + 2..].starts_with([' ', '\t']) {
            return end;
        }
        from = end + 2;
    }
    lines.len()
}

/// The value of `;name=`, outside angle brackets and up to the next delimiter.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let outside = value.rfind('>').map_or(value, |at| &value[at + 1..]);
    outside.split(';').skip(1).find_map(|part| {
        let (found, value) = part.split_once('=')?;
        let value = value.split([' ', '\t', '\r', ',']).next().unwrap_or(value);
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The URI inside angle brackets, or the bare one before any parameter.
pub fn uri_of(value: &str) -> &str {
    if let Some((_, rest)) = value.split_once('<') {
        return rest.split('>').next().unwrap_or(rest);
    }
    value.split(';').next().unwrap_or(value).trim()
}

/// The user part of a URI, or its host where it has none.
pub fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    match rest.split_once('@') {
        Some((user, _)) => user,
        None => rest.split([':', ';', '?']).next().unwrap_or(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"SIP/2.0 486 Busy Here\r\nv: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\n\
        f: \"a;tag=no\" <sip:a@b;tag=not>;tag=one\r\nTo:\r\n <sip:c@d>;tag=two\r\ni: x@y\r\n\
        CSeq: 3 INVITE\r\nl: 0\r\n\r\n";

    #[test]
    fn compact_and_folded_headers_are_read() {
        let glance = Glance::read(ANSWER).expect("a whole response");
        assert_eq!((glance.method, glance.status, glance.cseq), ("INVITE", Some(486), 3));
        assert_eq!((glance.from_tag, glance.to_tag), (Some("one"), Some("two")));
        assert_eq!((glance.branch, glance.call_id), ("z9hG4bK1", "x@y"));
    }

    #[test]
    fn a_message_without_call_id_is_no_message() {
        let text = String::from_utf8(ANSWER.to_vec()).expect("text").replace("i: x@y\r\n", "");
        assert!(Glance::read(text.as_bytes()).is_none());
    }

    #[test]
    fn user_part_or_host() {
        assert_eq!(user_of("sip:1001@pbx.test;user=phone"), "1001");
        assert_eq!(user_of("sip:carrier.test:5070;lr"), "carrier.test");
        assert_eq!(uri_of("\"x\" <sip:a@b>;tag=1"), "sip:a@b");
    }
}
