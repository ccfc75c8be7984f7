//! The bodies of NOTIFY: dialog-info+xml (RFC 4235) and simple-message-summary (RFC 3842).
//! Owns:  `Standing`, one dialog of a user as a watcher sees it; the two document formats.
//! Gives: `write_dialogs`, `write_summary`.
//! Never: a byte of a peer's that is no text of XML; a Contact, an address or a port of a phone.
//! Holds: what is written is well-formed whatever a peer called itself.

use std::fmt::Write as _;

use shared::ids::CallId;
use sip::wire::NameAddr;

use crate::b2bua::compose::readable;

/// A dialog of a user of ours, seen from that user's phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub call: CallId,
    pub leg: u8,
    pub phase: Phase,
    /// The user has called; else it was called.
    pub is_caller: bool,
    pub call_id: Box<[u8]>,
    /// The phone's own.
    pub local_tag: Box<[u8]>,
    /// Ours: whoever picks the call up names it in Replaces.
    pub remote_tag: Box<str>,
    /// `"Ann" <sip:1001@pbx>`, as the messages of the dialog have them.
    pub local: Box<[u8]>,
    pub remote: Box<[u8]>,
}

/// The states of RFC 4235 3.7.1 that a server between two phones can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Trying,
    Early,
    Confirmed,
    Terminated,
}

impl Phase {
    const fn word(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
            Self::Terminated => "terminated",
        }
    }
}

impl Standing {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.call == other.call && self.leg == other.leg
    }
}

/// A party whose words are longer is left out: what strangers call themselves may not make a NOTIFY
/// longer than a datagram.
const URI_BYTES_MAX: usize = 256;
const DISPLAY_BYTES_MAX: usize = 128;
/// Dialogs that no longer fit stay untold.
const DOCUMENT_BYTES_MAX: usize = 32 * 1_024;

/// `entity`: the URI of the watched user. Without `is_full` dialogs that are not in it are as before.
/// `is_own`: the watcher is that user. Nobody else is told the tags of a call that stands, since whoever
/// knows them may take a place in it (RFC 3891); those of one that rings are there to be picked up.
pub(crate) fn write_dialogs<'s>(
    version: u32,
    is_full: bool,
    entity: &str,
    is_own: bool,
    standings: impl Iterator<Item = &'s Standing>,
) -> Vec<u8> {
    let mut out = String::with_capacity(1_024);
    out.push_str("<?xml version=\"1.0\"?>\r\n");
    out.push_str("<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\"");
    let state = if is_full { "full" } else { "partial" };
    write!(out, " version=\"{version}\" state=\"{state}\"").expect("a String takes all");
    attribute(&mut out, "entity", entity.as_bytes());
    out.push_str(">\r\n");
    for standing in standings {
        if out.len() < DOCUMENT_BYTES_MAX {
            write_dialog(&mut out, standing, is_own);
        }
    }
    out.push_str("</dialog-info>\r\n");
    out.into_bytes()
}

fn write_dialog(out: &mut String, standing: &Standing, is_own: bool) {
    let Standing { call, leg, .. } = standing;
    write!(out, "<dialog id=\"{call}.{leg}\"").expect("a String takes all");
    attribute(out, "call-id", &standing.call_id);
    // Before the phone has answered there is no dialog id that could be named.
    let may_know = is_own || standing.phase == Phase::Early;
    if may_know && !standing.local_tag.is_empty() {
        attribute(out, "local-tag", &standing.local_tag);
        attribute(out, "remote-tag", standing.remote_tag.as_bytes());
    }
    let direction = if standing.is_caller { "initiator" } else { "recipient" };
    attribute(out, "direction", direction.as_bytes());
    let state = standing.phase.word();
    write!(out, ">\r\n<state>{state}</state>\r\n").expect("a String takes all");
    write_party(out, "local", &standing.local);
    write_party(out, "remote", &standing.remote);
    out.push_str("</dialog>\r\n");
}

