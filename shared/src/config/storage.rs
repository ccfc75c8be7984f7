//! Where call records and recordings go beyond the disk, how long they stay on it, and what a full
//! disk means: `[recording]` and `[callrecord]`.
//! Owns:  `Archive` (both sections), `Bucket` (an S3 target), the upload form, `Retention`, `DiskRules`.
//! Gives: checked values; a bucket's keys may come from `file:` or `env:`.
//! Never: connects anywhere; shows a secret in `Debug`.
//! Holds: an archive that is chosen has everything that its uploads need.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::file::{ConfigFile, RecordingFile, S3File, SecretText};
use super::problem::Report;
use super::secret::{self, ReadSecret};
use super::webhooks::{WebTarget, headers, parse_web_url, url};

/// An hour of talk is 115 MB: at 2 MB/s.
const FORM_TIMEOUT_MS: u64 = 60_000;

/// What happens to finished recordings and to stored call records.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    recordings: Option<RecordingsArchive>,
    records: Option<RecordsArchive>,
    retention: Retention,
    disk: DiskRules,
    keep_uploaded: bool,
}

/// `[recording]` of type http or s3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingsArchive {
    /// A program that takes each recording as a form.
    Http(WebTarget),
    S3(Bucket),
}

/// `[callrecord]` of type local or s3; type http is a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordsArchive {
    /// `FOLDER/YYYYMMDD/CALL.json`
    Local(PathBuf),
    /// The records, and the recordings beside them.
    S3(Bucket),
}

/// A bucket of S3 or of a server that speaks its protocol.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub region: String,
    /// Not there: Amazon's own for the region.
    pub endpoint: Option<Url>,
    pub access_key: String,
    pub secret_key: String,
    /// Prefix of every key, without slashes at its ends; may be empty.
    pub root: String,
    /// `ENDPOINT/BUCKET/KEY` instead of `BUCKET.ENDPOINT/KEY`.
    pub path_style: bool,
}

/// How long recordings stay on the disk; none means for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub keep: Option<Duration>,
    pub keep_bytes: Option<u64>,
}

/// Fill levels of the file system under the data folder, in percent, rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRules {
    pub warn: u8,
    pub high: u8,
    pub full: u8,
    pub when_full: WhenFull,
}

/// What a full disk does to new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They go on without being recorded.
    #[default]
    Continue,
    /// They hear 503: no call without its recording.
    Reject,
}

impl Default for DiskRules {
    fn default() -> Self {
        Self { warn: 80, high: 90, full: 95, when_full: WhenFull::Continue }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}, {})", self.name, self.region)
    }
}

impl Archive {
    pub const fn recordings(&self) -> Option<&RecordingsArchive> {
        self.recordings.as_ref()
    }

    pub const fn records(&self) -> Option<&RecordsArchive> {
        self.records.as_ref()
    }

    pub const fn retention(&self) -> Retention {
        self.retention
    }

    pub const fn disk(&self) -> DiskRules {
        self.disk
    }

    /// Whether a local recording stays after its verified upload.
    pub const fn keep_uploaded(&self) -> bool {
        self.keep_uploaded
    }

    /// The program that takes recordings as a form.
    pub fn form_url(&self) -> Option<&Url> {
        match &self.recordings {
            Some(RecordingsArchive::Http(target)) => Some(&target.url),
            _ => None,
        }
    }

