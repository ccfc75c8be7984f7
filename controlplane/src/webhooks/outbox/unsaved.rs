//! Events that the database did not take: a file of JSON lines beside it.
//! Owns:  the file `registrations.events`.
//! Gives: `append` while the database fails, `store` when it answers again, at a start too.
//! Never: removes the file before everything in it is stored; grows beyond its bound.
//! Holds: an event that is stored twice is there once, so a kill between the two steps does no harm.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::{NewEvent, Store, StoreError};

const FILE: &str = "registrations.events";
/// Some hundred thousand events: hours without a database.
const BYTES_MAX: u64 = 256 << 20;
/// Events of one transaction.
const BATCH_MAX: usize = 500;

#[derive(Clone, Debug)]
pub(super) struct Unsaved {
    folder: PathBuf,
}

impl Unsaved {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    pub(super) fn is_there(&self) -> bool {
        self.path().exists()
    }

    /// Returns when the events are on the disk.
    pub(super) async fn append(&self, events: &[NewEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let (folder, path) = (self.folder.clone(), self.path());
        off_the_runtime(move || append(&folder, &path, &lines)).await
    }

    /// Stores everything and removes the file. Gives the number of events; no file is no error.
    pub(super) async fn store(&self, store: &dyn Store) -> io::Result<usize> {
        let path = self.path();
        let opened = off_the_runtime({
            let path = path.clone();
            move || File::open(path)
        });
        let mut input = match opened.await {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut stored = 0;
        loop {
            let read = off_the_runtime(move || read_batch(&mut input).map(|batch| (batch, input)));
            let (batch, rest) = read.await?;
            input = rest;
            for line in batch.unreadable {
                // A process that was killed here leaves half a line.
                tracing::error!(file = %path.display(), line, "an event is unreadable");
            }
            match store.add_events(&batch.events).await {
                Ok(()) => {}
                Err(StoreError::Refused(_)) => store_each(store, &batch.events).await?,
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            stored += batch.events.len();
            if batch.at_end {
                off_the_runtime(move || fs::remove_file(path)).await?;
                return Ok(stored);
            }
        }
    }
}

/// Files may wait for a disk.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn append(folder: &Path, path: &Path, lines: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut options = OpenOptions::new();
    let mut file = options.create(true).read(true).append(true).mode(0o600).open(path)?;
    let before = file.metadata()?.len();
    if before + lines.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("{} is full", path.display())));
    }
    let written = write_lines(&mut file, before, lines);
    if written.is_err() {
        // What is there in part would spoil the line that comes after it.
        file.set_len(before)?;
    }
    written
}

fn write_lines(file: &mut File, before: u64, lines: &[u8]) -> io::Result<()> {
    if before > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(before - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(lines)?;
    file.sync_all()
}

#[derive(Debug, Default)]
struct Batch {
    events: Vec<NewEvent>,
    unreadable: Vec<String>,
    at_end: bool,
}

fn read_batch(input: &mut BufReader<File>) -> io::Result<Batch> {
    let mut batch = Batch::default();
    while batch.events.len() < BATCH_MAX {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            batch.at_end = true;
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(event) => batch.events.push(event),
            Err(_) => batch.unreadable.push(String::from_utf8_lossy(&line).into_owned()),
        }
    }
    Ok(batch)
}

/// One by one; what the database can never take goes to the log.
pub(super) async fn store_each(store: &dyn Store, events: &[NewEvent]) -> io::Result<()> {
    for event in events {
        match store.add_events(std::slice::from_ref(event)).await {
            Ok(()) => {}
            Err(StoreError::Refused(reason)) => {
                let event = serde_json::to_string(event).unwrap_or_else(|error| error.to_string());
                tracing::error!(reason, event, "the database refuses an event");
            }
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(())
}

/// Stores what an earlier process kept. Gives the number of events; the file stays when the database
/// does not take them.
pub async fn recover(store: &dyn Store, folder: &Path) -> usize {
    let unsaved = Unsaved::new(folder.to_owned());
    match unsaved.store(store).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(file = %unsaved.path().display(), %error, "events stay in their file");
            0
        }
    }
}
