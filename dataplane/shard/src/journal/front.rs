//! Fronts: the segments that shards write, as files in memory that outlive the process.
//! Owns:  the folder of this run's fronts, by default in `/dev/shm`; the note that says where it is.
//! Gives: a front to write, and at start what an earlier run wrote and had not copied to the disk yet.
//! Never: removes a front whose bytes the disk does not have.
//! Holds: nobody else can read or plant one: the folder is ours, new, locked, and has mode 0700.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use shared::journal::{Found, HEADER_BYTES, Scan, Segment};
use shared::settings::JournalSettings;

/// Memory that every Linux mounts as a file system.
const MEMORY: &str = "/dev/shm";
/// Where fronts are without it, under the journal's own folder.
const ON_DISK: &str = "front";
/// In the journal's folder: which folder the note was written for, and where its fronts are.
const NOTE: &str = "front-at";

#[derive(Debug)]
pub(super) struct Front {
    journal: PathBuf,
    /// `None`: there is no place in memory.
    memory: Option<Place>,
    /// What an operator should know of it.
    pub(super) notices: Vec<String>,
}

#[derive(Debug)]
struct Place {
    folder: PathBuf,
    /// Locked for as long as this process lives, so that a copy of the data folder takes nothing from it.
    _lock: File,
}

impl Front {
    /// Brings the journal's folder up to what an earlier run left in memory, then makes a place for this
    /// run: the configured one, else memory, else the journal's own disk. Gives how many fronts were left.
    pub(super) fn open(settings: &JournalSettings) -> io::Result<(Self, usize)> {
        let mut notices = Vec::new();
        let recovered = recover(&settings.folder, &mut notices)?;
        let base = settings.front.as_deref().unwrap_or_else(|| Path::new(MEMORY));
        let memory = match place(base, settings) {
            Ok(place) => Some(place),
            Err(error) if settings.front.is_some() => return Err(explained(base, &error)),
            Err(error) => {
                notices.push(on_a_disk(&explained(base, &error).to_string()));
                None
            }
        };
        if let Some(Place { folder, .. }) = &memory {
            if !is_in_memory(folder)? {
                notices.push(on_a_disk(&format!("{} is a disk", base.display())));
            }
            write_note(&settings.folder, folder)?;
        }
        Ok((Self { journal: settings.folder.clone(), memory, notices }, recovered))
    }

    /// Takes as much memory as is written. Where memory is short, a front is on the disk.
    pub(super) fn make(&self, segment: Segment, bytes: u64) -> io::Result<(PathBuf, File)> {
        if let Some(Place { folder, .. }) = &self.memory {
            if !folder.exists() {
                // Somebody who tidies memory took it; files that are open live on.
                private(folder)?;
            }
            if free_bytes(folder)? >= bytes {
                let path = folder.join(segment.file_name());
                return Ok((path.clone(), make(&path, segment)?));
            }
        }
        let folder = self.journal.join(ON_DISK);
        private(&folder)?;
        let path = folder.join(segment.file_name());
        Ok((path.clone(), make(&path, segment)?))
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.memory.as_ref().expect("there is memory").folder
    }

    /// After the last front is gone. What is left is for the next start.
    pub(super) fn close(&self) {
        drop(fs::remove_dir(self.journal.join(ON_DISK)));
        if let Some(Place { folder, .. }) = &self.memory
            && fs::remove_dir(folder).is_ok()
        {
            drop(fs::remove_file(self.journal.join(NOTE)));
        }
    }
}

fn on_a_disk(reason: &str) -> String {
    format!("the journal has no place in memory ({reason}): a disk that stalls holds up calls")
}

/// A new folder of this run.
fn place(base: &Path, settings: &JournalSettings) -> io::Result<Place> {
    if settings.front.is_some() {
        DirBuilder::new().recursive(true).mode(0o700).create(base)?;
    }
    let folder = fs::canonicalize(base)?.join(format!("ringgate-{:016x}", settings.run));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let lock = File::open(&folder)?;
    lock.try_lock()?;
    Ok(Place { folder, _lock: lock })
}

