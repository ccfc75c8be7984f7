//! Reading a description: what it says about media, tolerant where phones are sloppy.
//! Owns:  which lines matter and which values are nonsense.
//! Gives: `Description`, or the first reason to refuse it.
//! Never: allocates more than `limits::MEDIA_LINES_MAX` media lines.
//! Holds: `v=0` comes first; any other line may be missing.

use std::net::IpAddr;

use shared::limits::{MEDIA_LINES_MAX, SDP_BYTES_MAX};

use super::lines::{Cut, Media, attribute, cut_section, cut_word, lines, number, words};
use super::{Description, Direction, MediaLine, SdpError};

/// The highest RTP payload type: seven bits (RFC 3550 5.1).
const PAYLOAD_TYPE_MAX: u8 = 127;

pub fn parse(body: &[u8]) -> Result<Description<'_>, SdpError> {
    if body.len() > SDP_BYTES_MAX {
        return Err(SdpError::TooLong { limit: SDP_BYTES_MAX });
    }
    let Cut { before: head, media: mut next } = cut_section(body);
    let mut description = Description { text: body, ..parse_head(head)? };
    while let Some(Media { value, rest }) = next {
        if description.media.len() == MEDIA_LINES_MAX {
            return Err(SdpError::TooManyMediaLines { limit: MEDIA_LINES_MAX });
        }
        let Cut { before: section, media: further } = cut_section(rest);
        let line = parse_media(value, section, &description)?;
        description.media.push(line);
        next = further;
    }
    Ok(description)
}

fn parse_head(head: &[u8]) -> Result<Description<'_>, SdpError> {
    let mut all = lines(head);
    let first = all.next().ok_or(SdpError::NotSdp)?;
    if first.kind != b'v' || first.value.trim_ascii() != b"0" {
        return Err(SdpError::NotSdp);
    }
    let mut description = Description {
        origin: b"",
        session_connection: None,
        direction: None,
        media: Vec::new(),
        text: head,
        head,
        has_connection: false,
        has_name: false,
        has_time: false,
    };
    for line in all {
        match line.kind {
            b'a' if description.direction.is_none() => {
                description.direction = Direction::parse(line.value.trim_ascii());
            }
            b'c' if !description.has_connection => {
                description.has_connection = true;
                description.session_connection = parse_connection(line.value)?;
            }
            b'o' if description.origin.is_empty() => description.origin = line.value,
            b's' => description.has_name = true,
            b't' => description.has_time = true,
            _ => {}
        }
    }
    Ok(description)
}

fn parse_media<'a>(
    value: &'a [u8],
    section: &'a [u8],
    description: &Description<'a>,
) -> Result<MediaLine<'a>, SdpError> {
    let (kind, rest) = cut_word(value);
    let (port, rest) = cut_word(rest);
    let (proto, formats) = cut_word(rest);
    if proto.is_empty() {
        return Err(SdpError::MediaLine);
    }
    let mut line = MediaLine {
        kind,
        port: parse_port(port)?,
        proto,
        formats,
        connection: description.session_connection,
        direction: Direction::SendRecv,
        rtcp: None,
        rtcp_mux: false,
        section,
        has_connection: false,
    };
    check_formats(&line)?;
    let mut direction = None;
    for part in lines(section) {
        match part.kind {
            b'a' => {
                direction = direction.or_else(|| Direction::parse(part.value.trim_ascii()));
                read_attribute(&mut line, part.value)?;
            }
            b'c' if !line.has_connection => {
                line.has_connection = true;
                line.connection = parse_connection(part.value)?;
            }
            _ => {}
        }
    }
    line.direction = direction.or(description.direction).unwrap_or(Direction::SendRecv);
    Ok(line)
}

fn read_attribute(line: &mut MediaLine<'_>, value: &[u8]) -> Result<(), SdpError> {
    match attribute(value) {
        (name, None) if name.eq_ignore_ascii_case(b"rtcp-mux") => line.rtcp_mux = true,
        (name, Some(value)) if name.eq_ignore_ascii_case(b"rtcp") && line.rtcp.is_none() => {
            let (port, address) = cut_word(value);
            let ip = if address.is_empty() { None } else { parse_connection(address)? };
            line.rtcp = Some((number(port).ok_or(SdpError::Port)?, ip));
        }
        (name, Some(value)) if line.carries_rtp() && names_payload_type(name) => {
            check_payload_type(cut_word(value).0)?;
        }
        _ => {}
    }
    Ok(())
}

