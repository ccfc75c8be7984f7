//! Random descriptions and changes: what is written reads back as what was meant.
//! Owns:  the generators.
//! Gives: properties of `parse` and `rewrite` together.
//! Never: a golden text; those stand beside the code.
//! Holds: every failure prints the smallest body that shows it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::samples::{self, crlf};
use super::{Direction, LineChange, Rewrite, SdpError, parse, rewrite};

const OURS: &str = "198.51.100.1";

fn ours() -> IpAddr {
    OURS.parse().expect("it is an address")
}

/// One generated media line: its text, and the attributes that must come through.
#[derive(Clone, Debug)]
struct Line {
    port: u16,
    own_connection: bool,
    direction: Option<Direction>,
    rtcp: Option<bool>,
    kept: Vec<String>,
}

fn a_line() -> impl Strategy<Value = Line> {
    let direction = prop::sample::select(vec![
        None,
        Some(Direction::Inactive),
        Some(Direction::RecvOnly),
        Some(Direction::SendOnly),
        Some(Direction::SendRecv),
    ]);
    let kept = prop::collection::vec("x-[a-z]{1,8}:[ -~]{0,20}", 0..4);
    (any::<u16>(), any::<bool>(), direction, any::<Option<bool>>(), kept).prop_map(
        |(port, own_connection, direction, rtcp, kept)| Line {
            port,
            own_connection,
            direction,
            rtcp,
            kept,
        },
    )
}

fn a_change() -> impl Strategy<Value = LineChange> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), Just(ours())];
    prop_oneof![
        1 => Just(LineChange::Refuse),
        4 => (ip, 1_u16.., any::<u16>())
            .prop_map(|(ip, rtp_port, rtcp_port)| LineChange::Relay { ip, rtp_port, rtcp_port }),
    ]
}

fn body_of(lines: &[Line], held: bool) -> String {
    let mut text = String::from("v=0\r\n");
    if held {
        text.push_str("c=IN IP4 0.0.0.0\r\n");
    }
    for line in lines {
        text.push_str(&format!("m=audio {} RTP/AVP 0 101\r\n", line.port));
        if line.own_connection {
            text.push_str("c=IN IP4 203.0.113.66\r\n");
        }
        if let Some(direction) = line.direction {
            text.push_str(&format!("a={}\r\n", direction.as_str()));
        }
        match line.rtcp {
            Some(true) => text.push_str("a=rtcp:77 IN IP4 203.0.113.66\r\n"),
            Some(false) => text.push_str("a=rtcp:77\r\n"),
            None => {}
        }
        line.kept.iter().for_each(|kept| text.push_str(&format!("a={kept}\r\n")));
    }
    text
}

proptest! {
    #![proptest_config(crate::transaction::trace::seeded())]

    /// Whatever comes in: what goes out reads back as the changes that were asked for.
    #[test]
    fn the_rewritten_body_says_what_was_meant(
        lines in prop::collection::vec(a_line(), 0..8),
        changes in prop::collection::vec(a_change(), 0..9),
        held in any::<bool>(),
    ) {
        let text = body_of(&lines, held);
        let before = parse(text.as_bytes()).expect("it is well-formed");
        let change =
            Rewrite { origin_version: 2, lines: &changes, ..Rewrite::plain(ours()) };
        let mut out = Vec::new();
        rewrite(&before, &change, &mut out);
        let after = parse(&out).expect("we write what we read");
        prop_assert_eq!(after.media.len(), lines.len());
        let origin = format!("- 1 2 IN IP4 {OURS}");
            prop_assert_eq!(after.origin, origin.as_bytes());
        for (index, line) in lines.iter().enumerate() {
            let (was, is) = (&before.media[index], &after.media[index]);
            let wanted = changes.get(index).copied().unwrap_or(LineChange::Refuse);
            match wanted {
                LineChange::Relay { ip, rtp_port, rtcp_port } if line.port != 0 => {
                    prop_assert_eq!((is.port, is.connection), (rtp_port, Some(ip)));
                    let beside = u32::from(rtp_port) + 1;
                    let rtcp = is.rtcp.map_or(beside, |(port, _)| port.into());
                    prop_assert_eq!(rtcp, u32::from(rtcp_port));
                    prop_assert!(is.is_held() || !was.is_held(), "hold was lost");
                    prop_assert_eq!(is.direction.sends(), was.direction.sends());
                }
                _ => {
                    prop_assert_eq!((is.port, is.connection), (0, Some(ours())));
                    prop_assert_eq!(is.direction, was.direction);
                }
            }
            let kept = is.attributes().filter(|(name, _)| name.starts_with(b"x-"));
            let expected = was.attributes().filter(|(name, _)| name.starts_with(b"x-"));
            prop_assert!(kept.eq(expected));
        }
        let out = String::from_utf8(out).expect("the input was ASCII");
        prop_assert!(!out.contains("203.0.113.66") && !out.contains("0.0.0.0"));
    }

    /// A real description with bytes changed: no panic, no address of the peer in c= or o=.
    #[test]
    fn no_mutation_panics_or_leaks_a_connection(
        sample in prop::sample::select(&samples::ALL[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut body = crlf(sample);
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let Ok(description) = parse(&body) else { return Ok(()) };
        let relay = LineChange::Relay { ip: ours(), rtp_port: 30_000, rtcp_port: 30_001 };
        let lines = [relay; 8];
        let change = Rewrite { origin_version: 2, lines: &lines, ..Rewrite::plain(ours()) };
        let mut out = Vec::new();
        rewrite(&description, &change, &mut out);
        let after = match parse(&out) {
            // A body at the very limit may grow beyond it.
            Err(SdpError::TooLong { .. }) => return Ok(()),
            after => after.expect("we write what we read"),
        };
        prop_assert_eq!(after.media.len(), description.media.len());
        let connection = format!("c=IN IP4 {OURS}\r");
        for line in out.split(|&byte| byte == b'\n') {
            if line.starts_with(b"c=") {
                prop_assert_eq!(line, connection.as_bytes());
            }
        }
    }
}