/// Where an earlier run of this journal's folder had its fronts.
fn recover(journal: &Path, notices: &mut Vec<String>) -> io::Result<usize> {
    let mut count = take(&journal.join(ON_DISK), journal)?;
    let note = match fs::read_to_string(journal.join(NOTE)) {
        Ok(note) => note,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(count),
        Err(error) => return Err(error),
    };
    let (whose, folder) = note.trim_end().split_once('\n').unwrap_or_default();
    let folder = Path::new(folder);
    // A copy of a data folder has the note of the other one.
    if whose != identity(journal)? || !folder.exists() {
        return Ok(count);
    }
    if !is_private(folder) {
        notices.push(format!(
            "{} has what an earlier run wrote of its calls, and is no folder that only this user can \
             enter: it is left there",
            folder.display()
        ));
        return Ok(count);
    }
    let lock = File::open(folder)?;
    lock.try_lock().map_err(|error| explained(folder, &error.into()))?;
    count += take(folder, journal)?;
    // One that has something else in it stays.
    drop(fs::remove_dir(folder));
    Ok(count)
}

/// Everything from one place to the disk, and then away.
fn take(place: &Path, journal: &Path) -> io::Result<usize> {
    if !is_private(place) {
        return Ok(0);
    }
    let names = fs::read_dir(place)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    let segments: BTreeSet<Segment> =
        names.iter().filter_map(|name| Segment::of_file_name(name.to_str()?)).collect();
    for segment in &segments {
        copy(*segment, &place.join(segment.file_name()), &journal.join(segment.file_name()))?;
    }
    File::open(journal)?.sync_all()?;
    for segment in &segments {
        fs::remove_file(place.join(segment.file_name()))?;
    }
    Ok(segments.len())
}

/// The frames that are whole, over the same bytes on the disk, which has the first of them already. A
/// front that was on a disk when power failed may have lost what the segment has.
fn copy(segment: Segment, front: &Path, path: &Path) -> io::Result<()> {
    let bytes = fs::read(front)?;
    let into =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    into.write_all_at(&segment.header(), 0)?;
    let base = HEADER_BYTES as u64;
    let mut scan = Scan::whole(segment, base, bytes.get(HEADER_BYTES..).unwrap_or_default());
    loop {
        match scan.next() {
            Found::Record(record) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let frame = &bytes[place(record.offset)..place(record.next).min(bytes.len())];
                into.write_all_at(frame, record.offset)?;
            }
            Found::Damaged { .. } => {}
            _ => break,
        }
    }
    into.sync_all()
}

/// Before the first front is written.
fn write_note(journal: &Path, folder: &Path) -> io::Result<()> {
    let (path, made) = (journal.join(NOTE), journal.join(format!("{NOTE}.new")));
    let Some(place) = folder.to_str() else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "the path of the front is not UTF-8"));
    };
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&made)?;
    file.write_all(format!("{}\n{place}\n", identity(journal)?).as_bytes())?;
    file.sync_all()?;
    fs::rename(&made, &path)?;
    File::open(journal)?.sync_all()
}

/// Tells a folder from a copy of it, and from one that is later made in its place.
fn identity(folder: &Path) -> io::Result<String> {
    let about = fs::metadata(folder)?;
    // Not every file system knows it.
    let born = about.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{:x}-{:x}", about.ino(), born.map_or(0, |since| since.as_nanos())))
}

/// A front with its header.
pub(super) fn make(path: &Path, segment: Segment) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all_at(&segment.header(), 0).inspect_err(|_| {
        // If that fails too, the next start finds a front without a frame.
        drop(fs::remove_file(path));
    })?;
    Ok(file)
}

fn explained(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_private(folder) {
        return Ok(());
    }
    let text = format!("{} is no folder that only this user can enter", folder.display());
    Err(io::Error::new(ErrorKind::PermissionDenied, text))
}

fn is_private(folder: &Path) -> bool {
    // Not through a link, which somebody else may have put there.
    fs::symlink_metadata(folder).is_ok_and(|about| is_ours(&about))
}

#[allow(unsafe_code)]
fn is_ours(about: &Metadata) -> bool {
    // SAFETY: the call takes nothing and cannot fail. The standard library does not have it.
    let us = unsafe { libc::geteuid() };
    about.is_dir() && about.uid() == us && about.mode() & 0o077 == 0
}

fn is_in_memory(folder: &Path) -> io::Result<bool> {
    Ok(file_system(folder)?.f_type == libc::TMPFS_MAGIC)
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let about = file_system(folder)?;
    Ok(about.f_bavail.saturating_mul(u64::try_from(about.f_bsize).unwrap_or(0)))
}

#[allow(unsafe_code)]
fn file_system(folder: &Path) -> io::Result<libc::statfs> {
    let folder = File::open(folder)?;
    // SAFETY: the structure is plain numbers, for which all zeros is a value; the call fills it for an
    // open descriptor of ours. The standard library does not tell file systems apart.
    unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(folder.as_raw_fd(), &raw mut about) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(about)
    }
}
