//! One journal, read from where its records are needed to where it is good.
//! Owns:  the place, the open segment, the calls that stand at that place.
//! Gives: ends in batches; damage as it is met; the calls that a crash cut.
//! Never: waits, stores, removes.
//! Holds: what was handed out once is not handed out again, unless the caller starts a new reader.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use shared::cdr::Cdr;
use shared::ids::CallId;
use shared::journal::{
    Entry, Found, HEADER_BYTES, NotSegment, Position, Record, Scan, Segment, Stream, crashed,
};

use super::folder;

/// Read at a time; a longer frame, or damage, takes more.
const PIECE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    pub(super) stream: Stream,
    /// Ends in front of it are stored.
    stored: Position,
    pub(super) at: Position,
    file: Option<File>,
    standing: HashMap<CallId, Standing>,
    /// Whether starts are kept for `cut`.
    keeps_starts: bool,
    /// The shard's clock in the newest record.
    lived_ms: u64,
    /// A segment whose lack has been told.
    missing: Option<u64>,
}

#[derive(Debug)]
struct Standing {
    /// Where its newest start is.
    segment: u64,
    at_ms: u64,
    start: Option<Box<Cdr>>,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ends: Vec<Cdr>,
    pub(super) damage: Vec<Damage>,
    /// There is nothing more up to the limit.
    pub(super) caught_up: bool,
}

/// What could not be read.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) segment: Segment,
    pub(super) what: String,
    /// Where the bytes are kept.
    pub(super) kept: Option<PathBuf>,
}

enum Step {
    Full,
    /// Once more from the same place, with so many bytes.
    More(u64),
    SegmentDone,
}

impl Reader {
    /// Of a shard that runs: from its first segment.
    pub(super) fn live(folder: PathBuf, stream: Stream) -> Self {
        let at = Position { segment: Segment::FIRST, offset: 0 };
        Self::new(folder, stream, Position::default(), at, false)
    }

    /// Of an earlier run: everything that is left of it. `None`: nothing is.
    pub(super) fn earlier(
        folder: PathBuf,
        stream: Stream,
        stored: Position,
    ) -> io::Result<Option<Self>> {
        let first = folder::numbers(&folder, stream, 0)?.first().copied();
        let at = |segment| Position { segment, offset: 0 };
        Ok(first.map(|first| Self::new(folder, stream, stored, at(first), true)))
    }

    fn new(
        folder: PathBuf,
        stream: Stream,
        stored: Position,
        at: Position,
        keeps_starts: bool,
    ) -> Self {
        let standing = HashMap::new();
        Self {
            folder,
            stream,
            stored,
            at,
            file: None,
            standing,
            keeps_starts,
            lived_ms: 0,
            missing: None,
        }
    }

    /// The next ends, at most `most`, from in front of `limit`; without a limit to the very end.
    pub(super) fn batch(&mut self, limit: Option<Position>, most: usize) -> io::Result<Batch> {
        let mut batch = Batch::default();
        match self.fill(limit, most, &mut batch) {
            // Those that were read are read; the next call meets the error again.
            Err(error) if batch.ends.is_empty() => Err(error),
            _ => Ok(batch),
        }
    }

    fn fill(&mut self, limit: Option<Position>, most: usize, batch: &mut Batch) -> io::Result<()> {
        let mut piece = PIECE;
        while let Some(end) = self.end(limit, batch)? {
            match self.step(end, piece, most, batch)? {
                Step::Full => return Ok(()),
                Step::More(bytes) => piece = bytes,
                Step::SegmentDone if self.next_segment(limit, batch)? => piece = PIECE,
                Step::SegmentDone => break,
            }
        }
        batch.caught_up = true;
        Ok(())
    }

    /// Where reading of the present segment ends. `None`: there is nothing to read.
    fn end(&mut self, limit: Option<Position>, batch: &mut Batch) -> io::Result<Option<u64>> {
        if limit.is_some_and(|limit| limit <= self.at) {
            return Ok(None);
        }
        while self.file.is_none() {
            if !self.enter(batch)? && !self.next_segment(limit, batch)? {
                return Ok(None);
            }
        }
        match (limit, &self.file) {
            (Some(limit), _) if limit.segment == self.at.segment => Ok(Some(limit.offset)),
            (_, Some(file)) => Ok(Some(file.metadata()?.len())),
            (_, None) => Ok(None),
        }
    }

