//! What holds in the end, key by key, and where each value comes from.
//! Owns:  `Effective`, the list behind `check-config --effective`.
//! Gives: rows to print, and which keys of two configurations differ that only a restart changes.
//! Never: shows a secret; references to secrets (`file:`, `env:`) are shown.
//! Holds: every key that we use is listed, written or not.

use std::collections::BTreeMap;

use super::keys::{self, Use};
use super::problem::Origin;
use super::rules::{Rules, join};
use super::secret::SecretRef;
use super::tree::{Node, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    /// As it would be written in the file.
    pub value: String,
    pub origin: Origin,
    /// When a change takes effect.
    pub role: Use,
}

#[derive(Clone, Debug, Default)]
pub struct Effective {
    rows: Vec<Row>,
}

impl Effective {
    pub(super) fn of(tree: &Node, rules: &Rules) -> Self {
        let mut written = Vec::new();
        leaves(tree, Some(rules), "", &mut written);
        let folder = match tree.find("data_dir").map(|node| &node.value) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "./data",
        };
        let unwritten = keys::USED
            .iter()
            .filter(|key| !key.default.is_empty() && !key.pattern.contains(['*', '[']))
            .filter(|key| tree.find(key.pattern).is_none())
            .map(|key| Row {
                key: key.pattern.to_owned(),
                value: key.default.replace("./data", folder),
                origin: Origin::Default,
                role: key.role,
            });
        let mut rows: Vec<Row> = unwritten.chain(written).collect();
        // Top-level keys first, as TOML wants them, then section by section.
        rows.sort_by(|a, b| (a.key.contains('.'), &a.key).cmp(&(b.key.contains('.'), &b.key)));
        Self { rows }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Keys that differ from `running` and that a reload does not bring live.
    pub fn needs_restart(&self, running: &Self) -> Vec<String> {
        let fixed = |rows: &[Row]| -> BTreeMap<String, String> {
            let fixed = rows.iter().filter(|row| row.role == Use::Start);
            fixed.map(|row| (row.key.clone(), row.value.clone())).collect()
        };
        let (mine, theirs) = (fixed(&self.rows), fixed(&running.rows));
        let mut keys: Vec<String> = mine
            .keys()
            .chain(theirs.keys())
            .filter(|key| mine.get(*key) != theirs.get(*key))
            .cloned()
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

fn leaves(node: &Node, rules: Option<&Rules>, path: &str, rows: &mut Vec<Row>) {
    match &node.value {
        Value::Table(table) => {
            for (name, child) in table {
                leaves(child, rules.and_then(|r| r.of_name(name)), &join(path, name), rows);
            }
        }
        Value::List(list) if list.iter().any(|item| matches!(item.value, Value::Table(_))) => {
            let rules = rules.and_then(Rules::of_item);
            for (place, item) in list.iter().enumerate() {
                leaves(item, rules, &format!("{path}[{place}]"), rows);
            }
        }
        value => rows.push(Row {
            key: path.to_owned(),
            value: shown(path, value),
            origin: node.origin.clone(),
            role: rules.and_then(Rules::key).map_or(Use::NotYet, |key| key.role),
        }),
    }
}

fn shown(path: &str, value: &Value) -> String {
    let is_reference = |text: &str| SecretRef::parse(text).is_some();
    match value {
        Value::Text(text) if keys::is_secret(path) && !is_reference(text) => "\"***\"".to_owned(),
        // A URL may carry a password before its host or among its options.
        Value::Text(text)
            if text.contains("://") && (text.contains('@') || text.contains("password=")) =>
        {
            "\"***\"".to_owned()
        }
        Value::List(list) if list.is_empty() => "[]".to_owned(),
        _ if keys::is_secret(path) && !matches!(value, Value::Text(_)) => "***".to_owned(),
        Value::List(list) => {
            let items: Vec<_> = list.iter().map(|item| shown(path, &item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Text(text) | Value::Time(text) => format!("{text:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Table(_) => "{}".to_owned(),
    }
}
