//! One rule as it was written, in a file or by a program, and what is wrong with it.
//! Owns:  the names of the rule language: those of the original's files and of its REST form.
//! Gives: `check`: a `Route`, or every flaw with its place.
//! Never: ignores a field; what is not built yet is named.
//! Holds: a rule that restricts something and cannot be kept is refused, not widened.

use std::time::Duration;

use serde_json::Value;

use super::{
    Action, Condition, DESTS_MAX, Dest, Field, HashKey, Pattern, Rewrite, Route, RouteDirection,
    Select, Template,
};
use crate::config::Network;
use crate::document::{Fields, FlawKind, Flaws, Path, kind_of};
use crate::headers::ExtraHeader;

/// Fields of a rule that a program may send back as it read them.
pub const ROUTE_FIELDS_READ_ONLY: [&str; 6] =
    ["created_at", "defined_at", "id", "source", "updated_at", "warnings"];
/// Conditions and rewrites of one rule.
const ENTRIES_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const RING_S_MAX: i64 = 3_600;
/// Reads a rule. There is one only when nothing is wrong but fields that are not used yet.
pub fn check(value: &Value, path: &Path, flaws: &mut Flaws) -> Option<Route> {
    let before = flaws.0.len();
    let mut fields = Fields::of(value, path.clone(), flaws)?;
    fields.ignore(&ROUTE_FIELDS_READ_ONLY);
    fields.ignore(&["description", "owner", "notes"]);
    let name = name(&mut fields, flaws);
    let priority = fields.int("priority", -1_000_000..=1_000_000, flaws).unwrap_or(0);
    let disabled = fields.flag("disabled", flaws).unwrap_or(false);
    let direction = fields.choice("direction", &["any", "inbound", "outbound"], flaws);
    let source_trunks = source_trunks(&mut fields, flaws);
    let source_networks = networks(&mut fields, flaws);
    let conditions = conditions(&mut fields, flaws);
    let rewrites = rewrites(&mut fields, &conditions, flaws);
    let action = action(&mut fields, flaws);
    let max_ring = fields.int("max_ring_time", 0..=RING_S_MAX, flaws);
    fields.not_used(&["codecs", "disable_ice_servers", "policy", "busy_wait"], flaws);
    fields.finish(flaws);
    let refused = flaws.0[before..]
        .iter()
        .any(|flaw| !matches!(flaw.kind, FlawKind::NotUsed | FlawKind::UnknownField));
    if refused {
        return None;
    }
    Some(Route {
        name: name?.into(),
        priority: i32::try_from(priority).ok()?,
        disabled,
        direction: match direction {
            Some("inbound") => RouteDirection::Inbound,
            Some("outbound") => RouteDirection::Outbound,
            _ => RouteDirection::Any,
        },
        source_trunks,
        source_networks,
        conditions,
        rewrites,
        action: action?,
        // 0 asks for no limit of its own.
        max_ring: max_ring
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
    })
}

fn name<'v>(fields: &mut Fields<'v>, flaws: &mut Flaws) -> Option<&'v str> {
    let found = fields.word("name", flaws);
    let path = fields.path("name");
    match found {
        None if fields.has("name") => flaws.push(path, FlawKind::Invalid, "is empty"),
        None => flaws.push(path, FlawKind::Required, "a rule needs a name"),
        Some(name) if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) => {
            let text = format!("must be one line of at most {NAME_BYTES_MAX} bytes");
            flaws.push(path, FlawKind::Invalid, text);
        }
        Some(_) => {}
    }
    found
}

fn source_trunks(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Vec<Box<str>> {
    let mut trunks = fields.texts("source_trunks", flaws).unwrap_or_default();
    trunks.extend(fields.word("source_trunk", flaws).map(str::to_owned));
    trunks.retain(|name| !name.is_empty());
    let numbers = fields.value("source_trunk_ids");
    if numbers.is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
        let text = "numbers of trunks are not kept here: the rule would match any source";
        let path = fields.path("source_trunk_ids");
        flaws.push_try(path, FlawKind::Invalid, text, "name them in source_trunks");
    }
    trunks.into_iter().map(Into::into).collect()
}

