//! Extensions as documents: who may register, and with what.
//! Owns:  the fields of an extension, the way from a password to its hashes.
//! Gives: columns from a document, a document from columns, a `User` from columns.
//! Never: a password or a hash in a document that goes out.
//! Holds: a password is kept as hashes for our realm; who changes the name brings it along again.

use serde_json::{Map, Value, json};
use shared::config::{Config, parse_hex};
use shared::document::{Fields, FlawKind, Flaws, Path};
use shared::forwarding::{self, Forwarding, MODES};
use shared::snapshot::{Secret, User};

use super::{secrets, written};
use crate::store::Row;

/// Longest name: it has to fit a From header with room to spare.
const NAME_BYTES_MAX: usize = 128;
const PASSWORD_BYTES_MAX: usize = 128;
const SECRET_COLUMNS: [&str; 5] =
    ["sip_password", "ha1_realm", "ha1_md5", "ha1_sha256", "ha1_sha512_256"];
/// What a program may send back as it read it.
const READ_ONLY: [&str; 9] = [
    "created_at",
    "defined_at",
    "departments",
    "has_password",
    "id",
    "registrations",
    "source",
    "updated_at",
    "warnings",
];

pub(super) fn read(
    config: &Config,
    document: &Value,
    before: Option<&Row>,
    flaws: &mut Flaws,
) -> Option<Map<String, Value>> {
    let mut fields = Fields::of(document, Path::default(), flaws)?;
    fields.ignore(&READ_ONLY);
    let name = name(&mut fields, flaws);
    let mut columns = Map::new();
    let mut set = |name: &str, value: Value| columns.insert(name.to_owned(), value);
    for field in ["display_name", "email", "notes"] {
        if let Some(text) = fields.word(field, flaws) {
            if text.len() > 4_096 || (field != "notes" && text.chars().any(char::is_control)) {
                flaws.push(fields.path(field), FlawKind::Invalid, "is not one line of text");
            }
            set(field, text.into());
        }
    }
    let status = fields.choice("status", &["active", "disabled"], flaws).unwrap_or("active");
    set("status", status.into());
    for field in ["login_disabled", "voicemail_disabled", "allow_guest_calls"] {
        set(field, fields.flag(field, flaws).unwrap_or(false).into());
    }
    if let Some(departments) = fields.value("department_ids") {
        set("department_ids", departments.clone());
    }
    forwarding(&mut fields, flaws, &mut set);
    let secret = secret(config, &mut fields, name.as_deref(), before, flaws);
    fields.finish(flaws);
    if flaws.refuse() {
        return None;
    }
    set("extension", name?.into());
    columns.extend(secret?);
    Some(columns)
}

