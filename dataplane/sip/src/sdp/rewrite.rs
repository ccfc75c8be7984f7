//! Writing the description that the other leg gets: our addresses and ports in the peer's words.
//! Owns:  which lines are replaced, removed or added.
//! Gives: a body with CRLF line ends, appended to the caller's buffer.
//! Never: an address of the peer in `o=`, `c=`, `a=rtcp` or an ICE attribute.
//! Holds: every other line keeps its bytes and its place; a refused line stays refused.

use std::io::Write as _;
use std::net::IpAddr;

use super::codecs::{Allowed, Kept};
use super::lines::{Line, attribute, lines};
use super::{Description, Direction, MediaLine};

/// What becomes of one media line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineChange {
    /// Port 0 (RFC 3264 6).
    Refuse,
    /// Media goes to these ports of ours.
    Relay { ip: IpAddr, rtp_port: u16, rtcp_port: u16 },
}

#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'r> {
    pub origin_id: u64,
    pub origin_version: u64,
    /// `o=` and the description level's `c=`.
    pub ip: IpAddr,
    /// By media line; a line beyond the end is refused.
    pub lines: &'r [LineChange],
    pub codecs: Allowed<'r>,
    /// What every line that is not refused says instead of its own direction.
    pub direction: Option<Direction>,
    /// Who hears it is put on hold: it is asked to send nothing (RFC 3264 8.4).
    pub hold: bool,
}

impl Rewrite<'_> {
    /// Every line refused, nothing else changed.
    pub const fn plain(ip: IpAddr) -> Self {
        let (origin_id, origin_version) = (1, 1);
        Self {
            origin_id,
            origin_version,
            ip,
            lines: &[],
            codecs: Allowed::any_order(&[]),
            direction: None,
            hold: false,
        }
    }
}

/// `o=` becomes `- id version IN IP4|IP6 ip`, every `c=` ours, ports and `a=rtcp` likewise (added
/// where our RTCP port is not RTP plus one). ICE attributes go: they would lead media round us.
/// A hold by address (RFC 3264 8.4) becomes a hold by direction, since the address is lost.
/// `o=`, `s=` and `t=` are added where the peer forgot them. What is no line of SDP goes.
pub fn rewrite(description: &Description<'_>, change: &Rewrite<'_>, out: &mut Vec<u8>) {
    write_head(description, change, out);
    for (index, line) in description.media.iter().enumerate() {
        let wanted = change.lines.get(index).copied().unwrap_or(LineChange::Refuse);
        let section = Section::new(description, change, line, wanted);
        section.write(line, out);
    }
}

fn write_head(description: &Description<'_>, change: &Rewrite<'_>, out: &mut Vec<u8>) {
    let family = family(change.ip);
    write_text(out, b'v', format_args!("0"));
    let (id, version) = (change.origin_id, change.origin_version);
    write_text(out, b'o', format_args!("- {id} {version} IN {family} {}", change.ip));
    if !description.has_name {
        write_text(out, b's', format_args!("-"));
    }
    let (mut has_connection, mut has_time) = (false, description.has_time);
    for line in lines(description.head) {
        // RFC 8866 5: t= stands before these.
        if !has_time && matches!(line.kind, b'r' | b'z' | b'k' | b'a') {
            has_time = true;
            write_text(out, b't', format_args!("0 0"));
        }
        match line.kind {
            b'o' | b'v' => {}
            b'c' if has_connection => {}
            b'c' => {
                has_connection = true;
                write_connection(out, change.ip);
            }
            b'a' if leads_round_us(line.value) || is_rtcp(line.value) => {}
            _ => write_line(out, line),
        }
    }
    if !has_time {
        write_text(out, b't', format_args!("0 0"));
    }
}

