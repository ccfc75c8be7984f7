//! Of a stored trunk: its account, where else it is, what passes a call on, whether it is asked if it is there.
//! Owns:  the fields of these and their bounds, which are those of the files.
//! Gives: `read` and `check` for a document, `account`, `backup`, `failover`, `health` for a configuration.
//! Never: a password in a flaw.
//! Holds: what passed `check` makes a configuration.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::account::{Account, REGISTER_EXPIRES_DEFAULT, Registering, odd_text};
use shared::config::{HostPort, TrunkConfig};
use shared::document::{Fields, FlawKind, Flaws};
use shared::failover::{Failover, FailoverCodes};
use shared::headers::{EXTRA_HEADERS_MAX, ExtraHeader};
use shared::net::Transport;
use shared::snapshot::HealthChecks;

use super::trunk_headers;
use super::trunks::way;
use super::written;

/// A shorter time is asked for as this one: a carrier would be asked all day.
const EXPIRES_MIN: Duration = Duration::from_secs(10);
/// As `proxy.trunks.*` bounds them.
const NUMBERS: [(&str, i64, i64); 5] = [
    ("setup_timeout_ms", 500, 32_000),
    ("health_check_interval_secs", 1, 3_600),
    ("health_check_timeout_ms", 500, 32_000),
    ("health_check_probe_count", 1, 100),
    ("health_check_recovery_count", 1, 100),
];
pub(super) const FIELDS: [&str; 9] = [
    "backup_dest",
    "failover_codes",
    "setup_timeout_ms",
    "realm",
    "health_check_enabled",
    "health_check_interval_secs",
    "health_check_timeout_ms",
    "health_check_probe_count",
    "health_check_recovery_count",
];

