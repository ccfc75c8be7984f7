//! `[sipflow]`: whether the messages of calls are kept, where, how many and how long.
//! Owns:  `KeptMessages`.
//! Gives: checked values; bounds on bytes and age are always there.
//! Never: creates a folder or looks at the disk.
//! Holds: without a word in the file messages are kept, within 1 GiB and seven days.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::SipFlowFile;
use super::problem::Report;

const MAX_SIZE_MB: u64 = 1_024;
const TTL_SECS: u64 = 7 * 86_400;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessages {
    pub folder: PathBuf,
    /// All segments together; the oldest go first.
    pub bytes_max: u64,
    pub ttl: Duration,
}

impl KeptMessages {
    pub(super) fn check(file: &SipFlowFile, data: &Path, report: &mut Report<'_>) -> Option<Self> {
        if file.kind.as_deref() == Some("remote") {
            let text = "collectors are not built yet: messages stay on this host";
            report.warning("sipflow.type", text);
        }
        let root = file.root.as_deref();
        if root.is_some_and(|root| root.is_empty() || root.contains('\0')) {
            report.error("sipflow.root", "is not a path");
        }
        file.enabled.unwrap_or(true).then(|| Self {
            folder: root.map_or_else(|| data.join("sipflow"), PathBuf::from),
            bytes_max: file.max_size_mb.unwrap_or(MAX_SIZE_MB) << 20,
            ttl: Duration::from_secs(file.ttl_secs.unwrap_or(TTL_SECS)),
        })
    }
}