/// The decisions about one media line, taken before it is written.
struct Section<'c> {
    port: u16,
    ip: IpAddr,
    /// A `c=` of its own where the peer had none: the description's is missing or another one.
    adds_connection: bool,
    /// `None`: there is no RTCP to speak of.
    rtcp_port: Option<u16>,
    adds_rtcp: bool,
    /// `None`: the direction stays as it is written.
    direction: Option<Direction>,
    /// `None`: every format stays.
    kept: Option<Kept<'c>>,
}

impl<'c> Section<'c> {
    fn new(
        description: &Description<'_>,
        change: &Rewrite<'c>,
        line: &MediaLine<'_>,
        wanted: LineChange,
    ) -> Self {
        let kept = Kept::of(line, change.codecs);
        let empty = kept.as_ref().is_some_and(|kept| !kept.has_codec());
        let (port, ip, rtcp_port) = match wanted {
            _ if empty => (0, change.ip, None),
            LineChange::Relay { ip, rtp_port, rtcp_port } if line.port != 0 => {
                (rtp_port, ip, line.is_rtp().then_some(rtcp_port))
            }
            LineChange::Refuse | LineChange::Relay { .. } => (0, change.ip, None),
        };
        let is_live = port != 0;
        let is_inherited = description.has_connection && ip == change.ip;
        let is_beside = |rtcp_port: u16| u32::from(rtcp_port) == u32::from(port) + 1;
        let loses_hold = is_live && line.is_held_by_address() && !ip.is_unspecified();
        Self {
            port,
            ip,
            adds_connection: !line.has_connection && !is_inherited,
            rtcp_port,
            adds_rtcp: line.rtcp.is_none() && rtcp_port.is_some_and(|port| !is_beside(port)),
            direction: if is_live && change.hold {
                Some(change.direction.unwrap_or(line.direction).held())
            } else {
                let wanted = change.direction.filter(|_| is_live);
                wanted.or_else(|| loses_hold.then(|| line.direction.held()))
            },
            // A refused line keeps its formats: it has to name one (RFC 8866 5.14).
            kept: kept.filter(|_| !empty),
        }
    }

    fn write(&self, media: &MediaLine<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"m=");
        out.extend_from_slice(media.kind);
        write_fmt(out, format_args!(" {} ", self.port));
        out.extend_from_slice(media.proto);
        match &self.kept {
            Some(kept) => kept.write_formats(media, out),
            None if media.formats.is_empty() => {}
            None => {
                out.push(b' ');
                out.extend_from_slice(media.formats);
            }
        }
        out.extend_from_slice(b"\r\n");
        self.write_rest(media, out);
    }

    fn write_rest(&self, media: &MediaLine<'_>, out: &mut Vec<u8>) {
        let (mut has_connection, mut has_rtcp, mut has_direction) = (false, false, false);
        for line in lines(media.section) {
            // RFC 8866 5: i= stands before c=, all the rest behind it.
            if self.adds_connection && !has_connection && line.kind != b'i' {
                has_connection = true;
                write_connection(out, self.ip);
            }
            match (line.kind, self.direction, self.rtcp_port) {
                (b'c', ..) if has_connection => {}
                (b'c', ..) => {
                    has_connection = true;
                    write_connection(out, self.ip);
                }
                (b'a', ..) if leads_round_us(line.value) => {}
                (b'a', ..) if self.kept.as_ref().is_some_and(|kept| kept.drops(line.value)) => {}
                (b'a', _, rtcp_port) if is_rtcp(line.value) => {
                    if let (Some(port), false) = (rtcp_port, has_rtcp) {
                        has_rtcp = true;
                        self.write_rtcp(media, port, out);
                    }
                }
                (b'a', Some(direction), _)
                    if Direction::parse(line.value.trim_ascii()).is_some() =>
                {
                    if !has_direction {
                        has_direction = true;
                        write_text(out, b'a', format_args!("{}", direction.as_str()));
                    }
                }
                _ => write_line(out, line),
            }
        }
        if self.adds_connection && !has_connection {
            write_connection(out, self.ip);
        }
        if let (Some(port), true) = (self.rtcp_port, self.adds_rtcp) {
            self.write_rtcp(media, port, out);
        }
        if let (Some(direction), false) = (self.direction, has_direction) {
            write_text(out, b'a', format_args!("{}", direction.as_str()));
        }
    }

    /// With an address only where the peer gave one (RFC 3605 2.1).
    fn write_rtcp(&self, media: &MediaLine<'_>, port: u16, out: &mut Vec<u8>) {
        match media.rtcp {
            Some((_, Some(_))) => {
                let family = family(self.ip);
                write_text(out, b'a', format_args!("rtcp:{port} IN {family} {}", self.ip));
            }
            _ => write_text(out, b'a', format_args!("rtcp:{port}")),
        }
    }
}

