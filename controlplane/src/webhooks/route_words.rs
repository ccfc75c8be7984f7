//! The words of the HTTP router: what it is told about a call, and what its answer means.
//! Owns:  the fields of surface.md section 3 in both directions, and their bounds.
//! Gives: `request`, `read_reply`. Pure.
//! Never: a header of ours, a status that challenges, or a control byte out of an answer.
//! Holds: an answer is usable as a whole or not at all; a field of it that is not is left out with a
//!        note, and the call goes on.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value, json};
use shared::ask::{MediaProxy, Orders, Record, Reject, RouteAsk, Strategy};
use shared::headers::{EXTRA_HEADERS_MAX, ExtraHeader};
use shared::limits::TARGETS_PER_CALL_MAX;

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Forward(Wanted),
    NotHandled,
    Reject(Reject),
}

/// Where a call is to go, before anybody looked up where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// SIP URIs, at least one.
    pub targets: Vec<String>,
    pub strategy: Strategy,
    pub ring_timeout: Option<Duration>,
    pub orders: Orders,
}

const URI_BYTES_MAX: usize = 512;
const REASON_CHARS_MAX: usize = 128;
const CODECS_MAX: usize = 32;
const CODEC_BYTES_MAX: usize = 32;
const EXTENSIONS_MAX: usize = 64;
const EXTENSION_CHARS_MAX: usize = 1_024;
const RING_S_MAX: u64 = 3_600;
const DURATION_S_MAX: u64 = 7 * 86_400;
const RTP_TIMEOUT_S_MAX: u64 = 86_400;
const REJECT_STATUS: u16 = 403;
/// Whatever an answer does, its exchange stays readable.
const NOTES_MAX: usize = 32;

/// The body of the POST.
pub(super) fn request(ask: &RouteAsk) -> Value {
    let mut headers = Map::new();
    for (name, value) in &ask.headers {
        match headers.get_mut(name.as_str()) {
            // Several lines of one name are one list (RFC 3261 7.3.1).
            Some(Value::String(lines)) => {
                lines.push_str(", ");
                lines.push_str(value);
            }
            _ => {
                headers.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    json!({
        "call_id": ask.call_id,
        "from": ask.from,
        "to": ask.to,
        "caller": ask.caller,
        "callee": ask.callee,
        "source_addr": ask.source.to_string(),
        "direction": ask.direction.as_str(),
        "method": "INVITE",
        "uri": ask.uri,
        "headers": headers,
        "body": ask.body,
    })
}

/// What a 2xx answer asks for, with a note for each part that is not followed; or why it is nonsense.
pub(super) fn read_reply(body: &[u8]) -> Result<(Reply, Vec<String>), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("no JSON object".to_owned()) };
    let mut answer = Answer { fields, notes: Vec::new() };
    let action = match answer.fields.get("action") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) => Some(word.trim().to_ascii_lowercase()),
        Some(other) => return Err(format!("action is not text: {}", short(other))),
    };
    let named = answer.fields.get("targets").is_some_and(|value| !value.is_null());
    let reply = match action.as_deref() {
        Some("forward") => Reply::Forward(answer.forward()?),
        None if named => Reply::Forward(answer.forward()?),
        None => return Err("it has neither action nor targets".to_owned()),
        Some("not_handled") => Reply::NotHandled,
        Some("reject" | "abort") => Reply::Reject(answer.reject()),
        Some("spam") => {
            Reply::Reject(Reject { status: REJECT_STATUS, spam: true, ..answer.reject() })
        }
        Some(other) => return Err(format!("the action {:?} is unknown", shorten(other))),
    };
    Ok((reply, answer.notes))
}

struct Answer {
    fields: Map<String, Value>,
    notes: Vec<String>,
}

