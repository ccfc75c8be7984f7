//! Style as a test: crate edges, file and function length, file headers, banned names, banned calls.
//! Owns:  the rules of `CONTRIBUTING.md` that a machine can check.
//! Gives: one line per breach, with file and line.
//! Never: a judgement that needs taste.
//! Holds: it reads every Rust file and manifest of the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CODE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// rustfmt keeps code to 100; this is for what it leaves alone: comments and long texts.
const COLUMNS_MAX: usize = 120;

/// What each crate may use of the others (ARCHITECTURE.md, "Edges"), tests excepted.
const EDGES: [(&str, &[&str]); 9] = [
    ("shared", &[]),
    ("sip", &["shared"]),
    ("media", &["shared"]),
    ("call", &["media", "shared", "sip"]),
    ("shard", &["call", "media", "shared", "sip"]),
    ("sim", &["call", "media", "shared", "sip"]),
    ("controlplane", &["loadtest", "media", "shard", "shared"]),
    ("loadtest", &["media", "shared"]),
    ("benches", &["call", "controlplane", "loadtest", "media", "shard", "shared", "sip"]),
];

/// Crates whose logic is pure: no clock, socket, thread, lock or printing.
const PURE: [&str; 3] = ["dataplane/sip/src", "dataplane/media/src", "dataplane/call/src"];
const IMPURE: [&str; 9] = [
    "std::time::Instant",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "std::thread",
    "Mutex",
    "println!",
    "std::fs",
];

/// Words that say nothing as the name of a type, function or module.
const BANNED_NAMES: [&str; 9] =
    ["manager", "handler", "context", "data", "info", "util", "utils", "helper", "common"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Every file of the workspace with its text and its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    rust_files(&root(), &mut found);
    found.sort();
    let relative = |path: &Path| {
        path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
    };
    found
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("a readable file")))
        .collect()
}

fn report(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn crates_use_only_what_the_design_lets_them() {
    let manifests = ["shared", "controlplane", "benches", "loadtest"].map(str::to_owned);
    let planes = ["sip", "media", "call", "shard", "sim"].map(|name| format!("dataplane/{name}"));
    let mut breaches = Vec::new();
    for folder in manifests.iter().chain(&planes) {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml"))
            .expect("every member has a manifest");
        let manifest: toml::Table = text.parse().expect("a manifest is TOML");
        let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
        let allowed = EDGES.iter().find(|(known, _)| *known == name);
        let Some((_, allowed)) = allowed else {
            breaches.push(format!("{folder}: crate {name} is not in the table of edges"));
            continue;
        };
        let used = manifest.get("dependencies").and_then(toml::Value::as_table);
        for dependency in used.into_iter().flat_map(toml::Table::keys) {
            let ours = EDGES.iter().any(|(known, _)| known == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                breaches.push(format!("{folder}: {name} must not know {dependency}"));
            }
        }
    }
    report(&breaches);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim().is_empty()).count();
        if code > CODE_LINES_MAX {
            breaches.push(format!("{path}: {code} code lines, at most {CODE_LINES_MAX}"));
        }
        let head: Vec<_> = text.lines().take(14).collect();
        let parts: &[&str] = if path.contains("/tests/") {
            &["//!"] // a test file says what it is about
        } else {
            &["Owns:", "Gives:", "Never:", "Holds:"]
        };
        for part in parts {
            if !head.iter().any(|line| line.starts_with("//!") && line.contains(part)) {
                breaches.push(format!("{path}: the header lacks `{part}`"));
            }
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                breaches.push(format!("{path}:{}: over {COLUMNS_MAX} columns", number + 1));
            }
        }
    }
    report(&breaches);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn "]
                .iter()
                .any(|word| trimmed.starts_with(word))
                || (trimmed.contains(" fn ") && trimmed.starts_with("pub"));
            if !is_function || trimmed.ends_with(';') {
                continue;
            }
            let indent = line.len() - trimmed.len();
            let close = format!("{}}}", " ".repeat(indent));
            let end = lines[start..].iter().position(|line| *line == close);
            if let Some(length) = end
                && length > FUNCTION_LINES_MAX
            {
                breaches.push(format!("{path}:{}: function of {length} lines", start + 1));
            }
        }
    }
    report(&breaches);
}

/// The name that a line defines, if it defines one.
fn defined(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let at = words.iter().position(|word| {
        matches!(*word, "fn" | "struct" | "enum" | "mod" | "trait" | "type" | "const" | "static")
    })?;
    words[at + 1..].iter().find(|word| !word.is_empty()).copied()
}

fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    parts
}

#[test]
fn names_say_something() {
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            // INFO is a method of SIP (RFC 6086), so tests may speak of it.
            if code.starts_with("//") || path.contains("/tests/") {
                continue;
            }
            let Some(name) = defined(code) else { continue };
            let bad = name.starts_with("get_")
                || parts(name).iter().any(|part| BANNED_NAMES.contains(&part.as_str()));
            if bad {
                breaches.push(format!("{path}:{}: the name `{name}` is banned", number + 1));
            }
        }
    }
    report(&breaches);
}

#[test]
fn pure_crates_touch_no_clock_socket_thread_or_lock() {
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        if !PURE.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE {
                if code.contains(word) {
                    breaches.push(format!("{path}:{}: `{word}` in a pure crate", number + 1));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks: Vec<String> = ["todo!(", "unimplemented!(", "#[ignore", "FIX", "dbg!("]
        .iter()
        .map(|mark| if *mark == "FIX" { "FIXME".to_owned() } else { (*mark).to_owned() })
        .collect();
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                breaches.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    report(&breaches);
}

/// Unwrapping belongs into tests: in the data plane an `expect` says why it holds.
#[test]
fn the_data_plane_does_not_unwrap() {
    let mut counts = BTreeMap::new();
    for (path, text) in sources() {
        if !path.starts_with("dataplane/") || path.contains("/tests/") || path.contains("/sim/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let unwraps = code.matches(".unwrap()").count();
        if unwraps > 0 {
            counts.insert(path, unwraps);
        }
    }
    let breaches: Vec<_> =
        counts.iter().map(|(path, count)| format!("{path}: {count} unwrap()")).collect();
    report(&breaches);
}