fn name(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Option<String> {
    let Some(name) = fields.word("extension", flaws) else {
        if !fields.has("extension") {
            flaws.push(fields.path("extension"), FlawKind::Required, "an extension needs a name");
        }
        return None;
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "@:;<>\"".contains(c);
    let wrong = if name.len() > NAME_BYTES_MAX {
        Some(format!("must have 1 to {NAME_BYTES_MAX} bytes"))
    } else {
        name.chars().find(|c| odd(*c)).map(|c| format!("{c:?} cannot be part of a SIP user name"))
    };
    match wrong {
        None => Some(name.to_owned()),
        Some(text) => {
            flaws.push(fields.path("extension"), FlawKind::Invalid, text);
            None
        }
    }
}

fn forwarding(
    fields: &mut Fields<'_>,
    flaws: &mut Flaws,
    set: &mut impl FnMut(&str, Value) -> Option<Value>,
) {
    let mode = fields.choice(forwarding::MODE, &MODES, flaws).unwrap_or("none");
    let to = fields.word(forwarding::DESTINATION, flaws);
    let range = forwarding::TIMEOUT_MIN_S..=forwarding::TIMEOUT_MAX_S;
    let seconds = fields.int(forwarding::TIMEOUT, range, flaws);
    let seconds = seconds.unwrap_or(forwarding::TIMEOUT_DEFAULT_S);
    if let Err(flaw) = Forwarding::read(Some(mode), to, Some(seconds)) {
        let kind = if flaw.missing { FlawKind::Required } else { FlawKind::Invalid };
        flaws.push(fields.path(flaw.field), kind, flaw.text);
    }
    set(forwarding::MODE, mode.into());
    if let Some(to) = to {
        set(forwarding::DESTINATION, to.into());
    }
    set(forwarding::TIMEOUT, seconds.into());
}

/// The secret columns: of the new password, of hashes that were given, or those of before.
fn secret(
    config: &Config,
    fields: &mut Fields<'_>,
    name: Option<&str>,
    before: Option<&Row>,
    flaws: &mut Flaws,
) -> Option<Map<String, Value>> {
    let realm = config.sip().realm();
    let password = fields.text("sip_password", flaws).filter(|text| !text.is_empty());
    let given: Vec<(&str, String)> = [
        given_hash::<16>("ha1", "ha1_md5", fields, flaws),
        given_hash::<32>("ha1_sha256", "ha1_sha256", fields, flaws),
        given_hash::<32>("ha1_sha512_256", "ha1_sha512_256", fields, flaws),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut columns = Map::new();
    let mut set = |name: &str, value: &str| columns.insert(name.to_owned(), value.into());
    if let Some(password) = password {
        if !given.is_empty() {
            let text = "a password and its hashes say the same: send one of them";
            flaws.push(fields.path("sip_password"), FlawKind::Invalid, text);
        }
        if password.len() > PASSWORD_BYTES_MAX || password.chars().any(char::is_control) {
            let text = format!("must be one line of at most {PASSWORD_BYTES_MAX} bytes");
            flaws.push(fields.path("sip_password"), FlawKind::Invalid, text);
        }
        let hashes = secrets::hash(name?, realm, password);
        set("ha1_realm", realm);
        set("ha1_md5", &hashes.md5);
        set("ha1_sha256", &hashes.sha256);
        set("ha1_sha512_256", &hashes.sha512_256);
        return Some(columns);
    }
    if !given.is_empty() {
        set("ha1_realm", realm);
        for (column, hash) in &given {
            set(column, hash);
        }
        return Some(columns);
    }
    let Some(before) = before else {
        let text = "an extension needs a password, or its ha1";
        flaws.push(fields.path("sip_password"), FlawKind::Required, text);
        return None;
    };
    let hashed = before.text("sip_password").is_none();
    if hashed && name.is_some_and(|name| before.text("extension") != Some(name)) {
        let text = "hashes hold for one name: a new name needs its password again";
        flaws.push(fields.path("sip_password"), FlawKind::Required, text);
    }
    for column in SECRET_COLUMNS {
        if let Some(text) = before.text(column) {
            set(column, text);
        }
    }
    Some(columns)
}

fn given_hash<const N: usize>(
    field: &'static str,
    column: &'static str,
    fields: &mut Fields<'_>,
    flaws: &mut Flaws,
) -> Option<(&'static str, String)> {
    let text = fields.word(field, flaws)?;
    if parse_hex::<N>(text).is_none() {
        let wrong = format!("must be {} hex digits", 2 * N);
        flaws.push(fields.path(field), FlawKind::Invalid, wrong);
        return None;
    }
    Some((column, text.to_ascii_lowercase()))
}

pub(super) fn show(row: &Row) -> Map<String, Value> {
    let mut shown = row.fields.clone();
    for column in SECRET_COLUMNS {
        shown.remove(column);
    }
    for field in ["display_name", "email", "notes", "call_forwarding_destination"] {
        shown.entry(field).or_insert(Value::Null);
    }
    shown.entry("department_ids").or_insert_with(|| json!([]));
    shown.insert("has_password".to_owned(), true.into());
    shown
}

/// A user that a file defines, in the same shape.
pub(super) fn show_user(user: &User) -> Map<String, Value> {
    let wish = user.forwarding.as_deref();
    written(json!({
        "extension": user.username,
        "display_name": user.display_name,
        "email": null,
        "status": if user.enabled { "active" } else { "disabled" },
        "login_disabled": !user.enabled,
        "voicemail_disabled": false,
        "allow_guest_calls": user.allow_guest_calls,
        "call_forwarding_mode": wish.map_or("none", |wish| wish.mode.as_str()),
        "call_forwarding_destination": wish.map(|wish| &wish.to),
        "call_forwarding_timeout": wish.map_or(30, |wish| wish.ring.as_secs()),
        "department_ids": [],
        "notes": null,
        "has_password": true,
    }))
}

/// What the shards know of a row. `None`: it has no secret that can be read.
pub(super) fn user(row: &Row) -> Option<User> {
    let hash = |column: &str| row.text(column);
    let secret = match (row.text("sip_password"), row.text("ha1_realm")) {
        (Some(password), _) => Secret::Plain(password.into()),
        (None, Some(realm)) => Secret::Ha1 {
            realm: realm.into(),
            md5: hash("ha1_md5").and_then(parse_hex),
            sha256: hash("ha1_sha256").and_then(parse_hex),
            sha512_256: hash("ha1_sha512_256").and_then(parse_hex),
        },
        (None, None) => return None,
    };
    let forwarding = Forwarding::kept(
        row.text(forwarding::MODE),
        row.text(forwarding::DESTINATION),
        row.int(forwarding::TIMEOUT),
    );
    let active = row.text("status").is_none_or(|status| status == "active");
    Some(User {
        username: row.text("extension")?.into(),
        secret,
        display_name: row.text("display_name").map(Into::into),
        enabled: active && !row.flag("login_disabled").unwrap_or(false),
        allow_guest_calls: row.flag("allow_guest_calls").unwrap_or(false),
        forwarding: forwarding.map(Box::new),
        backend: 0,
    })
}