impl Answer {
    fn note(&mut self, text: impl Display) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text.to_string());
        }
    }

    /// Takes a field out; null is the same as not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn forward(&mut self) -> Result<Wanted, String> {
        let targets = self.targets()?;
        let strategy = match self.word("strategy").as_deref() {
            None | Some("sequential") => Strategy::Sequential,
            Some("parallel") => Strategy::Parallel,
            Some(other) => {
                self.note(format!("strategy {:?} is unknown: one after the other", shorten(other)));
                Strategy::Sequential
            }
        };
        let ring = [self.seconds("timeout", RING_S_MAX), self.seconds("max_ring_time", RING_S_MAX)];
        // Zero asks for no limit of its own: that of the configuration holds.
        let ring_timeout = ring.into_iter().flatten().find(|seconds| *seconds > 0);
        Ok(Wanted {
            targets,
            strategy,
            ring_timeout: ring_timeout.map(Duration::from_secs),
            orders: self.orders(),
        })
    }

    fn targets(&mut self) -> Result<Vec<String>, String> {
        let listed = match self.take("targets") {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(one @ Value::String(_)) => vec![one],
            Some(other) => return Err(format!("targets is no list: {}", short(&other))),
        };
        if listed.len() > TARGETS_PER_CALL_MAX {
            self.note(format!("only the first {TARGETS_PER_CALL_MAX} targets are called"));
        }
        let mut targets = Vec::new();
        for value in listed.into_iter().take(TARGETS_PER_CALL_MAX) {
            match value.as_str().map(uri) {
                Some(Ok(uri)) => targets.push(uri),
                Some(Err(reason)) => self.note(format!("target {} {reason}", short(&value))),
                None => self.note(format!("target {} is not text", short(&value))),
            }
        }
        if targets.is_empty() {
            return Err(format!("no target can be called: {}", self.notes.join("; ")));
        }
        Ok(targets)
    }

    fn orders(&mut self) -> Orders {
        let media_proxy = match self.word("media_proxy").as_deref() {
            None | Some("auto") => MediaProxy::Auto,
            Some("always" | "all") => MediaProxy::Always,
            Some("none") => MediaProxy::Never,
            Some("nat") => MediaProxy::Nat,
            Some("bypass") => MediaProxy::Bypass,
            Some(other) => {
                self.note(format!("media_proxy {:?} is unknown", shorten(other)));
                MediaProxy::Auto
            }
        };
        let longest = self.seconds("max_duration", DURATION_S_MAX).filter(|seconds| *seconds > 0);
        Orders {
            headers: self.headers(),
            with_original_headers: self.flag("with_original_headers"),
            allow_codecs: self.codecs(),
            max_duration: longest.map(Duration::from_secs),
            record: self.record(),
            rtp_timeout: self.seconds("rtp_timeout", RTP_TIMEOUT_S_MAX).map(Duration::from_secs),
            media_proxy,
            extensions: self.extensions(),
        }
    }

    fn headers(&mut self) -> Vec<ExtraHeader> {
        let mut headers = Vec::new();
        for (name, value) in self.table("headers") {
            let Some(value) = plain(&value) else {
                self.note(format!("header {:?} has no plain value", shorten(&name)));
                continue;
            };
            match ExtraHeader::new(&name, &value) {
                Ok(_) if headers.len() >= EXTRA_HEADERS_MAX => {
                    self.note(format!("only the first {EXTRA_HEADERS_MAX} headers are added"));
                    break;
                }
                Ok(header) => headers.push(header),
                Err(why) => self.note(format!("header {:?} is refused: {why}", shorten(&name))),
            }
        }
        headers
    }

    /// The start alone is a wish to record, too.
    fn record(&mut self) -> Option<Record> {
        let start = match self.word("record_start_at").as_deref() {
            None => None,
            Some("media") => Some(Record::FromMedia),
            Some("answer") => Some(Record::FromAnswer),
            Some(other) => {
                self.note(format!("record_start_at {:?} is unknown", shorten(other)));
                None
            }
        };
        match self.flag("record") {
            Some(false) => Some(Record::Never),
            Some(true) => start.or(Some(Record::FromAnswer)),
            None => start,
        }
    }

    fn codecs(&mut self) -> Vec<Box<str>> {
        let listed = match self.take("allow_codecs") {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.note(format!("allow_codecs is no list: {}", short(&other)));
                return Vec::new();
            }
        };
        let token = |name: &&str| {
            let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (1..=CODEC_BYTES_MAX).contains(&name.len()) && name.chars().all(inside)
        };
        let mut codecs = Vec::new();
        for value in listed.iter().take(CODECS_MAX) {
            match value.as_str().filter(token) {
                Some(name) => codecs.push(name.into()),
                None => self.note(format!("allow_codecs: {} is no codec", short(value))),
            }
        }
        codecs
    }

    fn extensions(&mut self) -> Vec<(String, String)> {
        let mut kept = Vec::new();
        for (name, value) in self.table("extensions") {
            if kept.len() >= EXTENSIONS_MAX {
                self.note(format!("only the first {EXTENSIONS_MAX} extensions are kept"));
                break;
            }
            let text = plain(&value).unwrap_or_else(|| value.to_string());
            kept.push((cut(&name, EXTENSION_CHARS_MAX), cut(&text, EXTENSION_CHARS_MAX)));
        }
        kept
    }

    fn reject(&mut self) -> Reject {
        let status = match self.take("status") {
            None => REJECT_STATUS,
            Some(value) => match value.as_u64().and_then(|status| u16::try_from(status).ok()) {
                Some(status @ 400..=699) if !matches!(status, 401 | 407) => status,
                _ => {
                    self.note(format!("status {} cannot end a call: 403", short(&value)));
                    REJECT_STATUS
                }
            },
        };
        let reason = self.take("reason").and_then(|value| plain(&value)).unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        let reason = cut(reason.trim(), REASON_CHARS_MAX);
        Reject { status, reason, retry_after_s: None, spam: false }
    }

    fn table(&mut self, name: &str) -> Map<String, Value> {
        match self.take(name) {
            None => Map::new(),
            Some(Value::Object(table)) => table,
            Some(other) => {
                self.note(format!("{name} is no object: {}", short(&other)));
                Map::new()
            }
        }
    }

    fn word(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(word) => Some(word.trim().to_ascii_lowercase()),
            other => {
                self.note(format!("{name} is not text: {}", short(&other)));
                None
            }
        }
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.note(format!("{name} is neither true nor false: {}", short(&value)));
        }
        flag
    }

    /// Whole seconds; a fraction is rounded up.
    fn seconds(&mut self, name: &str, most: u64) -> Option<u64> {
        let value = self.take(name)?;
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => {
                if seconds > most as f64 {
                    self.note(format!("{name} is held at {most} s"));
                    return Some(most);
                }
                // It lies between 0 and `most`, so nothing is lost.
                Some(seconds.ceil() as u64)
            }
            _ => {
                self.note(format!("{name} is no number of seconds: {}", short(&value)));
                None
            }
        }
    }
}

/// A URI that may stand in a request line; brackets and a name around it are taken off.
fn uri(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let text = match (text.find('<'), text.rfind('>')) {
        (Some(open), Some(close)) if open < close => &text[open + 1..close],
        _ => text,
    };
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if !["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("is no SIP URI");
    }
    if text.len() > URI_BYTES_MAX {
        return Err("is too long");
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>\"".contains(c) || !c.is_ascii();
    if text.chars().any(odd) || text.len() <= scheme.len() + 1 {
        return Err("cannot be read");
    }
    if text.contains('?') {
        return Err("has headers, which no request line may have");
    }
    Ok(text.to_owned())
}

/// Text, numbers and flags as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Null | Value::Object(_) => None,
    }
}

fn short(value: &Value) -> String {
    shorten(&value.to_string())
}

fn shorten(text: &str) -> String {
    cut(text, 80)
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests;
