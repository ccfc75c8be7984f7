//! A JSON document against a sample of the guide: the same names, the same types, the same nesting.

use serde_json::Value;

/// Every field of `sample` is in `found` with the same type; more fields are allowed, because a
/// client skips what it does not know. A sample `null` stands for any type.
#[track_caller]
pub(crate) fn assert_like(found: &Value, sample: &Value) {
    let mut missing = Vec::new();
    compare("", found, sample, &mut missing);
    assert!(missing.is_empty(), "{}\nin {found:#}", missing.join("\n"));
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn compare(path: &str, found: &Value, sample: &Value, missing: &mut Vec<String>) {
    if sample.is_null() {
        return;
    }
    if kind(found) != kind(sample) {
        missing.push(format!("{path}: {} instead of {}", kind(found), kind(sample)));
        return;
    }
    if let Some(fields) = sample.as_object() {
        for (name, sample) in fields {
            let path = format!("{path}.{name}");
            match found.get(name) {
                Some(found) => compare(&path, found, sample, missing),
                None => missing.push(format!("{path}: not there")),
            }
        }
    }
    if let (Some(found), Some(sample)) = (found.as_array(), sample.as_array())
        && let Some(sample) = sample.first()
    {
        for (index, found) in found.iter().enumerate() {
            compare(&format!("{path}[{index}]"), found, sample, missing);
        }
    }
}

/// The list that an answer is or holds, whatever its envelope is called.
#[track_caller]
pub(crate) fn list(answer: &Value) -> Vec<Value> {
    if let Some(list) = answer.as_array() {
        return list.clone();
    }
    let fields = answer.as_object().unwrap_or_else(|| panic!("neither list nor object: {answer}"));
    let mut lists = fields.values().filter_map(Value::as_array);
    let found = lists.next().unwrap_or_else(|| panic!("no list in {answer}"));
    assert!(lists.next().is_none(), "more than one list in {answer}");
    found.clone()
}

/// The first field of this name, at whatever depth: for answers whose nesting the guide leaves open.
pub(crate) fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|inner| find(inner, name)))
        }
        Value::Array(items) => items.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}

/// The object that an answer is or holds under `data`.
pub(crate) fn object(answer: &Value) -> &Value {
    answer.get("data").filter(|inner| inner.is_object()).unwrap_or(answer)
}
