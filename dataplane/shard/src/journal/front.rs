//! Fronts: the segments that shards write, as files in memory that outlive the process.
//! Owns:  the folder of one journal's fronts, by default in `/dev/shm`.
//! Gives: a front to write, and at start what earlier runs wrote and had not copied to the disk yet.
//! Never: removes a front whose bytes the disk does not have.
//! Holds: nobody else can read or plant one: the folder is ours and has mode 0700.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use shared::journal::Segment;
use shared::settings::JournalSettings;

/// Memory that every Linux mounts as a file system.
const MEMORY: &str = "/dev/shm";
/// Where fronts are without it, under the journal's own folder.
const ON_DISK: &str = "front";

#[derive(Debug)]
pub(super) struct Front {
    folder: PathBuf,
    /// Why the fronts are on a disk, where a stall of it holds up the shards.
    pub(super) on_disk: Option<String>,
}

impl Front {
    /// The configured place, else memory, else the journal's own disk.
    pub(super) fn open(settings: &JournalSettings) -> io::Result<Self> {
        let name = name_of(&settings.folder)?;
        let in_memory = settings.front.as_deref().unwrap_or(Path::new(MEMORY));
        let folder = in_memory.join(&name);
        if let Some(place) = &settings.front {
            let outcome = DirBuilder::new().recursive(true).mode(0o700).create(place);
            outcome.map_err(|error| explained(place, &error))?;
        }
        match private(&folder).and_then(|()| in_memory_file_system(&folder)) {
            Ok(true) => Ok(Self { folder, on_disk: None }),
            Ok(false) => {
                let on_disk = Some(format!("{} is not in memory", in_memory.display()));
                Ok(Self { folder, on_disk })
            }
            Err(error) if settings.front.is_some() => Err(explained(&folder, &error)),
            Err(error) => {
                let on_disk = Some(format!("{}: {error}", folder.display()));
                let folder = settings.folder.join(ON_DISK);
                private(&folder)?;
                Ok(Self { folder, on_disk })
            }
        }
    }

    /// Brings the journal's folder up to what the fronts of earlier runs have, wherever those were put,
    /// and lets go of them. Gives how many there were.
    pub(super) fn recover(&self, settings: &JournalSettings) -> io::Result<usize> {
        let name = name_of(&settings.folder)?;
        let places =
            [self.folder.clone(), Path::new(MEMORY).join(name), settings.folder.join(ON_DISK)];
        let mut count = 0;
        for place in BTreeSet::from(places) {
            if !is_private(&place) {
                continue;
            }
            let segments = segments(&place)?;
            for segment in &segments {
                let front = place.join(segment.file_name());
                copy(&front, &settings.folder.join(segment.file_name()))?;
            }
            File::open(&settings.folder)?.sync_all()?;
            for segment in &segments {
                fs::remove_file(place.join(segment.file_name()))?;
            }
            if place != self.folder {
                // One that has something else in it stays.
                drop(fs::remove_dir(&place));
            }
            count += segments.len();
        }
        Ok(count)
    }

    pub(super) fn make(&self, segment: Segment) -> io::Result<File> {
        make(&self.folder.join(segment.file_name()), segment)
    }

    pub(super) fn remove(&self, segment: Segment) -> io::Result<()> {
        fs::remove_file(self.folder.join(segment.file_name()))
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// After the last front is gone. What is left in it is for the next start.
    pub(super) fn close(&self) {
        drop(fs::remove_dir(&self.folder));
    }
}

/// A front with its header; it takes as much memory as is written.
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

/// Names a journal's folder on this host, and not another one that is later made in its place.
fn name_of(folder: &Path) -> io::Result<String> {
    let about = fs::metadata(folder)?;
    // Not every file system knows it.
    let born = about.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |since| since.as_nanos());
    Ok(format!("ringgate-{:x}-{:x}-{born:x}", about.dev(), about.ino()))
}

fn private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_private(folder) {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        "it is no folder that only this user can enter",
    ))
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

#[allow(unsafe_code)]
fn in_memory_file_system(folder: &Path) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    // SAFETY: the structure is plain numbers, for which all zeros is a value; the call fills it for an
    // open descriptor of ours. The standard library does not tell file systems apart.
    let kind = unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(folder.as_raw_fd(), &raw mut about) != 0 {
            return Err(io::Error::last_os_error());
        }
        about.f_type
    };
    Ok(kind == libc::TMPFS_MAGIC)
}

fn segments(folder: &Path) -> io::Result<BTreeSet<Segment>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    Ok(names.iter().filter_map(|name| Segment::of_file_name(name.to_str()?)).collect())
}

/// Over what the disk has of it, which is the same up to where the copying came.
fn copy(front: &Path, path: &Path) -> io::Result<()> {
    let mut from = File::open(front)?;
    let mut into =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    into.seek(SeekFrom::Start(0))?;
    io::copy(&mut from, &mut into)?;
    into.sync_all()
}
