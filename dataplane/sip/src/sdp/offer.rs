//! Offers of our own, for calls that we make: one audio line (RFC 3264 5, RFC 3551, RFC 4733).
//! Owns:  the codecs that we name, and their order.
//! Gives: the first party's offer, and the second party's after the first has answered.
//! Never: a codec that a relay would have to understand; media passes through as it is.
//! Holds: no payload type stands for two codecs; the port is a place-holder for `rewrite`.

use std::io::Write as _;
use std::net::IpAddr;

use super::lines::{number, words};
use super::{Description, MediaLine};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub payload_type: u8,
    /// Name, clock rate and channels, as in `a=rtpmap`.
    pub map: &'static str,
    pub format: Option<&'static str>,
}

/// What every phone has comes first: a wideband codec is used where both ends choose it.
pub const AUDIO: [Codec; 5] = [
    Codec { payload_type: 0, map: "PCMU/8000", format: None },
    Codec { payload_type: 8, map: "PCMA/8000", format: None },
    Codec { payload_type: 9, map: "G722/8000", format: None },
    Codec { payload_type: 96, map: "opus/48000/2", format: None },
    Codec { payload_type: 101, map: "telephone-event/8000", format: Some("0-16") },
];

/// RFC 863's port: `rewrite` puts a relay's in its place.
const PLACE_HOLDER: u16 = 9;

/// One audio line with these codecs.
pub fn offer_audio(codecs: &[Codec], ip: IpAddr, out: &mut Vec<u8>) {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a Vec takes every byte");
        out.extend_from_slice(b"\r\n");
    };
    line(format_args!("v=0"));
    line(format_args!("o=- 1 1 IN {family} {ip}"));
    line(format_args!("s=-"));
    line(format_args!("c=IN {family} {ip}"));
    line(format_args!("t=0 0"));
    let formats: Vec<String> = codecs.iter().map(|codec| codec.payload_type.to_string()).collect();
    line(format_args!("m=audio {PLACE_HOLDER} RTP/AVP {}", formats.join(" ")));
    for Codec { payload_type, map, format } in codecs {
        line(format_args!("a=rtpmap:{payload_type} {map}"));
        if let Some(format) = format {
            line(format_args!("a=fmtp:{payload_type} {format}"));
        }
    }
    line(format_args!("a=ptime:20"));
    line(format_args!("a=sendrecv"));
}

/// An answer of our own, before anybody else has answered: G.711 and keys of the first audio line
/// that has G.711 in the clear, nothing else. `None`: there is no such line.
pub fn answer_plain(offer: &Description<'_>) -> Option<Vec<u8>> {
    let plain = |line: &&MediaLine<'_>| {
        let in_the_clear = line.proto.to_ascii_uppercase().starts_with(b"RTP/AVP");
        line.port != 0
            && line.kind.eq_ignore_ascii_case(b"audio")
            && in_the_clear
            && line.payloads().any(is_g711)
    };
    let taken = offer.media.iter().position(|line| plain(&line))?;
    let mut out =
        b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n".to_vec();
    for (index, line) in offer.media.iter().enumerate() {
        if index == taken {
            write_plain(line, &mut out);
        } else {
            let parts = [b"m=", line.kind, b" 0 ", line.proto, b" ", line.formats, b"\r\n"];
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }
    }
    Some(out)
}

const fn is_g711(payload_type: u8) -> bool {
    matches!(payload_type, 0 | 8)
}

fn write_plain(line: &MediaLine<'_>, out: &mut Vec<u8>) {
    const KEYS: &[u8] = b"telephone-event/8000";
    let keys = |format: u8| line.map_of(format).is_some_and(|map| same_map(map, KEYS));
    let formats = line.payloads().filter(|&format| is_g711(format) || keys(format));
    let mut maps = Vec::new();
    out.extend_from_slice(b"m=audio ");
    out.extend_from_slice(format!("{PLACE_HOLDER} ").as_bytes());
    out.extend_from_slice(line.proto);
    for format in formats {
        out.extend_from_slice(format!(" {format}").as_bytes());
        let map = match format {
            0 => "PCMU/8000",
            8 => "PCMA/8000",
            _ => "telephone-event/8000",
        };
        maps.extend_from_slice(format!("a=rtpmap:{format} {map}\r\n").as_bytes());
    }
    let direction = match (line.direction.sends(), line.direction.receives()) {
        (true, true) => "sendrecv",
        (true, false) => "recvonly",
        (false, true) => "sendonly",
        (false, false) => "inactive",
    };
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&maps);
    out.extend_from_slice(format!("a={direction}\r\n").as_bytes());
}

