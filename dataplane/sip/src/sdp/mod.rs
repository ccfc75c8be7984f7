//! The part of SDP (RFC 8866) that a relay needs: read where media flows, write it anew.
//! Owns:  the views over a body, the reasons why one is refused.
//! Gives: `parse` for reading; for the body that the other leg gets `rewrite`, or `pass` where media
//!        does not go through us.
//! Never: decides what is offered or answered; a codec is a name that the caller of `rewrite` allows.
//! Holds: every line that some peer could read as a line is one here, so no address hides.

mod codecs;
mod lines;
mod narrow;
mod offer;
mod parse;
mod pass;
#[cfg(test)]
mod random;
mod rewrite;
#[cfg(test)]
mod samples;

use std::fmt;
use std::net::IpAddr;

pub use codecs::{Allowed, keeps_codec};
pub use narrow::narrow;
pub use offer::{AUDIO, Codec, answer_plain, audio_after, formats_agree, offer_audio};
pub use parse::parse;
pub use pass::{Pass, pass};
pub use rewrite::{LineChange, Rewrite, rewrite};

/// A description and its media lines; borrows the body.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    /// The value of `o=` as written; empty when it is missing.
    pub origin: &'a [u8],
    /// The description level's `c=`; `None` when it is missing or names a host.
    pub session_connection: Option<IpAddr>,
    /// The description level's direction attribute.
    pub direction: Option<Direction>,
    /// At most `limits::MEDIA_LINES_MAX`.
    pub media: Vec<MediaLine<'a>>,
    /// The whole body.
    text: &'a [u8],
    /// Everything before the first `m=`.
    head: &'a [u8],
    has_connection: bool,
    has_name: bool,
    has_time: bool,
}

/// One `m=` line with what applies to it.
#[derive(Clone, Debug)]
pub struct MediaLine<'a> {
    /// `audio`, `video`, `image`, `application` ...
    pub kind: &'a [u8],
    /// 0: refused or switched off.
    pub port: u16,
    pub proto: &'a [u8],
    /// The rest of the line as written.
    pub formats: &'a [u8],
    /// Its own `c=` or the description's; `None` when there is none or it names a host.
    pub connection: Option<IpAddr>,
    /// Its own attribute, else the description's, else sendrecv.
    pub direction: Direction,
    /// `a=rtcp` (RFC 3605).
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// Everything after the `m=` line up to the next one.
    section: &'a [u8],
    has_connection: bool,
}

/// Who sends, seen from the writer of the description (RFC 8866 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inactive,
    RecvOnly,
    SendOnly,
    SendRecv,
}

/// Why a body is refused, and what the peer deserves to hear about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpError {
    /// A `c=` line without its three words.
    Connection,
    /// An `m=` line without kind, port, transport or formats.
    MediaLine,
    /// It does not begin with `v=0`.
    NotSdp,
    /// A payload type of an RTP line is not a number from 0 to 127.
    PayloadType,
    /// A port, or the count behind it, is not a number from 0 to 65535.
    Port,
    TooLong {
        limit: usize,
    },
    TooManyMediaLines {
        limit: usize,
    },
    /// The body is labelled as something else.
    UnsupportedType,
}

impl<'a> Description<'a> {
    /// The body as it was received.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The description level's attributes: name, and what follows the colon.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        lines::attributes(self.head)
    }
}

