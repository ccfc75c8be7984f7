//! A folder on this machine as an archive: `[callrecord] type = "local"`.
//! Owns:  the temporary file beside each target.
//! Gives: `Folder`, a `Target`.
//! Never: leaves half a file under its final name; leaves the folder by a key.
//! Holds: after `Ok` the file is on the disk, its name included.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::target::{Content, NotStored, Object, Source, Storing, Target};

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, key: &str) -> Result<PathBuf, NotStored> {
        let below = Path::new(key);
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(NotStored::Target(format!("{key} leaves the folder")));
        }
        Ok(self.root.join(below))
    }
}

impl Target for Folder {
    fn store<'a>(&'a self, key: &'a str, source: &'a Source) -> Storing<'a, Option<String>> {
        Box::pin(async move {
            let (path, source) = (self.path(key)?, source.clone());
            let written = tokio::task::spawn_blocking(move || {
                write(&path, &source.content)
                    .map_err(|error| NotStored::Target(format!("{}: {error}", path.display())))
            });
            written.await.map_err(|error| NotStored::Target(error.to_string()))??;
            Ok(Some(key.to_owned()))
        })
    }

    fn read<'a>(&'a self, key: &'a str, range: Option<RangeInclusive<u64>>) -> Storing<'a, Object> {
        Box::pin(async move {
            let path = self.path(key)?;
            let failed = |error: io::Error| NotStored::Target(error.to_string());
            let opened = tokio::task::spawn_blocking(move || {
                let mut file = File::open(path)?;
                let whole = file.metadata()?.len();
                let start = range.as_ref().map_or(0, |range| *range.start());
                file.seek(SeekFrom::Start(start))?;
                let end = range.map_or(whole, |range| range.end().saturating_add(1).min(whole));
                Ok((file, end.saturating_sub(start)))
            });
            let opened = opened.await.map_err(|error| NotStored::Target(error.to_string()))?;
            let (file, length) = opened.map_err(failed)?;
            let stream = ReaderStream::new(tokio::fs::File::from_std(file).take(length));
            Ok(Object { body: Body::from_stream(stream), length })
        })
    }

    fn key_for(&self, below_root: &str) -> String {
        below_root.to_owned()
    }
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let part = path.with_extension("part");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
    match content {
        Content::Bytes(bytes) => file.write_all(bytes)?,
        Content::File(source) => {
            io::copy(&mut File::open(source)?, &mut file)?;
        }
    }
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_the_folder() {
        let folder = Folder::new(PathBuf::from("archive"));
        assert_eq!(folder.path("20261126/a.json"), Ok(PathBuf::from("archive/20261126/a.json")));
        for key in ["../a", "/etc/passwd", "a/../../b", "./../x"] {
            assert!(matches!(folder.path(key), Err(NotStored::Target(_))), "{key}");
        }
    }
}
