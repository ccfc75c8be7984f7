//! Mutated SIP messages from a seed: what a broken or hostile peer might send.
//! Owns:  the random numbers (SplitMix64: the same seed gives the same messages for ever).
//! Gives: `Mutator`, an endless stream of datagrams made from a set of messages.
//! Never: a message longer than a UDP datagram.
//! Holds: message `n` of a seed depends on the seed, `n` and the set alone.

use std::fs;
use std::path::Path;

/// Longest payload of a UDP datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 34] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"%00",
    b"%",
    b"\"",
    b"<",
    b">",
    b"<<<<<<<<",
    b";",
    b";;;;;;;;",
    b";tag=",
    b";lr",
    b"?",
    b"@",
    b":",
    b"[::1]",
    b"[::ffff:",
    b"4294967296",
    b"-1",
    b"18446744073709551616",
    b"SIP/2.0",
    b"Content-Length: 99999\r\n",
    b"Content-Length: -5\r\n",
    b"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK\r\n",
    b"Contact: *\r\n",
    b"Route: <sip:127.0.0.1;lr>\r\n",
    b"Max-Forwards: 0\r\n",
    b"Require: nothing-that-exists\r\n",
];

#[derive(Clone, Debug)]
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    seed: u64,
    next: u64,
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// A piece of `length` bytes: start and end, at most `longest` long.
    fn range(&mut self, length: usize, longest: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let end = (start + self.below(longest + 1)).min(length);
        (start, end)
    }
}

impl Mutator {
    pub fn new(seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!seeds.is_empty(), "something must be mutated");
        Self { seeds, seed, next: 0 }
    }

    /// All `*.dat` files of a folder, in the order of their names.
    pub fn read_set(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut paths: Vec<_> = fs::read_dir(folder)
            .map_err(fail)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "dat"))
            .collect();
        paths.sort();
        let set: Vec<Vec<u8>> =
            paths.iter().map(fs::read).collect::<Result<_, _>>().map_err(fail)?;
        if set.is_empty() {
            return Err(format!("{}: no *.dat files", folder.display()));
        }
        Ok(set)
    }

    /// The next datagram. One in eight is a message of the set with nothing changed but its ids,
    /// so that deep states are reached too.
    pub fn next_datagram(&mut self) -> Vec<u8> {
        let mut random = Random(self.seed ^ self.next.wrapping_mul(0xd134_2543_de82_ef95));
        let number = self.next;
        self.next += 1;
        let mut bytes = self.seeds[random.below(self.seeds.len())].clone();
        if random.below(4) != 0 {
            bytes = with_new_ids(&bytes, number);
        }
        let changes = if random.below(8) == 0 { 0 } else { 1 + random.below(6) };
        for _ in 0..changes {
            self.change(&mut bytes, &mut random);
        }
        bytes.truncate(DATAGRAM_BYTES_MAX);
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let length = bytes.len();
        match random.below(12) {
            0 => {
                let at = random.below(length);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                let at = random.below(length);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            2 => {
                let (start, end) = random.range(length, 64);
                bytes.drain(start..end);
            }
            3 => {
                let (start, end) = random.range(length, 64);
                let piece = bytes[start..end].to_vec();
                bytes.splice(end..end, piece);
            }
            4..=6 => {
                let at = random.below(length + 1);
                bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied());
            }
            7 => bytes.truncate(random.below(length + 1)),
            8 => {
                // Two messages grown together.
                let other = &self.seeds[random.below(self.seeds.len())];
                let (at, from) = (random.below(length + 1), random.below(other.len()));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            9 => repeat_line(bytes, random),
            10 => swap_lines(bytes, random),
            _ => {
                // A value that is far too long.
                let at = random.below(length + 1);
                let fill = [b'a', b'9', b' ', b'%', b'(', b','][random.below(6)];
                let count = 1 << random.below(14);
                bytes.splice(at..at, std::iter::repeat_n(fill, count));
            }
        }
    }
}

/// Lines as ranges, each with its end of line.
fn lines(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut start = 0;
    let mut found = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        found.push((start, start + line.len()));
        start += line.len();
    }
    found
}

fn repeat_line(bytes: &mut Vec<u8>, random: &mut Random) {
    let all = lines(bytes);
    let Some((start, end)) = all.get(random.below(all.len())).copied() else { return };
    let line = bytes[start..end].to_vec();
    let times = 1 + random.below(200);
    bytes.splice(end..end, line.iter().copied().cycle().take(line.len() * times));
}

fn swap_lines(bytes: &mut Vec<u8>, random: &mut Random) {
    let all = lines(bytes);
    if all.len() < 2 {
        return;
    }
    let first = all[random.below(all.len() - 1)];
    let second = all[random.below(all.len())];
    if first.1 > second.0 {
        return;
    }
    let mut out = bytes[..first.0].to_vec();
    out.extend_from_slice(&bytes[second.0..second.1]);
    out.extend_from_slice(&bytes[first.1..second.0]);
    out.extend_from_slice(&bytes[first.0..first.1]);
    out.extend_from_slice(&bytes[second.1..]);
    *bytes = out;
}

/// A fresh Call-ID and branch, so that the message is not absorbed as a repeat.
fn with_new_ids(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 32);
    let mut rest = bytes;
    while let Some(at) = rest.windows(7).position(|seven| seven == b"z9hG4bK") {
        out.extend_from_slice(&rest[..at + 7]);
        out.extend_from_slice(format!("{number:x}").as_bytes());
        rest = &rest[at + 7..];
    }
    out.extend_from_slice(rest);
    let start = out.windows(9).position(|nine| nine.eq_ignore_ascii_case(b"\nCall-ID:"));
    if let Some(start) = start {
        out.splice(start + 9..start + 9, format!(" {number:x}.").into_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c;branch=z9hG4bKd\r\n\
        Call-ID: e\r\nCSeq: 1 INVITE\r\n\r\n";

    #[test]
    fn a_seed_gives_the_same_datagrams_again_and_another_seed_others() {
        let take = |seed| {
            let mut mutator = Mutator::new(vec![INVITE.to_vec()], seed);
            (0..500).map(|_| mutator.next_datagram()).collect::<Vec<_>>()
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
        assert!(take(7).iter().all(|datagram| datagram.len() <= DATAGRAM_BYTES_MAX));
    }

    #[test]
    fn ids_are_renewed_without_breaking_the_message() {
        let renewed = with_new_ids(INVITE, 255);
        let text = String::from_utf8(renewed).expect("still text");
        assert!(text.contains("z9hG4bKffd") && text.contains("\nCall-ID: ff. e\r\n"), "{text}");
    }
}
