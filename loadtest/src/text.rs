//! SIP messages as the text that they are: what a test looks for in one.
//! Owns:  nothing.
//! Gives: header values, tags, bodies, the name of a dialog.
//! Never: rsip, which does not know every method and header that is looked at here.
//! Holds: what is not there is an error that shows the message.

/// The first value of a header.
pub fn header<'m>(message: &'m str, name: &str) -> Result<&'m str, String> {
    headers(message, name).next().ok_or_else(|| format!("no {name} in {message}"))
}

/// Every line of a header, in order.
pub fn headers<'m>(message: &'m str, name: &str) -> impl Iterator<Item = &'m str> {
    let head = message.split("\r\n\r\n").next().unwrap_or_default();
    head.lines().filter_map(move |line| {
        let (written, value) = line.split_once(':')?;
        written.trim_end().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The tag of a From or To value.
pub fn tag(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once(";tag=")?;
    rest.split([';', '>', ',']).next().map(str::trim)
}

/// The URI between angle brackets.
pub fn uri(value: &str) -> Option<&str> {
    value.split_once('<')?.1.split_once('>').map(|(uri, _)| uri)
}

pub fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// A dialog with the gateway, as Replaces names it (RFC 3891 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    pub call_id: String,
    /// The gateway's.
    pub to_tag: String,
    /// The phone's.
    pub from_tag: String,
}

impl Dialog {
    /// Of the phone that was called: the INVITE that it saw, and its answer.
    pub fn of_called(invite: &str, answer: &str) -> Result<Self, String> {
        Self::new(invite, tag(header(invite, "From")?), tag(header(answer, "To")?))
    }

    /// Of the phone that calls: the answer that it saw.
    pub fn of_caller(answer: &str) -> Result<Self, String> {
        Self::new(answer, tag(header(answer, "To")?), tag(header(answer, "From")?))
    }

    fn new(message: &str, gateway: Option<&str>, phone: Option<&str>) -> Result<Self, String> {
        let untagged = || format!("a tag is missing in {message}");
        Ok(Self {
            call_id: header(message, "Call-ID")?.to_owned(),
            to_tag: gateway.ok_or_else(untagged)?.to_owned(),
            from_tag: phone.ok_or_else(untagged)?.to_owned(),
        })
    }

    /// The value of the header.
    pub fn replaces(&self) -> String {
        let Self { call_id, to_tag, from_tag } = self;
        format!("{call_id};to-tag={to_tag};from-tag={from_tag}")
    }

    /// The same as a header of a URI (RFC 3261 19.1.1).
    pub fn escaped(&self) -> String {
        self.replaces().replace('@', "%40").replace(';', "%3B").replace('=', "%3D")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "SIP/2.0 200 OK\r\nFrom: <sip:1001@pbx.test>;tag=c1\r\nTo:<sip:1002@pbx.test>;tag=x;y=z\r\n\
                          Call-ID: 7@host\r\nContact: <sip:127.0.0.1:5060>\r\n\r\nTo: no header";

    #[test]
    fn a_dialog_is_named_by_who_is_asked() {
        let dialog = Dialog::of_caller(ANSWER).expect("both tags are there");
        assert_eq!(dialog.replaces(), "7@host;to-tag=x;from-tag=c1");
        assert_eq!(dialog.escaped(), "7%40host%3Bto-tag%3Dx%3Bfrom-tag%3Dc1");
        assert_eq!(uri(header(ANSWER, "contact").expect("it has one")), Some("sip:127.0.0.1:5060"));
        assert_eq!((headers(ANSWER, "To").count(), body(ANSWER)), (1, "To: no header"));
    }
}
