//! The files of journals: which there are, which can go, and what could not be read of them.
//! Owns:  the listing, the removal, the quarantine.
//! Gives: streams and segments in order.
//! Never: removes a file that is not a segment.
//! Holds: segments go oldest first, so that the start of a call never outlives its end.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use shared::journal::{Segment, Stream};

/// Pieces that are kept for a look; more of them would fill a disk and say nothing new.
const QUARANTINED_MAX: usize = 1_000;

/// Every segment in the folder, in order.
pub(super) fn segments(folder: &Path) -> io::Result<BTreeSet<Segment>> {
    let mut found = BTreeSet::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(Segment::of_file_name));
    }
    Ok(found)
}

/// The numbers of one stream's segments from `first` on, in order.
pub(super) fn numbers(folder: &Path, stream: Stream, first: u64) -> io::Result<Vec<u64>> {
    let all = segments(folder)?;
    let own = all.range(Segment { stream, number: first }..=Segment { stream, number: u64::MAX });
    Ok(own.map(|segment| segment.number).collect())
}

/// Removes a stream's segments below `end`, and sees to it that they stay away.
pub(super) fn remove(folder: &Path, stream: Stream, end: u64) -> io::Result<()> {
    let numbers = numbers(folder, stream, 0)?;
    for number in numbers.into_iter().filter(|number| *number < end) {
        let path = folder.join(Segment { stream, number }.file_name());
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::open(folder)?.sync_all()
}

/// Keeps bytes that could not be read; gives where.
pub(super) fn quarantine(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = quarantine_folder(folder)?;
    let path = folder.join(name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(bytes)?;
    Ok(path)
}

/// Puts a whole segment aside that this version cannot read.
pub(super) fn quarantine_segment(folder: &Path, segment: Segment) -> io::Result<PathBuf> {
    let name = segment.file_name();
    let target = quarantine_folder(folder)?.join(&name);
    fs::rename(folder.join(&name), &target)?;
    Ok(target)
}

fn quarantine_folder(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("quarantine");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    if fs::read_dir(&path)?.count() >= QUARANTINED_MAX {
        let text = format!("{} is full: {QUARANTINED_MAX} pieces", path.display());
        return Err(io::Error::other(text));
    }
    Ok(path)
}
