//! The words of the user backends: what they are asked, and what their answers mean.
//! Owns:  the fields of surface.md section 3, and which reason is which status.
//! Gives: `Said`; `fields` of a question, `read_answer` for HTTP, `read_row` for a table. Pure.
//! Never: a password in an error.
//! Holds: an answer that cannot be used is an error, and never "unknown user".

use serde_json::{Map, Value};
use shared::ask::UserAsk;
use shared::config::{HttpUsers, parse_hex};
use shared::snapshot::{Secret, User};

use crate::store::ForeignUser;

/// What a backend says about a name.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Known(User),
    NotFound,
    Refused { status: u16, spam: bool },
}

const NAME_CHARS_MAX: usize = 128;
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Names and values of the query or form, in a fixed order.
pub(super) fn fields(http: &HttpUsers, ask: &UserAsk) -> Vec<(String, String)> {
    let mut fields = vec![
        (http.username_field.clone(), ask.username.clone()),
        (http.realm_field.clone(), ask.realm.clone()),
    ];
    if let Some(field) = &http.request_uri_field {
        fields.push((field.clone(), ask.request_uri.clone()));
    }
    for name in &http.sip_headers {
        let lines = ask.headers.iter().filter(|(written, _)| written.eq_ignore_ascii_case(name));
        let values: Vec<&str> = lines.map(|(_, value)| value.as_str()).collect();
        if !values.is_empty() {
            fields.push((name.clone(), values.join(", ")));
        }
    }
    fields
}

/// The answer to one question; the error says why the backend did not really answer.
pub(super) fn read_answer(
    status: u16,
    body: &[u8],
    ask: &UserAsk,
    place: u8,
) -> Result<Said, String> {
    match status {
        200..=299 => user(body, ask, place),
        408 | 425 | 429 | 500..=599 => Err(format!("answered {status}")),
        _ => refusal(status, body),
    }
}

fn user(body: &[u8], ask: &UserAsk, place: u8) -> Result<Said, String> {
    let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(body);
    let fields = parsed.map_err(|_| "the answer is no JSON object".to_owned())?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let flag = |name: &str, default: bool| match fields.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("{name} is neither true nor false")),
    };
    let named = match fields.get("username") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) => return Err("username is no text".to_owned()),
    };
    if named.is_some_and(|named| named != ask.username) {
        return Err("the answer is about another user".to_owned());
    }
    let realm = text("realm").unwrap_or(&ask.realm);
    let Some(secret) = secret(&Written::of(&fields)?, realm, ask)? else {
        return Ok(Said::NotFound); // of another realm
    };
    Ok(Said::Known(User {
        username: ask.username.as_str().into(),
        secret,
        display_name: text("display_name").map(|name| cut(name).into()),
        enabled: flag("enabled", true)?,
        allow_guest_calls: flag("allow_guest_calls", false)?,
        forwarding: None,
        backend: place,
    }))
}

/// The secrets of an answer as they were written.
#[derive(Default)]
struct Written<'a> {
    password: Option<&'a str>,
    ha1: Option<&'a str>,
    ha1_sha256: Option<&'a str>,
    ha1_sha512_256: Option<&'a str>,
}

impl<'a> Written<'a> {
    fn of(fields: &'a Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= PASSWORD_BYTES_MAX => {
                Ok(Some(text.as_str()).filter(|text| !text.is_empty()))
            }
            Some(Value::String(_)) => Err(format!("{name} is too long")),
            Some(_) => Err(format!("{name} is no text")),
        };
        Ok(Self {
            password: text("password")?,
            ha1: text("ha1")?,
            ha1_sha256: text("ha1_sha256")?,
            ha1_sha512_256: text("ha1_sha512_256")?,
        })
    }
}

