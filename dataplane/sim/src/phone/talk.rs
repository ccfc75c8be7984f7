//! The offer and answer of one call of a phone, and its RTP (RFC 3264, RFC 3550).
//! Owns:  `Talking`: what was said, what was heard, which way packets may go.
//! Gives: SDP texts, packets marked with their call, what is wrong with the peer's description.
//! Never: a real codec; a packet says who sent it and for which call.
//! Holds: the origin version grows exactly when the text changes (RFC 3264 8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::phone::plan::Step;
use crate::random::mix;
use crate::speech::sdp::{Direction, Spoken, Talk};

#[derive(Clone, Debug)]
pub struct Talking {
    said: Talk,
    wanted: Direction,
    last_text: Option<String>,
    /// An offer of ours waits for its answer.
    offered: bool,
    /// What holds if that offer is refused (RFC 3261 14.1).
    standing: Option<(Talk, Direction)>,
    video_port: Option<u16>,
    /// Where packets go, by the newest description of the other side.
    pub remote: Option<SocketAddr>,
    /// Every place that it ever named: packets may come from there.
    pub remotes: BTreeSet<SocketAddr>,
    pub sends: bool,
    pub receives: bool,
    pub muted: bool,
    their_texts: BTreeMap<(u64, u64), String>,
    sequence: u16,
    pub packets_sent: u64,
    pub packets_heard: u64,
    /// RTCP packets that arrived on the port above.
    pub reports_heard: u64,
    /// Marks of the calls whose packets arrived here.
    pub heard_from: BTreeSet<u64>,
}

/// The mark of a muted side: the silence of PCMU, which these packets say that they are.
pub const SILENCE: u64 = u64::MAX;
/// Twelve octets of RTP header, then the mark of the sender's call.
pub const PACKET_LEN: usize = 12 + 8;

impl Talking {
    pub fn new(id: u64, audio: SocketAddr) -> Self {
        let direction = Direction::SendRecv;
        let (zero_address, further) = (false, Vec::new());
        Self {
            said: Talk { id, version: 0, audio, direction, zero_address, further },
            wanted: direction,
            last_text: None,
            offered: false,
            standing: None,
            video_port: None,
            remote: None,
            remotes: BTreeSet::new(),
            sends: false,
            receives: false,
            muted: false,
            their_texts: BTreeMap::new(),
            sequence: 0,
            packets_sent: 0,
            packets_heard: 0,
            reports_heard: 0,
            heard_from: BTreeSet::new(),
        }
    }

    pub fn with_video(&mut self) {
        let port = self.said.audio.port() + 2;
        self.video_port = Some(port);
        self.said.further = vec![("video".to_owned(), port)];
    }

    pub fn audio(&self) -> SocketAddr {
        self.said.audio
    }

    pub fn is_offering(&self) -> bool {
        self.offered
    }

    pub fn wanted(&self) -> Direction {
        self.wanted
    }

    pub fn apply(&mut self, step: Step) {
        self.standing = Some((self.said.clone(), self.wanted));
        match step {
            Step::Hold { old } => {
                (self.wanted, self.said.zero_address) = (Direction::SendOnly, old);
            }
            Step::Resume => {
                (self.wanted, self.said.zero_address) = (Direction::SendRecv, false);
            }
            Step::MoveMedia => {
                let port = self.said.audio.port();
                self.said.audio.set_port(port + 4);
            }
            Step::Mute => self.muted = true,
            Step::Join
            | Step::OfferlessReInvite
            | Step::Refer(_)
            | Step::Refresh
            | Step::SendInfo
            | Step::Update => {}
        }
    }

    pub fn offer(&mut self) -> String {
        self.offered = true;
        self.said.direction = self.wanted;
        self.text()
    }

    /// The offer was refused or never answered: the standing agreement goes on.
    pub fn withdraw(&mut self) {
        self.offered = false;
        if let Some((said, wanted)) = self.standing.take() {
            let version = self.said.version;
            (self.said, self.wanted) = (Talk { version, ..said }, wanted);
        }
    }

    /// RFC 3264 6: one answer line for each line of the offer.
    pub fn answer(&mut self, offer: &str, accepts_video: bool) -> Result<String, String> {
        let spoken = self.read(offer)?;
        self.hear(&spoken);
        let theirs = spoken.audio().map_or(Direction::Inactive, |line| line.direction);
        self.said.direction = theirs.answered_with(self.wanted);
        self.said.further = spoken.refused_further();
        if accepts_video && let Some((_, port)) = self.said.further.first_mut() {
            *port = self.said.audio.port() + 2;
        }
        (self.sends, self.receives) = (self.said.direction.sends(), self.said.direction.receives());
        Ok(self.text())
    }

