//! The configuration as it was written: a tree of values that remember their place.
//! Owns:  `Node`, `Value`; reading TOML into them.
//! Gives: the origin of any key, and plain TOML values for serde.
//! Never: reads a file; knows which keys exist.
//! Holds: every syntax error of the text is reported, not only the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};
use crate::event::Severity;

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Bool(bool),
    Float(f64),
    Int(i64),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    Text(String),
    /// A TOML date or time; no key of ours takes one.
    Time(String),
}

impl Default for Value {
    fn default() -> Self {
        Self::Table(BTreeMap::new())
    }
}

impl Value {
    /// The word for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Float(_) => "a number with a fraction",
            Self::Int(_) => "a whole number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Text(_) => "text",
            Self::Time(_) => "a date or time",
        }
    }
}

impl Node {
    /// The node at a dotted key with list places, or where the path ends early.
    pub(super) fn find(&self, key: &str) -> Option<&Self> {
        let mut node = self;
        let mut segments = segments(key).peekable();
        while let Some(segment) = segments.next() {
            node = node.step(segment, &mut segments)?;
        }
        Some(node)
    }

    /// Where `key` was written, or the nearest table above it that was written anywhere.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        let (mut node, mut origin) = (self, Origin::Default);
        let mut segments = segments(key).peekable();
        while let Some(segment) = segments.next() {
            let Some(child) = node.step(segment, &mut segments) else { break };
            node = child;
            origin = child.origin.clone();
        }
        origin
    }

    /// One step down. A name may have been written with a dot in it, in quotes.
    fn step<'k>(
        &self,
        segment: Segment<'k>,
        rest: &mut std::iter::Peekable<impl Iterator<Item = Segment<'k>>>,
    ) -> Option<&Self> {
        if let (Segment::Name(first), Some(Segment::Name(second))) = (segment, rest.peek())
            && let Some(child) = self.child(Segment::Name(&format!("{first}.{second}")))
        {
            rest.next();
            return Some(child);
        }
        self.child(segment)
    }

    fn child(&self, segment: Segment<'_>) -> Option<&Self> {
        match (&self.value, segment) {
            (Value::Table(table), Segment::Name(name)) => table.get(name),
            (Value::List(list), Segment::Place(place)) => list.get(place),
            _ => None,
        }
    }

    /// For serde. Dates become text.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Bool(value) => toml::Value::Boolean(*value),
            Value::Float(value) => toml::Value::Float(*value),
            Value::Int(value) => toml::Value::Integer(*value),
            Value::List(list) => toml::Value::Array(list.iter().map(Self::to_toml).collect()),
            Value::Table(table) => toml::Value::Table(
                table.iter().map(|(name, node)| (name.clone(), node.to_toml())).collect(),
            ),
            Value::Text(text) | Value::Time(text) => toml::Value::String(text.clone()),
        }
    }
}

/// One step of a dotted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'k> {
    Name(&'k str),
    Place(usize),
}

/// `a.b[2].c` as `a`, `b`, place 2, `c`.
pub(super) fn segments(key: &str) -> impl Iterator<Item = Segment<'_>> {
    key.split('.').filter(|part| !part.is_empty()).flat_map(|part| {
        let (name, places) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        let places = places.split(['[', ']']).filter_map(|text| text.parse().ok());
        std::iter::once(Segment::Name(name)).chain(places.map(Segment::Place))
    })
}

/// Reads one TOML document. What could be read is given even when something could not.
pub(super) fn parse(name: &str, text: &str) -> (Node, Vec<Problem>) {
    let source = Source { name: name.into(), lines: line_starts(text) };
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors.iter().map(|error| Problem {
        severity: Severity::Error,
        origin: source.origin(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        text: format!("not TOML: {}", error.message().replace('\n', ", ")),
        suggestion: None,
    });
    let problems = problems.collect();
    (Node { origin: source.origin(0), value: source.table(table.get_ref()) }, problems)
}

struct Source {
    name: Arc<str>,
    /// Byte offset of the start of every line.
    lines: Vec<usize>,
}

impl Source {
    fn origin(&self, offset: usize) -> Origin {
        let line = self.lines.partition_point(|start| *start <= offset);
        Origin::File { name: Arc::clone(&self.name), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let entries = table.iter().map(|(key, value)| {
            // The key's place, so that a value over several lines is reported at its start.
            let origin = self.origin(key.span().start);
            (key.get_ref().to_string(), Node { origin, value: self.value(value) })
        });
        Value::Table(entries.collect())
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::Array(list) => {
                let node = |item: &Spanned<DeValue<'_>>| Node {
                    origin: self.origin(item.span().start),
                    value: self.value(item),
                };
                Value::List(list.iter().map(node).collect())
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Float(float) => {
                float.as_str().parse().map_or_else(|_| Value::Text(float.to_string()), Value::Float)
            }
            DeValue::Integer(int) => i64::from_str_radix(int.as_str(), int.radix())
                .map_or_else(|_| Value::Text(int.to_string()), Value::Int),
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Table(table) => self.table(table),
        }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(node: &Node, key: &str) -> String {
        node.origin_of(key).to_string()
    }

    #[test]
    fn every_key_knows_its_line() {
        let text = "a = 1\n[proxy]\nports = [\n  1,\n  2,\n]\n\n[[proxy.backends]]\nx = true\n";
        let (node, problems) = parse("f.toml", text);
        assert_eq!(problems, []);
        assert_eq!(line_of(&node, "a"), "f.toml:1");
        assert_eq!(line_of(&node, "proxy.ports"), "f.toml:3");
        assert_eq!(line_of(&node, "proxy.ports[1]"), "f.toml:5");
        assert_eq!(line_of(&node, "proxy.backends[0].x"), "f.toml:9");
        assert_eq!(line_of(&node, "proxy.backends[0].missing"), "f.toml:8");
        assert_eq!(line_of(&node, "nowhere"), "default");
    }

    #[test]
    fn syntax_errors_do_not_hide_each_other() {
        let (node, problems) = parse("f.toml", "a = \nb = 2\nc = [1,\n");
        let lines: Vec<_> = problems.iter().map(|problem| problem.origin.to_string()).collect();
        assert!(lines.contains(&"f.toml:1".to_owned()), "{lines:?}");
        assert!(lines.len() > 1, "{lines:?}");
        assert!(matches!(node.find("b").map(|b| &b.value), Some(Value::Int(2))));
    }
}