/// `None`: hashes for another realm than ours, which prove nothing here.
fn secret(written: &Written<'_>, realm: &str, ask: &UserAsk) -> Result<Option<Secret>, String> {
    let hashes = Secret::Ha1 {
        realm: realm.into(),
        md5: hash(written.ha1, "ha1")?,
        sha256: hash(written.ha1_sha256, "ha1_sha256")?,
        sha512_256: hash(written.ha1_sha512_256, "ha1_sha512_256")?,
    };
    let hashed = [written.ha1, written.ha1_sha256, written.ha1_sha512_256];
    let secret = if hashed.iter().any(Option::is_some) {
        hashes
    } else {
        of_password(written.password.ok_or("the answer has neither password nor ha1")?, realm)
    };
    let foreign = matches!(secret, Secret::Ha1 { .. }) && realm != ask.realm;
    Ok((!foreign).then_some(secret))
}

/// 32 hex digits are HA1 by MD5.
fn of_password(password: &str, realm: &str) -> Secret {
    match parse_hex::<16>(password) {
        Some(md5) => {
            Secret::Ha1 { realm: realm.into(), md5: Some(md5), sha256: None, sha512_256: None }
        }
        None => Secret::Plain(password.into()),
    }
}

fn hash<const N: usize>(text: Option<&str>, name: &str) -> Result<Option<[u8; N]>, String> {
    let Some(text) = text else { return Ok(None) };
    parse_hex(text).map(Some).ok_or_else(|| format!("{name} is not {} hex digits", 2 * N))
}

/// What the reason says, else what the status says.
fn refusal(status: u16, body: &[u8]) -> Result<Said, String> {
    let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let reason = fields.get("reason").and_then(Value::as_str).unwrap_or_default();
    let refused = |status, spam| Ok(Said::Refused { status, spam });
    match (reason.trim().to_ascii_lowercase().as_str(), status) {
        ("not_found" | "not_user", _) => Ok(Said::NotFound),
        ("payment_required", _) => refused(402, false),
        ("spam" | "spam_detected", _) => refused(403, true),
        ("blocked" | "disabled" | "invalid_credentials" | "invalid_password", _) => {
            refused(403, false)
        }
        (_, 404 | 410) => Ok(Said::NotFound),
        (_, 402) => refused(402, false),
        (_, 401 | 403) => refused(403, false),
        // Our question was wrong, or this is no such program: nobody's password is.
        _ => Err(format!("answered {status}")),
    }
}

/// A row of a table.
pub(super) fn read_row(row: ForeignUser, ask: &UserAsk, place: u8) -> Said {
    let realm = row.realm.as_deref().filter(|realm| !realm.is_empty()).unwrap_or(&ask.realm);
    let Some(password) = row.password.filter(|password| !password.is_empty()) else {
        return Said::NotFound; // nobody can prove to be this user
    };
    if realm != ask.realm {
        return Said::NotFound;
    }
    Said::Known(User {
        username: ask.username.as_str().into(),
        secret: of_password(&password, realm),
        display_name: row.display_name.map(|name| cut(&name).into()),
        enabled: row.enabled,
        allow_guest_calls: row.allow_guest_calls,
        forwarding: None,
        backend: place,
    })
}