    pub(super) fn check(
        file: &ConfigFile,
        folder: &Path,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Self {
        let recording = &file.recording;
        let recordings = match recording.kind.as_deref() {
            Some("http") => form(recording, read, report).map(RecordingsArchive::Http),
            Some("s3") => {
                bucket("recording", &recording.s3, read, report).map(RecordingsArchive::S3)
            }
            Some("sipflow") => {
                let text = "upload by \"sipflow\" is not built yet: recordings stay local";
                report.warning("recording.type", text);
                None
            }
            _ => None,
        };
        if recording.kind.as_deref() != Some("http") {
            for (name, written) in
                [("url", recording.url.is_some()), ("headers", !recording.headers.is_empty())]
            {
                if written {
                    let text = "is used with type = \"http\" only";
                    report.warning(&format!("recording.{name}"), text);
                }
            }
        }
        let records = match file.callrecord.kind.as_deref() {
            Some("local") => {
                let root = file.callrecord.s3.root.as_deref();
                Some(RecordsArchive::Local(root.map_or_else(|| folder.join("cdr"), PathBuf::from)))
            }
            Some("s3") => {
                bucket("callrecord", &file.callrecord.s3, read, report).map(RecordsArchive::S3)
            }
            _ => None,
        };
        let some = |value: Option<u64>| value.filter(|value| *value > 0);
        let retention = Retention {
            keep: some(recording.keep_days).map(|days| Duration::from_secs(days * 86_400)),
            keep_bytes: some(recording.keep_bytes),
        };
        let disk = disk_rules(file, report);
        let keep_uploaded = recording.keep_media_copy.unwrap_or(false);
        Self { recordings, records, retention, disk, keep_uploaded }
    }
}

fn form(file: &RecordingFile, read: &ReadSecret<'_>, report: &mut Report<'_>) -> Option<WebTarget> {
    let url = url(file.url.as_ref(), "recording.url", read, report);
    let headers = headers(&file.headers, "recording.headers", read, report);
    let timeout = Duration::from_millis(file.timeout_ms.unwrap_or(FORM_TIMEOUT_MS));
    Some(WebTarget { url: url?, headers, timeout })
}

fn disk_rules(file: &ConfigFile, report: &mut Report<'_>) -> DiskRules {
    let recording = &file.recording;
    let usual = DiskRules::default();
    let rules = DiskRules {
        warn: recording.disk_warn_percent.unwrap_or(usual.warn),
        high: recording.disk_high_percent.unwrap_or(usual.high),
        full: recording.disk_full_percent.unwrap_or(usual.full),
        when_full: match recording.on_disk_full.as_deref() {
            Some("reject") => WhenFull::Reject,
            _ => WhenFull::Continue,
        },
    };
    if rules.warn >= rules.high || rules.high >= rules.full {
        let text = format!(
            "the three levels must rise: {} (warn), {} (high), {} (full)",
            rules.warn, rules.high, rules.full
        );
        report.error("recording.disk_full_percent", text);
    }
    rules
}

fn bucket(
    section: &str,
    file: &S3File,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Bucket> {
    let key = |name: &str| format!("{section}.{name}");
    let mut needed = |name: &str, written: Option<&SecretText>| -> Option<String> {
        let Some(written) = written else {
            report.error(&key(name), format!("is missing: type = \"s3\" needs {name}"));
            return None;
        };
        let text = secret::resolve(written, &key(name), read, report)?;
        if text.is_empty() {
            report.error(&key(name), "is empty");
            return None;
        }
        Some(text)
    };
    let access_key = needed("access_key", file.access_key.as_ref());
    let secret_key = needed("secret_key", file.secret_key.as_ref());
    let name = bucket_name(&key("bucket"), file.bucket.as_deref(), report);
    let endpoint = match file.endpoint.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match parse_web_url(text) {
            Ok(url) => Some(url),
            Err(reason) => {
                report.error(&key("endpoint"), reason);
                return None;
            }
        },
    };
    let root = file.root.as_deref().unwrap_or("").trim_matches('/').to_owned();
    if root.split('/').any(|part| matches!(part, "." | "..")) {
        report.error(&key("root"), "must not have \".\" or \"..\" in it");
        return None;
    }
    // Servers of one's own rarely have a name per bucket.
    let path_style = file.path_style.unwrap_or_else(|| endpoint.is_some());
    let region = file.region.clone().filter(|text| !text.is_empty());
    Some(Bucket {
        name: name?,
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        endpoint,
        access_key: access_key?,
        secret_key: secret_key?,
        root,
        path_style,
    })
}

fn bucket_name(key: &str, written: Option<&str>, report: &mut Report<'_>) -> Option<String> {
    let Some(name) = written else {
        report.error(key, "is missing: type = \"s3\" needs bucket");
        return None;
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !(3..=63).contains(&name.len()) || !name.chars().all(fits) {
        report.error(key, "is not the name of a bucket: 3 to 63 letters, digits, \"-\", \".\"");
        return None;
    }
    Some(name.to_owned())
}
