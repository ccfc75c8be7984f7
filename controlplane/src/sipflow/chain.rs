//! From a call's last known message back to its first, and on to those after its end.
//! Owns:  the walk over the segments; the bounds of an answer.
//! Gives: `read`, which blocks on the disk.
//! Never: believes a frame whose checksum does not fit, or one of another call.
//! Holds: each step back goes to an earlier place, so that a walk ends.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shared::ids::CallId;
use shared::sipflow::{
    FAMILY, FRAME_BYTES_MAX, Frame, HEADER_BYTES, NotFrame, Place, Position, Segment, Stream,
};
use shared::time::WallMs;

use super::mask::mask;
use super::{Flow, Message, Missing};

const MESSAGES_MAX: usize = 2_000;
const BYTES_MAX: usize = 2 << 20;
/// Of these, what may come after the place that the record names.
const TAIL_MESSAGES_MAX: usize = 500;
/// How much of the segments is looked at for them: nine seconds of a shard with 500 calls a second,
/// all forty of one with 100.
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// Most messages are shorter.
const STEP_BYTES: usize = 2_048;
const SCAN_BYTES: usize = 256 * 1_024;

const _: () = assert!(SCAN_BYTES > FRAME_BYTES_MAX);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub place: Place,
    pub call: CallId,
    /// Nothing of the call is later than this.
    pub until: WallMs,
}

/// # Errors
/// A file that is there cannot be read.
pub fn read(folder: &Path, asked: &Asked) -> io::Result<Flow> {
    let stream = asked.place.stream;
    let mut walk = Walk {
        files: Files { folder: folder.to_owned(), stream, open: None },
        call: asked.call,
        flow: Flow::default(),
        bytes: 0,
    };
    let mut start = asked.place.position;
    if walk.files.at(start, |_| ())? != Found::Frame(()) {
        let there = walk.files.open(start.segment)?;
        walk.flow.missing.push(match there {
            None => Missing::Expired,
            Some(file) if start.offset >= file.metadata()?.len() => Missing::Unwritten,
            Some(_) => Missing::Damaged,
        });
        // What was written before is better than nothing.
        match walk.newest_before(start)? {
            Some(position) => start = position,
            None => return Ok(walk.flow),
        }
    }
    walk.after(start, asked.until)?;
    let tail = std::mem::take(&mut walk.flow.messages);
    walk.back_from(start)?;
    walk.flow.messages.reverse();
    walk.flow.messages.extend(tail);
    Ok(walk.flow)
}

#[derive(Debug)]
struct Walk {
    files: Files,
    call: CallId,
    flow: Flow,
    bytes: usize,
}

/// What lies at a place.
#[derive(Debug, PartialEq, Eq)]
enum Found<T> {
    Frame(T),
    /// Something else, or nothing.
    Nothing,
    /// There is no such file.
    NoFile,
}