/// ICE (RFC 8839 5): candidates and credentials by which peers would find each other without us.
fn leads_round_us(value: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"candidate", b"end-of-candidates", b"remote-candidates"];
    let (name, _) = attribute(value);
    let is_ice = name.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"ice-"));
    is_ice || NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn is_rtcp(value: &[u8]) -> bool {
    attribute(value).0.eq_ignore_ascii_case(b"rtcp")
}

const fn family(ip: IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

fn write_connection(out: &mut Vec<u8>, ip: IpAddr) {
    write_text(out, b'c', format_args!("IN {} {ip}", family(ip)));
}

pub(super) fn write_line(out: &mut Vec<u8>, line: Line<'_>) {
    out.extend_from_slice(&[line.kind, b'=']);
    out.extend_from_slice(line.value);
    out.extend_from_slice(b"\r\n");
}

fn write_text(out: &mut Vec<u8>, kind: u8, text: std::fmt::Arguments<'_>) {
    out.extend_from_slice(&[kind, b'=']);
    write_fmt(out, text);
    out.extend_from_slice(b"\r\n");
}

fn write_fmt(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::super::samples::{self, crlf};
    use super::*;

    const OURS: &str = "198.51.100.1";

    fn ours() -> IpAddr {
        OURS.parse().expect("it is an address")
    }

    fn relay(rtp_port: u16) -> LineChange {
        LineChange::Relay { ip: ours(), rtp_port, rtcp_port: rtp_port + 1 }
    }

    fn rewritten(text: &str, lines: &[LineChange]) -> String {
        rewritten_to(ours(), text, lines)
    }

    fn rewritten_to(ip: IpAddr, text: &str, lines: &[LineChange]) -> String {
        let body = crlf(text);
        let description = parse(&body).expect(text);
        let mut out = Vec::new();
        let change = Rewrite { origin_id: 7, origin_version: 9, lines, ..Rewrite::plain(ip) };
        rewrite(&description, &change, &mut out);
        let out = String::from_utf8(out).expect("the samples are ASCII");
        assert!(parse(out.as_bytes()).is_ok(), "{out}");
        assert_eq!(out.matches("\r\n").count(), out.lines().count(), "every line ends with CRLF");
        out.replace("\r\n", "\n")
    }

    /// The sample with these lines changed, and nothing else.
    fn edited(text: &str, edits: &[(&str, &str)]) -> String {
        edits.iter().fold(text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        })
    }

    #[test]
    fn a_desk_phone_keeps_everything_but_addresses_and_ports() {
        let expected = edited(
            samples::YEALINK,
            &[
                ("o=- 20021 20021 IN IP4 192.0.2.21", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 192.0.2.21", "c=IN IP4 198.51.100.1"),
                ("audio 11796", "audio 30000"),
            ],
        );
        assert_eq!(rewritten(samples::YEALINK, &[relay(30_000)]), expected);
    }

    #[test]
    fn a_soft_phone_keeps_its_rtcp_line_with_our_address() {
        let expected = edited(
            samples::MICROSIP,
            &[
                ("o=- 3907654321 3907654321 IN IP4 192.0.2.34", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 192.0.2.34", "c=IN IP4 198.51.100.1"),
                ("rtcp:4007 IN IP4 192.0.2.34", "rtcp:30001 IN IP4 198.51.100.1"),
                ("audio 4006", "audio 30000"),
            ],
        );
        assert_eq!(rewritten(samples::MICROSIP, &[relay(30_000)]), expected);
    }

    #[test]
    fn a_gateway_gets_one_address_on_both_levels() {
        let expected = edited(
            samples::CISCO_GATEWAY,
            &[
                (
                    "o=CiscoSystemsSIP-GW-UserAgent 6264 4268 IN IP4 198.51.100.5",
                    "o=- 7 9 IN IP4 198.51.100.1",
                ),
                ("c=IN IP4 198.51.100.5", "c=IN IP4 198.51.100.1"),
                ("c=IN IP4 198.51.100.6", "c=IN IP4 198.51.100.1"),
                ("audio 16638/1", "audio 30000"),
            ],
        );
        assert_eq!(rewritten(samples::CISCO_GATEWAY, &[relay(30_000)]), expected);
    }

    #[test]
    fn audio_and_video_lose_ice_and_keep_the_rest() {
        let mut expected = edited(
            samples::LINPHONE_VIDEO,
            &[
                ("o=alice 2710 1482 IN IP4 192.0.2.48", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 192.0.2.48", "c=IN IP4 198.51.100.1"),
                ("audio 7078", "audio 30000"),
                ("rtcp:40321", "rtcp:30001"),
                ("video 9078", "video 30004"),
            ],
        );
        let is_ice = |line: &&str| !line.contains("candidate") && !line.starts_with("a=ice-");
        expected = expected.lines().filter(is_ice).map(|line| format!("{line}\n")).collect();
        assert!(!expected.contains("192.0.2.48"), "{expected}");
        assert_eq!(rewritten(samples::LINPHONE_VIDEO, &[relay(30_000), relay(30_004)]), expected);
    }

    /// RFC 3605: `a=rtcp` tells a port that is not RTP plus one.
    #[test]
    fn an_rtcp_port_elsewhere_is_announced() {
        let change = LineChange::Relay { ip: ours(), rtp_port: 30_000, rtcp_port: 30_000 };
        let out = rewritten(samples::YEALINK, &[change]);
        assert!(out.ends_with("a=sendrecv\na=rtcp:30000\n"), "{out}");
        let highest = LineChange::Relay { ip: ours(), rtp_port: u16::MAX, rtcp_port: 0 };
        assert!(rewritten(samples::YEALINK, &[highest]).ends_with("a=rtcp:0\n"));
    }

    /// RFC 3264 8.4: the address that meant hold is replaced, so the direction must say it.
    #[test]
    fn a_hold_by_address_becomes_a_hold_by_direction() {
        let mut expected = edited(
            samples::HOLD_BY_ADDRESS,
            &[
                ("o=- 77 3 IN IP4 192.0.2.21", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 0.0.0.0", "c=IN IP4 198.51.100.1"),
                ("audio 11800", "audio 30000"),
            ],
        );
        expected.push_str("a=sendonly\n");
        assert_eq!(rewritten(samples::HOLD_BY_ADDRESS, &[relay(30_000)]), expected);
        for (as_sent, as_meant) in [
            ("a=sendrecv", "a=sendonly"),
            ("a=sendonly", "a=sendonly"),
            ("a=recvonly", "a=inactive"),
            ("a=inactive", "a=inactive"),
        ] {
            let on_the_line = format!("{}{as_sent}\na=ptime:20\n", samples::HOLD_BY_ADDRESS);
            let out = rewritten(&on_the_line, &[relay(30_000)]);
            assert!(out.ends_with(&format!("{as_meant}\na=ptime:20\n")), "{out}");
            let above = samples::HOLD_BY_ADDRESS.replace("t=0 0\n", &format!("t=0 0\n{as_sent}\n"));
            let out = rewritten(&above, &[relay(30_000)]);
            assert!(out.ends_with(&format!("PCMU/8000\n{as_meant}\n")), "{out}");
        }
    }

    #[test]
    fn a_hold_by_direction_stays_as_it_is() {
        let out = rewritten(samples::HOLD_INACTIVE, &[relay(30_000)]);
        assert!(out.contains("t=0 0\na=inactive\nm=audio 30000 RTP/AVP 0\na=rtpmap"), "{out}");
        assert_eq!(out.matches("inactive").count(), 1);
    }

    /// RFC 3264 6: a refused line keeps its place and its words, with port 0.
    #[test]
    fn a_refused_line_keeps_its_place() {
        let expected = edited(
            samples::T38_SWITCH,
            &[
                ("o=gw 1 2 IN IP4 198.51.100.5", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 198.51.100.5", "c=IN IP4 198.51.100.1"),
                ("image 16640", "image 0"),
            ],
        );
        assert_eq!(rewritten(samples::T38_SWITCH, &[LineChange::Refuse; 2]), expected);
        // What the peer has switched off is not switched on, and a missing change refuses.
        assert_eq!(rewritten(samples::T38_SWITCH, &[relay(30_000)]), expected);
    }

    #[test]
    fn a_meeting_room_keeps_audio_and_one_video() {
        let expected = edited(
            samples::BFCP_ROOM,
            &[
                ("o=room 4 4 IN IP4 198.51.100.77", "o=- 7 9 IN IP4 198.51.100.1"),
                ("c=IN IP4 198.51.100.77", "c=IN IP4 198.51.100.1"),
                ("audio 49170", "audio 30000"),
                ("video 49172", "video 30002"),
                ("video 49174", "video 0"),
                ("application 5070", "application 0"),
            ],
        );
        assert_eq!(rewritten(samples::BFCP_ROOM, &[relay(30_000), relay(30_002)]), expected);
    }

    #[test]
    fn a_relay_on_another_address_gets_its_own_connection_line() {
        let ip = "2001:db8::1".parse().expect("it is an address");
        let line = LineChange::Relay { ip, rtp_port: 30_000, rtcp_port: 30_001 };
        let out = rewritten(samples::YEALINK, &[line]);
        assert!(out.contains("c=IN IP4 198.51.100.1\nt=0 0\n"), "{out}");
        assert!(out.contains("0 8 18 9 101\nc=IN IP6 2001:db8::1\na=rtpmap:0"), "{out}");
        let out = rewritten(samples::BFCP_ROOM, &[LineChange::Refuse, line]);
        assert!(out.contains("i=people\nc=IN IP6 2001:db8::1\nb=TIAS"), "{out}");
    }

    #[test]
    fn families_change_with_our_address() {
        let ip = "2001:db8::1".parse().expect("it is an address");
        let line = LineChange::Relay { ip, rtp_port: 30_000, rtcp_port: 30_001 };
        let out = rewritten_to(ip, samples::MICROSIP, &[line]);
        assert!(out.contains("o=- 7 9 IN IP6 2001:db8::1\n"), "{out}");
        assert!(out.contains("c=IN IP6 2001:db8::1\n"), "{out}");
        assert!(out.contains("a=rtcp:30001 IN IP6 2001:db8::1\n"), "{out}");
        assert!(!out.contains("IP4"), "{out}");
    }

    #[test]
    fn a_host_name_does_not_survive() {
        assert!(!rewritten(samples::HOST_NAME, &[relay(30_000)]).contains("example"));
    }

    /// RFC 8866 5: o=, s= and t= are mandatory; strict peers refuse a body without them.
    #[test]
    fn missing_mandatory_lines_are_added() {
        let expected = "v=0\no=- 7 9 IN IP4 198.51.100.1\ns=-\nt=0 0\na=tool:barebones\n\
                        m=audio 30000 RTP/AVP 0\nc=IN IP4 198.51.100.1\n";
        assert_eq!(rewritten(samples::BAREBONES, &[relay(30_000)]), expected);
        let without_attribute = samples::BAREBONES.replace("a=tool:barebones\n", "");
        let expected = expected.replace("a=tool:barebones\n", "");
        assert_eq!(rewritten(&without_attribute, &[relay(30_000)]), expected);
    }

    /// Attack case: what a lenient reader takes for a line must not pass us unread.
    #[test]
    fn no_address_hides_in_what_is_no_line() {
        let out = rewritten(samples::TRAILING_GARBAGE, &[relay(30_000)]);
        assert!(out.ends_with("RTP/AVP 0\na=ptime:20\n"), "{out}");
        let hidden =
            "v=0\nm=audio 4000 RTP/AVP 0\na=x\rc=IN IP4 203.0.113.66\rm=audio 1 RTP/AVP 0\n";
        let out = rewritten(hidden, &[relay(30_000), relay(30_002)]);
        assert!(out.contains("m=audio 30002") && !out.contains("203.0.113.66"), "{out}");
        let twice = "v=0\nc=IN IP4 203.0.113.66\nc=IN IP4 203.0.113.66\nm=audio 4000 RTP/AVP 0\n\
                     c=IN IP4 203.0.113.66\nc=IN IP4 203.0.113.66\na=rtcp:1\na=rtcp:2\n\
                     o=- 1 1 IN IP4 203.0.113.66\na=ICE-ufrag:x\n\
                     a= candidate:1 1 UDP 1 203.0.113.66 1\n";
        let out = rewritten(twice, &[relay(30_000)]);
        assert_eq!(out.matches("c=IN IP4 198.51.100.1\n").count(), 2, "{out}");
        assert_eq!(out.matches("a=rtcp:30001\n").count(), 1, "{out}");
    }

    #[test]
    fn a_kept_line_keeps_bytes_that_are_no_utf_8() {
        let body = b"v=0\r\ns=\xff\xfe\r\nm=audio 4000 RTP/AVP 0\r\na=x:\x80 \x00  \t\r\n";
        let description = parse(body).expect("content is free");
        let lines = [relay(2)];
        let change = Rewrite { lines: &lines, ..Rewrite::plain(ours()) };
        let mut out = Vec::from(b"before");
        rewrite(&description, &change, &mut out);
        let holds = |part: &[u8]| out.windows(part.len()).any(|window| window == part);
        assert!(holds(b"\r\ns=\xff\xfe\r\n") && holds(b"\r\na=x:\x80 \x00  \t\r\n"));
        assert!(out.starts_with(b"beforev=0\r\n"), "rewrite appends");
    }

    /// RFC 3264 8.4: sendrecv becomes sendonly, recvonly inactive; what is refused stays refused.
    #[test]
    fn a_hold_takes_the_listener_its_voice() {
        let text = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\na=sendrecv\n\
            m=audio 4000 RTP/AVP 0\n\
            m=audio 4002 RTP/AVP 0\na=recvonly\n\
            m=audio 4004 RTP/AVP 0\na=sendonly\n\
            m=video 0 RTP/AVP 97\na=sendrecv\n";
        let body = crlf(text);
        let lines = [relay(2), relay(4), relay(6), LineChange::Refuse];
        let change = Rewrite { lines: &lines, hold: true, ..Rewrite::plain(ours()) };
        let mut out = Vec::new();
        rewrite(&parse(&body).expect("readable"), &change, &mut out);
        let held = parse(&out).expect("readable");
        let directions: Vec<_> = held.media.iter().map(|line| line.direction.as_str()).collect();
        assert_eq!(directions, ["sendonly", "inactive", "sendonly", "sendrecv"]);
        let ports: Vec<_> = held.media.iter().map(|line| line.port).collect();
        assert_eq!(ports, [2, 4, 6, 0]);
    }
}
