//! A disk of its own with ext4 on it, which can stand still. Only root can mount it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const BYTES: u64 = 256 << 20;

pub(crate) struct DiskImage(PathBuf);

/// Whoever writes waits until it is dropped.
pub(crate) struct Frozen<'a>(&'a DiskImage);

impl DiskImage {
    /// Made in `image`, seen at `path`.
    pub(crate) fn mount(image: &Path, path: &Path) -> Self {
        fs::create_dir_all(path).expect("a folder");
        File::create(image).and_then(|file| file.set_len(BYTES)).expect("a sparse file");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
        run(Command::new("mount").args(["-o", "loop"]).args([image, path]));
        Self(path.to_owned())
    }

    pub(crate) fn freeze(&self) -> Frozen<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.0));
        Frozen(self)
    }
}

fn run(command: &mut Command) {
    let done = command.output().expect("the programs of util-linux and e2fsprogs");
    let reason = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "root and a loop device are needed: {command:?}: {reason}");
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        drop(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.0).status());
    }
}

impl Drop for DiskImage {
    fn drop(&mut self) {
        // Lazily: a gateway of a failed test may still have files open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
