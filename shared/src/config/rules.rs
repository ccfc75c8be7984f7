//! Holds a tree against the known keys: what is unknown, of the wrong kind, or does nothing yet.
//! Owns:  `Rules`, the keys as a tree of their own; the "did you mean" search.
//! Gives: the problems, and a tree without the values that have the wrong kind.
//! Never: reads a value's meaning.
//! Holds: after `check`, every value that is left has the kind that its file form expects.

use std::collections::BTreeMap;

use super::keys::{self, Key, Kind, Use};
use super::problem::{Origin, Problem};
use super::tree::{Node, Value};
use crate::event::Severity;

/// The known keys below one place.
#[derive(Debug, Default)]
pub(super) struct Rules {
    key: Option<&'static Key>,
    names: BTreeMap<&'static str, Self>,
    any_name: Option<Box<Self>>,
    item: Option<Box<Self>>,
}

impl Rules {
    pub(super) fn known() -> Self {
        let mut root = Self::default();
        for key in keys::all() {
            let mut rule = &mut root;
            for part in key.pattern.split('.') {
                let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |n| (n, true));
                rule = match name {
                    "*" => rule.any_name.get_or_insert_default(),
                    name => rule.names.entry(name).or_default(),
                };
                if is_list {
                    rule = rule.item.get_or_insert_default();
                }
            }
            rule.key = Some(key);
        }
        root
    }

    pub(super) const fn key(&self) -> Option<&'static Key> {
        self.key
    }

    /// The rule of `name` here: its own, a pattern's, or that of any name.
    pub(super) fn of_name(&self, name: &str) -> Option<&Self> {
        let by_pattern = || {
            self.names.iter().find_map(|(pattern, rule)| {
                let (start, end) = pattern.split_once('*')?;
                (name.len() >= start.len() + end.len()
                    && name.starts_with(start)
                    && name.ends_with(end))
                .then_some(rule)
            })
        };
        self.names.get(name).or_else(by_pattern).or(self.any_name.as_deref())
    }

    pub(super) fn of_item(&self) -> Option<&Self> {
        self.item.as_deref()
    }

    fn is_table(&self) -> bool {
        !self.names.is_empty() || self.any_name.is_some()
    }
}

/// One walk over a tree.
#[derive(Debug)]
pub(super) struct Walk<'r> {
    pub(super) root: &'r Rules,
    /// Unknown keys are errors and not warnings.
    pub(super) strict: bool,
    pub(super) problems: Vec<Problem>,
}

