//! What the gateway writes and where: database, recordings, log, RTP ports.
//! Owns:  `Files`, the RTP range.
//! Gives: paths; everything lies under the data folder unless the file says otherwise.
//! Never: creates a folder or looks at the disk.
//! Holds: the RTP range starts even and has room for one call.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::database::Database;
use super::file::ConfigFile;
use super::problem::Report;
use super::secret::ReadSecret;
use crate::settings::PortSlice;
use crate::trunk_options::external_addresses;

#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    database: Database,
    recording: Option<Recording>,
    recordings: PathBuf,
    log_level: String,
    log_file: Option<PathBuf>,
}

/// Set when recording is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    pub auto_start: bool,
}

impl Files {
    /// `data_dir`: where everything lies that has no path of its own.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub const fn database(&self) -> &Database {
        &self.database
    }

    pub const fn recording(&self) -> Option<Recording> {
        self.recording
    }

    /// Where finished recordings go, one folder per day.
    pub fn recordings(&self) -> &Path {
        &self.recordings
    }

    /// Where shards write captures, one file per call.
    pub fn captures(&self) -> PathBuf {
        self.folder.join("captures")
    }

    /// What programs may play into calls.
    pub fn prompts(&self) -> PathBuf {
        self.folder.join("prompts")
    }

    /// Where shards write down their calls.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// A level, or `target=level` parts between commas.
    pub fn log_level(&self) -> &str {
        &self.log_level
    }

    pub fn log_file(&self) -> Option<&Path> {
        self.log_file.as_deref()
    }

    pub(super) fn check(file: &ConfigFile, read: &ReadSecret<'_>, report: &mut Report<'_>) -> Self {
        let folder =
            PathBuf::from(path("data_dir", file.folder.as_deref(), report).unwrap_or("./data"));
        let database = Database::check(file, &folder, read, report);
        let recording = file
            .recording
            .enabled
            .unwrap_or(false)
            .then(|| Recording { auto_start: file.recording.auto_start.unwrap_or(true) });
        let recordings = path("recording.path", file.recording.path.as_deref(), report)
            .map_or_else(|| folder.join("recordings"), PathBuf::from);
        Self {
            database,
            recording,
            recordings,
            log_level: log_level(file.log_level.as_deref(), report),
            log_file: path("log_file", file.log_file.as_deref(), report).map(PathBuf::from),
            folder,
        }
    }
}

fn path<'f>(key: &str, written: Option<&'f str>, report: &mut Report<'_>) -> Option<&'f str> {
    let path = written?;
    if path.is_empty() || path.contains('\0') {
        report.error(key, "is not a path");
        return None;
    }
    Some(path)
}

fn log_level(written: Option<&str>, report: &mut Report<'_>) -> String {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let Some(text) = written else { return "info".to_owned() };
    for part in text.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("", part));
        let level = level.trim().to_ascii_lowercase();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if !LEVELS.contains(&level.as_str()) || !target.trim().chars().all(fits) {
            let hint = "write \"info\", or \"info,shard=debug\"";
            report.error_try("log_level", format!("\"{part}\" is not a log level"), hint);
        }
    }
    text.to_ascii_lowercase()
}

/// The RTP range, first port even.
pub(super) fn rtp_ports(file: &ConfigFile, report: &mut Report<'_>) -> PortSlice {
    let first = file.rtp_start_port.unwrap_or(12_000);
    let last = file.rtp_end_port.unwrap_or(42_000);
    if first % 2 == 1 {
        let text = format!("{first} is odd: RTP takes even ports, so {} is used", first + 1);
        report.warning("rtp_start_port", text);
    }
    let first = first.saturating_add(first % 2);
    // A call has two sides with an RTP and an RTCP port each.
    if u32::from(last) < u32::from(first) + 3 {
        report.error("rtp_end_port", format!("{last} leaves no room for a call above {first}"));
    }
    PortSlice { first, last }
}

pub(super) fn external_ip(written: Option<&str>, report: &mut Report<'_>) -> Vec<IpAddr> {
    addresses(written, "external_ip", report)
}

/// One address per family, written with commas between.
pub(super) fn addresses(written: Option<&str>, key: &str, report: &mut Report<'_>) -> Vec<IpAddr> {
    external_addresses(written.unwrap_or_default()).unwrap_or_else(|reason| {
        report.error(key, reason);
        Vec::new()
    })
}
