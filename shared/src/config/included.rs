//! Files that the configuration names: `acl_files`, `routes_files` and `trunks_files`.
//! Owns:  the form of such a file: `acl_rules`, `[[routes]]` and `[trunks.NAME]`, with or without
//!        `proxy.` before.
//! Gives: one tree, in which every value still knows its own file and line.
//! Never: touches the disk; the caller reads what a pattern names.
//! Holds: a trunk has one place; the second one is a problem that names the first.

use super::problem::{Origin, Problem};
use super::tree::{self, Node, Value};
use crate::event::Severity;

/// The files that a pattern names, in the order of their names: name and text.
pub type ReadFiles<'a> = dyn Fn(&str) -> Result<Vec<(String, String)>, String> + 'a;

/// Puts the rules, trunks and sources of every named file into the tree.
pub(super) fn merge(root: &mut Node, read: &ReadFiles<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for key in ["proxy.acl_files", "proxy.trunks_files", "proxy.routes_files"] {
        let Some(Value::List(patterns)) = root.find(key).map(|node| node.value.clone()) else {
            continue; // of the wrong kind, or not there: the walk says so
        };
        for (place, pattern) in patterns.into_iter().enumerate() {
            let Value::Text(text) = &pattern.value else { continue };
            let key = format!("{key}[{place}]");
            let mut say = |severity, words: String| {
                let origin = pattern.origin.clone();
                problems.push(problem(severity, origin, key.clone(), words));
            };
            match read(text) {
                Err(reason) => say(Severity::Error, format!("\"{text}\": {reason}")),
                Ok(files) if files.is_empty() => {
                    say(Severity::Warning, format!("\"{text}\" names no file"));
                }
                Ok(files) => {
                    for (name, text) in files {
                        merge_file(root, &name, &text, &mut problems);
                    }
                }
            }
        }
    }
    problems
}

fn problem(severity: Severity, origin: Origin, key: String, text: String) -> Problem {
    Problem { severity, origin, key, text, suggestion: None }
}

fn merge_file(root: &mut Node, name: &str, text: &str, problems: &mut Vec<Problem>) {
    let (node, syntax) = tree::parse(name, text);
    problems.extend(syntax);
    let Value::Table(table) = node.value else { return };
    for (key, child) in table {
        match (key.as_str(), child.value) {
            ("proxy", Value::Table(inner)) => {
                for (key, child) in inner {
                    place(root, &key, child, problems);
                }
            }
            (_, value) => place(root, &key, Node { origin: child.origin, value }, problems),
        }
    }
}

fn place(root: &mut Node, key: &str, child: Node, problems: &mut Vec<Problem>) {
    let Some(proxy) = table(root, "proxy", &child.origin) else { return };
    match (key, child.value) {
        ("acl_rules" | "routes", Value::List(mut rules)) => {
            let origin = child.origin;
            let known = proxy.entry(key.to_owned());
            let known = known.or_insert_with(|| Node { origin, value: Value::List(Vec::new()) });
            if let Value::List(list) = &mut known.value {
                list.append(&mut rules);
            }
        }
        ("trunks", Value::Table(trunks)) => {
            let origin = child.origin;
            let known = proxy.entry("trunks".to_owned());
            let known = known.or_insert_with(|| Node { origin, value: Value::default() });
            let Value::Table(known) = &mut known.value else { return };
            for (name, trunk) in trunks {
                match known.get(&name) {
                    None => drop(known.insert(name, trunk)),
                    Some(first) => problems.push(problem(
                        Severity::Error,
                        trunk.origin,
                        format!("proxy.trunks.{name}"),
                        format!("there is a trunk of this name already, at {}", first.origin),
                    )),
                }
            }
        }
        (_, value) => {
            let text = format!("{} does not belong here", value.kind());
            let suggestion = "write [[routes]], [trunks.NAME] or acl_rules".to_owned();
            problems.push(Problem {
                suggestion: Some(suggestion),
                ..problem(Severity::Error, child.origin, key.to_owned(), text)
            });
        }
    }
}

fn table<'n>(
    root: &'n mut Node,
    name: &str,
    origin: &Origin,
) -> Option<&'n mut std::collections::BTreeMap<String, Node>> {
    let Value::Table(table) = &mut root.value else { return None };
    let node = table
        .entry(name.to_owned())
        .or_insert_with(|| Node { origin: origin.clone(), value: Value::default() });
    match &mut node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}
