//! The INVITE of a load over UDP, written once and filled in for each call.
//! Owns:  the text between the numbers of a call.
//! Gives: `Wording::write`, into a buffer that is used again.
//! Never: a line, or credentials: such an INVITE is composed by the agent.
//! Holds: what it writes for a call is what the agent would compose for it.

/// Stand in the model for the numbers of a call; no address or name has such a byte.
pub(super) const SLOT: char = '\u{1}';
pub(super) const NUMBER: char = '\u{2}';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    Slot,
    Number,
    End,
}

#[derive(Debug)]
pub(super) struct Wording {
    /// Each text, and what follows it.
    pieces: Vec<(String, Blank)>,
}

impl Wording {
    /// `model` has `SLOT` and `NUMBER` where each call has its own.
    pub(super) fn new(model: &str) -> Self {
        let mut pieces = Vec::new();
        for piece in model.split_inclusive([SLOT, NUMBER]) {
            let text = piece.trim_end_matches([SLOT, NUMBER]);
            let blank = match piece.chars().last() {
                Some(SLOT) => Blank::Slot,
                Some(NUMBER) => Blank::Number,
                _ => Blank::End,
            };
            pieces.push((text.to_owned(), blank));
        }
        Self { pieces }
    }

    /// Replaces what `out` holds.
    pub(super) fn write(&self, out: &mut String, slot: u32, number: u32) {
        out.clear();
        for (text, blank) in &self.pieces {
            out.push_str(text);
            match blank {
                Blank::Slot => push_number(out, slot),
                Blank::Number => push_number(out, number),
                Blank::End => {}
            }
        }
    }
}

fn push_number(out: &mut String, number: u32) {
    let (mut digits, mut at, mut rest) = ([0_u8; 10], 10, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_call_stand_where_the_model_has_their_marks() {
        let wording = Wording::new("a\u{1}.\u{2}\u{1} end");
        let mut out = "before".to_owned();
        for (slot, number, expected) in
            [(0, 7, "a0.70 end"), (4_294_967_295, 10, "a4294967295.104294967295 end")]
        {
            wording.write(&mut out, slot, number);
            assert_eq!(out, expected);
        }
    }
}
