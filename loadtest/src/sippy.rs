//! sippy, a SIP stack in Python that we did not write, as a peer with SHA-256.
//! Owns:  running `peers/register.py`.
//! Gives: the Authorization line that it sent.
//! Never: touches the system's Python: `peers` has an environment of its own.
//! Holds: bounded by the script's own deadline of ten seconds.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::gateway::{Folder, spare_port};
use crate::peers;
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
    let mut command = Command::new(peers::program("python")?);
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