impl<'a> MediaLine<'a> {
    /// The attributes of this line: name, and what follows the colon.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        lines::attributes(self.section)
    }

    /// RTP straight over UDP: what a relay can carry.
    pub fn is_rtp(&self) -> bool {
        const PROTOS: [&str; 6] = [
            "RTP/AVP",
            "RTP/AVPF",
            "RTP/SAVP",
            "RTP/SAVPF",
            "UDP/TLS/RTP/SAVP",
            "UDP/TLS/RTP/SAVPF",
        ];
        PROTOS.iter().any(|proto| self.proto.eq_ignore_ascii_case(proto.as_bytes()))
    }

    /// The writer does not want to hear us: sendonly, inactive, or the unspecified address of old
    /// phones (RFC 3264 8.4).
    pub fn is_held(&self) -> bool {
        !self.direction.receives() || self.is_held_by_address()
    }

    /// Is this payload type among the formats of an RTP line?
    pub fn has_payload(&self, payload_type: u8) -> bool {
        self.carries_rtp()
            && lines::words(self.formats)
                .any(|word| lines::number::<u8>(word) == Some(payload_type))
    }

    /// The formats of an RTP line, in order.
    pub fn payloads(&self) -> impl Iterator<Item = u8> + use<'a> {
        let formats = if self.carries_rtp() { self.formats } else { b"" };
        lines::words(formats).filter_map(lines::number)
    }

    /// What `a=rtpmap` says about a payload type.
    pub fn map_of(&self, payload_type: u8) -> Option<&'a [u8]> {
        self.attributes().find_map(|(name, value)| {
            let value = value.filter(|_| name.eq_ignore_ascii_case(b"rtpmap"))?;
            let (word, map) = lines::cut_word(value);
            (lines::number::<u8>(word) == Some(payload_type)).then_some(map)
        })
    }

    /// The first format of an RTP line: what its writer would rather be sent (RFC 3264 5.1).
    pub fn first_payload(&self) -> Option<u8> {
        let first = lines::words(self.formats).next().filter(|_| self.carries_rtp())?;
        lines::number(first)
    }

    /// The unspecified address with port 9 is an ICE placeholder instead (RFC 8840 4.1.1).
    fn is_held_by_address(&self) -> bool {
        const DISCARD: u16 = 9;
        self.connection.is_some_and(|ip| ip.is_unspecified()) && self.port != DISCARD
    }

    /// RTP over whatever transport: its formats are payload types (RFC 8866 5.14).
    fn carries_rtp(&self) -> bool {
        self.proto.split(|&byte| byte == b'/').any(|part| part.eq_ignore_ascii_case(b"RTP"))
    }
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::RecvOnly => "recvonly",
            Self::SendOnly => "sendonly",
            Self::SendRecv => "sendrecv",
        }
    }

    /// The writer of the description may send.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendOnly | Self::SendRecv)
    }

    /// The writer of the description may be sent to.
    pub const fn receives(self) -> bool {
        matches!(self, Self::RecvOnly | Self::SendRecv)
    }

    /// What an answerer who wants everything says to it (RFC 3264 6.1).
    #[must_use]
    pub const fn answered(self) -> Self {
        match self {
            Self::Inactive => Self::Inactive,
            Self::RecvOnly => Self::SendOnly,
            Self::SendOnly => Self::RecvOnly,
            Self::SendRecv => Self::SendRecv,
        }
    }

    /// The same without receiving.
    const fn held(self) -> Self {
        if self.sends() { Self::SendOnly } else { Self::Inactive }
    }

    fn parse(attribute: &[u8]) -> Option<Self> {
        const ALL: [Direction; 4] =
            [Direction::Inactive, Direction::RecvOnly, Direction::SendOnly, Direction::SendRecv];
        ALL.into_iter()
            .find(|direction| attribute.eq_ignore_ascii_case(direction.as_str().as_bytes()))
    }
}

impl SdpError {
    /// The response to send.
    pub const fn status(self) -> u16 {
        match self {
            Self::Connection | Self::MediaLine | Self::NotSdp | Self::PayloadType | Self::Port => {
                400
            }
            Self::TooLong { .. } => 413,
            Self::TooManyMediaLines { .. } => 488,
            Self::UnsupportedType => 415,
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("SDP c= line without network, family or address"),
            Self::MediaLine => f.write_str("SDP m= line without kind, port, transport or formats"),
            Self::NotSdp => f.write_str("body does not begin with v=0"),
            Self::PayloadType => f.write_str("SDP payload type is not a number from 0 to 127"),
            Self::Port => f.write_str("SDP port is not a number from 0 to 65535"),
            Self::TooLong { limit } => write!(f, "SDP is longer than {limit} bytes"),
            Self::TooManyMediaLines { limit } => {
                write!(f, "SDP has more than {limit} media lines")
            }
            Self::UnsupportedType => f.write_str("body is not application/sdp"),
        }
    }
}

impl std::error::Error for SdpError {}

/// Is this Content-Type one that `parse` reads? Parameters are allowed and ignored.
pub fn check_type(content_type: &[u8]) -> Result<(), SdpError> {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or(content_type);
    if media_type.trim_ascii().eq_ignore_ascii_case(b"application/sdp") {
        Ok(())
    } else {
        Err(SdpError::UnsupportedType)
    }
}
