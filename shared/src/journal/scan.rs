//! Reading a segment, whole or in pieces, as far as it can be trusted.
//! Owns:  the walk from frame to frame, and the search for the next one behind damage.
//! Gives: records in order; where the written part ends; which bytes are damaged.
//! Never: believes a length, a kind or a payload whose checksum does not fit.
//! Holds: every byte of a segment is in a record, in damage, or behind the end.

use super::entry::{Entry, KIND_BEAT, KIND_START};
use super::{ALIGN, FRAME_BYTES, PAYLOAD_BYTES_MAX, Segment, frame_len, u32_at, u64_at};

/// Walks over bytes of one segment.
#[derive(Clone, Debug)]
pub struct Scan<'b> {
    segment: Segment,
    bytes: &'b [u8],
    /// Where `bytes` begin in the segment.
    base: u64,
    at: usize,
    /// Nothing follows the bytes: what looks cut off is.
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'b> {
    /// These bytes are no frame. Behind them comes one, or the end. Of a whole scan only.
    Damaged {
        from: u64,
        to: u64,
    },
    /// Nothing was written from here on. Of a whole scan only.
    End,
    Record(Record<'b>),
    /// The bytes end within the frame that begins at `from`, which has this length.
    Short {
        from: u64,
        needed: usize,
    },
    /// At `from` is no frame; only a scan of everything up to the end can say what it is.
    Unclear {
        from: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'b> {
    /// Where it stands, and where the next one does.
    pub offset: u64,
    pub next: u64,
    /// By the clock of the shard.
    pub at_ms: u64,
    kind: u8,
    payload: &'b [u8],
}

impl<'b> Record<'b> {
    /// Fails only for a record of another version of this program.
    pub fn entry(&self) -> Result<Entry, serde_json::Error> {
        Entry::read(self.kind, self.payload)
    }

    pub const fn payload(&self) -> &'b [u8] {
        self.payload
    }
}

impl<'b> Scan<'b> {
    /// A piece of a segment, from `base` on, which is where a frame begins.
    pub const fn piece(segment: Segment, base: u64, bytes: &'b [u8]) -> Self {
        Self { segment, bytes, base, at: 0, whole: false }
    }

    /// Everything from `base` to the end of the segment, or to where its writer has come.
    pub const fn whole(segment: Segment, base: u64, bytes: &'b [u8]) -> Self {
        Self { segment, bytes, base, at: 0, whole: true }
    }

    /// Asked again after anything but a record or damage, it says the same again.
    #[expect(clippy::should_implement_trait, reason = "its end has more than one form")]
    pub fn next(&mut self) -> Found<'b> {
        if let Some(page) = self.behind_gap() {
            self.at = page;
        }
        let from = self.base + self.at as u64;
        match (self.frame_at(self.at), self.whole) {
            (Frame::Good(record), _) => {
                self.at += (record.next - record.offset) as usize;
                Found::Record(record)
            }
            (Frame::Cut(needed), false) => Found::Short { from, needed },
            (Frame::Bad | Frame::Blank, false) => Found::Unclear { from },
            // Zeros are the end, unless something was written behind them: that happens when power
            // fails while pages are on their way to the disk.
            (Frame::Blank, true) if self.is_blank() => Found::End,
            (Frame::Bad | Frame::Blank | Frame::Cut(_), true) => self.skip_damage(from),
        }
    }

    /// Where the next page begins, when the rest of this one was left out and frames go on there. Zeros
    /// that a lost page leaves look the same up to there: what was not synced yet may be lost.
    fn behind_gap(&self) -> Option<usize> {
        let from = self.base + self.at as u64;
        let page = self.at + usize::try_from(Segment::next_page(from) - from).ok()?;
        let is_gap = page > self.at
            && self.bytes.get(self.at..page)?.iter().all(|byte| *byte == 0)
            && matches!(self.frame_at(page), Frame::Good(_));
        is_gap.then_some(page)
    }

    fn is_blank(&self) -> bool {
        self.bytes[self.at..].iter().all(|byte| *byte == 0)
    }

    fn skip_damage(&mut self, from: u64) -> Found<'b> {
        let start = self.at;
        loop {
            self.at = (self.at + ALIGN).min(self.bytes.len());
            if self.at == self.bytes.len() {
                // Zeros at the end were never written, so they are not damaged.
                let last = self.bytes[start..].iter().rposition(|byte| *byte != 0);
                return Found::Damaged { from, to: from + last.map_or(0, |last| last as u64 + 1) };
            }
            if matches!(self.frame_at(self.at), Frame::Good(_)) {
                return Found::Damaged { from, to: self.base + self.at as u64 };
            }
        }
    }

    fn frame_at(&self, at: usize) -> Frame<'b> {
        let rest = &self.bytes[at..];
        let Some((head, body)) = rest.split_first_chunk::<FRAME_BYTES>() else {
            let blank = self.whole && rest.iter().all(|byte| *byte == 0);
            return if blank { Frame::Blank } else { Frame::Cut(FRAME_BYTES) };
        };
        if *head == [0; FRAME_BYTES] {
            return Frame::Blank;
        }
        let (payload, kind) = (u32_at(head, 0) as usize, head[14]);
        let plausible = payload <= PAYLOAD_BYTES_MAX
            && (KIND_START..=KIND_BEAT).contains(&kind)
            && head[15] == 0;
        if !plausible {
            return Frame::Bad;
        }
        let length = frame_len(payload);
        if rest.len() < length {
            return Frame::Cut(length);
        }
        let (payload, padding) = body[..length - FRAME_BYTES].split_at(payload);
        let offset = self.base + at as u64;
        let fits = self.segment.checksum(offset, head, payload) == u32_at(head, 4)
            && padding.iter().all(|byte| *byte == 0);
        if !fits {
            return Frame::Bad;
        }
        let at_ms = u64_at(head, 8) & 0xffff_ffff_ffff;
        Frame::Good(Record { offset, next: offset + length as u64, at_ms, kind, payload })
    }
}

enum Frame<'b> {
    Bad,
    Blank,
    /// It claims to be this long.
    Cut(usize),
    Good(Record<'b>),
}