impl Walk<'_> {
    /// Reports what is wrong below `node` and removes the values that have the wrong kind.
    pub(super) fn check(&mut self, node: &mut Node) {
        self.table(node, self.root, "");
    }

    fn table(&mut self, node: &mut Node, rules: &Rules, path: &str) {
        let Value::Table(table) = &mut node.value else { return };
        table.retain(|name, child| {
            let path = join(path, name);
            match rules.of_name(name) {
                Some(rule) => self.value(child, rule, &path),
                None => {
                    self.unknown(child, rules, &path, name);
                    false
                }
            }
        });
    }

    /// False when the value must go.
    fn value(&mut self, node: &mut Node, rule: &Rules, path: &str) -> bool {
        if let Some(key) = rule.key
            && let Some(wrong) = mismatch(key.kind, node, keys::is_secret(path))
        {
            self.push(Severity::Error, &node.origin, path, wrong.0, wrong.1);
            return false;
        }
        match rule.key.map(|key| key.role) {
            Some(Use::NotYet) => {
                let text = "accepted, not used yet".to_owned();
                self.push(Severity::Info, &node.origin, path, text, None);
            }
            Some(Use::NotYetWatchOut) => {
                let text = "accepted, not used yet: what it asks for does not happen".to_owned();
                self.push(Severity::Warning, &node.origin, path, text, None);
            }
            Some(Use::Reload | Use::Start) | None => {}
        }
        if rule.is_table() && rule.key.is_none() && !matches!(node.value, Value::Table(_)) {
            let text = format!("must be a table, not {}", node.value.kind());
            self.push(Severity::Error, &node.origin, path, text, None);
            return false;
        }
        if rule.is_table() {
            self.table(node, rule, path);
        }
        if let (Value::List(list), Some(rule)) = (&mut node.value, rule.of_item()) {
            for (place, item) in list.iter_mut().enumerate() {
                self.table(item, rule, &format!("{path}[{place}]"));
            }
        }
        true
    }

    fn unknown(&mut self, node: &Node, rules: &Rules, path: &str, name: &str) {
        let severity = if self.strict { Severity::Error } else { Severity::Warning };
        let near = nearest(name, rules.names.keys().copied())
            .map(str::to_owned)
            .or_else(|| elsewhere(name))
            .map(|known| format!("did you mean \"{known}\"?"));
        self.push(severity, &node.origin, path, "unknown key".to_owned(), near);
    }

    fn push(
        &mut self,
        severity: Severity,
        origin: &Origin,
        path: &str,
        text: String,
        suggestion: Option<String>,
    ) {
        let (origin, key) = (origin.clone(), path.to_owned());
        self.problems.push(Problem { severity, origin, key, text, suggestion });
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What is wrong with the kind of a value, and what would be right.
fn mismatch(kind: Kind, node: &Node, secret: bool) -> Option<(String, Option<String>)> {
    let found = node.value.kind();
    let expected = |what: &str| Some((format!("must be {what}, not {found}"), None));
    match (kind, &node.value) {
        (Kind::Any, _)
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Number, Value::Int(_) | Value::Float(_))
        | (Kind::Text, Value::Text(_)) => None,
        (Kind::Bool, _) => expected("true or false"),
        (Kind::Int(least, most), Value::Int(value)) if !(least..=most).contains(value) => {
            let most = if most == i64::MAX { "more".to_owned() } else { most.to_string() };
            Some((format!("must be {least} to {most}, not {value}"), None))
        }
        (Kind::Int(..), Value::Int(_)) => None,
        (Kind::Int(..), Value::Text(text)) if !secret && text.parse::<i64>().is_ok() => {
            let hint = format!("write {text} without quotes");
            Some(("must be a whole number, not text".to_owned(), Some(hint)))
        }
        (Kind::Int(..), _) => expected("a whole number"),
        (Kind::Number, _) => expected("a number"),
        (Kind::Text, _) => expected("text in quotes"),
        (Kind::Word(words), Value::Text(text)) if !words.contains(&text.as_str()) => {
            let near = nearest(text, words.iter().copied());
            let hint = near.map(|word| format!("did you mean \"{word}\"?"));
            Some((format!("must be one of {}, not \"{text}\"", quoted(words)), hint))
        }
        (Kind::Word(_), Value::Text(_)) => None,
        (Kind::Word(words), _) => expected(&format!("one of {}", quoted(words))),
        (Kind::TextOrTexts, Value::Text(_)) => None,
        (Kind::Texts | Kind::TextOrTexts, Value::List(list)) => {
            let odd = list.iter().find(|item| !matches!(item.value, Value::Text(_)))?;
            Some((format!("must be a list of texts, but has {}", odd.value.kind()), None))
        }
        (Kind::Texts, Value::Text(text)) => {
            let hint = (!secret).then(|| format!("write [\"{text}\"]"));
            Some(("must be a list of texts, not text".to_owned(), hint))
        }
        (Kind::Texts, _) => expected("a list of texts"),
        (Kind::TextOrTexts, _) => expected("text in quotes or a list of texts"),
        (Kind::Tables, Value::List(list)) => {
            let odd = list.iter().find(|item| !matches!(item.value, Value::Table(_)))?;
            Some((format!("must be a list of tables, but has {}", odd.value.kind()), None))
        }
        (Kind::Tables, _) => expected("a list of tables"),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// A key of another section with this very last name: the writer forgot or mixed up the section.
fn elsewhere(name: &str) -> Option<String> {
    let last = |key: &&Key| key.pattern.rsplit('.').next() == Some(name);
    keys::all().find(last).map(|key| key.pattern.replace("[]", "").replace('*', "NAME"))
}

/// The word that differs least from `name`, if it differs little.
pub(crate) fn nearest<'w>(name: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    words
        .map(|word| (edits(name, word), word))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_counts_once() {
        assert_eq!(edits("udp_prot", "udp_port"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn far_words_are_not_suggested() {
        let words = ["udp_port", "tcp_port", "realms"];
        assert_eq!(nearest("udpport", words.into_iter()), Some("udp_port"));
        assert_eq!(nearest("colour", words.into_iter()), None);
        assert_eq!(nearest("x", words.into_iter()), None);
    }

    #[test]
    fn patterns_match_names_lists_and_infixes() {
        let rules = Rules::known();
        let trunk = rules.of_name("proxy").and_then(|r| r.of_name("trunks"));
        let trunk = trunk.and_then(|r| r.of_name("carrier-1")).expect("any trunk name");
        assert!(trunk.of_name("dest").is_some());
        assert!(trunk.of_name("health_check_interval_secs").is_some());
        assert!(trunk.of_name("dset").is_none());
        let proxy = rules.of_name("proxy").expect("the section is known");
        assert!(proxy.of_name("session_event_channel_capacity").is_some());
        assert!(proxy.of_name("session_capacity").is_none());
    }
}
