//! Foreign test programs in Python, in an environment of their own.
//! Owns:  where that environment is, and its installation by `peers/install.sh`.
//! Gives: the path of a program in it.
//! Never: touches the system's Python.
//! Holds: what is installed is what `peers/requirements.txt` says, every package with its version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A program of the environment, which is made the first time that somebody asks.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let folder = folder()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/install.sh");
    // Two tests at once would install over each other.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new("sh")
        .arg(&script)
        .arg(&folder)
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    let program = folder.join("bin").join(name);
    if !output.status.success() || !program.exists() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} could not install {name}: {said}", script.display()));
    }
    Ok(program)
}

/// RINGGATE_PEERS, or `peers` in the target folder that this program was built in.
fn folder() -> Result<PathBuf, String> {
    match std::env::var_os("RINGGATE_PEERS") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(target()?.join("peers")),
    }
}

/// `target` of `target/debug/deps/test-0123`.
fn target() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = |folder: &&Path| folder.join("debug").is_dir() || folder.join("release").is_dir();
    me.ancestors()
        .find(beside)
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} lies in no target folder: set RINGGATE_PEERS", me.display()))
}
