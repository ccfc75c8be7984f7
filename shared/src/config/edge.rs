//! `[proxy]`: `dos_*`, `ua_black_list`, `ua_white_list`, `max_concurrency`, `uri_*`.
//! Owns:  the check of these keys.
//! Gives: the `EdgeRules` that every shard serves.
//! Never: an address; those are the acl's.
//! Holds: the numbers of floods rule nothing unless `dos_enabled` says so, as in the original.

use std::time::Duration;

use super::file::ProxyFile;
use super::problem::Report;
use crate::edge::{EdgeRules, FloodRules};

pub(super) fn check(file: &ProxyFile, report: &mut Report<'_>) -> EdgeRules {
    let defaults = FloodRules::default();
    let flood = FloodRules {
        requests_per_second: file.dos_max_cps_per_ip.unwrap_or(defaults.requests_per_second),
        calls_max: file.dos_max_concurrent_per_ip.unwrap_or(defaults.calls_max),
    };
    if file.uri_reject_malformed == Some(false) {
        let text = "malformed URIs are refused in any case";
        report.warning("proxy.uri_reject_malformed", text);
    }
    let seconds = file.dos_scan_block_duration_secs.map(Duration::from_secs);
    EdgeRules {
        flood: file.dos_enabled.then_some(flood),
        probes_max: file.dos_scan_probe_threshold.unwrap_or(EdgeRules::PROBES_MAX),
        ban: seconds.unwrap_or(EdgeRules::BAN),
        agents_refused: words("proxy.ua_black_list", file.ua_black_list.as_deref(), report),
        agents_admitted: words("proxy.ua_white_list", file.ua_white_list.as_deref(), report),
        calls_max: file.max_concurrency,
        uri_bytes_max: file.uri_max_length,
    }
}

fn words(key: &str, written: Option<&[String]>, report: &mut Report<'_>) -> Vec<Box<str>> {
    let mut words = Vec::new();
    for (place, word) in written.unwrap_or_default().iter().enumerate() {
        if word.trim().is_empty() {
            report.error(&format!("{key}[{place}]"), "is empty: it would fit every User-Agent");
        } else {
            words.push(word.trim().to_ascii_lowercase().into_boxed_str());
        }
    }
    words
}
