//! The fields of a JSON body, taken one by one; everything that is wrong is said at once.
//! Owns:  the form of field errors.
//! Gives: values of the kind that was asked for, or one refusal with a pointer per mistake.
//! Never: a default: what is not there is `None`.
//! Holds: a field that nobody asked for is a mistake and not ignored.

use serde_json::{Map, Value, json};
use shared::document::Flaw;

use super::{Code, Problem};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    /// JSON pointer (RFC 6901).
    pub(super) pointer: String,
    /// `missing`, `unknown`, `kind`, `value`, or what else `FlawKind` knows
    pub(super) code: &'static str,
    pub(super) detail: String,
}

impl FieldError {
    /// The same of a document that configuration files share with us.
    pub(super) fn of_flaw(flaw: &Flaw) -> Self {
        let detail = match &flaw.hint {
            Some(hint) => format!("{}; {hint}", flaw.text),
            None => flaw.text.clone(),
        };
        Self { pointer: flaw.path.pointer(), code: flaw.kind.as_str(), detail }
    }

    pub(super) fn show(&self) -> Value {
        json!({ "pointer": self.pointer, "code": self.code, "detail": self.detail })
    }
}

#[derive(Debug)]
pub(super) struct Fields {
    left: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    pub(super) fn of(body: Value) -> Result<Self, Problem> {
        match body {
            Value::Object(left) => Ok(Self { left, errors: Vec::new() }),
            _ => Err(Problem::new(Code::BodyUnreadable, "the body must be a JSON object")),
        }
    }

    /// `Some(None)` is an explicit null.
    pub(super) fn text_or_null(&mut self, name: &str) -> Option<Option<String>> {
        match self.left.remove(name)? {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text)),
            other => self.wrong_kind(name, "text", &other),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.left.remove(name)? {
            Value::String(text) => Some(text),
            other => self.wrong_kind(name, "text", &other),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.left.remove(name)? {
            Value::Bool(flag) => Some(flag),
            other => self.wrong_kind(name, "true or false", &other),
        }
    }

    /// Null counts as not there.
    pub(super) fn number(&mut self, name: &str) -> Option<i64> {
        match self.left.remove(name)? {
            Value::Null => None,
            Value::Number(number) if number.is_i64() => number.as_i64(),
            other => self.wrong_kind(name, "a whole number", &other),
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.left.remove(name)? {
            Value::Array(list) => Some(list),
            other => self.wrong_kind(name, "a list", &other),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.left.remove(name)? {
            Value::Object(object) => Some(object),
            Value::Null => None,
            other => self.wrong_kind(name, "an object", &other),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let list = self.list(name)?;
        let mut texts = Vec::with_capacity(list.len());
        for (place, item) in list.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => {
                    let _wrong: Option<()> =
                        self.wrong_kind(&format!("{name}/{place}"), "text", &other);
                }
            }
        }
        Some(texts)
    }

    /// Notes what is wrong with a value that was taken.
    pub(super) fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.push(name, "value", detail.into());
    }

    pub(super) fn missing(&mut self, name: &str) {
        self.push(name, "missing", format!("{name} must be there"));
    }

    /// What was found wrong elsewhere with a field that is called differently here.
    pub(super) fn take_errors(&mut self, other: Self, name: &str, here: &str) {
        let (theirs, ours) = (format!("/{name}"), format!("/{here}"));
        self.errors.extend(
            other
                .errors
                .into_iter()
                .filter(|error| error.pointer == theirs)
                .map(|error| FieldError { pointer: ours.clone(), ..error }),
        );
    }

    /// The end: nothing may be left, and nothing may have been wrong.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self.left.keys().cloned().collect();
        for name in unknown {
            self.push(&name, "unknown", "there is no such field here".to_owned());
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let first = &self.errors[0];
        let detail = format!("{}: {}", first.pointer, first.detail);
        Err(Problem::new(Code::BodyInvalid, detail).with_errors(self.errors))
    }

    fn wrong_kind<T>(&mut self, name: &str, kind: &str, found: &Value) -> Option<T> {
        let found = match found {
            Value::Array(_) => "a list",
            Value::Bool(_) => "true or false",
            Value::Null => "null",
            Value::Number(_) => "a number",
            Value::Object(_) => "an object",
            Value::String(_) => "text",
        };
        self.push(name, "kind", format!("must be {kind}, not {found}"));
        None
    }

    fn push(&mut self, name: &str, code: &'static str, detail: String) {
        // `~` and `/` mean something in a pointer; a `/` of ours stands between list and place.
        let pointer = format!("/{}", name.replace('~', "~0"));
        self.errors.push(FieldError { pointer, code, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_said_and_values_are_not_repeated() {
        let body =
            json!({ "name": 7, "secret": ["hunter2"], "on": "yes", "colour": "red", "n": 1.5 });
        let mut fields = Fields::of(body).expect("an object");
        assert_eq!(fields.text("name"), None);
        assert_eq!(fields.text("secret"), None);
        assert_eq!(fields.flag("on"), None);
        assert_eq!(fields.number("n"), None);
        fields.missing("list");
        let errors = fields.errors.clone();
        let pointers: Vec<_> =
            errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        let expected = [
            ("/name", "kind"),
            ("/secret", "kind"),
            ("/on", "kind"),
            ("/n", "kind"),
            ("/list", "missing"),
        ];
        assert_eq!(pointers, expected);
        assert!(!format!("{errors:?}").contains("hunter2"));
        assert_eq!(fields.finish().expect_err("it is wrong").code(), Code::BodyInvalid);
    }

    #[test]
    fn a_body_with_nothing_wrong_is_taken() {
        let body = json!({ "a": "x", "b": null, "c": ["1", "2"], "d": null });
        let mut fields = Fields::of(body).expect("an object");
        assert_eq!(fields.text("a").as_deref(), Some("x"));
        assert_eq!(fields.text_or_null("b"), Some(None));
        assert_eq!(fields.texts("c"), Some(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!((fields.number("d"), fields.flag("e")), (None, None));
        assert!(fields.finish().is_ok());
        assert!(Fields::of(json!([])).is_err());
    }
}