/// RFC 8866 6.6 and 6.15: both begin with the payload type that they speak of.
fn names_payload_type(attribute: &[u8]) -> bool {
    attribute.eq_ignore_ascii_case(b"fmtp") || attribute.eq_ignore_ascii_case(b"rtpmap")
}

/// A line that is switched off may come without formats; some phones refuse video that way.
fn check_formats(line: &MediaLine<'_>) -> Result<(), SdpError> {
    if line.formats.is_empty() && line.port != 0 {
        return Err(SdpError::MediaLine);
    }
    if line.carries_rtp() {
        words(line.formats).try_for_each(check_payload_type)?;
    }
    Ok(())
}

fn check_payload_type(word: &[u8]) -> Result<(), SdpError> {
    match number::<u8>(word) {
        Some(0..=PAYLOAD_TYPE_MAX) => Ok(()),
        _ => Err(SdpError::PayloadType),
    }
}

/// `port` or `port/count` (RFC 8866 5.14).
fn parse_port(word: &[u8]) -> Result<u16, SdpError> {
    let mut parts = word.splitn(2, |&byte| byte == b'/');
    let port = parts.next().and_then(number::<u16>).ok_or(SdpError::Port)?;
    match parts.next() {
        Some(count) if number::<u16>(count).is_none() => Err(SdpError::Port),
        _ => Ok(port),
    }
}