/// The codecs for the second party, once the first has answered an offer of `AUDIO`: what it
/// accepted, in its order and under its numbers, then the rest, for which it would have to be asked
/// again. `None`: it accepted nothing that we named.
pub fn audio_after(answer: &Description<'_>) -> Option<Vec<Codec>> {
    let line = answer.media.first().filter(|line| line.port != 0)?;
    let mut codecs: Vec<Codec> = words(line.formats)
        .filter_map(number)
        .filter_map(|payload_type| codec_of(line, payload_type))
        .collect();
    let speaks = |codec: &Codec| !codec.map.starts_with("telephone-event");
    if !codecs.iter().any(speaks) {
        return None;
    }
    for codec in AUDIO {
        let taken =
            |known: &Codec| known.map == codec.map || known.payload_type == codec.payload_type;
        if !codecs.iter().any(taken) {
            codecs.push(codec);
        }
    }
    Some(codecs)
}

/// The codec of ours that this payload type of the answer means.
fn codec_of(line: &MediaLine<'_>, payload_type: u8) -> Option<Codec> {
    let fits = |codec: &&Codec| match line.map_of(payload_type) {
        Some(map) => same_map(map, codec.map.as_bytes()),
        None => codec.payload_type == payload_type,
    };
    AUDIO.iter().find(fits).map(|codec| Codec { payload_type, ..*codec })
}

/// One channel goes without saying (RFC 8866 6.6).
fn same_map(one: &[u8], other: &[u8]) -> bool {
    let plain = |map: &[u8]| map.strip_suffix(b"/1").unwrap_or(map).to_ascii_lowercase();
    plain(one.trim_ascii()) == plain(other.trim_ascii())
}

/// Whether two descriptions speak of the same lines with the same formats under the same numbers,
/// all of them both ways: packets of one writer then suit the other as they are.
pub fn formats_agree(one: &Description<'_>, other: &Description<'_>) -> bool {
    one.media.len() == other.media.len()
        && one.media.iter().zip(&other.media).all(|(mine, theirs)| lines_agree(mine, theirs))
}