/// The target is the identity again: where a phone really is concerns nobody (and would be no use).
fn write_party(out: &mut String, element: &str, party: &[u8]) {
    let Ok(address) = NameAddr::parse(party) else { return };
    if address.uri.len() > URI_BYTES_MAX {
        return;
    }
    write!(out, "<{element}><identity").expect("a String takes all");
    if (1..=DISPLAY_BYTES_MAX).contains(&address.display.len()) {
        attribute(out, "display", address.display);
    }
    out.push('>');
    escaped(out, address.uri);
    out.push_str("</identity><target");
    attribute(out, "uri", address.uri);
    write!(out, "/></{element}>\r\n").expect("a String takes all");
}

fn attribute(out: &mut String, name: &str, value: &[u8]) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escaped(out, value);
    out.push('"');
}

/// Text of XML 1.0; what no escape makes one of is left out.
fn escaped(out: &mut String, text: &[u8]) {
    for letter in readable(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => {}
            other => out.push(other),
        }
    }
}

/// There is no voicemail: nobody has a message waiting, and that is what is said.
pub(crate) fn write_summary(account: &str) -> Vec<u8> {
    let text = format!(
        "Messages-Waiting: no\r\nMessage-Account: {account}\r\nVoice-Message: 0/0 (0/0)\r\n"
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(phase: Phase) -> Standing {
        Standing {
            call: CallId(0xab),
            leg: 1,
            phase,
            is_caller: false,
            call_id: b"c<1>"[..].into(),
            local_tag: b"ben"[..].into(),
            remote_tag: "rg00".into(),
            local: b"<sip:1002@pbx>"[..].into(),
            remote: b"\"A & \xff\x01<B>\" <sip:1001@pbx>"[..].into(),
        }
    }

    /// RFC 4235 3.5: names of peers stand in attributes and text, and stay there.
    #[test]
    fn what_a_peer_calls_itself_stays_text() {
        let all = [standing(Phase::Confirmed)];
        let text = write_dialogs(3, true, "sip:1002@pbx", true, all.iter());
        let text = String::from_utf8(text).expect("it is text");
        assert!(text.contains("version=\"3\" state=\"full\" entity=\"sip:1002@pbx\""), "{text}");
        assert!(text.contains("call-id=\"c&lt;1&gt;\" local-tag=\"ben\""), "{text}");
        assert!(text.contains("display=\"A &amp; \u{fffd}&lt;B&gt;\">sip:1001@pbx<"), "{text}");
        assert!(text.contains("direction=\"recipient\">\r\n<state>confirmed</state>"), "{text}");
    }

    #[test]
    fn only_who_is_watched_hears_the_tags_of_a_call_that_stands() {
        let tags = |phase, is_own| {
            let text = write_dialogs(0, true, "sip:1002@pbx", is_own, [standing(phase)].iter());
            String::from_utf8(text).expect("it is text").contains("-tag=")
        };
        assert!(tags(Phase::Early, false) && tags(Phase::Confirmed, true));
        assert!(!tags(Phase::Confirmed, false));
    }

    #[test]
    fn long_names_and_many_dialogs_fit_a_datagram() {
        let long = Standing {
            remote: format!("<sip:{}@pbx>", "&".repeat(8_000)).into_bytes().into(),
            ..standing(Phase::Early)
        };
        let all = vec![long; 500];
        let text = write_dialogs(0, true, "sip:1002@pbx", false, all.iter());
        assert!(text.len() < 40_000, "{}", text.len());
    }

    #[test]
    fn a_phone_that_has_not_answered_has_no_tags() {
        let early = Standing { local_tag: Box::default(), ..standing(Phase::Trying) };
        let text = write_dialogs(0, false, "sip:1002@pbx", true, [early].iter());
        let text = String::from_utf8(text).expect("it is text");
        assert!(text.contains("state=\"partial\"") && text.contains("<state>trying</state>"));
        assert!(!text.contains("-tag="), "{text}");
    }
}
