//! Which formats of an audio line stay when only some codecs are allowed (RFC 3264 5.1, RFC 8866 6.6).
//! Owns:  the names of the static payload types (RFC 3551 6).
//! Gives: `keeps_codec` for the decision, `Kept` for the writing.
//! Never: takes telephone-event away: it is no codec, and calls need it.
//! Holds: the formats that stay keep their attributes, and their order unless the list is to give it.

use super::MediaLine;
use super::lines::{attribute, cut_word, number, words};

/// No codec of their own: DTMF and comfort noise go with whatever stays.
const BESIDES: [&str; 2] = ["telephone-event", "CN"];

/// The payload types of a line that stay, one bit each.
pub(super) struct Kept<'c> {
    types: u128,
    has_codec: bool,
    /// The order in which they are written, by name; empty: as they came.
    order: &'c [Box<str>],
}

/// The encoding names that audio lines may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed<'c> {
    /// Empty: all.
    pub names: &'c [Box<str>],
    /// What stays is written in the order of the list, the best one first (RFC 3264 5.1).
    pub ranked: bool,
}

impl<'c> Allowed<'c> {
    /// In whatever order they are offered.
    pub const fn any_order(names: &'c [Box<str>]) -> Self {
        Self { names, ranked: false }
    }
}

/// Whether something to talk with is left of this line. Only audio lines are restricted.
pub fn keeps_codec(line: &MediaLine<'_>, allowed: &[Box<str>]) -> bool {
    Kept::of(line, Allowed::any_order(allowed)).is_none_or(|kept| kept.has_codec())
}

impl<'c> Kept<'c> {
    /// `None`: this line is not restricted.
    pub(super) fn of(line: &MediaLine<'_>, allowed: Allowed<'c>) -> Option<Self> {
        let restricted = line.kind.eq_ignore_ascii_case(b"audio") && line.carries_rtp();
        let Allowed { names, ranked } = allowed;
        if names.is_empty() || !restricted {
            return None;
        }
        let order = if ranked { names } else { &[] };
        let mut kept = Self { types: 0, has_codec: false, order };
        for payload_type in words(line.formats).filter_map(number::<u8>) {
            let name = encoding(line, payload_type).unwrap_or_default();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let is_codec = names.iter().any(|allowed| is(allowed));
            if is_codec || BESIDES.into_iter().any(is) {
                kept.types |= 1 << payload_type;
                kept.has_codec |= is_codec;
            }
        }
        Some(kept)
    }

    pub(super) const fn has_codec(&self) -> bool {
        self.has_codec
    }

    pub(super) fn write_formats(&self, line: &MediaLine<'_>, out: &mut Vec<u8>) {
        let kept = words(line.formats).filter(|word| self.keeps(word));
        if self.order.is_empty() {
            return kept.for_each(|word| write_format(word, out));
        }
        // What goes beside every codec is on no list, and comes last.
        let rank = |word: &&[u8]| {
            let name = number(word).and_then(|payload_type| encoding(line, payload_type));
            let is =
                |known: &str| name.is_some_and(|name| name.eq_ignore_ascii_case(known.as_bytes()));
            self.order.iter().position(|known| is(known)).unwrap_or(self.order.len())
        };
        let mut kept: Vec<&[u8]> = kept.collect();
        kept.sort_by_key(rank);
        kept.into_iter().for_each(|word| write_format(word, out));
    }

    /// Whether an attribute speaks of a payload type that goes.
    pub(super) fn drops(&self, value: &[u8]) -> bool {
        const NAMES: [&[u8]; 3] = [b"fmtp", b"rtcp-fb", b"rtpmap"];
        let (name, Some(value)) = attribute(value) else { return false };
        let speaks = NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
        let word = cut_word(value).0;
        speaks && number::<u8>(word).is_some() && !self.keeps(word)
    }

    fn keeps(&self, word: &[u8]) -> bool {
        number::<u8>(word)
            .is_some_and(|payload_type| payload_type < 128 && self.types & (1 << payload_type) != 0)
    }
}

fn write_format(word: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(word);
}

