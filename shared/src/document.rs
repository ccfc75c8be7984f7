//! Reading a document that a person or a program wrote: field by field, every flaw at once.
//! Owns:  `Fields` (one object being read), `Flaw` (what is wrong and where).
//! Gives: typed values; names that nobody asked for, each with the nearest known one.
//! Never: a meaning of a field; a secret in the text of a flaw.
//! Holds: the same reading serves configuration files and the REST API.

use serde_json::{Map, Value};

use crate::config::nearest;

/// Why a value was not taken, as a stable word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlawKind {
    Invalid,
    /// Taken, and without effect so far.
    NotUsed,
    Required,
    UnknownField,
    UnknownTrunk,
    WrongKind,
}

impl FlawKind {
    /// Whether a document with such a flaw cannot be taken.
    pub const fn refuses(self) -> bool {
        !matches!(self, Self::NotUsed)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "value",
            Self::NotUsed => "not_used_yet",
            Self::Required => "missing",
            Self::UnknownField => "unknown",
            Self::UnknownTrunk => "unknown_trunk",
            Self::WrongKind => "kind",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub path: Path,
    pub kind: FlawKind,
    pub text: String,
    pub hint: Option<String>,
}

/// The way to a value: names, and places in lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(Box<str>),
    Place(usize),
}

impl Path {
    #[must_use]
    pub fn name(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Name(name.into()));
        path
    }

    #[must_use]
    pub fn place(&self, place: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Place(place));
        path
    }

    /// `match.to.user`, `trunks[1].name`: as configuration problems name a key.
    pub fn dotted(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Name(name) if text.is_empty() => text.push_str(name),
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Place(place) => text.push_str(&format!("[{place}]")),
            }
        }
        text
    }

    /// A JSON pointer (RFC 6901).
    pub fn pointer(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            text.push('/');
            match step {
                Step::Name(name) => text.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Place(place) => text.push_str(&place.to_string()),
            }
        }
        text
    }
}

/// What is wrong with a document so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaws(pub Vec<Flaw>);

impl Flaws {
    pub fn push(&mut self, path: Path, kind: FlawKind, text: impl Into<String>) {
        self.0.push(Flaw { path, kind, text: text.into(), hint: None });
    }

    pub fn push_try(
        &mut self,
        path: Path,
        kind: FlawKind,
        text: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(Flaw { path, kind, text: text.into(), hint: Some(hint.into()) });
    }

    /// Whether the document must be refused; unknown fields count.
    pub fn refuse(&self) -> bool {
        self.0.iter().any(|flaw| flaw.kind.refuses())
    }
}

/// One object. A name counts in both spellings, `max_ring_time` and `maxRingTime`; `null` counts as
/// not there.
#[derive(Debug)]
pub struct Fields<'v> {
    map: &'v Map<String, Value>,
    path: Path,
    asked: Vec<&'static str>,
}

impl<'v> Fields<'v> {
    /// `None` when it is no object; the flaw says so.
    pub fn of(value: &'v Value, path: Path, flaws: &mut Flaws) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, path, asked: Vec::new() }),
            other => {
                let text = format!("must be an object, not {}", kind_of(other));
                flaws.push(path, FlawKind::WrongKind, text);
                None
            }
        }
    }

    pub fn path(&self, name: &str) -> Path {
        self.path.name(self.written(name).unwrap_or(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.written(name).is_some()
    }

    /// The value of a field, whatever it is.
    pub fn value(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        let written = self.written(name)?;
        self.map.get(written).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &'static str, flaws: &mut Flaws) -> Option<&'v str> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            other => self.wrong(name, "text", other, flaws),
        }
    }

    /// Text without the blanks around it; empty counts as not there.
    pub fn word(&mut self, name: &'static str, flaws: &mut Flaws) -> Option<&'v str> {
        self.text(name, flaws).map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn flag(&mut self, name: &'static str, flaws: &mut Flaws) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            other => self.wrong(name, "true or false", other, flaws),
        }
    }

    pub fn int(
        &mut self,
        name: &'static str,
        bounds: std::ops::RangeInclusive<i64>,
        flaws: &mut Flaws,
    ) -> Option<i64> {
        let value = self.value(name)?;
        let Some(number) = value.as_i64() else {
            return self.wrong(name, "a whole number", value, flaws);
        };
        if bounds.contains(&number) {
            return Some(number);
        }
        let text = format!("must be {} to {}, not {number}", bounds.start(), bounds.end());
        flaws.push(self.path(name), FlawKind::Invalid, text);
        None
    }

    /// One of `words`.
    pub fn choice(
        &mut self,
        name: &'static str,
        words: &[&'static str],
        flaws: &mut Flaws,
    ) -> Option<&'static str> {
        let text = self.word(name, flaws)?;
        let found = words.iter().copied().find(|word| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let wrong = format!("must be one of {}, not \"{text}\"", words.join(", "));
            flaws.push(self.path(name), FlawKind::Invalid, wrong);
        }
        found
    }

    /// A list of texts, one text, or the JSON of a list in a text, as forms send it.
    pub fn texts(&mut self, name: &'static str, flaws: &mut Flaws) -> Option<Vec<String>> {
        let value = self.value(name)?;
        let parsed = match value {
            Value::String(text) if text.trim().is_empty() => return Some(Vec::new()),
            Value::String(text) => {
                let list = serde_json::from_str::<Value>(text).ok().filter(Value::is_array);
                list.unwrap_or_else(|| Value::Array(vec![Value::String(text.trim().to_owned())]))
            }
            other => other.clone(),
        };
        let Value::Array(list) = &parsed else {
            return self.wrong(name, "a list of texts", value, flaws);
        };
        let mut texts = Vec::new();
        for (place, item) in list.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.trim().to_owned()),
                other => {
                    let text = format!("must be text, not {}", kind_of(other));
                    flaws.push(self.path(name).place(place), FlawKind::WrongKind, text);
                }
            }
        }
        Some(texts)
    }

    /// Any JSON, or the JSON in a text; kept as it is and not understood.
    pub fn json(&mut self, name: &'static str) -> Option<Value> {
        match self.value(name)? {
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(text) => {
                Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
            }
            other => Some(other.clone()),
        }
    }

    /// Fields that are taken and have no effect so far; each that asks for something is named.
    pub fn not_used(&mut self, names: &[&'static str], flaws: &mut Flaws) {
        for name in names {
            let asks = self.value(name).is_some_and(|value| match value {
                Value::Bool(flag) => *flag,
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                Value::String(text) => !text.trim().is_empty(),
                Value::Number(_) => true,
                Value::Null => false,
            });
            if asks {
                let text = "accepted, not used yet: what it asks for does not happen";
                flaws.push(self.path(name), FlawKind::NotUsed, text);
            }
        }
    }

    /// Fields that may be there and say nothing new, such as the number in what a program read
    /// before.
    pub fn ignore(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// Every name that nobody asked for is a flaw.
    pub fn finish(self, flaws: &mut Flaws) {
        for name in self.map.keys() {
            if self.asked.iter().any(|asked| same(asked, name)) {
                continue;
            }
            let path = self.path.name(name);
            match nearest(name, self.asked.iter().copied()) {
                Some(near) => {
                    let hint = format!("did you mean \"{near}\"?");
                    flaws.push_try(path, FlawKind::UnknownField, "unknown key", hint);
                }
                None => flaws.push(path, FlawKind::UnknownField, "unknown key"),
            }
        }
    }

    fn written(&self, name: &str) -> Option<&'v str> {
        self.map.keys().map(String::as_str).find(|written| same(name, written))
    }

    fn wrong<T>(&self, name: &str, expected: &str, value: &Value, flaws: &mut Flaws) -> Option<T> {
        let text = format!("must be {expected}, not {}", kind_of(value));
        flaws.push(self.path(name), FlawKind::WrongKind, text);
        None
    }
}