/// What the document says of these, as columns.
pub(super) fn read(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Map<String, Value> {
    let mut columns = Map::new();
    for field in ["backup_dest", "realm"] {
        columns.extend(fields.word(field, flaws).map(|word| (field.to_owned(), word.into())));
    }
    for (field, least, most) in NUMBERS {
        let number = fields.int(field, least..=most, flaws);
        columns.extend(number.map(|number| (field.to_owned(), number.into())));
    }
    let flag = fields.flag("health_check_enabled", flaws);
    columns.extend(flag.map(|flag| ("health_check_enabled".to_owned(), flag.into())));
    let codes = fields.texts("failover_codes", flaws);
    columns.extend(codes.map(|codes| ("failover_codes".to_owned(), json!(codes))));
    columns
}

pub(super) fn check(columns: &Map<String, Value>, fields: &Fields<'_>, flaws: &mut Flaws) {
    if let Err(reason) = backup(columns) {
        flaws.push_try(
            fields.path("backup_dest"),
            FlawKind::Invalid,
            reason,
            "write \"sip:HOST:PORT\"",
        );
    }
    if let Err((place, reason)) = codes(columns) {
        flaws.push(fields.path("failover_codes").place(place), FlawKind::Invalid, reason);
    }
    if let Err((field, reason)) = account(columns) {
        flaws.push(fields.path(field), FlawKind::Invalid, reason);
    }
    let has = |field: &str| columns.get(field).and_then(Value::as_str).is_some();
    if has("auth_username") != has("auth_password") {
        let (missing, text) = if has("auth_username") {
            ("auth_password", "without it auth_username is not used")
        } else {
            ("auth_username", "without it auth_password is not used")
        };
        flaws.push(fields.path(missing), FlawKind::NotUsed, text);
    }
}

/// The field that is wrong, and how.
type Wrong = (&'static str, String);

pub(super) fn account(columns: &Map<String, Value>) -> Result<Option<Arc<Account>>, Wrong> {
    let text = |name: &str| columns.get(name).and_then(Value::as_str);
    let registers = columns.get("register_enabled").and_then(Value::as_bool).unwrap_or(false);
    let (Some(username), Some(password)) = (text("auth_username"), text("auth_password")) else {
        let needs = "needs auth_username and auth_password".to_owned();
        return if registers { Err(("register_enabled", needs)) } else { Ok(None) };
    };
    let account = Account::new(username, password).map_err(|reason| ("auth_username", reason))?;
    if let Some(reason) = text("realm").and_then(odd_text) {
        return Err(("realm", reason));
    }
    let headers = headers(columns.get("register_extra_headers"))
        .map_err(|reason| ("register_extra_headers", reason))?;
    let seconds = columns.get("register_expires").and_then(Value::as_u64);
    let expires = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let expires = expires.unwrap_or(REGISTER_EXPIRES_DEFAULT).max(EXPIRES_MIN);
    Ok(Some(Arc::new(Account {
        realm: text("realm").map(Into::into),
        registers: registers.then_some(Registering { expires, headers }),
        ..account
    })))
}

/// Pairs as the original keeps them, or an object.
fn headers(written: Option<&Value>) -> Result<Vec<ExtraHeader>, String> {
    let shape = || "must be an object, or a list of [name, value]".to_owned();
    let pairs: Vec<(&str, &str)> = match written {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect::<Option<_>>()
            .ok_or_else(shape)?,
        Some(Value::Array(list)) => list
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([name, value]) => Some((name.as_str()?, value.as_str()?)),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(shape)?,
        Some(_) => return Err(shape()),
    };
    if pairs.len() > EXTRA_HEADERS_MAX {
        return Err(format!("has more than {EXTRA_HEADERS_MAX} headers"));
    }
    if let Some((name, _)) = pairs.iter().find(|(_, value)| *value == trunk_headers::MASK) {
        return Err(format!("\"{name}\": the stars stand for a value that is not stored here"));
    }
    let header = |(name, value): (&str, &str)| {
        ExtraHeader::new(name, value).map_err(|reason| format!("\"{name}\": {reason}"))
    };
    pairs.into_iter().map(header).collect()
}

pub(super) fn backup(
    columns: &Map<String, Value>,
) -> Result<Option<(HostPort, Option<Transport>)>, String> {
    let text = |name: &str| columns.get(name).and_then(Value::as_str);
    text("backup_dest").map(|dest| way(dest, text("sip_transport"))).transpose()
}

fn codes(columns: &Map<String, Value>) -> Result<FailoverCodes, (usize, String)> {
    let written = columns.get("failover_codes").and_then(Value::as_array);
    let Some(list) = written.filter(|list| !list.is_empty()) else {
        return Ok(FailoverCodes::default());
    };
    let texts: Vec<String> =
        list.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect();
    FailoverCodes::parse(&texts)
}

pub(super) fn failover(columns: &Map<String, Value>) -> Result<Failover, String> {
    let codes = codes(columns).map_err(|(_, reason)| reason)?;
    let setup = number(columns, "setup_timeout_ms").map(Duration::from_millis);
    Ok(Failover { setup: setup.unwrap_or(Failover::SETUP_DEFAULT), codes })
}

pub(super) fn health(columns: &Map<String, Value>) -> Option<HealthChecks> {
    let is_on = columns.get("health_check_enabled").and_then(Value::as_bool).unwrap_or(false);
    let usual = HealthChecks::default();
    let count = |name, usual| {
        number(columns, name).and_then(|number| u32::try_from(number).ok()).unwrap_or(usual)
    };
    let checks = HealthChecks {
        interval: number(columns, "health_check_interval_secs")
            .map_or(usual.interval, Duration::from_secs),
        timeout: number(columns, "health_check_timeout_ms")
            .map_or(usual.timeout, Duration::from_millis),
        failures: count("health_check_probe_count", usual.failures),
        successes: count("health_check_recovery_count", usual.successes),
    };
    is_on.then_some(checks)
}

fn number(columns: &Map<String, Value>, name: &str) -> Option<u64> {
    columns.get(name).and_then(Value::as_u64)
}

/// The same of a trunk that a file defines.
pub(super) fn show_config(trunk: &TrunkConfig) -> Map<String, Value> {
    let account = trunk.account.as_deref();
    let registers = account.and_then(|account| account.registers.as_ref());
    let usual = HealthChecks::default();
    let checks = trunk.health.as_ref().unwrap_or(&usual);
    let backup = trunk.backup.as_ref().map(|(host, _)| format!("sip:{host}"));
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    written(json!({
        "backup_dest": backup,
        "failover_codes": trunk.failover.codes.texts(),
        "setup_timeout_ms": millis(trunk.failover.setup),
        "health_check_enabled": trunk.health.is_some(),
        "health_check_interval_secs": checks.interval.as_secs(),
        "health_check_timeout_ms": millis(checks.timeout),
        "health_check_probe_count": checks.failures,
        "health_check_recovery_count": checks.successes,
        "auth_username": account.map(|account| &account.auth_username),
        "realm": account.and_then(|account| account.realm.as_ref()),
        "has_password": account.is_some(),
        "register_enabled": registers.is_some(),
        "register_expires": registers.map(|registers| registers.expires.as_secs()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_stored_account_registers_with_its_headers() {
        let stored = columns(json!({
            "auth_username": "4930", "auth_password": "s", "realm": "r", "register_enabled": true,
            "register_expires": 600, "register_extra_headers": [["X-A", "1"]],
        }));
        let account = account(&stored).expect("it is right").expect("there is one");
        let registers = account.registers.as_ref().expect("it registers");
        assert_eq!((registers.expires.as_secs(), registers.headers[0].value()), (600, "1"));
        assert_eq!(account.realm.as_deref(), Some("r"));
        let wrong = columns(json!({ "register_enabled": true, "auth_username": "4930" }));
        assert_eq!(super::account(&wrong).expect_err("no password").0, "register_enabled");
        for odd in [json!("X-A: 1"), json!([["X-A"]]), json!({ "Via": "x" }), json!({ "X": 1 })] {
            assert!(headers(Some(&odd)).is_err(), "{odd}");
        }
        assert_eq!(headers(Some(&json!({ "X-B": "2" }))).map(|list| list.len()), Ok(1));
    }

    /// Rows of before migration 0045 were checked by nobody: the trunk is served, its account is not used.
    #[test]
    fn an_odd_row_of_an_earlier_release_is_still_a_trunk() {
        for odd in [
            json!({ "auth_username": "a\r\nb", "auth_password": "s" }),
            json!({ "register_enabled": true }),
            json!({ "auth_username": "a", "auth_password": "s", "register_extra_headers": "X: 1" }),
            json!({ "auth_username": "a", "auth_password": "s", "realm": "r\n" }),
            json!({ "health_check_enabled": null, "failover_codes": [], "register_expires": -5 }),
        ] {
            let mut row = columns(json!({ "name": "old", "sip_server": "sip:192.0.2.9" }));
            row.extend(columns(odd.clone()));
            let config =
                super::super::trunks::config(&row).unwrap_or_else(|e| panic!("{odd}: {e}"));
            assert!(config.account.is_none() && config.health.is_none(), "{odd}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let nothing = Map::new();
        assert_eq!(health(&nothing), None);
        assert_eq!(failover(&nothing), Ok(Failover::default()));
        assert_eq!(account(&nothing), Ok(None));
        let on = columns(json!({ "health_check_enabled": true, "health_check_probe_count": 5 }));
        assert_eq!(health(&on), Some(HealthChecks { failures: 5, ..HealthChecks::default() }));
    }
}