impl Walk {
    /// Takes the message at this place and those before it, newest first.
    fn back_from(&mut self, start: Position) -> io::Result<()> {
        let mut next = Some(start);
        while let Some(position) = next {
            if self.flow.messages.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX {
                self.flow.missing.push(Missing::Limit);
                break;
            }
            let call = self.call;
            let found = self.files.at(position, |frame| {
                let earlier = frame.previous.is_none_or(|previous| previous < position);
                let sound = frame.call == call && earlier;
                sound.then(|| (message(frame), frame.previous, frame.lost))
            })?;
            match found {
                Found::Frame(Some((message, previous, lost))) => {
                    self.take(message, lost);
                    next = previous;
                }
                Found::Frame(None) | Found::Nothing => {
                    self.flow.missing.push(Missing::Damaged);
                    break;
                }
                Found::NoFile => {
                    self.flow.missing.push(Missing::Expired);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes the call's messages behind this place, oldest first.
    fn after(&mut self, start: Position, until: WallMs) -> io::Result<()> {
        let call = self.call;
        let mut left = TAIL_BYTES_MAX;
        let mut number = start.segment;
        let mut from = start.offset;
        loop {
            let mut taken = Vec::new();
            let enough = TAIL_MESSAGES_MAX.saturating_sub(self.flow.messages.len());
            let end = self.files.scan(number, from, left, |position, frame| {
                if frame.at > until {
                    return false;
                }
                if frame.call == call && position > start {
                    taken.push((message(frame), frame.lost));
                }
                taken.len() < enough
            })?;
            for (message, lost) in taken {
                self.take(message, lost);
            }
            match end {
                // A torn frame is the last of its file: what follows is in the next one, if anywhere.
                ScanEnd::File { looked_at } | ScanEnd::Nothing { looked_at } => {
                    left = left.saturating_sub(looked_at);
                }
                ScanEnd::Told => {
                    if self.flow.messages.len() >= TAIL_MESSAGES_MAX {
                        self.flow.missing.push(Missing::Tail);
                    }
                    return Ok(());
                }
                ScanEnd::Bound => {
                    self.flow.missing.push(Missing::Tail);
                    return Ok(());
                }
                ScanEnd::NoFile => return Ok(()),
            }
            number += 1;
            from = HEADER_BYTES as u64;
        }
    }

    /// The call's last message in front of a place that cannot be read, in its segment or the one
    /// before.
    fn newest_before(&mut self, place: Position) -> io::Result<Option<Position>> {
        let call = self.call;
        for number in [place.segment, place.segment.saturating_sub(1)] {
            let mut newest = None;
            self.files.scan(number, HEADER_BYTES as u64, u64::MAX, |position, frame| {
                if position < place && frame.call == call {
                    newest = Some(position);
                }
                position < place
            })?;
            if newest.is_some() {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    fn take(&mut self, message: Message, lost: u32) {
        self.bytes += message.raw.len();
        self.flow.dropped += u64::from(lost);
        self.flow.messages.push(message);
    }
}

fn message(frame: &Frame<'_>) -> Message {
    let mut raw = frame.raw.to_vec();
    mask(&mut raw);
    let Frame { at, side, came, transport, local, peer, .. } = *frame;
    Message { at, side, came, transport, local, peer, raw }
}

/// The segments of one stream.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    stream: Stream,
    /// The one that was looked at last.
    open: Option<(u64, File)>,
}

/// Why a scan ended.
#[derive(Debug, PartialEq, Eq)]
enum ScanEnd {
    /// It may not look at more.
    Bound,
    /// With the file.
    File {
        looked_at: u64,
    },
    NoFile,
    /// What lies there is no frame.
    Nothing {
        looked_at: u64,
    },
    /// It was told so.
    Told,
}

impl Files {
    /// The segment's file; `None` when there is none, or none that is ours.
    fn open(&mut self, number: u64) -> io::Result<Option<&File>> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = None;
            let segment = Segment { stream: self.stream, number };
            let file = match File::open(self.folder.join(segment.file_name_of(&FAMILY))) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut header = [0; HEADER_BYTES];
            let length = read_at(&file, &mut header, 0)?;
            if Segment::read_of(&FAMILY, &header[..length]) != Ok(segment) {
                return Ok(None);
            }
            self.open = Some((number, file));
        }
        Ok(self.open.as_ref().map(|(_, file)| file))
    }

    fn at<T>(
        &mut self,
        position: Position,
        look: impl FnOnce(&Frame<'_>) -> T,
    ) -> io::Result<Found<T>> {
        let Position { segment: number, offset } = position;
        let segment = Segment { stream: self.stream, number };
        let Some(file) = self.open(number)? else { return Ok(Found::NoFile) };
        let mut bytes = vec![0; STEP_BYTES];
        let mut length = read_at(file, &mut bytes, offset)?;
        if let Err(NotFrame::Cut(whole)) = Frame::read(segment, offset, &bytes[..length])
            && length == STEP_BYTES
        {
            bytes.resize(whole, 0);
            length = read_at(file, &mut bytes, offset)?;
        }
        Ok(match Frame::read(segment, offset, &bytes[..length]) {
            Ok((frame, _)) => Found::Frame(look(&frame)),
            Err(_) => Found::Nothing,
        })
    }

    /// Shows frame after frame from `from` on, as long as `look` wants more.
    fn scan(
        &mut self,
        number: u64,
        from: u64,
        most: u64,
        mut look: impl FnMut(Position, &Frame<'_>) -> bool,
    ) -> io::Result<ScanEnd> {
        let segment = Segment { stream: self.stream, number };
        let Some(file) = self.open(number)? else { return Ok(ScanEnd::NoFile) };
        let mut bytes = vec![0; SCAN_BYTES];
        let mut base = from;
        loop {
            let length = read_at(file, &mut bytes, base)?;
            let mut at = 0;
            loop {
                let offset = base + at as u64;
                match Frame::read(segment, offset, &bytes[at..length]) {
                    Ok((frame, whole)) => {
                        if !look(Position { segment: number, offset }, &frame) {
                            return Ok(ScanEnd::Told);
                        }
                        at += whole;
                    }
                    Err(NotFrame::Cut(_)) if at > 0 && length == SCAN_BYTES => break,
                    Err(NotFrame::Cut(_)) => {
                        return Ok(ScanEnd::File { looked_at: offset - from });
                    }
                    Err(NotFrame::Damaged) => {
                        return Ok(ScanEnd::Nothing { looked_at: offset - from });
                    }
                }
            }
            base += at as u64;
            if base - from >= most {
                return Ok(ScanEnd::Bound);
            }
        }
    }
}

/// As much as there is.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