fn networks(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Vec<Network> {
    let mut networks = Vec::new();
    for (place, text) in
        fields.texts("source_ips", flaws).unwrap_or_default().into_iter().enumerate()
    {
        match Network::parse(&text) {
            Some(network) => networks.push(network),
            None => flaws.push_try(
                fields.path("source_ips").place(place),
                FlawKind::Invalid,
                format!("\"{text}\" is neither an address nor a network"),
                "write \"10.0.0.5\" or \"10.0.0.0/8\"",
            ),
        }
    }
    networks
}

/// The entries of `match` and `rewrite`: `"from.user" = "x"`, or the same as nested tables, since an
/// unquoted dotted key is one in TOML.
fn entries(value: &Value, path: &Path, flaws: &mut Flaws) -> Vec<(Field, String, Path)> {
    let Value::Object(map) = value else {
        let text = format!("must be an object, not {}", kind_of(value));
        flaws.push(path.clone(), FlawKind::WrongKind, text);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in map {
        match value {
            Value::Object(inner) => {
                for (last, value) in inner {
                    let path = path.name(name).name(last);
                    entry(&format!("{name}.{last}"), value, path, flaws, &mut found);
                }
            }
            value => entry(name, value, path.name(name), flaws, &mut found),
        }
    }
    if found.len() > ENTRIES_MAX {
        let text = format!("has {} entries, at most {ENTRIES_MAX}", found.len());
        flaws.push(path.clone(), FlawKind::Invalid, text);
    }
    found
}

fn entry(
    name: &str,
    value: &Value,
    path: Path,
    flaws: &mut Flaws,
    found: &mut Vec<(Field, String, Path)>,
) {
    const ACTION: [&str; 6] = ["action", "dest", "select", "hash_key", "reject", "queue"];
    let text = match value {
        Value::String(text) => text.clone(),
        // A port may be written as a number.
        Value::Number(number) => number.to_string(),
        Value::Null => return,
        other => {
            let text = format!("must be text, not {}", kind_of(other));
            return flaws.push(path, FlawKind::WrongKind, text);
        }
    };
    match Field::parse(name) {
        // The original takes an empty pattern for one that was not written.
        Some(_) if text.is_empty() => {}
        Some(field) => found.push((field, text, path)),
        None if ACTION.contains(&name) => flaws.push_try(
            path,
            FlawKind::Invalid,
            format!("\"{name}\" belongs to the rule, not to this table"),
            "write it above the table, right under [[proxy.routes]]",
        ),
        None => flaws.push_try(
            path,
            FlawKind::Invalid,
            format!("\"{name}\" is no part of an INVITE that a rule can name"),
            "write from.user, from.host, to.user, to.host, to.port, request_uri.user, \
             request_uri.host, request_uri.port, from, to, caller, callee or header.NAME",
        ),
    }
}

fn conditions(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Vec<Condition> {
    let Some(value) = fields.value("match") else { return Vec::new() };
    let mut conditions = Vec::new();
    for (field, text, path) in entries(value, &fields.path("match"), flaws) {
        match Pattern::compile(&text, field.folds()) {
            Ok(pattern) => conditions.push(Condition { field, pattern }),
            Err(reason) => {
                let plus = text.starts_with('+').then_some("write \\\\+ for a plus");
                match plus {
                    Some(hint) => flaws.push_try(path, FlawKind::Invalid, reason, hint),
                    None => flaws.push(path, FlawKind::Invalid, reason),
                }
            }
        }
    }
    conditions
}

fn rewrites(fields: &mut Fields<'_>, conditions: &[Condition], flaws: &mut Flaws) -> Vec<Rewrite> {
    let Some(value) = fields.value("rewrite") else { return Vec::new() };
    let mut rewrites = Vec::new();
    for (field, text, path) in entries(value, &fields.path("rewrite"), flaws) {
        if let Field::Header(name) = &field
            && let Err(reason) = ExtraHeader::new(name, "")
        {
            flaws.push(path, FlawKind::Invalid, format!("{name}: {reason}"));
            continue;
        }
        let template = Template::parse(&text).and_then(|mut template| {
            template.source = source(&field, conditions, template.highest_group())?;
            Ok(template)
        });
        match template {
            Ok(template) => rewrites.push(Rewrite { field, template }),
            Err(reason) => flaws.push(path, FlawKind::Invalid, reason),
        }
    }
    rewrites
}

/// Which condition's groups a template draws from: that of the same field, else the only one with an
/// expression.
fn source(
    field: &Field,
    conditions: &[Condition],
    highest: Option<usize>,
) -> Result<Option<usize>, String> {
    let Some(highest) = highest else { return Ok(None) };
    let with_regex =
        |(place, condition): (usize, &Condition)| condition.pattern.is_regex().then_some(place);
    let own = conditions
        .iter()
        .enumerate()
        .filter(|(_, condition)| condition.field == *field)
        .find_map(with_regex);
    let mut all = conditions.iter().enumerate().filter_map(with_regex);
    let only = all.next().filter(|_| all.next().is_none());
    let Some(place) = own.or(only) else {
        if highest == 0 {
            return Ok(None);
        }
        let field = field.name();
        return Err(format!(
            "{{{highest}}} has no pattern to draw from: match {field} with an expression"
        ));
    };
    let groups = conditions[place].pattern.groups();
    if highest > groups {
        let from = conditions[place].field.name();
        return Err(format!(
            "{{{highest}}} is too high: the pattern of {from} has {groups} groups"
        ));
    }
    Ok(Some(place))
}

/// The action stands in the rule itself, as in the original's files, or in a table of its own, as in
/// its REST form.
fn action(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Option<Action> {
    match fields.value("action") {
        Some(Value::Object(_)) => {
            let path = fields.path("action");
            let value = fields.value("action")?;
            let mut inner = Fields::of(value, path, flaws)?;
            let word = inner.word("action", flaws).or_else(|| inner.word("type", flaws));
            let action = action_of(&mut inner, word, flaws);
            inner.finish(flaws);
            action
        }
        Some(Value::String(_)) | None => {
            let word = fields.word("action", flaws);
            action_of(fields, word, flaws)
        }
        Some(other) => {
            let text = format!("must be text or an object, not {}", kind_of(other));
            flaws.push(fields.path("action"), FlawKind::WrongKind, text);
            None
        }
    }
}

fn action_of(fields: &mut Fields<'_>, word: Option<&str>, flaws: &mut Flaws) -> Option<Action> {
    let dests = dests(fields, flaws);
    let select = select(fields, flaws);
    let reject = fields.value("reject");
    let elsewhere = elsewhere(fields, flaws);
    let written = match word {
        Some(word) => word.to_ascii_lowercase(),
        None if elsewhere.is_some() => "application".to_owned(),
        None if reject.is_some() => "reject".to_owned(),
        None => "forward".to_owned(),
    };
    match written.as_str() {
        "forward" | "local" if elsewhere.is_none() => Some(Action::Forward { dests, select }),
        "busy" => Some(Action::Busy),
        "reject" => refusal(reject, fields, flaws),
        "forward" | "local" | "queue" | "application" | "app" | "ivr" | "voicemail" => {
            let what = elsewhere.unwrap_or(written);
            let text = format!("\"{what}\" is not built yet: a call of this rule is answered 501");
            flaws.push(fields.path("action"), FlawKind::NotUsed, text);
            Some(Action::NotBuilt(what.into()))
        }
        other => {
            flaws.push(
                fields.path("action"),
                FlawKind::Invalid,
                format!("must be forward, reject, busy, queue or application, not \"{other}\""),
            );
            None
        }
    }
}

/// A target that is no trunk, in either form.
fn elsewhere(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Option<String> {
    const KINDS: [&str; 4] = ["sip_trunk", "queue", "voicemail", "ivr"];
    let kind = fields.choice("target_type", &KINDS, flaws).filter(|kind| *kind != "sip_trunk");
    fields.ignore(&["auto_answer"]);
    let mut named = None;
    for (field, kind) in [
        ("app", "application"),
        ("app_params", "application"),
        ("queue", "queue"),
        ("queue_file", "queue"),
        ("voicemail_extension", "voicemail"),
        ("ivr_file", "ivr"),
    ] {
        let asks = match fields.value(field) {
            None => false,
            Some(Value::String(text)) => !text.trim().is_empty(),
            Some(_) => true,
        };
        // A REST form sends empty fields of every kind along; `target_type` says which one counts.
        if asks && named.is_none() {
            named = Some(kind);
        }
    }
    kind.or(named).map(str::to_owned)
}

fn dests(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Vec<Dest> {
    let mut dests = Vec::new();
    for name in ["dest", "trunks"] {
        let path = fields.path(name);
        match fields.value(name) {
            None => {}
            Some(Value::Array(list)) => {
                for (place, value) in list.iter().enumerate() {
                    dests.extend(dest(value, path.place(place), flaws));
                }
            }
            Some(value) => dests.extend(dest(value, path, flaws)),
        }
    }
    if dests.len() > DESTS_MAX {
        let text = format!("names {} trunks, at most {DESTS_MAX}", dests.len());
        flaws.push(fields.path("dest"), FlawKind::Invalid, text);
    }
    dests
}

fn dest(value: &Value, path: Path, flaws: &mut Flaws) -> Option<Dest> {
    let (name, weight) = match value {
        Value::String(name) => (name.trim(), None),
        value => {
            let mut inner = Fields::of(value, path.clone(), flaws)?;
            let name = inner.word("name", flaws).unwrap_or_default();
            let weight = inner.int("weight", 0..=1_000_000, flaws);
            inner.finish(flaws);
            (name, weight)
        }
    };
    if name.is_empty() {
        flaws.push(path, FlawKind::Required, "a destination is the name of a trunk");
        return None;
    }
    if name.contains([':', '@']) {
        let hint = "make a trunk of it, or rewrite to.user to a user of ours";
        let text = format!("\"{name}\" is no trunk: calls go out to trunks only");
        flaws.push_try(path, FlawKind::Invalid, text, hint);
        return None;
    }
    Some(Dest { trunk: name.into(), weight: weight.and_then(|weight| u32::try_from(weight).ok()) })
}

fn select(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Select {
    const WORDS: [&str; 7] =
        ["rr", "random", "hash", "weighted", "sequential", "parallel", "roundrobin"];
    let word = fields.choice("select", &WORDS, flaws).unwrap_or("rr");
    let key = match fields.word("hash_key", flaws) {
        None => HashKey::Field(Field::From),
        Some(key) if ["call-id", "call_id"].contains(&key.to_ascii_lowercase().as_str()) => {
            HashKey::CallId
        }
        Some(key) => Field::parse(key).map_or_else(
            || {
                let path = fields.path("hash_key");
                let text = format!("\"{key}\" is nothing that an INVITE has");
                flaws.push_try(path, FlawKind::Invalid, text, "write call-id or from.user");
                HashKey::CallId
            },
            HashKey::Field,
        ),
    };
    match word {
        "hash" => Select::Hash(key),
        "random" => Select::Random,
        "sequential" => Select::Sequential,
        "weighted" => Select::Weighted,
        "parallel" => {
            let text = "calling several trunks at once is not built: they take turns";
            flaws.push(fields.path("select"), FlawKind::NotUsed, text);
            Select::RoundRobin
        }
        _ => Select::RoundRobin,
    }
}

/// `reject = 403`, or a table with `code` and `reason`; 403 when nothing is said.
fn refusal(written: Option<&Value>, fields: &Fields<'_>, flaws: &mut Flaws) -> Option<Action> {
    let path = fields.path("reject");
    let (status, reason) = match written {
        None => (403, None),
        Some(Value::Number(number)) => (number.as_i64().unwrap_or(0), None),
        Some(value) => {
            let mut inner = Fields::of(value, path.clone(), flaws)?;
            let status = inner.value("code").map_or(Some(403), Value::as_i64).unwrap_or(0);
            let reason = inner.word("reason", flaws);
            inner.not_used(&["headers"], flaws);
            inner.finish(flaws);
            (status, reason)
        }
    };
    let Some(status) = u16::try_from(status).ok().filter(|code| (300..700).contains(code)) else {
        flaws.push(path, FlawKind::Invalid, "the code must be 300 to 699");
        return None;
    };
    if reason.is_some_and(|text| text.len() > 120 || text.chars().any(char::is_control)) {
        flaws.push(path, FlawKind::Invalid, "the reason must be one line of at most 120 bytes");
        return None;
    }
    Some(Action::Reject { status, reason: reason.map(Into::into) })
}

#[cfg(test)]
mod tests;
