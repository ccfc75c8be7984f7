//! `username`, `password` and `register_*` of a trunk: the account that its carrier gave us.
//! Owns:  which of these keys need each other.
//! Gives: an `Account`, or the problem with it.
//! Never: a secret in a problem.
//! Holds: a trunk that is to register has a name and a password to do it with.

use std::sync::Arc;
use std::time::Duration;

use super::file::TrunkFile;
use super::problem::Report;
use super::secret::{self, ReadSecret};
use crate::account::{Account, REGISTER_EXPIRES_DEFAULT, Registering, odd_text};
use crate::headers::{EXTRA_HEADERS_MAX, ExtraHeader};

pub(super) fn check(
    file: &TrunkFile,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<Arc<Account>> {
    let username = file.username.as_deref().filter(|name| !name.is_empty());
    let registers = file.register_enabled.unwrap_or(false);
    let Some(username) = username else {
        let needs = file.password.is_some() || file.auth_username.is_some() || registers;
        if needs {
            report.error_try(key, "has no username", "write username = \"...\"");
        }
        return None;
    };
    let Some(written) = &file.password else {
        let key = format!("{key}.username");
        if registers {
            report.error_try(&key, "registers without a password", "write password = \"...\"");
        } else {
            report.warning_try(&key, "is not used without a password", "write password = \"...\"");
        }
        return None;
    };
    let password = secret::resolve(written, &format!("{key}.password"), read, report)?;
    let account = match Account::new(username, &password) {
        Ok(account) => account,
        Err(reason) => {
            report.error(key, reason);
            return None;
        }
    };
    let mut own = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        if let Some(reason) = odd_text(text) {
            report.error(&format!("{key}.{name}"), reason);
            return None;
        }
        Some(Box::<str>::from(text))
    };
    let auth_username = own("auth_username", &file.auth_username);
    let realm = own("realm", &file.realm);
    let headers = headers(file, key, read, report);
    let expires = file.register_expires.map_or(REGISTER_EXPIRES_DEFAULT, Duration::from_secs);
    Some(Arc::new(Account {
        auth_username: auth_username.unwrap_or_else(|| account.username.clone()),
        realm,
        registers: registers.then_some(Registering { expires, headers }),
        ..account
    }))
}

fn headers(
    file: &TrunkFile,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<ExtraHeader> {
    let key = format!("{key}.register_extra_headers");
    if file.register_extra_headers.len() > EXTRA_HEADERS_MAX {
        report.error(&key, format!("has more than {EXTRA_HEADERS_MAX} headers"));
    }
    let mut headers = Vec::new();
    for (name, value) in &file.register_extra_headers {
        let key = format!("{key}.{name}");
        let Some(value) = secret::resolve(value, &key, read, report) else { continue };
        match ExtraHeader::new(name, &value) {
            Ok(header) => headers.push(header),
            Err(reason) => report.error(&key, reason.to_string()),
        }
    }
    headers
}
