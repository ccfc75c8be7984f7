//! `[proxy.toll_fraud]`: what may be called over trunks, and how much of it.
//! Owns:  the check of these keys.
//! Gives: the `TollRules` that every shard serves, `None` while the section is not enabled.
//! Never: a count; 0 in the file is `None` here.
//! Holds: a prefix that could never fit, or would fit everything, is an error.

use std::sync::Arc;

use serde::Deserialize;

use super::problem::Report;
use crate::toll::{Caps, TollRules};

const KEY: &str = "proxy.toll_fraud";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TollFile {
    enabled: Option<bool>,
    country: Option<String>,
    international_prefixes: Option<Vec<String>>,
    allowed_destination_countries: Option<Vec<String>>,
    premium_prefixes: Option<Vec<String>>,
    extension: CapsFile,
    trunk: CapsFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CapsFile {
    max_calls: Option<u32>,
    max_international: Option<u32>,
    calls_per_minute: Option<u32>,
    daily_limit: Option<u32>,
    daily_minutes: Option<u32>,
}

pub(super) fn check(file: Option<&TollFile>, report: &mut Report<'_>) -> Option<Arc<TollRules>> {
    let file = file?;
    let country = file.country.as_deref().and_then(|code| code_of(code, "country", report));
    let countries = countries(file.allowed_destination_countries.as_deref(), report);
    let mut rules = TollRules {
        country,
        countries,
        extension: caps(&file.extension, Caps::EXTENSION),
        trunk: caps(&file.trunk, Caps::default()),
        ..TollRules::default()
    };
    if let Some(written) = &file.international_prefixes {
        rules.international_prefixes = international_prefixes(written, report);
    }
    let written = file.premium_prefixes.as_deref();
    rules.premium = match written {
        Some(written) => premium(written, &rules, report),
        None => rules.premium,
    };
    if file.enabled.is_none() {
        let text = "the section is not enabled: no call is refused for it";
        report.warning_try(KEY, text, "write enabled = true");
    }
    file.enabled.unwrap_or(false).then(|| Arc::new(rules))
}

fn caps(file: &CapsFile, default: Caps) -> Caps {
    let cap = |written: Option<u32>, default: Option<u32>| match written {
        Some(0) => None,
        Some(most) => Some(most),
        None => default,
    };
    Caps {
        calls_max: cap(file.max_calls, default.calls_max),
        international_max: cap(file.max_international, default.international_max),
        calls_per_minute: cap(file.calls_per_minute, default.calls_per_minute),
        calls_per_day: cap(file.daily_limit, default.calls_per_day),
        minutes_per_day: cap(file.daily_minutes, default.minutes_per_day),
    }
}

/// A country code, or one with the first digits of an area, with or without `+`.
fn code_of(written: &str, key: &str, report: &mut Report<'_>) -> Option<Box<str>> {
    let digits = written.trim().trim_start_matches('+');
    let is_code = (1..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    if !is_code {
        let text = format!("\"{written}\" is no country code");
        report.error_try(&format!("{KEY}.{key}"), text, "write one like \"49\"");
    }
    is_code.then(|| digits.into())
}

/// Without a list only our own country is open; `*` opens all.
fn countries(written: Option<&[String]>, report: &mut Report<'_>) -> Option<Vec<Box<str>>> {
    let written = written.unwrap_or_default();
    if written.iter().any(|code| code.trim() == "*") {
        return None;
    }
    let place = |place| format!("allowed_destination_countries[{place}]");
    let codes = written.iter().enumerate();
    Some(codes.filter_map(|(at, code)| code_of(code, &place(at), report)).collect())
}

fn international_prefixes(written: &[String], report: &mut Report<'_>) -> Vec<Box<str>> {
    let mut prefixes = Vec::new();
    for (place, prefix) in written.iter().enumerate() {
        // The empty one is meant: the carrier takes bare numbers with their country code.
        let digits = prefix.strip_prefix('+').unwrap_or(prefix);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            prefixes.push(prefix.as_str().into());
        } else {
            let text = format!("\"{prefix}\" is nothing that stands in front of a country code");
            report.error(&format!("{KEY}.international_prefixes[{place}]"), text);
        }
    }
    if written.is_empty() {
        let text = "without any, no number would be an international one";
        report.error_try(&format!("{KEY}.international_prefixes"), text, "write [\"+\", \"00\"]");
    }
    prefixes
}

/// As the digits of a called number will be read.
fn premium(written: &[String], rules: &TollRules, report: &mut Report<'_>) -> Vec<Box<str>> {
    let mut starts = Vec::new();
    for (place, prefix) in written.iter().enumerate() {
        let digits = rules.read(prefix.as_bytes()).digits;
        if digits.trim_start_matches('+').is_empty() {
            let text = format!("\"{prefix}\" has no digit: it would fit every number");
            report.error(&format!("{KEY}.premium_prefixes[{place}]"), text);
        } else {
            starts.push(digits.into());
        }
    }
    starts
}
