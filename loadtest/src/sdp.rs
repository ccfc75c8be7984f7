//! The SDP of a test phone: one audio line, PCMU and PCMA.
//! Owns:  the text of an offer or answer, and reading the other side's.
//! Gives: `write` and `read_audio`.
//! Never: negotiates; these phones speak G.711 only.
//! Holds: one m= line out, the first audio line in.

use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inactive,
    RecvOnly,
    SendOnly,
    SendRecv,
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

    /// What an answerer who wants everything says to this offer (RFC 3264 6.1).
    pub const fn answer(self) -> Self {
        match self {
            Self::Inactive => Self::Inactive,
            Self::RecvOnly => Self::SendOnly,
            Self::SendOnly => Self::RecvOnly,
            Self::SendRecv => Self::SendRecv,
        }
    }

    /// Whether the one who wrote this takes media.
    pub const fn receives(self) -> bool {
        matches!(self, Self::RecvOnly | Self::SendRecv)
    }
}

/// The first audio line of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    pub address: SocketAddr,
    pub direction: Direction,
}

pub fn write(user: &str, local: SocketAddr, version: u32, direction: Direction) -> String {
    let (ip, port) = (local.ip(), local.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let direction = direction.as_str();
    format!(
        "v=0\r\no={user} {port} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\n\
         t=0 0\r\nm=audio {port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=ptime:20\r\na={direction}\r\n"
    )
}

/// `None` when there is no audio line with an address.
pub fn read_audio(body: &[u8]) -> Option<Audio> {
    let text = std::str::from_utf8(body).ok()?;
    let (mut ip, mut port, mut direction) = (None, None, Direction::SendRecv);
    for line in text.lines() {
        if let Some(address) = line.strip_prefix("c=") {
            ip = address.split_whitespace().nth(2)?.parse::<IpAddr>().ok();
        } else if let Some(media) = line.strip_prefix("m=") {
            if port.is_some() {
                break;
            }
            let mut words = media.split_whitespace();
            if words.next() == Some("audio") {
                port = words.next()?.parse::<u16>().ok();
            }
        } else {
            direction = match line {
                "a=inactive" => Direction::Inactive,
                "a=recvonly" => Direction::RecvOnly,
                "a=sendonly" => Direction::SendOnly,
                "a=sendrecv" => Direction::SendRecv,
                _ => direction,
            };
        }
    }
    Some(Audio { address: SocketAddr::new(ip?, port?), direction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let local: SocketAddr = "127.0.0.1:20000".parse().expect("an address");
        let text = write("1001", local, 1, Direction::SendOnly);
        let audio = read_audio(text.as_bytes()).expect("an audio line");
        assert_eq!(audio, Audio { address: local, direction: Direction::SendOnly });
    }

    #[test]
    fn the_media_level_address_wins_over_the_first_one() {
        let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.2\r\n\
                    m=video 5000 RTP/AVP 96\r\nc=IN IP4 10.0.0.3\r\n";
        let audio = read_audio(text.as_bytes()).expect("an audio line");
        assert_eq!(audio.address, "10.0.0.2:4000".parse().expect("an address"));
    }
}
