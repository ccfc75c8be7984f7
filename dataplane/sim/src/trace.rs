//! What happened: a rolling hash of everything and the newest messages in full.
//! Owns:  `Trace`, `Kept` entries, one line of text per entry on demand.
//! Gives: the hash that proves a replay bit-identical, the ladder that explains a failure.
//! Never: text until somebody asks; a passing run formats nothing.
//! Holds: every message, packet, drop and event goes into the hash, kept or not.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;

use shared::time::Instant;

use crate::random::mix;

/// Messages that a failure prints.
const KEPT_MAX: usize = 200;

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    entries: u64,
    kept: VecDeque<Kept>,
    /// Print every entry as it comes (`--trace`).
    loud: bool,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    what: &'static str,
    from: Option<SocketAddr>,
    to: Option<SocketAddr>,
    bytes: Rc<[u8]>,
}

impl Trace {
    pub fn new(loud: bool) -> Self {
        Self { hash: 0, entries: 0, kept: VecDeque::with_capacity(KEPT_MAX), loud }
    }

    /// A message on its way: kept in full.
    pub fn message(
        &mut self,
        at: Instant,
        what: &'static str,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &Rc<[u8]>,
    ) {
        self.stir(at, what, bytes);
        self.stir_address(from);
        self.stir_address(to);
        let bytes = Rc::clone(bytes);
        self.keep(Kept { at, what, from: Some(from), to: Some(to), bytes });
    }

    /// A media packet: hashed, not kept, or it would crowd out the signalling.
    pub fn packet(&mut self, at: Instant, what: &'static str, from: SocketAddr, to: SocketAddr) {
        self.stir(at, what, b"");
        self.stir_address(from);
        self.stir_address(to);
        if self.loud {
            println!("{:>11.6} {what:<9} {from} > {to}", seconds(at));
        }
    }

    /// Something that is not a message: an edit, an event, a timer, a decision of the world.
    pub fn note(&mut self, at: Instant, what: &'static str, text: &str) {
        self.stir(at, what, text.as_bytes());
        self.keep(Kept { at, what, from: None, to: None, bytes: Rc::from(text.as_bytes()) });
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn lines(&self) -> Vec<String> {
        self.kept.iter().map(line).collect()
    }

    fn keep(&mut self, kept: Kept) {
        if self.loud {
            println!("{}", line(&kept));
        }
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    fn stir(&mut self, at: Instant, what: &str, bytes: &[u8]) {
        self.entries += 1;
        self.stir_word(at.as_nanos());
        for part in [what.as_bytes(), bytes] {
            for chunk in part.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                self.stir_word(u64::from_le_bytes(word));
            }
            self.stir_word(part.len() as u64);
        }
    }

    fn stir_address(&mut self, address: SocketAddr) {
        let ip = match address {
            SocketAddr::V4(v4) => u128::from(v4.ip().to_bits()),
            SocketAddr::V6(v6) => v6.ip().to_bits(),
        };
        self.stir_word((ip >> 64) as u64 ^ ip as u64 ^ u64::from(address.port()) << 40);
    }

    const fn stir_word(&mut self, word: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ word);
    }
}

fn seconds(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e9
}

fn line(kept: &Kept) -> String {
    let mut out = format!("{:>11.6} {:<9}", seconds(kept.at), kept.what);
    if let (Some(from), Some(to)) = (kept.from, kept.to) {
        let _ = write!(out, " {from} > {to}");
    }
    out.push(' ');
    out.push_str(&headline(&kept.bytes));
    out
}

/// The first line of a message and the headers that tell calls apart; other text as it is.
fn headline(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let mut out = lines.next().unwrap_or_default().to_owned();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let shown = ["Via", "v", "From", "f", "To", "t", "Call-ID", "i", "CSeq", "Contact", "m"];
        if shown.iter().any(|shown| name.eq_ignore_ascii_case(shown)) {
            let _ = write!(out, " | {name}:{value}");
        }
    }
    for line in body.lines() {
        if line.starts_with("c=") || line.starts_with("m=") || line.starts_with("a=send") {
            let _ = write!(out, " | {line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_time_and_bytes_apart() {
        let hash = |notes: &[(u64, &str)]| {
            let mut trace = Trace::new(false);
            for (at, text) in notes {
                trace.note(Instant::from_millis(*at), "note", text);
            }
            trace.hash()
        };
        let base = hash(&[(1, "one"), (2, "two")]);
        assert_eq!(base, hash(&[(1, "one"), (2, "two")]));
        for other in
            [&[(2, "two"), (1, "one")], &[(1, "one"), (3, "two")], &[(1, "one"), (2, "tw0")]]
        {
            assert_ne!(base, hash(other));
        }
    }

    #[test]
    fn only_the_newest_two_hundred_are_kept() {
        let mut trace = Trace::new(false);
        for at in 0..500 {
            trace.note(Instant::from_millis(at), "note", "x");
        }
        assert_eq!((trace.lines().len(), trace.entries()), (KEPT_MAX, 500));
    }
}
