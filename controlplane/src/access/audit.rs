//! The audit log: one function that everybody calls who changed something.
//! Owns:  the shape of an entry, and what becomes of secrets in it.
//! Gives: `Access::record`.
//! Never: a secret: values under names that mean one are replaced before they are stored.
//! Holds: an entry that cannot be stored is in the process log, whole, with the reason.

use serde_json::Value;

use super::{Access, Caller};
use crate::store::AuditRow;

/// What comes of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed,
    Refused,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// What somebody did or tried.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    /// `login`, `user.create`, `call.hangup`: what, in two words at most.
    pub action: &'a str,
    /// What it was done to: `user 7`, a call's id.
    pub object: &'a str,
    pub outcome: Outcome,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// Why it was refused, or what there is to know besides.
    pub detail: Option<String>,
}

impl<'a> Deed<'a> {
    pub const fn new(action: &'a str, object: &'a str, outcome: Outcome) -> Self {
        Self { action, object, outcome, before: None, after: None, detail: None }
    }

    pub const fn done(action: &'a str, object: &'a str) -> Self {
        Self::new(action, object, Outcome::Done)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// How the object was and how it is now.
    pub fn change(mut self, before: Option<Value>, after: Option<Value>) -> Self {
        (self.before, self.after) = (before, after);
        self
    }
}

/// A value longer than this is cut: the log is no store of documents.
const TEXT_CHARS_MAX: usize = 8_192;

impl Access {
    /// Writes an entry. What was done stays done when the log cannot be written.
    pub async fn record(&self, caller: &Caller, deed: Deed<'_>) {
        let json = |value: Option<Value>| {
            value.map(|mut value| {
                mask(&mut value);
                cut(value.to_string())
            })
        };
        let row = AuditRow {
            id: 0,
            at: self.now_ms(),
            actor: caller.to_string(),
            source: caller.shown_source(),
            action: deed.action.to_owned(),
            object: cut(deed.object.to_owned()),
            outcome: deed.outcome.as_str().to_owned(),
            before: json(deed.before),
            after: json(deed.after),
            detail: deed.detail.map(cut),
        };
        if let Err(error) = self.store.add_audit(&row).await {
            tracing::error!(%error, ?row, "an entry of the audit log is only here");
        }
    }
}

fn cut(text: String) -> String {
    if text.len() <= TEXT_CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    short.push('…');
    short
}

/// Replaces what a name says is a secret.
pub(super) fn mask(value: &mut Value) {
    const WORDS: [&str; 7] =
        ["access_key", "credential", "ha1", "hash", "password", "secret", "token"];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_lowercase();
                let secret =
                    WORDS.iter().any(|word| name.contains(word)) || name == "authorization";
                if secret && !matches!(value, Value::Null | Value::Bool(_)) {
                    *value = Value::from("***");
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_at_any_depth_and_the_rest_stays() {
        let mut value = json!({
            "username": "ops",
            "password": "p",
            "sip_password": null,
            "list": [{ "Api_Token": "t", "scopes": ["ami"] }],
            "secret": { "deep": "s" },
            "has_password": true,
        });
        mask(&mut value);
        let expected = json!({
            "username": "ops",
            "password": "***",
            "sip_password": null,
            "list": [{ "Api_Token": "***", "scopes": ["ami"] }],
            "secret": "***",
            "has_password": true,
        });
        assert_eq!(value, expected);
    }
}
