//! The REGISTER that we send, and what its answer grants (RFC 3261 10.2).
//! Owns:  the URIs of an account at its carrier, the reading of Contact, Expires and Min-Expires.
//! Gives: `write`, `granted`, `least`, `contact_user`.
//! Never: a decision.
//! Holds: the user of our Contact is the account's, so any shard knows by it whose call comes in.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use shared::account::Account;
use shared::net::{Destination, Transport};
use sip::wire::{HeaderName, Host, Message, NameAddr, Writer};

use super::Place;
use crate::desk::Desk;

/// Nobody is believed to grant more, or to insist on more.
const GRANTED_MAX: Duration = Duration::from_secs(7 * 86_400);

/// Who registers, where, and under which numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording<'w> {
    pub account: &'w Account,
    pub place: &'w Place,
    pub call_id: &'w str,
    pub tag: &'w str,
    pub cseq: u32,
    /// Zero takes it back (RFC 3261 10.2.2).
    pub expires: Duration,
}

impl Wording<'_> {
    /// `sip:carrier.example:5070;transport=tcp`
    pub(super) fn registrar(&self) -> String {
        let Place { host, port, transport, route, .. } = self.place;
        // How the proxy is reached is its Route's to say.
        let transport = if route.is_some() { &Transport::Udp } else { transport };
        let mut uri = format!("sip:{}", bracketed(host));
        if let Some(port) = port.filter(|port| *port != transport.port()) {
            write!(uri, ":{port}").expect("a String takes all");
        }
        if *transport != Transport::Udp {
            write!(uri, ";transport={}", transport.uri_word()).expect("a String takes all");
        }
        uri
    }

    /// Everything behind Via and Max-Forwards.
    pub(super) fn write(&self, desk: &Desk, way: &Destination, mut out: Writer<'_>) {
        let user = escaped(&self.account.username);
        let aor = format!("sip:{user}@{}", bracketed(&self.place.host));
        let contact = desk.advertised(way);
        if let Some(route) = &self.place.route {
            out.header("Route", route.as_bytes());
        }
        out.header_fmt("From", format_args!("<{aor}>;tag={}", self.tag));
        out.header_fmt("To", format_args!("<{aor}>"));
        out.header("Call-ID", self.call_id.as_bytes());
        out.header_fmt("CSeq", format_args!("{} REGISTER", self.cseq));
        match way.transport {
            Transport::Udp => out.header_fmt("Contact", format_args!("<sip:{user}@{contact}>")),
            other => {
                let word = other.uri_word();
                out.header_fmt("Contact", format_args!("<sip:{user}@{contact};transport={word}>"))
            }
        };
        out.header_fmt("Expires", format_args!("{}", self.expires.as_secs()));
        out.header("User-Agent", desk.settings.product.as_bytes());
        if let Some(registers) = &self.account.registers {
            for header in &registers.headers {
                out.header(header.name(), header.value().as_bytes());
            }
        }
        out.end();
    }
}

/// How long a 2xx says that our Contact is good for: beside it, else in Expires, else as asked
/// (RFC 3261 10.2.4). Zero: it is not registered.
pub(super) fn granted(
    response: &Message<'_>,
    account: &Account,
    ours: SocketAddr,
    asked: Duration,
) -> Duration {
    let contacts = || response.values(HeaderName::Contact).filter_map(|v| NameAddr::parse(v).ok());
    let is_account = |contact: &NameAddr<'_>| {
        let uri = contact.parsed_uri().ok();
        uri.is_some_and(|uri| *uri.user_unescaped() == *account.username.as_bytes())
    };
    let is_ours = |contact: &NameAddr<'_>| {
        is_account(contact) && contact.parsed_uri().is_ok_and(|uri| is_at(uri.host, uri.port, ours))
    };
    // A carrier that sees us behind a NAT may list the address that it sees.
    let listed = contacts().find(is_ours).or_else(|| contacts().find(is_account));
    let beside = listed.and_then(|contact| contact.param("expires").flatten().and_then(seconds));
    let whole = response.expires().map(|s| Duration::from_secs(s.into()));
    beside.or(whole).unwrap_or(asked).min(GRANTED_MAX)
}

/// What a 423 insists on (RFC 3261 10.2.8).
pub(super) fn least(response: &Message<'_>) -> Option<Duration> {
    let least = seconds(response.first(HeaderName::MinExpires)?)?;
    (!least.is_zero() && least <= GRANTED_MAX).then_some(least)
}

pub(super) fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let value = response.first(HeaderName::RetryAfter)?;
    let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    seconds(&value[..end])
}

fn seconds(digits: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(digits).ok()?.trim();
    text.parse::<u32>().ok().map(|s| Duration::from_secs(s.into()))
}

fn is_at(host: Host<'_>, port: Option<u16>, at: SocketAddr) -> bool {
    let same = match host {
        Host::V4(ip) => at.ip() == ip,
        Host::V6(ip) => at.ip() == ip,
        Host::Name(_) => false,
    };
    same && port.unwrap_or(5060) == at.port()
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// As the user part of a URI (RFC 3261 25.1).
fn escaped(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use sip::wire::scan;

    use super::*;

    fn grants(headers: &str) -> u64 {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:a@h>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        let account = Account::new("4930", "secret").expect("both are plain");
        let ours = "10.0.0.1:5060".parse().expect("an address");
        let response = scan(text.as_bytes()).expect("a response");
        granted(&response, &account, ours, Duration::from_secs(3_600)).as_secs()
    }

    /// RFC 3261 10.2.4: the answer lists every binding, each with its own time.
    #[test]
    fn the_time_of_our_own_contact_counts() {
        let other = "Contact: <sip:4930@10.9.9.9:5060>;expires=7\r\n";
        let own = "Contact: <sip:4930@10.0.0.1>;expires=120\r\n";
        assert_eq!(grants(&format!("{other}{own}Expires: 9\r\n")), 120);
        assert_eq!(grants(&format!("{own}{other}")), 120);
        assert_eq!(grants("Contact: <sip:4930@203.0.113.9:1024>;expires=55\r\n"), 55);
        assert_eq!(grants("Contact: <sip:4930@10.0.0.1>\r\nExpires: 90\r\n"), 90);
        assert_eq!(grants("Contact: <sip:other@10.0.0.1>;expires=7\r\nExpires: 90\r\n"), 90);
        assert_eq!(grants(""), 3_600);
        assert_eq!(grants("Contact: <sip:4930@10.0.0.1>;expires=0\r\n"), 0);
        assert_eq!(grants("Expires: 4294967295\r\n"), 7 * 86_400);
    }

    #[test]
    fn a_user_name_fits_into_a_uri() {
        assert_eq!(escaped("+4930(1)"), "+4930(1)");
        assert_eq!(escaped("a b@c;d\"<>%"), "a%20b%40c%3Bd%22%3C%3E%25");
    }
}
