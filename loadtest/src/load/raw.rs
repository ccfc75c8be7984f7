//! SIP as text, for a generator that has to read thousands of messages a second.
//! Owns:  a view of one message: the lines that a user agent must give back or look at.
//! Gives: `Raw::read`, `reply`, tags and URIs.
//! Never: a full parser: it reads what the gateway writes (canonical names, no folds).
//! Holds: no allocation while reading, except for the list of Via lines.

use std::io::Write as _;
use std::net::SocketAddr;

/// The parts of a message that a user agent works with.
#[derive(Clone, Debug, Default)]
pub struct Raw<'a> {
    pub start: &'a str,
    pub via: Vec<&'a str>,
    pub from: &'a str,
    pub to: &'a str,
    pub call_id: &'a str,
    pub cseq: &'a str,
    pub contact: &'a str,
    pub challenge: &'a str,
    pub retry_after: &'a str,
    pub body: &'a str,
}

impl<'a> Raw<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut raw = Self { start: lines.next()?, body, ..Self::default() };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name {
                "Via" => raw.via.push(value),
                "From" => raw.from = value,
                "To" => raw.to = value,
                "Call-ID" => raw.call_id = value,
                "CSeq" => raw.cseq = value,
                "Contact" => raw.contact = value,
                "Retry-After" => raw.retry_after = value,
                // The first challenge that is MD5: enough for a generator.
                "WWW-Authenticate" | "Proxy-Authenticate" if !value.contains("SHA-") => {
                    raw.challenge = value;
                }
                _ => {}
            }
        }
        (!raw.call_id.is_empty()).then_some(raw)
    }

    /// Status of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request, or of the request that a response answers.
    pub fn method(&self) -> &'a str {
        self.cseq.split_once(' ').map_or("", |(_, method)| method)
    }

    /// A response with our tag and, for an INVITE, our Contact.
    pub fn reply(&self, status: &str, tag: &str, contact: &str, sdp: &str) -> String {
        let mut out = String::with_capacity(1_024);
        let mut line = |name: &str, value: &str| {
            for part in [name, value, "\r\n"] {
                out.push_str(part);
            }
        };
        line("SIP/2.0 ", status);
        for via in &self.via {
            line("Via: ", via);
        }
        line("From: ", self.from);
        if self.to.contains(";tag=") {
            line("To: ", self.to);
        } else {
            line("To: ", &format!("{};tag={tag}", self.to));
        }
        line("Call-ID: ", self.call_id);
        line("CSeq: ", self.cseq);
        if !contact.is_empty() {
            line("Contact: ", contact);
        }
        if !sdp.is_empty() {
            line("Content-Type: ", "application/sdp");
        }
        line("Content-Length: ", &sdp.len().to_string());
        line("", "");
        out.push_str(sdp);
        out
    }
}

/// A 503 to an INVITE, read without an allocation: under overload there is nothing but these.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal<'a> {
    via: &'a str,
    from: &'a str,
    to: &'a str,
    pub call_id: &'a str,
    /// The number alone.
    pub cseq: &'a str,
    pub retry_after: &'a str,
}

impl<'a> Refusal<'a> {
    /// `None` for every other message.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(b"SIP/2.0 503 ") {
            return None;
        }
        let mut refusal = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').skip(1) {
            let line = std::str::from_utf8(line).ok()?.trim_ascii_end();
            let Some((name, value)) = line.split_once(": ") else { continue };
            match name {
                "Via" if refusal.via.is_empty() => refusal.via = value,
                "From" => refusal.from = value,
                "To" => refusal.to = value,
                "Call-ID" => refusal.call_id = value,
                "CSeq" => refusal.cseq = value.strip_suffix(" INVITE")?,
                "Retry-After" => refusal.retry_after = value,
                _ => {}
            }
        }
        (!refusal.cseq.is_empty()).then_some(refusal)
    }

    /// Same Request-URI, branch and CSeq as the INVITE (RFC 3261 17.1.1.3). Gives the length; an ACK
    /// that does not fit is cut, and then none.
    pub fn write_ack(&self, mut out: &mut [u8], number: u32, host: SocketAddr) -> usize {
        let room = out.len();
        let Self { via, from, to, call_id, cseq, .. } = *self;
        // A slice takes what fits and says so.
        let _ = write!(out, "ACK sip:c{number}@{host} SIP/2.0\r\nVia: ");
        for part in [via, "\r\nMax-Forwards: 70\r\nFrom: ", from, "\r\nTo: ", to] {
            let _ = out.write_all(part.as_bytes());
        }
        for part in ["\r\nCall-ID: ", call_id, "\r\nCSeq: ", cseq] {
            let _ = out.write_all(part.as_bytes());
        }
        let _ = out.write_all(b" ACK\r\nContent-Length: 0\r\n\r\n");
        room - out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_gives_back_what_rfc_3261_8_2_6_asks_for() {
        let invite = "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=1\r\nVia: SIP/2.0/UDP y\r\n\
                      From: <sip:c@d>;tag=f\r\nTo: <sip:a@b>\r\nCall-ID: 7\r\nCSeq: 2 INVITE\r\n\r\n";
        let raw = Raw::read(invite.as_bytes()).expect("a message");
        assert_eq!((raw.method(), raw.status()), ("INVITE", None));
        let reply = raw.reply("200 OK", "t", "<sip:me>", "");
        let read = Raw::read(reply.as_bytes()).expect("a message");
        assert_eq!(read.status(), Some(200));
        assert_eq!(read.via, raw.via);
        assert_eq!((read.to, read.contact), ("<sip:a@b>;tag=t", "<sip:me>"));
    }
    #[test]
    fn the_ack_of_a_503_is_that_of_its_invite() {
        let text = "SIP/2.0 503 Service Unavailable\r\nVia: SIP/2.0/UDP x;branch=1;rport=9\r\n\
                    From: <sip:c@d>;tag=f\r\nTo: <sip:c5@b>;tag=t\r\nCall-ID: 7\r\nCSeq: 2 INVITE\r\n\
                    Retry-After: 4\r\nContent-Length: 0\r\n\r\n";
        let refusal = Refusal::read(text.as_bytes()).expect("a refusal");
        assert_eq!((refusal.call_id, refusal.cseq, refusal.retry_after), ("7", "2", "4"));
        let mut buffer = [0; 2_048];
        let host = "127.0.0.1:5060".parse().expect("an address");
        let length = refusal.write_ack(&mut buffer, 5, host);
        let raw = Raw::read(&buffer[..length]).expect("a message");
        assert_eq!((raw.start, raw.cseq), ("ACK sip:c5@127.0.0.1:5060 SIP/2.0", "2 ACK"));
        assert_eq!((raw.via, raw.to), (vec!["SIP/2.0/UDP x;branch=1;rport=9"], "<sip:c5@b>;tag=t"));
        for other in [&text.replace("503", "486"), &text.replace("INVITE", "BYE")] {
            assert!(Refusal::read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