fn lines_agree(mine: &MediaLine<'_>, theirs: &MediaLine<'_>) -> bool {
    if mine.port == 0 || theirs.port == 0 {
        return mine.port == theirs.port;
    }
    let both_ways = |line: &MediaLine<'_>| {
        line.direction.sends() && line.direction.receives() && !line.is_held()
    };
    let same_meaning = |word: &[u8]| match number::<u8>(word) {
        Some(payload_type) => match (mine.map_of(payload_type), theirs.map_of(payload_type)) {
            (Some(mine), Some(theirs)) => same_map(mine, theirs),
            // Below 96 a payload type has its meaning without a map (RFC 3551 6).
            _ => payload_type < 96,
        },
        None => false,
    };
    both_ways(mine)
        && both_ways(theirs)
        && mine.proto.eq_ignore_ascii_case(theirs.proto)
        && words(mine.formats).eq(words(theirs.formats))
        && words(mine.formats).all(same_meaning)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::super::samples::{self, crlf};
    use super::*;

    fn answer(formats: &str, attributes: &str) -> Vec<u8> {
        let text = format!(
            "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
             m=audio 4000 RTP/AVP {formats}\n{attributes}"
        );
        text.replace('\n', "\r\n").into_bytes()
    }

    fn after(formats: &str, attributes: &str) -> Option<Vec<(u8, &'static str)>> {
        let body = answer(formats, attributes);
        let codecs = audio_after(&parse(&body).expect("an answer"))?;
        Some(codecs.iter().map(|codec| (codec.payload_type, codec.map)).collect())
    }

    #[test]
    fn an_offer_of_ours_reads_back() {
        let mut out = Vec::new();
        offer_audio(&AUDIO, "192.0.2.9".parse().expect("an address"), &mut out);
        let offer = parse(&out).expect("it is well-formed");
        let [audio] = &offer.media[..] else { panic!("one line") };
        assert_eq!((audio.formats, audio.port), (&b"0 8 9 96 101"[..], 9));
        assert!(audio.is_rtp() && !audio.is_held());
        assert!(audio.attributes().any(|pair| pair == (b"fmtp", Some(b"101 0-16"))));
        assert!(out.ends_with(b"a=sendrecv\r\n"));
    }

    #[test]
    fn the_second_party_is_offered_what_the_first_chose_and_then_the_rest() {
        let expected = [
            (8, "PCMA/8000"),
            (101, "telephone-event/8000"),
            (0, "PCMU/8000"),
            (9, "G722/8000"),
            (96, "opus/48000/2"),
        ];
        assert_eq!(after("8 101", "a=rtpmap:101 telephone-event/8000\n"), Some(expected.into()));
    }

    /// RFC 3264 6.1: an answerer may choose another number for a dynamic codec.
    #[test]
    fn another_number_for_a_codec_is_kept_and_never_taken_twice() {
        let maps = "a=rtpmap:96 telephone-event/8000\na=rtpmap:110 OPUS/48000/2\n";
        let expected = [
            (110, "opus/48000/2"),
            (96, "telephone-event/8000"),
            (0, "PCMU/8000"),
            (8, "PCMA/8000"),
            (9, "G722/8000"),
        ];
        assert_eq!(after("110 96", maps), Some(expected.into()));
    }

    #[test]
    fn an_answer_without_a_codec_of_ours_is_none() {
        assert_eq!(after("101", "a=rtpmap:101 telephone-event/8000\n"), None);
        assert_eq!(after("18", "a=rtpmap:18 G729/8000\n"), None);
        let body = String::from_utf8(answer("0", "")).expect("text").replace("4000", "0");
        assert_eq!(audio_after(&parse(body.as_bytes()).expect("an answer")), None);
    }

    #[test]
    fn formats_agree_when_packets_suit_both() {
        let agree = |one: &[u8], other: &[u8]| {
            formats_agree(&parse(one).expect("one"), &parse(other).expect("other"))
        };
        let event = "a=rtpmap:101 telephone-event/8000\n";
        assert!(agree(&answer("0 101", event), &answer("0 101", &format!("a=ptime:30\n{event}"))));
        assert!(!agree(&answer("0 101", event), &answer("0", "")));
        assert!(!agree(&answer("0 8", ""), &answer("8 0", "")), "the first one is spoken");
        assert!(!agree(&answer("101", event), &answer("101", "a=rtpmap:101 opus/48000/2\n")));
        assert!(!agree(&answer("0", ""), &answer("0", "a=sendonly\n")));
        let held = crlf(samples::HOLD_BY_ADDRESS);
        assert!(!agree(&held, &held));
    }

    #[test]
    fn an_answer_before_the_answer_takes_g711_and_keys_of_one_line() {
        let offer = crlf(
            "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
             m=video 4000 RTP/AVP 97\na=rtpmap:97 H264/90000\n\
             m=audio 4002 RTP/AVP 96 8 101 18\na=rtpmap:96 opus/48000/2\n\
             a=rtpmap:101 telephone-event/8000\na=sendonly\n\
             m=audio 4004 RTP/AVP 0\n",
        );
        let answer = answer_plain(&parse(&offer).expect("an offer")).expect("an answer");
        let answer = parse(&answer).expect("it reads");
        let ports: Vec<_> = answer.media.iter().map(|line| line.port).collect();
        assert_eq!(ports, [0, PLACE_HOLDER, 0]);
        let formats: Vec<_> = answer.media[1].payloads().collect();
        assert_eq!((formats, answer.media[1].direction.as_str()), (vec![8, 101], "recvonly"));
        assert!(!answer.media[1].is_held() || !answer.media[1].direction.receives());
        for formats in ["RTP/SAVP 0", "RTP/AVP 9 96", "UDP/TLS/RTP/SAVP 8"] {
            let offer = crlf(&format!(
                "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\nm=audio 4000 {formats}\n"
            ));
            assert_eq!(answer_plain(&parse(&offer).expect("an offer")), None, "{formats}");
        }
    }
}
