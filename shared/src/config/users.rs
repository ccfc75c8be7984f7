//! `[[proxy.user_backends]]`: who may register, and how they prove it.
//! Owns:  the chain of backends; users written into the configuration.
//! Gives: `Backend`s in the order in which they are asked.
//! Never: keeps a secret where `Debug` shows it.
//! Holds: every user has a secret that can verify a digest of our realm.

use std::collections::HashSet;

use super::deciders::{self, RemoteBackend, TableLayout};
use super::file::{BackendFile, SecretText, UserFile};
use super::problem::Report;
use super::secret::{self, ReadSecret, SecretRef};
use crate::forwarding::Forwarding;
use crate::snapshot::{Secret, User};

/// One link of the chain; the first one that knows a user decides.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Our own extensions table.
    Extensions,
    /// Users of the file, or of a file that it names.
    Memory(Vec<User>),
    /// Asked when a phone shows its credentials.
    Remote(Box<RemoteBackend>),
}

/// Longest user name that we take: it must fit a From header with room to spare.
const USERNAME_BYTES_MAX: usize = 128;
/// A longer chain is a mistake, and each link costs time.
const BACKENDS_MAX: usize = 16;

pub(super) fn check(
    files: Option<Vec<BackendFile>>,
    realm: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<Backend> {
    let mut backends = Vec::new();
    let files = files.unwrap_or_default();
    if files.len() > BACKENDS_MAX {
        let text = format!("has more than {BACKENDS_MAX} backends");
        report.error("proxy.user_backends", text);
    }
    for (place, file) in files.into_iter().enumerate() {
        let key = format!("proxy.user_backends[{place}]");
        let backend = match file.kind.as_deref() {
            None => {
                let hint = "write type = \"memory\" or type = \"extension\"";
                report.error_try(&key, "has no type", hint);
                None
            }
            Some("memory") => Some(Backend::Memory(memory(&file.users, &key, realm, read, report))),
            Some("http") => RemoteBackend::http(&file, &key, read, report).map(remote),
            Some("plain") => plain(&file, &key, read, report).map(Backend::Memory),
            Some(kind) => table(&file, kind, &key, read, report),
        };
        backends.extend(backend);
    }
    // The table is always asked: what an operator adds there must be able to register.
    if !backends.iter().any(|backend| matches!(backend, Backend::Extensions)) {
        backends.push(Backend::Extensions);
    }
    backends
}

/// `database` and `extension`: without a URL both are our own extensions table.
fn table(
    file: &BackendFile,
    kind: &str,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Backend> {
    let url_key = format!("{key}.{}", if file.url.is_some() { "url" } else { "database_url" });
    let Some(url) = file.url.as_ref().or(file.database_url.as_ref()) else {
        if file.table_name.is_some() {
            let text = "is not used without a url: our extensions table is asked";
            report.warning(&format!("{key}.table_name"), text);
        }
        return Some(Backend::Extensions);
    };
    let layout = match kind {
        "extension" => TableLayout::Extensions,
        _ => deciders::columns(file, key, report),
    };
    RemoteBackend::table(file, layout, (&url_key, url), read, report).map(remote)
}

fn remote(backend: RemoteBackend) -> Backend {
    Backend::Remote(Box::new(backend))
}

/// `plain`: a file with a line `user:password` for each user; `#` begins a comment.
fn plain(
    file: &BackendFile,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<User>> {
    let Some(path) = file.path.as_deref() else {
        report.error_try(key, "has no path", "write path = \"users.txt\"");
        return None;
    };
    let key = format!("{key}.path");
    let text = match read(SecretRef::File(path)) {
        Ok(text) => text,
        Err(reason) => {
            report.error(&key, format!("{path} cannot be read: {reason}"));
            return None;
        }
    };
    let mut seen = HashSet::new();
    let mut users = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{path}:{}", number + 1);
        let wrong = match line.split_once(':') {
            None => Some("has no colon between user and password".to_owned()),
            Some((_, "")) => Some("has an empty password".to_owned()),
            Some((name, _)) => match odd_username(name) {
                Some((reason, _)) => Some(format!("the user name {reason}")),
                None if !seen.insert(name.to_owned()) => Some(format!("\"{name}\" is there twice")),
                None => None,
            },
        };
        match (wrong, line.split_once(':')) {
            (Some(wrong), _) => report.error(&key, format!("{place}: {wrong}")),
            (None, Some((name, password))) => users.push(User {
                username: name.into(),
                secret: Secret::Plain(password.into()),
                display_name: None,
                enabled: true,
                allow_guest_calls: false,
                forwarding: None,
                backend: 0, // its place is known when the chain is
            }),
            (None, None) => {}
        }
    }
    Some(users)
}

fn memory(
    files: &[UserFile],
    key: &str,
    realm: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<User> {
    let mut seen = HashSet::new();
    let mut users = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let key = format!("{key}.users[{place}]");
        let Some(username) = username(file, &key, report) else { continue };
        if !seen.insert(username.to_owned()) {
            report.error(&format!("{key}.username"), format!("\"{username}\" is there twice"));
        }
        let Some(secret) = user_secret(file, &key, realm, read, report) else { continue };
        users.push(User {
            username: username.into(),
            secret,
            display_name: file.display_name.as_deref().map(Into::into),
            enabled: file.enabled.unwrap_or(true),
            allow_guest_calls: file.allow_guest_calls.unwrap_or(false),
            forwarding: forwarding(file, &key, report),
            backend: 0, // its place is known when the chain is
        });
    }
    users
}

fn forwarding(file: &UserFile, key: &str, report: &mut Report<'_>) -> Option<Box<Forwarding>> {
    let (mode, to) =
        (file.call_forwarding_mode.as_deref(), file.call_forwarding_destination.as_deref());
    match Forwarding::read(mode, to, file.call_forwarding_timeout) {
        Ok(forwarding) => forwarding.map(Box::new),
        Err(flaw) => {
            report.error(&format!("{key}.{}", flaw.field), flaw.text);
            None
        }
    }
}

fn username<'f>(file: &'f UserFile, key: &str, report: &mut Report<'_>) -> Option<&'f str> {
    let Some(name) = file.username.as_deref() else {
        report.error(key, "has no username");
        return None;
    };
    let key = format!("{key}.username");
    match odd_username(name) {
        None => return Some(name),
        Some((reason, None)) => report.error(&key, reason),
        Some((reason, Some(hint))) => report.error_try(&key, reason, hint),
    }
    None
}

/// Why a name cannot be a SIP user, and what to do about it.
fn odd_username(name: &str) -> Option<(String, Option<&'static str>)> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "@:;<>\"".contains(c);
    if name.is_empty() || name.len() > USERNAME_BYTES_MAX {
        return Some((format!("must have 1 to {USERNAME_BYTES_MAX} bytes"), None));
    }
    let odd = name.chars().find(|c| odd(*c))?;
    let hint = if odd == '@' { "write the part before the @ only" } else { "leave it out" };
    Some((format!("{odd:?} cannot be part of a SIP user name"), Some(hint)))
}

/// The password, or the hashes of it. HA1 is H(username:realm:password) (RFC 7616 3.4.2).
fn user_secret(
    file: &UserFile,
    key: &str,
    realm: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Secret> {
    let hashes = [&file.ha1, &file.ha1_sha256, &file.ha1_sha512_256];
    let hashed = hashes.iter().any(|hash| hash.is_some());
    match (&file.password, hashed) {
        (None, false) => {
            report.error_try(key, "has no secret", "write password = \"...\" or ha1 = \"...\"");
            None
        }
        (Some(_), true) => {
            report.error(key, "has a password and an ha1; keep one of them");
            None
        }
        (Some(password), false) => {
            let key = format!("{key}.password");
            let password = secret::resolve(password, &key, read, report)?;
            if password.is_empty() {
                report.error(&key, "is empty: registration needs a password");
                return None;
            }
            other_realm(file.realm.as_deref(), &key, realm, false, report);
            Some(Secret::Plain(password.into()))
        }
        (None, true) => {
            other_realm(file.realm.as_deref(), key, realm, true, report);
            Some(Secret::Ha1 {
                realm: file.realm.as_deref().unwrap_or(realm).into(),
                md5: hash(file.ha1.as_ref(), &format!("{key}.ha1"), read, report),
                sha256: hash(file.ha1_sha256.as_ref(), &format!("{key}.ha1_sha256"), read, report),
                sha512_256: hash(
                    file.ha1_sha512_256.as_ref(),
                    &format!("{key}.ha1_sha512_256"),
                    read,
                    report,
                ),
            })
        }
    }
}

/// A hash holds for one realm; our challenges carry `ours`.
fn other_realm(
    written: Option<&str>,
    key: &str,
    ours: &str,
    hashed: bool,
    report: &mut Report<'_>,
) {
    let Some(realm) = written.filter(|realm| *realm != ours) else { return };
    if hashed {
        report.error_try(
            key,
            format!("its ha1 is made for realm \"{realm}\", but our challenges carry \"{ours}\""),
            format!("put \"{realm}\" first in proxy.realms"),
        );
    } else {
        let text = format!("its realm \"{realm}\" is not ours: challenges carry \"{ours}\"");
        report.warning(key, text);
    }
}

fn hash<const N: usize>(
    written: Option<&SecretText>,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<[u8; N]> {
    let text = secret::resolve(written?, key, read, report)?;
    let bytes = parse_hex(&text);
    if bytes.is_none() {
        report.error(key, format!("must be {} hex digits", 2 * N));
    }
    bytes
}

/// Exactly `2 * N` hex digits, of either case.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let value = nibble(pair[0])? * 16 + nibble(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(bytes)
}