/// `max_ring_time` is also `maxRingTime`.
fn same(snake: &str, written: &str) -> bool {
    let mut letters = written.chars();
    let mut upper = false;
    for c in snake.chars() {
        if c == '_' && !written.contains('_') {
            upper = true;
            continue;
        }
        let expected = if upper { c.to_ascii_uppercase() } else { c };
        upper = false;
        if letters.next() != Some(expected) {
            return false;
        }
    }
    letters.next().is_none()
}

pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
        Value::Number(_) => "a number",
        Value::Object(_) => "an object",
        Value::String(_) => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_a_name_are_one_field() {
        for (snake, written) in
            [("max_ring_time", "maxRingTime"), ("max_ring_time", "max_ring_time"), ("id", "id")]
        {
            assert!(same(snake, written), "{written}");
        }
        for (snake, written) in [("max_ring_time", "maxringtime"), ("id", "ids"), ("ab", "a")] {
            assert!(!same(snake, written), "{written}");
        }
    }

    #[test]
    fn every_flaw_is_found_with_its_place() {
        let value = json!({ "name": 3, "on": "yes", "prio": 900, "tags": ["a", 1], "colour": 1 });
        let mut flaws = Flaws::default();
        let mut fields = Fields::of(&value, Path::default(), &mut flaws).expect("an object");
        assert_eq!(fields.text("name", &mut flaws), None);
        assert_eq!(fields.flag("on", &mut flaws), None);
        assert_eq!(fields.int("prio", 0..=100, &mut flaws), None);
        assert_eq!(fields.texts("tags", &mut flaws), Some(vec!["a".to_owned()]));
        assert_eq!(fields.text("color", &mut flaws), None);
        fields.finish(&mut flaws);
        let found: Vec<_> =
            flaws.0.iter().map(|flaw| (flaw.path.pointer(), flaw.kind.as_str())).collect();
        let expected = [
            ("/name", "kind"),
            ("/on", "kind"),
            ("/prio", "value"),
            ("/tags/1", "kind"),
            ("/colour", "unknown"),
        ];
        assert_eq!(found, expected.map(|(pointer, word)| (pointer.to_owned(), word)));
        assert_eq!(flaws.0[4].hint.as_deref(), Some("did you mean \"color\"?"));
        assert_eq!(flaws.0[3].path.dotted(), "tags[1]");
    }

    #[test]
    fn lists_may_come_as_the_text_of_their_json() {
        let value = json!({ "a": "[\"x\", \"y\"]", "b": "z", "c": "", "d": "{\"k\": 1}" });
        let mut flaws = Flaws::default();
        let mut fields = Fields::of(&value, Path::default(), &mut flaws).expect("an object");
        assert_eq!(fields.texts("a", &mut flaws), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(fields.texts("b", &mut flaws), Some(vec!["z".to_owned()]));
        assert_eq!(fields.texts("c", &mut flaws), Some(Vec::new()));
        assert_eq!(fields.json("d"), Some(json!({ "k": 1 })));
        assert_eq!(flaws, Flaws::default());
    }
}
