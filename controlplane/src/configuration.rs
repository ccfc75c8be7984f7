//! Reads the configuration: which file, its text, the environment, the files and secrets it names.
//! Owns:  the choice of the file and everything that touches the disk for it.
//! Gives: `Configured`, or every problem at once.
//! Never: a meaning of a key; `shared::config` has them all.
//! Holds: the same function serves start, reload and `check-config`.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use shared::config::{self, Config, Effective, Origin, Problem, SecretRef, Sources};
use shared::event::Severity;

use crate::named_files::read_named;

/// Taken when it is there and no other file is named.
const FILE_DEFAULT: &str = "ringgate.toml";
/// A configuration or a secret longer than this is a mistake.
const FILE_BYTES_MAX: u64 = 4 << 20;
const SECRET_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug)]
pub struct Configured {
    pub config: Config,
    /// Warnings and notes.
    pub problems: Vec<Problem>,
    pub effective: Effective,
    /// Read again on reload; without one the environment and the defaults hold.
    pub file: Option<PathBuf>,
}

/// There was at least one error.
#[derive(Debug)]
pub struct ConfigRefused {
    pub problems: Vec<Problem>,
    pub effective: Effective,
}

impl fmt::Display for ConfigRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        f.write_str(&verdict(&self.problems))
    }
}

impl std::error::Error for ConfigRefused {}

/// Reads `file`, or `./ringgate.toml` if it is there, and everything around it.
pub fn read(file: Option<PathBuf>, strict: bool) -> Result<Configured, ConfigRefused> {
    let file = file.or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|file| file.exists()));
    let mut env: Vec<(String, String)> = std::env::vars_os()
        // What is not UTF-8 fails its check instead of going unnoticed.
        .map(|(name, value)| (lossy(&name), lossy(&value)))
        .filter(|(name, _)| name.starts_with(config::ENV_PREFIX))
        .collect();
    env.sort();
    from_parts(file, env, strict)
}

/// The same with an environment that the caller chose.
pub fn from_parts(
    file: Option<PathBuf>,
    env: Vec<(String, String)>,
    strict: bool,
) -> Result<Configured, ConfigRefused> {
    let text = match &file {
        None => None,
        Some(path) => match read_text(path, FILE_BYTES_MAX) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(reason) => return Err(unreadable(path, reason)),
        },
    };
    let text = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let sources = Sources { file: text, env, read_secret: &read_secret, strict };
    let loaded = config::load_with(&sources, &|pattern| {
        read_named(pattern, |path| read_text(path, FILE_BYTES_MAX))
    });
    match loaded.config {
        Some(config) => {
            Ok(Configured { config, problems: loaded.problems, effective: loaded.effective, file })
        }
        None => Err(ConfigRefused { problems: loaded.problems, effective: loaded.effective }),
    }
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// One line that sums the problems up.
pub fn verdict(problems: &[Problem]) -> String {
    let count = |severity| problems.iter().filter(|p| p.severity == severity).count();
    let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Info].map(count);
    let word = if errors > 0 { "invalid" } else { "valid" };
    format!("configuration {word}: {errors} errors, {warnings} warnings, {notes} notes")
}

fn unreadable(path: &Path, reason: String) -> ConfigRefused {
    let problem = Problem {
        severity: Severity::Error,
        origin: Origin::File { name: path.display().to_string().into(), line: 0 },
        key: String::new(),
        text: format!("cannot be read: {reason}"),
        suggestion: None,
    };
    ConfigRefused { problems: vec![problem], effective: Effective::default() }
}

fn read_secret(place: SecretRef<'_>) -> Result<String, String> {
    match place {
        SecretRef::Env(name) => {
            std::env::var(name).map_err(|_| "the variable is not set".to_owned())
        }
        SecretRef::File(path) => read_text(Path::new(path), SECRET_BYTES_MAX),
    }
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is longer than {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}
