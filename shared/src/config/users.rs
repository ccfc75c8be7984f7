//! `[[proxy.user_backends]]`: who may register, and how they prove it.
//! Owns:  the chain of backends; users written into the configuration.
//! Gives: `Backend`s in the order in which they are asked.
//! Never: keeps a secret where `Debug` shows it.
//! Holds: every user has a secret that can verify a digest of our realm.

use std::collections::HashSet;

use super::file::{BackendFile, SecretText, UserFile};
use super::problem::Report;
use super::secret::{self, ReadSecret};
use crate::snapshot::{Secret, User};

/// One link of the chain; the first one that knows a user decides.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Our own extensions table.
    Extensions,
    Memory(Vec<User>),
}

/// Longest user name that we take: it must fit a From header with room to spare.
const USERNAME_BYTES_MAX: usize = 128;

pub(super) fn check(
    files: Option<Vec<BackendFile>>,
    realm: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<Backend> {
    let mut backends = Vec::new();
    for (place, file) in files.unwrap_or_default().into_iter().enumerate() {
        let key = format!("proxy.user_backends[{place}]");
        match file.kind.as_deref() {
            None => report.error_try(
                &key,
                "has no type",
                "write type = \"memory\" or type = \"extension\"",
            ),
            Some("memory") => {
                backends.push(Backend::Memory(memory(&file.users, &key, realm, read, report)));
            }
            Some("database" | "extension") => {
                foreign_database(&file, &key, report);
                backends.push(Backend::Extensions);
            }
            Some(other) => report.error_try(
                &format!("{key}.type"),
                format!("a backend of type \"{other}\" is not built yet"),
                "use \"memory\" or \"extension\"",
            ),
        }
    }
    // The table is always asked: what an operator adds there must be able to register.
    if !backends.iter().any(|backend| matches!(backend, Backend::Extensions)) {
        backends.push(Backend::Extensions);
    }
    backends
}

fn foreign_database(file: &BackendFile, key: &str, report: &mut Report<'_>) {
    for (name, url) in [("url", &file.url), ("database_url", &file.database_url)] {
        if url.is_some() {
            report.error_try(
                &format!("{key}.{name}"),
                "users in a database other than ours are not built yet",
                "remove the key to use our extensions table",
            );
        }
    }
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
            backend: 0, // its place is known when the chain is
        });
    }
    users
}

fn username<'f>(file: &'f UserFile, key: &str, report: &mut Report<'_>) -> Option<&'f str> {
    let Some(name) = file.username.as_deref() else {
        report.error(key, "has no username");
        return None;
    };
    let key = format!("{key}.username");
    let odd = |c: char| c.is_whitespace() || c.is_control() || "@:;<>\"".contains(c);
    if name.is_empty() || name.len() > USERNAME_BYTES_MAX {
        report.error(&key, format!("must have 1 to {USERNAME_BYTES_MAX} bytes"));
    } else if let Some(odd) = name.chars().find(|c| odd(*c)) {
        let hint = if odd == '@' { "write the part before the @ only" } else { "leave it out" };
        report.error_try(&key, format!("{odd:?} cannot be part of a SIP user name"), hint);
    } else {
        return Some(name);
    }
    None
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
