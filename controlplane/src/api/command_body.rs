//! The body of a command on a call: `{"action": "...", ...}`, read into an action of the data plane.
//! Owns:  the words of the contract (surface.md section 5), and the range of each value.
//! Gives: `read`: what is meant, or which part of the body is wrong.
//! Never: a field that is taken and not used, but for those that are named so here.
//! Holds: an action that is read is one that a shard can try.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::act::{CallAction, HangUp};
use shared::ids::Side;

use super::{Code, Problem};

/// Texts travel in SIP headers and into the CDR.
const REASON_CHARS_MAX: usize = 128;
/// Of the contract, and not there yet.
const NOT_BUILT: [&str; 10] = [
    "accept",
    "hold",
    "pause_recording",
    "play",
    "resume_recording",
    "send_dtmf",
    "start_recording",
    "stop_playback",
    "stop_recording",
    "unhold",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HangUpBody {
    reason: Option<String>,
    code: Option<u16>,
    /// Clients of the original name themselves here; we go by who asked.
    #[serde(rename = "initiator")]
    _initiator: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    track_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferBody {
    target: String,
    #[serde(default)]
    attended: bool,
    leg_id: Option<String>,
}

/// What the body asks for, and its name. `by` is who asks.
pub(super) fn read(body: Value, by: &str) -> Result<(String, CallAction), Problem> {
    let Value::Object(mut fields) = body else {
        return Err(invalid("the body must be a JSON object with an \"action\""));
    };
    let name = match fields.remove("action") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(invalid("\"action\" must be a string")),
        None => return Err(invalid("\"action\" is missing")),
    };
    let fields = Value::Object(fields);
    let action = match name.as_str() {
        "hangup" => hang_up(parts(&name, fields)?, by)?,
        "mute" | "unmute" => {
            let MuteBody { track_id } = parts(&name, fields)?;
            CallAction::Mute { side: side_of(&track_id)?, on: name == "mute" }
        }
        "transfer" => transfer(parts(&name, fields)?)?,
        word if NOT_BUILT.contains(&word) => {
            return Err(Problem::new(Code::NotBuilt, format!("\"{word}\" is not built yet")));
        }
        word => {
            let text = format!("there is no action \"{}\"", shortened(word));
            return Err(Problem::new(Code::CommandUnknown, text));
        }
    };
    Ok((name, action))
}

fn hang_up(body: HangUpBody, by: &str) -> Result<CallAction, Problem> {
    let HangUpBody { reason, code, .. } = body;
    if let Some(code) = code.filter(|code| !(200..=699).contains(code)) {
        return Err(invalid(format!("\"code\" is a SIP status from 200 to 699, not {code}")));
    }
    let reason = reason.as_deref().map(text_of).transpose()?;
    Ok(CallAction::HangUp(HangUp { code, reason, by: by.into() }))
}

/// Targets of the original's that are no address.
const APPLICATIONS: [&str; 6] =
    ["app:", "conference:", "ivr:", "queue:", "voicemail:", "voip_bridge:"];
const TARGET_CHARS_MAX: usize = 256;

/// Leg "callee" is the one that hands the call over, unless the body names the other.
fn transfer(body: TransferBody) -> Result<CallAction, Problem> {
    let TransferBody { target, attended, leg_id } = body;
    let leaves = match leg_id.as_deref() {
        None | Some("callee") => Side::Callee,
        Some("caller") => Side::Caller,
        Some(other) => {
            let other = shortened(other);
            return Err(invalid(format!("\"leg_id\" is caller or callee, not \"{other}\"")));
        }
    };
    let target = target.trim();
    if attended {
        return Err(Problem::new(Code::NotBuilt, "an attended transfer is not built yet"));
    }
    if let Some(prefix) = APPLICATIONS.iter().find(|prefix| target.starts_with(**prefix)) {
        let text = format!("a transfer to \"{prefix}...\" is not built yet");
        return Err(Problem::new(Code::NotBuilt, text));
    }
    let length = target.chars().count();
    if length == 0 || length > TARGET_CHARS_MAX || target.chars().any(char::is_control) {
        return Err(invalid(format!(
            "\"target\" is a user, a number or a sip: URI of at most {TARGET_CHARS_MAX} characters"
        )));
    }
    Ok(CallAction::Transfer { leaves, target: target.into() })
}

/// Tracks as the recordings name them: `audio-0` is what the caller says, `audio-1` the callee.
fn side_of(track_id: &str) -> Result<Side, Problem> {
    match track_id {
        "audio-0" => Ok(Side::Caller),
        "audio-1" => Ok(Side::Callee),
        other => {
            let other = shortened(other);
            Err(invalid(format!("\"track_id\" is audio-0 or audio-1, not \"{other}\"")))
        }
    }
}

/// A text for people, that fits a header.
fn text_of(text: &str) -> Result<Box<str>, Problem> {
    let text = text.trim();
    if text.chars().count() > REASON_CHARS_MAX {
        return Err(invalid(format!("\"reason\" is longer than {REASON_CHARS_MAX} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid("\"reason\" has a control character in it"));
    }
    Ok(text.into())
}

fn parts<T: DeserializeOwned>(name: &str, fields: Value) -> Result<T, Problem> {
    serde_json::from_value(fields).map_err(|error| invalid(format!("{name}: {error}")))
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::CommandInvalid, detail)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code_of(body: Value) -> Code {
        read(body, "test").expect_err("it is refused").code()
    }

    #[test]
    fn what_the_guide_prints_is_read() {
        let (_, action) =
            read(json!({"action": "hangup", "reason": "admin_kick"}), "ops").expect("it is fine");
        let hang_up = HangUp { code: None, reason: Some("admin_kick".into()), by: "ops".into() };
        assert_eq!(action, CallAction::HangUp(hang_up));
        let (name, action) =
            read(json!({"action": "mute", "track_id": "audio-0"}), "ops").expect("it is fine");
        assert_eq!(action, CallAction::Mute { side: Side::Caller, on: true });
        assert_eq!(name, "mute");
        let (_, action) =
            read(json!({"action": "unmute", "track_id": "audio-1"}), "ops").expect("it is fine");
        assert_eq!(action, CallAction::Mute { side: Side::Callee, on: false });
        let (_, action) = read(json!({"action": "transfer", "target": "sip:1002@pbx.com"}), "ops")
            .expect("it is fine");
        let target: Box<str> = "sip:1002@pbx.com".into();
        assert_eq!(action, CallAction::Transfer { leaves: Side::Callee, target });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for body in [
            json!([]),
            json!({}),
            json!({"action": 7}),
            json!({"action": "hangup", "code": 100}),
            json!({"action": "hangup", "code": "486"}),
            json!({"action": "hangup", "reason": "a\r\nVia: x"}),
            json!({"action": "hangup", "reason": "x".repeat(129)}),
            json!({"action": "hangup", "raeson": "x"}),
            json!({"action": "mute"}),
            json!({"action": "mute", "track_id": "audio-2"}),
            json!({"action": "unmute", "track_id": 0}),
            json!({"action": "transfer"}),
            json!({"action": "transfer", "target": " "}),
            json!({"action": "transfer", "target": "10\n03"}),
            json!({"action": "transfer", "target": "1003", "leg_id": "both"}),
        ] {
            assert_eq!(code_of(body.clone()), Code::CommandInvalid, "{body}");
        }
        assert_eq!(code_of(json!({"action": "explode"})), Code::CommandUnknown);
        for body in [
            json!({"action": "transfer", "target": "sip:1003@pbx.com", "attended": true}),
            json!({"action": "transfer", "target": "queue:support"}),
            json!({"action": "hold"}),
        ] {
            assert_eq!(code_of(body.clone()), Code::NotBuilt, "{body}");
        }
    }
}