    /// Opens the segment of the present place; `false` when it cannot be read at all.
    fn enter(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let segment = self.segment();
        let file = match File::open(self.folder.join(segment.file_name())) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if self.missing.replace(self.at.segment) != Some(self.at.segment) {
                    batch.damage.push(self.damage("the segment is missing".to_owned(), None));
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut header = [0; HEADER_BYTES];
        let short = file.read_exact_at(&mut header, 0).is_err();
        match Segment::read(if short { &[] } else { &header }) {
            Ok(found) if found == segment => {}
            Err(error @ NotSegment::Version(_)) => {
                let kept = folder::quarantine_segment(&self.folder, segment)?;
                batch.damage.push(self.damage(error.to_string(), Some(kept)));
                return Ok(false);
            }
            // Frames know where they belong, so they are read without it.
            Ok(_) => batch.damage.push(self.damage("another segment's header".to_owned(), None)),
            Err(error) => batch.damage.push(self.damage(error.to_string(), None)),
        }
        self.at.offset = HEADER_BYTES as u64;
        self.file = Some(file);
        Ok(true)
    }

    fn step(&mut self, end: u64, piece: u64, most: usize, batch: &mut Batch) -> io::Result<Step> {
        let Some(file) = &self.file else { return Ok(Step::SegmentDone) };
        let (segment, base) = (self.segment(), self.at.offset);
        let length = end.saturating_sub(base).min(piece);
        let whole = base + length >= end;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, base)?;
        let mut scan = if whole {
            Scan::whole(segment, base, &bytes)
        } else {
            Scan::piece(segment, base, &bytes)
        };
        loop {
            match scan.next() {
                Found::Record(record) => {
                    self.take(&record, batch);
                    self.at.offset = record.next;
                    if batch.ends.len() >= most {
                        return Ok(Step::Full);
                    }
                }
                Found::Damaged { from, to } => {
                    let place = |at: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
                    let kept = self.keep(from, &bytes[place(from)..place(to)]);
                    let what = format!("{} bytes at {from} are damaged", to - from);
                    batch.damage.push(self.damage(what, kept));
                    self.at.offset = to;
                }
                Found::End => {
                    self.at.offset = end;
                    return Ok(Step::SegmentDone);
                }
                Found::Short { needed, .. } => {
                    return Ok(Step::More(PIECE.max(needed as u64)));
                }
                Found::Unclear { .. } => return Ok(Step::More(u64::MAX)),
            }
        }
    }

    fn take(&mut self, record: &Record<'_>, batch: &mut Batch) {
        self.lived_ms = self.lived_ms.max(record.at_ms);
        match record.entry() {
            Ok(Entry::Beat) => {}
            Ok(Entry::End(cdr)) => {
                self.standing.remove(&cdr.session_id);
                if (Position { offset: record.offset, ..self.at }) >= self.stored {
                    batch.ends.push(*cdr);
                }
            }
            Ok(Entry::Start(cdr)) => {
                let standing =
                    Standing { segment: self.at.segment, at_ms: record.at_ms, start: None };
                let id = cdr.session_id;
                let start = self.keeps_starts.then_some(cdr);
                self.standing.insert(id, Standing { start, ..standing });
            }
            Err(error) => {
                let kept = self.keep(record.offset, record.payload());
                let what = format!("the record at {}: {error}", record.offset);
                batch.damage.push(self.damage(what, kept));
            }
        }
    }

    /// Goes on to the next segment that there is; `false` when there is none in front of the limit.
    fn next_segment(&mut self, limit: Option<Position>, batch: &mut Batch) -> io::Result<bool> {
        let last = limit.map_or(u64::MAX, |limit| limit.segment);
        if self.at.segment >= last {
            return Ok(false);
        }
        let next = folder::numbers(&self.folder, self.stream, self.at.segment + 1)?;
        let Some(next) = next.first().copied().filter(|next| *next <= last) else {
            return Ok(false);
        };
        if next > self.at.segment + 1 {
            let missing = format!("segments up to {} are missing", next - 1);
            batch.damage.push(self.damage(missing, None));
        }
        self.at = Position { segment: next, offset: 0 };
        self.file = None;
        Ok(true)
    }

    /// What the database has now.
    pub(super) const fn stored(&mut self) {
        self.stored = self.at;
    }

    pub(super) fn stands(&self) -> usize {
        self.standing.len()
    }

    /// Segments below this one are not needed any more, once everything read is stored.
    pub(super) fn needed_from(&self) -> u64 {
        let oldest = self.standing.values().map(|call| call.segment).min();
        oldest.unwrap_or(u64::MAX).min(self.at.segment)
    }

    /// The calls that stood when the journal ended, with the records that they get.
    pub(super) fn cut(&mut self) -> Vec<Cdr> {
        let lived_ms = self.lived_ms;
        let standing = self
            .standing
            .drain()
            .filter_map(|(_, call)| call.start.map(|start| crashed(*start, call.at_ms, lived_ms)));
        let mut cut: Vec<Cdr> = standing.collect();
        cut.sort_by_key(|cdr| cdr.session_id);
        cut
    }

    fn segment(&self) -> Segment {
        Segment { stream: self.stream, number: self.at.segment }
    }

    fn damage(&self, what: String, kept: Option<PathBuf>) -> Damage {
        Damage { segment: self.segment(), what, kept }
    }

    fn keep(&self, offset: u64, bytes: &[u8]) -> Option<PathBuf> {
        let name = format!("{}-{offset:010}", self.segment().file_name());
        let kept = folder::quarantine(&self.folder, &name, bytes);
        kept.map_err(|error| tracing::error!(name, %error, "damaged bytes are not kept")).ok()
    }
}
