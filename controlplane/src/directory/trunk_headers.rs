//! Headers of a trunk's REGISTER, which may be a key: their values go in and never out again.
//! Owns:  the word that stands for a value which is kept.
//! Gives: `mask` for a document that goes out, `kept` for one that comes back with the masks.
//! Never: a value in a document that goes out, or in a flaw.
//! Holds: a document that comes back as it went out changes nothing.

use serde_json::Value;

use crate::store::Row;

/// In place of a value: whoever sends it back means "as it is".
pub(super) const MASK: &str = "********";

/// Values become `MASK`; an odd shape, which only a row of before the checks can have, becomes that
/// as a whole.
pub(super) fn mask(headers: &mut Value) {
    match headers {
        Value::Null => {}
        Value::Object(map) => map.values_mut().for_each(hide),
        Value::Array(list) => list.iter_mut().for_each(|pair| match pair {
            Value::Array(pair) => pair.iter_mut().skip(1).for_each(hide),
            other => hide(other),
        }),
        other => hide(other),
    }
}

fn hide(value: &mut Value) {
    *value = MASK.into();
}

/// Where a value is the mask, the one that is stored under that name.
pub(super) fn kept(mut headers: Value, before: Option<&Row>) -> Value {
    let Some(stored) = before.and_then(|row| row.fields.get("register_extra_headers")) else {
        return headers;
    };
    let known = pairs(stored);
    let put_back = |name: &str, value: &mut Value| {
        if value.as_str() != Some(MASK) {
            return;
        }
        let same = |(known, _): &&(&str, &Value)| known.eq_ignore_ascii_case(name);
        if let Some((_, before)) = known.iter().find(same) {
            *value = (*before).clone();
        }
    };
    match &mut headers {
        Value::Object(map) => map.iter_mut().for_each(|(name, value)| put_back(name, value)),
        Value::Array(list) => {
            for pair in list.iter_mut().filter_map(Value::as_array_mut) {
                if let [Value::String(name), value] = pair.as_mut_slice() {
                    put_back(name, value);
                }
            }
        }
        _ => {}
    }
    headers
}

fn pairs(headers: &Value) -> Vec<(&str, &Value)> {
    match headers {
        Value::Object(map) => map.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        Value::Array(list) => list
            .iter()
            .filter_map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([name, value]) => Some((name.as_str()?, value)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use shared::time::WallMs;

    use super::*;

    fn row(headers: Value) -> Row {
        let mut fields = Map::new();
        fields.insert("register_extra_headers".to_owned(), headers);
        Row { id: 1, fields, created_at: WallMs(0), updated_at: WallMs(0) }
    }

    #[test]
    fn values_go_out_as_stars_and_come_back_as_they_were() {
        for stored in [
            json!({ "X-Key": "secret", "X-Site": "north" }),
            json!([["X-Key", "secret"], ["X-Site", "north"]]),
        ] {
            let mut shown = stored.clone();
            mask(&mut shown);
            let text = shown.to_string();
            assert!(!text.contains("secret") && !text.contains("north"), "{text}");
            assert!(text.contains("X-Key") && text.contains("X-Site"), "{text}");
            assert_eq!(kept(shown, Some(&row(stored.clone()))), stored);
        }
    }

    #[test]
    fn what_is_new_replaces_what_was_and_a_mask_for_nothing_stays_one() {
        let before = row(json!({ "X-Key": "secret" }));
        let sent = json!([["x-key", MASK], ["X-New", "2"], ["X-Odd", MASK]]);
        let now = json!([["x-key", "secret"], ["X-New", "2"], ["X-Odd", MASK]]);
        assert_eq!(kept(sent, Some(&before)), now);
        assert_eq!(kept(json!({ "X-Key": "new" }), Some(&before)), json!({ "X-Key": "new" }));
        assert_eq!(kept(json!({ "X-Key": MASK }), None), json!({ "X-Key": MASK }));
    }

    #[test]
    fn an_odd_row_shows_nothing_either() {
        for odd in
            [json!("X-Key: secret"), json!(["X-Key: secret"]), json!({ "X": { "k": "secret" } })]
        {
            let mut shown = odd;
            mask(&mut shown);
            assert!(!shown.to_string().contains("secret"), "{shown}");
        }
    }
}
