//! Where our own log goes: standard error, or the file that the configuration names.
//! Owns:  the tracing subscriber.
//! Gives: `start`, once per process.
//! Never: a log line from a shard's thread; shards send notices.
//! Holds: colours only on a terminal, and not when NO_COLOR is set.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// `level` has passed the configuration's check.
pub fn start(level: &str, file: Option<&Path>) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("log_level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let started = match file {
        None => {
            let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(ansi).with_writer(std::io::stderr).try_init()
        }
        Some(path) => {
            let open = OpenOptions::new().create(true).append(true).mode(0o640).open(path);
            let file = open.map_err(|error| format!("log_file {}: {error}", path.display()))?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).try_init()
        }
    };
    started.map_err(|error| error.to_string())
}
