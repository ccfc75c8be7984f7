//! sippy, a SIP stack in Python that we did not write, as a peer with SHA-256.
//! Owns:  finding its interpreter, running `peers/register.py`.
//! Gives: the Authorization line that it sent.
//! Never: touches the system's Python: `peers/install.sh` puts sippy into an environment of its own,
//!        beside the build, the first time that it is asked for.
//! Holds: bounded by the script's own deadline of ten seconds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::gateway::{Folder, spare_port};
use crate::process::Running;

const LIMIT: Duration = Duration::from_secs(15);

/// Registers with one algorithm, whatever else is offered.
pub fn register(
    server: SocketAddr,
    user: &str,
    password: &str,
    algorithm: &str,
) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/register.py");
    let folder = Folder::new("sippy")?;
    let log = folder.path.join("sippy.log");
    let mut command = Command::new(interpreter()?);
    command
        .arg(script)
        .args([server.to_string(), user.to_owned(), password.to_owned(), algorithm.to_owned()])
        .arg(spare_port(server.ip())?.to_string())
        .env("SIPLOG_BEND", "stderr");
    let mut process = Running::start("sippy", &mut command, &log)?;
    let status = process.wait(LIMIT)?;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    if !status.success() {
        return Err(format!("sippy left with {status}\n{text}"));
    }
    let sent = text.lines().rfind(|line| line.starts_with("Authorization: "));
    sent.map(str::to_owned).ok_or_else(|| format!("sippy registered without credentials\n{text}"))
}

/// RINGGATE_PEERS, or `peers` in the target folder that this program was built in.
fn interpreter() -> Result<PathBuf, String> {
    let folder = match std::env::var_os("RINGGATE_PEERS") {
        Some(folder) => PathBuf::from(folder),
        None => target()?.join("peers"),
    };
    let python = folder.join("bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/install.sh");
    // Two tests at once would install over each other.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new("sh")
        .arg(&script)
        .arg(&folder)
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() || !python.exists() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} could not install sippy: {said}", script.display()));
    }
    Ok(python)
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