    pub fn take_answer(&mut self, answer: &str) -> Result<(), String> {
        let spoken = self.read(answer)?;
        let lines = 1 + self.said.further.len();
        if spoken.lines.len() != lines {
            let found = spoken.lines.len();
            return Err(format!(
                "the answer has {found} lines, its offer had {lines} (RFC 3264 6)"
            ));
        }
        (self.offered, self.standing) = (false, None);
        self.hear(&spoken);
        let theirs = spoken.audio().map_or(Direction::Inactive, |line| line.direction);
        self.sends = self.said.direction.sends() && theirs.receives();
        self.receives = self.said.direction.receives() && theirs.sends();
        Ok(())
    }

    /// One packet to where the other side listens, when the agreement lets us send.
    pub fn speak(&mut self, mark: u64) -> Option<(SocketAddr, [u8; PACKET_LEN])> {
        let to = self.remote.filter(|_| self.sends && !self.muted)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.packets_sent += 1;
        let mut packet = [0; PACKET_LEN];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(self.sequence) * 160).to_be_bytes());
        packet[8..12].copy_from_slice(&mark.to_be_bytes()[..4]);
        packet[12..].copy_from_slice(&mark.to_be_bytes());
        Some((to, packet))
    }

    /// RFC 3264 8: a description with another text has another version.
    fn read(&mut self, text: &str) -> Result<Spoken, String> {
        let spoken = Spoken::read(text).ok_or("SDP that does not read")?;
        let before = self.their_texts.get(&(spoken.id, spoken.version));
        if before.is_some_and(|before| before != text) {
            return Err(format!("SDP changed under origin version {}", spoken.version));
        }
        self.their_texts.insert((spoken.id, spoken.version), text.to_owned());
        Ok(spoken)
    }

    fn hear(&mut self, spoken: &Spoken) {
        let place = spoken.audio().map(|line| line.place);
        self.remote = place.filter(|place| !place.ip().is_unspecified());
        self.remotes.extend(self.remote);
    }

    fn text(&mut self) -> String {
        let changed = self.last_text.as_deref() != Some(self.said.text().as_str());
        self.said.version += u64::from(changed);
        let text = self.said.text();
        self.last_text = Some(text.clone());
        text
    }
}

/// The mark of a call: what its packets carry.
pub fn mark_of(call_id: &str, local_tag: &str) -> u64 {
    let bytes = call_id.bytes().chain(local_tag.bytes());
    bytes.fold(0x51d, |mark, byte| mix(mark ^ u64::from(byte)))
}

pub fn mark_in(packet: &[u8]) -> Option<u64> {
    let mark: [u8; 8] = packet.get(12..PACKET_LEN)?.try_into().ok()?;
    (packet[0] >> 6 == 2).then(|| u64::from_be_bytes(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talking(port: u16) -> Talking {
        Talking::new(u64::from(port), SocketAddr::new([10, 0, 0, 1].into(), port))
    }

    #[test]
    fn hold_and_resume_turn_the_stream_off_and_on() {
        let (mut one, mut two) = (talking(4_000), talking(5_000));
        let mut exchange = |one: &mut Talking| {
            let answer = two.answer(&one.offer(), false).expect("an answer");
            one.take_answer(&answer).expect("it fits");
            (one.sends, one.receives, two.sends, two.receives)
        };
        assert_eq!(exchange(&mut one), (true, true, true, true));
        one.apply(Step::Hold { old: false });
        assert_eq!(exchange(&mut one), (true, false, false, true));
        one.apply(Step::Resume);
        assert_eq!(exchange(&mut one), (true, true, true, true));
    }

    #[test]
    fn an_answer_with_a_missing_line_is_refused() {
        let (mut one, mut two) = (talking(4_000), talking(5_000));
        one.with_video();
        let answer = two.answer(&one.offer(), false).expect("an answer");
        let short: String =
            answer.split_inclusive('\n').take_while(|l| !l.contains("video")).collect();
        let mut other = one.clone();
        assert!(other.take_answer(&short).expect_err("a line is missing").contains("RFC 3264"));
        one.take_answer(&answer).expect("the whole answer fits");
    }

    #[test]
    fn the_same_text_keeps_its_version_and_another_gets_the_next() {
        let mut one = talking(4_000);
        let (first, second) = (one.offer(), one.offer());
        assert_eq!(first, second);
        one.apply(Step::MoveMedia);
        let third = Spoken::read(&one.offer()).expect("readable");
        assert_eq!(third.version, Spoken::read(&first).expect("readable").version + 1);
    }
}
