//! A file system of a few MiB, gone with the test. Only root can mount it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(path: &Path) -> Self {
        Self::of_mebibytes(24, path)
    }

    pub(crate) fn of_mebibytes(count: u32, path: &Path) -> Self {
        fs::create_dir_all(path).expect("a folder");
        let mut command = Command::new("mount");
        let options = format!("size={count}m,mode=0700");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        let done = command.output().expect("the program `mount`");
        let reason = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "this test mounts a tmpfs, so it needs root: {reason}");
        Self(path.to_owned())
    }

    /// Not a byte is left for anybody.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("a file");
        for piece in [1 << 20, 4_096, 1] {
            let zeros = vec![0; piece];
            loop {
                match file.write(&zeros) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("it was there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a gateway of a failed test may still have files open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}