/// The name in `a=rtpmap`, else the static one.
fn encoding<'a>(line: &MediaLine<'a>, payload_type: u8) -> Option<&'a [u8]> {
    let mapped = line.attributes().find_map(|(name, value)| {
        let (word, rest) = cut_word(value.filter(|_| name.eq_ignore_ascii_case(b"rtpmap"))?);
        (number(word) == Some(payload_type)).then_some(rest)
    });
    match mapped {
        Some(rest) => rest.split(|&byte| byte == b'/').next(),
        None => static_encoding(payload_type).map(str::as_bytes),
    }
}

const fn static_encoding(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        5 | 6 | 16 | 17 => "DVI4",
        7 => "LPC",
        8 => "PCMA",
        9 => "G722",
        10 | 11 => "L16",
        12 => "QCELP",
        13 => "CN",
        14 => "MPA",
        15 => "G728",
        18 => "G729",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::crlf;
    use super::super::{LineChange, Rewrite, parse, rewrite};
    use super::*;

    const OFFER: &str = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
        m=audio 4000 RTP/AVP 9 0 8 96 97 101 13\na=rtpmap:96 opus/48000/2\n\
        a=fmtp:96 useinbandfec=1\na=rtcp-fb:96 transport-cc\na=rtcp-fb:* nack\n\
        a=rtpmap:97 iLBC/8000\na=fmtp:97 mode=30\na=rtpmap:101 telephone-event/8000\n\
        a=fmtp:101 0-16\na=ptime:20\nm=video 4002 RTP/AVP 99\na=rtpmap:99 H264/90000\n";

    fn with(codecs: &[&str]) -> String {
        allowing(codecs, false)
    }

    fn allowing(codecs: &[&str], ranked: bool) -> String {
        let codecs: Vec<Box<str>> = codecs.iter().map(|&name| name.into()).collect();
        let body = crlf(OFFER);
        let offer = parse(&body).expect("it is well-formed");
        let ip = "198.51.100.1".parse().expect("an address");
        let lines = [20_000, 20_002].map(|rtp_port| LineChange::Relay {
            ip,
            rtp_port,
            rtcp_port: rtp_port + 1,
        });
        let change = Rewrite {
            lines: &lines,
            codecs: Allowed { names: &codecs, ranked },
            ..Rewrite::plain(ip)
        };
        let mut out = Vec::new();
        rewrite(&offer, &change, &mut out);
        String::from_utf8(out).expect("ASCII").replace("\r\n", "\n")
    }

    #[test]
    fn only_allowed_codecs_stay_with_what_goes_beside_them() {
        let text = with(&["opus", "pcma"]);
        assert!(text.contains("m=audio 20000 RTP/AVP 8 96 101 13\n"), "{text}");
        for kept in ["rtpmap:96", "fmtp:96", "rtcp-fb:96", "rtcp-fb:*", "rtpmap:101", "fmtp:101"] {
            assert!(text.contains(kept), "{kept} is missing in {text}");
        }
        assert!(!text.contains(":97"), "{text}");
        assert!(text.contains("m=video 20002 RTP/AVP 99\na=rtpmap:99 H264/90000\n"), "{text}");
    }

    #[test]
    fn a_ranked_list_gives_the_order() {
        let text = allowing(&["opus", "G729", "pcma", "G722"], true);
        assert!(text.contains("m=audio 20000 RTP/AVP 96 8 9 101 13\n"), "{text}");
        assert!(text.contains("a=fmtp:96 useinbandfec=1\n") && !text.contains(":97"), "{text}");
    }

    #[test]
    fn a_line_without_an_allowed_codec_is_refused() {
        let text = with(&["G729"]);
        assert!(text.contains("m=audio 0 RTP/AVP 9 0 8 96 97 101 13\n"), "{text}");
        let body = crlf(OFFER);
        let offer = parse(&body).expect("it is well-formed");
        assert!(!keeps_codec(&offer.media[0], &["G729".into()]));
        assert!(keeps_codec(&offer.media[1], &["G729".into()]), "video is not restricted");
        assert!(keeps_codec(&offer.media[0], &[]));
    }
}
