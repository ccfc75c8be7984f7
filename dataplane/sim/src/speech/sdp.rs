//! The session descriptions of the phones: written as text, read as text (RFC 8866, RFC 3264).
//! Owns:  `Talk` (what a phone says), `Spoken` (what it hears).
//! Gives: an offer or answer with audio and, when asked, a video line that may be refused.
//! Never: `sip::sdp`.
//! Holds: an answer has the lines of its offer, in the same order (RFC 3264 6).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    Inactive,
    RecvOnly,
    SendOnly,
    #[default]
    SendRecv,
}

impl Direction {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::RecvOnly => "recvonly",
            Self::SendOnly => "sendonly",
            Self::SendRecv => "sendrecv",
        }
    }

    pub const fn sends(self) -> bool {
        matches!(self, Self::SendOnly | Self::SendRecv)
    }

    pub const fn receives(self) -> bool {
        matches!(self, Self::RecvOnly | Self::SendRecv)
    }

    pub const fn from_ability(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// RFC 3264 6.1: what the answerer may do when it would like `wanted` and was offered `self`.
    pub const fn answered_with(self, wanted: Self) -> Self {
        Self::from_ability(self.receives() && wanted.sends(), self.sends() && wanted.receives())
    }

    fn read(word: &str) -> Option<Self> {
        let all = [Self::Inactive, Self::RecvOnly, Self::SendOnly, Self::SendRecv];
        all.into_iter().find(|direction| direction.word() == word)
    }
}

/// What one phone says about one call.
#[derive(Clone, Debug)]
pub struct Talk {
    pub id: u64,
    pub version: u64,
    pub audio: SocketAddr,
    pub direction: Direction,
    /// Old-style hold: c=0.0.0.0 (RFC 2543, RFC 3264 8.4).
    pub zero_address: bool,
    /// One entry per further line: kind and port (0 refuses).
    pub further: Vec<(String, u16)>,
}

impl Talk {
    pub fn text(&self) -> String {
        let ip = self.audio.ip();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let place = if self.zero_address { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { ip };
        let mut out = format!(
            "v=0\r\no=phone {} {} IN {family} {ip}\r\ns=-\r\nc=IN {family} {place}\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=x-sim:kept as it is\r\na={}\r\n",
            self.id,
            self.version,
            self.audio.port(),
            self.direction.word(),
        );
        for (kind, port) in &self.further {
            let _ = write!(out, "m={kind} {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n");
        }
        out
    }
}

/// What a phone reads out of the other side's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub id: u64,
    pub version: u64,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: String,
    pub place: SocketAddr,
    pub direction: Direction,
}

impl Spoken {
    pub fn read(text: &str) -> Option<Self> {
        let (mut id, mut version) = (0, 0);
        let mut place: Option<IpAddr> = None;
        let mut standing = Direction::SendRecv;
        let mut lines: Vec<Line> = Vec::new();
        for line in text.lines() {
            let (kind, value) = line.split_once('=')?;
            let mut words = value.split_whitespace();
            match (kind, lines.last_mut()) {
                ("o", _) => {
                    id = words.nth(1)?.parse().ok()?;
                    version = words.next()?.parse().ok()?;
                }
                ("c", None) => place = Some(words.nth(2)?.parse().ok()?),
                ("c", Some(last)) => last.place.set_ip(words.nth(2)?.parse().ok()?),
                ("m", _) => {
                    let kind = words.next()?.to_owned();
                    let port = words.next()?.parse().ok()?;
                    let ip = place.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                    let place = SocketAddr::new(ip, port);
                    lines.push(Line { kind, place, direction: standing });
                }
                ("a", last) => match (Direction::read(value), last) {
                    (Some(direction), Some(last)) => last.direction = direction,
                    (Some(direction), None) => standing = direction,
                    (None, _) => {}
                },
                _ => {}
            }
        }
        (!lines.is_empty()).then_some(Self { id, version, lines })
    }

    /// The first audio line that is not refused.
    pub fn audio(&self) -> Option<&Line> {
        self.lines.iter().find(|line| line.kind == "audio" && line.place.port() != 0)
    }

    /// The lines after the first, refused: what an answer repeats in order.
    pub fn refused_further(&self) -> Vec<(String, u16)> {
        self.lines.iter().skip(1).map(|line| (line.kind.clone(), 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_reads_back() {
        let talk = Talk {
            id: 5,
            version: 2,
            audio: "10.1.0.1:4000".parse().expect("an address"),
            direction: Direction::SendOnly,
            zero_address: false,
            further: vec![("video".to_owned(), 4002)],
        };
        let spoken = Spoken::read(&talk.text()).expect("readable");
        assert_eq!((spoken.id, spoken.version, spoken.lines.len()), (5, 2, 2));
        let audio = spoken.audio().expect("audio");
        assert_eq!((audio.place, audio.direction), (talk.audio, Direction::SendOnly));
        assert_eq!(spoken.refused_further(), [("video".to_owned(), 0)]);
    }

    /// RFC 3264 6.1, the table in words.
    #[test]
    fn an_answer_never_promises_more_than_the_offer_allows() {
        use Direction::*;
        assert_eq!(SendOnly.answered_with(SendRecv), RecvOnly);
        assert_eq!(RecvOnly.answered_with(SendRecv), SendOnly);
        assert_eq!(Inactive.answered_with(SendRecv), Inactive);
        assert_eq!(SendRecv.answered_with(SendOnly), SendOnly);
    }
}
