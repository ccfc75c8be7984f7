//! SIP as text, for a generator that has to read thousands of messages a second.
//! Owns:  a view of one message: the lines that a user agent must give back or look at.
//! Gives: `Raw::read`, `reply`, tags and URIs.
//! Never: a full parser: it reads what the gateway writes (canonical names, no folds).
//! Holds: no allocation while reading, except for the list of Via lines.

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
}