/// `IN IP4 address[/ttl]`; `None` for a host name and for networks that are not the Internet.
fn parse_connection(value: &[u8]) -> Result<Option<IpAddr>, SdpError> {
    let mut parts = words(value);
    let (Some(network), Some(_family), Some(address)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(SdpError::Connection);
    };
    if !network.eq_ignore_ascii_case(b"IN") {
        return Ok(None);
    }
    let address = address.split(|&byte| byte == b'/').next().unwrap_or(address);
    let address = address.strip_prefix(b"[").unwrap_or(address);
    let address = address.strip_suffix(b"]").unwrap_or(address);
    Ok(std::str::from_utf8(address).ok().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{self, crlf};
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("the test writes an address"))
    }

    /// One audio line with these lines behind it, in a description with an address.
    fn with_lines(lines: &str) -> String {
        format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n{lines}")
    }

    fn error(text: &str) -> SdpError {
        parse(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn a_desk_phone_reads() {
        let body = crlf(samples::YEALINK);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.origin, b"- 20021 20021 IN IP4 192.0.2.21");
        assert_eq!(description.session_connection, ip("192.0.2.21"));
        let [audio] = &description.media[..] else { panic!("one line") };
        assert_eq!((audio.kind, audio.port, audio.proto), (&b"audio"[..], 11_796, &b"RTP/AVP"[..]));
        assert_eq!(audio.formats, b"0 8 18 9 101");
        assert_eq!(audio.connection, ip("192.0.2.21"));
        assert_eq!(audio.direction, Direction::SendRecv);
        assert_eq!((audio.rtcp, audio.rtcp_mux), (None, false));
        assert!(audio.is_rtp() && !audio.is_held());
        assert!(audio.has_payload(101) && audio.has_payload(0));
        assert!(!audio.has_payload(1) && !audio.has_payload(10));
        let names: Vec<_> = audio.attributes().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 9);
        assert!(audio.attributes().any(|pair| pair == (b"ptime", Some(b"20"))));
    }

    #[test]
    fn a_soft_phone_reads() {
        let body = crlf(samples::MICROSIP);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.session_connection, None);
        let audio = &description.media[0];
        assert_eq!(audio.connection, ip("192.0.2.34"));
        assert_eq!(audio.rtcp, Some((4_007, ip("192.0.2.34"))));
    }

    #[test]
    fn the_address_of_the_line_goes_before_that_of_the_description() {
        let body = crlf(samples::CISCO_GATEWAY);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.session_connection, ip("198.51.100.5"));
        assert_eq!(description.media[0].connection, ip("198.51.100.6"));
        assert_eq!(description.media[0].port, 16_638);
        let body = crlf(samples::SIX_TO_FOUR);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.media[0].connection, ip("2001:db8::9"));
        assert_eq!(description.media[1].connection, ip("192.0.2.9"));
        assert!(description.media[0].is_rtp(), "RTP/SAVP");
    }

    #[test]
    fn audio_and_video_read_with_their_own_attributes() {
        let body = crlf(samples::LINPHONE_VIDEO);
        let description = parse(&body).expect("it is well-formed");
        let [audio, video] = &description.media[..] else { panic!("two lines") };
        assert_eq!((audio.rtcp, audio.rtcp_mux), (Some((40_321, None)), false));
        assert_eq!((video.rtcp, video.rtcp_mux), (None, true));
        assert_eq!((audio.direction, video.direction), (Direction::SendRecv, Direction::RecvOnly));
        assert!(description.attributes().any(|pair| pair == (b"record", Some(b"off"))));
    }

    /// RFC 3264 8.4: hold is an unspecified address, sendonly or inactive.
    #[test]
    fn hold_is_seen_in_all_its_forms() {
        let is_held = |text: &str| parse(text.as_bytes()).expect(text).media[0].is_held();
        assert!(is_held(samples::HOLD_BY_ADDRESS));
        assert!(is_held(samples::HOLD_INACTIVE));
        assert!(is_held(&with_lines("a=sendonly\r\n")));
        assert!(is_held(&with_lines("c=IN IP6 ::\r\n")));
        assert!(!is_held(&with_lines("a=recvonly\r\n")));
        assert!(!is_held(samples::YEALINK));
        let ice = "v=0\r\nm=audio 9 RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\n";
        assert!(!is_held(ice), "a placeholder that ICE fills");
    }

    #[test]
    fn the_direction_of_the_line_goes_before_that_of_the_description() {
        let text = "v=0\na=sendonly\nm=audio 4000 RTP/AVP 0\na=recvonly\nm=video 4002 RTP/AVP 96\n";
        let description = parse(text.as_bytes()).expect(text);
        assert_eq!(description.direction, Some(Direction::SendOnly));
        assert_eq!(description.media[0].direction, Direction::RecvOnly);
        assert_eq!(description.media[1].direction, Direction::SendOnly);
    }

    #[test]
    fn what_is_not_rtp_reads_and_is_told_apart() {
        let body = crlf(samples::T38_SWITCH);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.media[0].port, 0);
        assert_eq!(description.media[1].kind, b"image");
        assert!(!description.media[1].is_rtp());
        let body = crlf(samples::BFCP_ROOM);
        let description = parse(&body).expect("it is well-formed");
        assert_eq!(description.media[3].proto, b"TCP/BFCP");
        assert_eq!(description.media[3].formats, b"*");
        assert!(!description.media[3].has_payload(0));
        for (proto, is_rtp) in [
            ("rtp/avp", true),
            ("RTP/SAVPF", true),
            ("UDP/TLS/RTP/SAVPF", true),
            ("TCP/RTP/AVP", false),
            ("udptl", false),
        ] {
            let text = format!("v=0\nm=audio 4000 {proto} 0\n");
            assert_eq!(parse(text.as_bytes()).expect(&text).media[0].is_rtp(), is_rtp, "{proto}");
        }
    }

    #[test]
    fn a_host_name_is_no_address() {
        let description = parse(samples::HOST_NAME.as_bytes()).expect("it is well-formed");
        assert_eq!(description.session_connection, None);
        assert_eq!(description.media[0].connection, None);
        let own = with_lines("c=IN IP4 phone.example.net\r\n");
        assert_eq!(parse(own.as_bytes()).expect(&own).media[0].connection, None);
    }

    #[test]
    fn line_ends_blanks_and_missing_lines_are_forgiven() {
        for text in [
            "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n",
            "v=0\rc=IN IP4 192.0.2.1\rm=audio 4000 RTP/AVP 0",
            "\r\nv=0 \r\nc=IN  IP4\t192.0.2.1 \r\n\r\nm=audio  4000  RTP/AVP  0 \r\n\r\n\r\n",
            "v=0\nm=audio 4000 RTP/AVP 0\nc=in ip4 192.0.2.1/127\n",
            "v=0\nm=audio 4000 RTP/AVP 0\nc=IN IP4 [192.0.2.1]\nnonsense\n=\nc\n\0\n",
        ] {
            let description = parse(text.as_bytes()).expect(text);
            let [audio] = &description.media[..] else { panic!("one line in {text:?}") };
            assert_eq!((audio.port, audio.formats), (4_000, &b"0"[..]), "{text:?}");
            assert_eq!(audio.connection, ip("192.0.2.1"), "{text:?}");
        }
        for text in samples::ALL {
            assert!(parse(text.as_bytes()).is_ok(), "LF\n{text}");
            assert!(parse(&crlf(text)).is_ok(), "CRLF\n{text}");
        }
    }

    #[test]
    fn garbage_that_looks_like_an_address_is_none() {
        let body = crlf(samples::TRAILING_GARBAGE);
        let description = parse(&body).expect("the first part is well-formed");
        assert_eq!(description.media.len(), 1);
        assert_eq!(description.media[0].connection, ip("192.0.2.5"));
    }

    #[test]
    fn what_does_not_begin_with_version_0_is_no_description() {
        for text in ["", "\r\n\r\n", "hello", "v=1\r\n", "o=- 1 1 IN IP4 1.2.3.4\r\nv=0\r\n", "v="]
        {
            assert_eq!(error(text), SdpError::NotSdp, "{text:?}");
        }
        assert!(parse(b"v=0").expect("it may be short").media.is_empty());
    }

    /// Attack case: ports and payload types out of range must not wrap round.
    #[test]
    fn numbers_out_of_range_are_refused() {
        for port in ["65536", "4294967296", "-1", "+5", "0x10", "5004/", "5004/x", "5004/65536"] {
            assert_eq!(error(&format!("v=0\nm=audio {port} RTP/AVP 0\n")), SdpError::Port);
        }
        for payload in ["128", "256", "4294967296", "-1", "PCMU", "0 8 4294967296", "0 *"] {
            let text = format!("v=0\nm=audio 4000 RTP/AVP {payload}\n");
            assert_eq!(error(&text), SdpError::PayloadType);
        }
        for line in ["rtpmap:4294967296 PCMU/8000", "rtpmap:", "fmtp:-1 0-15", "fmtp:999 x"] {
            assert_eq!(error(&with_lines(&format!("a={line}\n"))), SdpError::PayloadType);
        }
        assert!(parse(with_lines("a=fmtp: 101 0-15\n").as_bytes()).is_ok(), "a stray blank");
        for line in ["rtcp:65536", "rtcp:", "rtcp:-1 IN IP4 192.0.2.1", "rtcp:x"] {
            assert_eq!(error(&with_lines(&format!("a={line}\n"))), SdpError::Port);
        }
    }

    #[test]
    fn incomplete_lines_are_refused() {
        for line in ["", "audio", "audio 4000", "audio 4000 RTP/AVP"] {
            assert_eq!(error(&format!("v=0\nm={line}\n")), SdpError::MediaLine, "{line}");
        }
        assert!(parse(b"v=0\nm=video 0 RTP/AVP\n").is_ok(), "switched off without formats");
        for line in ["", "IN", "IN IP4", "192.0.2.1"] {
            assert_eq!(error(&format!("v=0\nc={line}\n")), SdpError::Connection, "{line}");
            assert_eq!(error(&with_lines(&format!("c={line}\n"))), SdpError::Connection, "{line}");
        }
    }

    #[test]
    fn media_lines_and_bytes_are_bounded() {
        let mut text = String::from("v=0\r\n");
        text.push_str(&"m=audio 4000 RTP/AVP 0\r\n".repeat(MEDIA_LINES_MAX));
        assert_eq!(parse(text.as_bytes()).expect("just enough").media.len(), MEDIA_LINES_MAX);
        text.push_str("m=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(error(&text), SdpError::TooManyMediaLines { limit: MEDIA_LINES_MAX });
        let mut text = String::from("v=0\r\n");
        text.push_str(&"\n".repeat(SDP_BYTES_MAX - text.len()));
        assert!(parse(text.as_bytes()).is_ok());
        text.push('\n');
        assert_eq!(error(&text), SdpError::TooLong { limit: SDP_BYTES_MAX });
    }

    #[test]
    fn each_error_has_its_status() {
        assert_eq!(error("hello").status(), 400);
        assert_eq!(SdpError::TooLong { limit: 1 }.status(), 413);
        assert_eq!(SdpError::TooManyMediaLines { limit: 1 }.status(), 488);
        let typed = super::super::check_type;
        assert_eq!(typed(b"text/plain").expect_err("another type").status(), 415);
        assert_eq!(typed(b" Application/SDP ; charset=utf-8"), Ok(()));
    }

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _verdict = parse(&bytes);
        }

        /// A real description with bytes changed, so that the deep branches are reached.
        #[test]
        fn no_mutation_panics(
            sample in prop::sample::select(&samples::ALL[..]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut body = crlf(sample);
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if let Ok(description) = parse(&body) {
                prop_assert!(description.media.len() <= MEDIA_LINES_MAX);
            }
        }
    }
}
