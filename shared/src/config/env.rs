//! The environment over the file: `RINGGATE__PROXY__UDP_PORT=5080` is `[proxy] udp_port = 5080`.
//! Owns:  the names of the variables and how their text becomes a value.
//! Gives: the tree with the values put in, each with its variable as origin.
//! Never: reads the environment of the process; the caller passes it.
//! Holds: a variable with our prefix is used or reported.

use std::collections::BTreeMap;

use super::keys::Kind;
use super::problem::{Origin, Problem};
use super::rules::Rules;
use super::tree::{Node, Value};
use crate::event::Severity;

pub const ENV_PREFIX: &str = "RINGGATE__";

/// Puts every variable that has our prefix into the tree.
pub(super) fn overlay(
    root: &mut Node,
    rules: &Rules,
    variables: &[(String, String)],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (variable, text) in variables {
        let Some(path) = variable.strip_prefix(ENV_PREFIX) else { continue };
        let origin = Origin::Env(variable.as_str().into());
        let segments: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if segments.iter().any(String::is_empty) {
            let text = "the name has an empty part; write RINGGATE__SECTION__KEY".to_owned();
            problems.push(problem(origin, String::new(), text));
            continue;
        }
        if let Err(text) = put(root, Some(rules), &segments, text, &origin) {
            problems.push(problem(origin, segments.join("."), text));
        }
    }
    problems
}

fn problem(origin: Origin, key: String, text: String) -> Problem {
    Problem { severity: Severity::Error, origin, key, text, suggestion: None }
}

fn put(
    node: &mut Node,
    rules: Option<&Rules>,
    segments: &[String],
    text: &str,
    origin: &Origin,
) -> Result<(), String> {
    let Some((first, rest)) = segments.split_first() else {
        let kind = rules.and_then(Rules::key).map_or(Kind::Any, |key| key.kind);
        *node = Node { origin: origin.clone(), value: read(text, kind, origin) };
        return Ok(());
    };
    if let Some(item_rules) = rules.and_then(Rules::of_item) {
        let place: usize = first
            .parse()
            .map_err(|_| format!("\"{first}\" must be the place in the list, from 0"))?;
        let list = as_list(node)?;
        if place > list.len() {
            return Err(format!("place {place} leaves a gap: the list has {} entries", list.len()));
        }
        if place == list.len() {
            list.push(Node { origin: origin.clone(), value: Value::default() });
        }
        return put(&mut list[place], Some(item_rules), rest, text, origin);
    }
    let Value::Table(table) = &mut node.value else {
        return Err(format!("\"{first}\" lies below a value that is {}", node.value.kind()));
    };
    // Names of trunks may have capitals in the file; a variable's name says nothing about case.
    let written = table.keys().find(|name| name.to_lowercase() == *first).cloned();
    let name = written.unwrap_or_else(|| first.clone());
    let child_rules = rules.and_then(|rules| rules.of_name(&name));
    let child = table
        .entry(name)
        .or_insert_with(|| Node { origin: origin.clone(), value: Value::Table(BTreeMap::new()) });
    put(child, child_rules, rest, text, origin)
}

/// The list at `node`; a node that was just made becomes an empty one.
fn as_list(node: &mut Node) -> Result<&mut Vec<Node>, String> {
    if matches!(&node.value, Value::Table(table) if table.is_empty()) {
        node.value = Value::List(Vec::new());
    }
    match &mut node.value {
        Value::List(list) => Ok(list),
        other => Err(format!("must be a list, not {}", other.kind())),
    }
}

/// Text as the kind that its key wants; what does not read stays text and is reported by the walk.
fn read(text: &str, kind: Kind, origin: &Origin) -> Value {
    let words = || {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let node =
            |word: &str| Node { origin: origin.clone(), value: Value::Text(word.to_owned()) };
        Value::List(words.map(node).collect())
    };
    match kind {
        Kind::Text | Kind::Word(_) => Value::Text(text.to_owned()),
        Kind::Bool => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Bool),
        Kind::Int(..) => {
            text.trim().parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Int)
        }
        Kind::Texts | Kind::TextOrTexts if !text.trim_start().starts_with('[') => words(),
        Kind::Any | Kind::Number | Kind::Tables | Kind::Texts | Kind::TextOrTexts => {
            from_toml(text, origin)
        }
    }
}

/// A TOML value; plain words that are not one are text.
fn from_toml(text: &str, origin: &Origin) -> Value {
    let document = format!("value = {text}");
    let (node, problems) = super::tree::parse("", &document);
    match node.value {
        Value::Table(mut table) if problems.is_empty() && table.len() == 1 => {
            table.remove("value").map_or_else(Value::default, |mut node| {
                rebase(&mut node, origin);
                node.value
            })
        }
        _ => Value::Text(text.to_owned()),
    }
}

fn rebase(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|node| rebase(node, origin)),
        Value::Table(table) => table.values_mut().for_each(|node| rebase(node, origin)),
        _ => {}
    }
}
