//! A description with fewer formats: what two writers have in common (RFC 3264 8.3.2).
//! Owns:  which lines of a section speak of one format only.
//! Gives: `narrow`: an offer that asks nothing new of whoever hears it, nor of its writer's peer.
//! Never: a media line less than before, or one without formats.
//! Holds: formats keep their order and their numbers; every other line keeps its bytes.

use super::lines::{Line, attribute, cut_word, lines, number, words};
use super::rewrite::write_line;
use super::{Description, MediaLine};

/// `said` without the formats that the same line of `other` does not have. A line that has none in
/// common, is no RTP, or is switched off, stays as it is.
pub fn narrow(said: &Description<'_>, other: &Description<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(said.text().len());
    for line in lines(said.head) {
        write_line(&mut out, line);
    }
    for (index, line) in said.media.iter().enumerate() {
        let kept =
            other.media.get(index).map(|other| shared_formats(line, other)).unwrap_or_default();
        write_media(&mut out, line, &kept);
    }
    out
}

fn shared_formats(line: &MediaLine<'_>, other: &MediaLine<'_>) -> Vec<u8> {
    if !line.carries_rtp() || line.port == 0 || other.port == 0 {
        return Vec::new();
    }
    words(line.formats).filter_map(number).filter(|format| other.has_payload(*format)).collect()
}

/// `kept`: the formats that stay; empty for all.
fn write_media(out: &mut Vec<u8>, line: &MediaLine<'_>, kept: &[u8]) {
    let stays = |word: &[u8]| {
        kept.is_empty() || number::<u8>(word).is_none_or(|format| kept.contains(&format))
    };
    let formats: Vec<_> = words(line.formats).filter(|word| stays(word)).collect();
    let port = line.port.to_string();
    let value = [line.kind, port.as_bytes(), line.proto, &formats.join(&b' ')].join(&b' ');
    write_line(out, Line { kind: b'm', value: value.trim_ascii_end() });
    for part in lines(line.section) {
        let of_format = format_of(part).is_none_or(stays);
        if of_format {
            write_line(out, part);
        }
    }
}

/// The format that an attribute is about, if it is about one.
fn format_of(line: Line<'_>) -> Option<&[u8]> {
    const NAMES: [&[u8]; 3] = [b"fmtp", b"rtcp-fb", b"rtpmap"];
    let (name, value) = attribute(line.value);
    let speaks_of_one = line.kind == b'a' && NAMES.iter().any(|n| name.eq_ignore_ascii_case(n));
    value.filter(|_| speaks_of_one).map(|value| cut_word(value).0)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::super::samples::crlf;
    use super::*;

    fn narrowed(said: &str, other: &str) -> String {
        let (said, other) = (crlf(said), crlf(other));
        let out = narrow(&parse(&said).expect("readable"), &parse(&other).expect("readable"));
        let text = String::from_utf8(out).expect("ASCII").replace("\r\n", "\n");
        assert!(parse(&crlf(&text)).is_ok(), "{text}");
        text
    }

    const OFFER: &str = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
        m=audio 4000 RTP/AVP 0 8 96 101\na=rtpmap:0 PCMU/8000\na=rtpmap:96 opus/48000/2\n\
        a=fmtp:96 useinbandfec=1\na=rtcp-fb:96 nack\na=rtpmap:101 telephone-event/8000\n\
        a=fmtp:101 0-16\na=rtcp-fb:* ccm\na=ptime:20\n\
        m=video 0 RTP/AVP 97\na=rtpmap:97 H264/90000\n";

    fn answer(line: &str) -> String {
        format!(
            "v=0\no=- 2 1 IN IP4 192.0.2.2\ns=-\nc=IN IP4 192.0.2.2\nt=0 0\n{line}m=video 0 RTP/AVP 97\n"
        )
    }

    #[test]
    fn formats_that_the_other_one_lacks_go_with_their_attributes() {
        let expected = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
            m=audio 4000 RTP/AVP 8 101\na=rtpmap:101 telephone-event/8000\n\
            a=fmtp:101 0-16\na=rtcp-fb:* ccm\na=ptime:20\n\
            m=video 0 RTP/AVP 97\na=rtpmap:97 H264/90000\n";
        assert_eq!(narrowed(OFFER, &answer("m=audio 5000 RTP/AVP 101 8\n")), expected);
    }

    #[test]
    fn a_line_that_agrees_on_nothing_stays_as_it_is() {
        for line in ["m=audio 5000 RTP/AVP 3\n", "m=audio 0 RTP/AVP 8\n", "m=image 9 udptl t38\n"] {
            assert_eq!(narrowed(OFFER, &answer(line)), OFFER, "{line}");
        }
        let none = "v=0\no=- 2 1 IN IP4 192.0.2.2\ns=-\nt=0 0\n";
        assert_eq!(narrowed(OFFER, none), OFFER);
    }
}