fn cut(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> UserAsk {
        UserAsk {
            username: "1001".to_owned(),
            realm: "pbx.com".to_owned(),
            request_uri: "sip:pbx.com".to_owned(),
            method: "REGISTER",
            call_id: "a".to_owned(),
            source: "192.0.2.1:5060".parse().expect("an address"),
            known_at: None,
            headers: vec![
                ("X-Site".to_owned(), "a".to_owned()),
                ("x-site".to_owned(), "b".to_owned()),
            ],
        }
    }

    fn said(status: u16, body: &str) -> Result<Said, String> {
        read_answer(status, body.as_bytes(), &ask(), 3)
    }

    fn known(body: &str) -> User {
        match said(200, body) {
            Ok(Said::Known(user)) => user,
            other => panic!("{other:?}: {body}"),
        }
    }

    #[test]
    fn the_answer_of_the_guide_is_a_user() {
        let user = known(
            r#"{ "id": 1001, "username": "1001", "password": "hashed_password_or_plaintext",
                 "display_name": "John Doe", "email": "john@pbx.com", "allow_guest_calls": false }"#,
        );
        assert_eq!(user.secret, Secret::Plain("hashed_password_or_plaintext".into()));
        assert_eq!(user.display_name.as_deref(), Some("John Doe"));
        assert_eq!((user.enabled, user.allow_guest_calls, user.backend), (true, false, 3));
        let user = known(r#"{ "username": 1001, "password": "x", "enabled": false }"#);
        assert!(!user.enabled);
    }

    #[test]
    fn hashes_are_taken_for_our_realm_alone() {
        let md5 = "00112233445566778899aabbccddeeff";
        let mut expected = [0_u8; 16];
        for (place, byte) in (0_u8..).zip(expected.iter_mut()) {
            *byte = place * 0x11;
        }
        for body in [format!(r#"{{"password":"{md5}"}}"#), format!(r#"{{"ha1":"{md5}"}}"#)] {
            let Secret::Ha1 { realm, md5, sha256, .. } = known(&body).secret else {
                panic!("{body}")
            };
            assert_eq!((&*realm, md5, sha256), ("pbx.com", Some(expected), None));
        }
        let other = format!(r#"{{"ha1":"{md5}","realm":"other.com"}}"#);
        assert!(matches!(said(200, &other), Ok(Said::NotFound)));
        let plain = known(r#"{"password":"p","realm":"other.com"}"#);
        assert_eq!(plain.secret, Secret::Plain("p".into()));
    }

    #[test]
    fn reasons_and_statuses_are_told_apart() {
        for (status, body, expected) in [
            (
                403,
                r#"{"reason":"invalid_password","message":"Account locked"}"#,
                Some((403, false)),
            ),
            (403, r#"{"reason":"Disabled"}"#, Some((403, false))),
            (403, r#"{"reason":"blocked"}"#, Some((403, false))),
            (403, r#"{"reason":"payment_required"}"#, Some((402, false))),
            (402, "", Some((402, false))),
            (403, r#"{"reason":"spam"}"#, Some((403, true))),
            (403, "go away", Some((403, false))),
            (401, "", Some((403, false))),
            (403, r#"{"reason":"not_found"}"#, None),
            (404, "", None),
        ] {
            let found = match said(status, body).expect("an answer") {
                Said::Refused { status, spam } => Some((status, spam)),
                Said::NotFound => None,
                Said::Known(user) => panic!("{user:?}"),
            };
            assert_eq!(found, expected, "{status} {body}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_without_its_secrets() {
        for (status, body) in [
            (500, r#"{"reason":"not_found"}"#),
            (503, ""),
            (429, ""),
            (302, ""),
            (400, ""),
            (200, ""),
            (200, "[]"),
            (200, "{}"),
            (200, r#"{"password":"","ha1":null}"#),
            (200, r#"{"password":["hunter2"]}"#),
            (200, r#"{"password":"hunter2","username":"1002"}"#),
            (200, r#"{"ha1":"hunter2"}"#),
            (200, r#"{"password":"hunter2","enabled":"no"}"#),
        ] {
            let reason = said(status, body).expect_err(body);
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn a_row_needs_a_password_and_our_realm() {
        let row = |password: Option<&str>, realm: Option<&str>| ForeignUser {
            password: password.map(str::to_owned),
            enabled: true,
            realm: realm.map(str::to_owned),
            display_name: None,
            allow_guest_calls: false,
        };
        let known = |row| matches!(read_row(row, &ask(), 0), Said::Known(_));
        assert!(known(row(Some("p"), None)) && known(row(Some("p"), Some("pbx.com"))));
        assert!(!known(row(None, None)) && !known(row(Some(""), None)));
        assert!(!known(row(Some("p"), Some("other.com"))));
    }
}
