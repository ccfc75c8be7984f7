//! The body of a command on a call: `{"action": "...", ...}`, read into an action of the data plane.
//! Owns:  the words of the contract (surface.md section 5), and the range of each value.
//! Gives: `read`: what is meant, or which part of the body is wrong; a prompt is only named.
//! Never: a field that is taken and not used, but for those that are named so here.
//! Holds: an action that is read is one that a shard can try.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::act::{CallAction, HangUp, Recording};
use shared::ids::Side;
use shared::limits::SDP_BYTES_MAX;

use super::{Code, Problem};
use crate::prompts::TONE_MS_MAX;

/// Texts travel in SIP headers and into the CDR.
const REASON_CHARS_MAX: usize = 128;
/// With their pauses they take some ten seconds, and an act has to end within its time.
const KEYS_MAX: usize = 64;
/// What fits into 8 000 samples a second.
const TONE_HZ: std::ops::RangeInclusive<f32> = 20.0..=3_900.0;
/// One turn of a silence that lasts until it is stopped.
const SILENCE_MS: u32 = 1_000;

/// What a body asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    Action(CallAction),
    Play(PlayWish),
}

/// To play something that has to be made or read first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlayWish {
    /// Caller, callee.
    pub towards: [bool; 2],
    pub source: Source,
    pub repeat: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// A name below the prompts folder.
    File(String),
    Silence {
        duration_ms: u32,
    },
    Tone {
        hz: f32,
        duration_ms: u32,
    },
}

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
struct AcceptBody {
    sdp: Option<String>,
    /// Clients of the original name somebody here; it answers the caller whoever that is, and so
    /// do we.
    #[serde(rename = "callee")]
    _callee: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysBody {
    digits: String,
    leg_id: Option<String>,
}

/// Of `hold`, `unhold`, `stop_playback`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegBody {
    leg_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MuteBody {
    track_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayBody {
    source: SourceBody,
    leg_id: Option<String>,
    #[serde(default)]
    interrupt_on_dtmf: bool,
    #[serde(default)]
    loop_playback: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum SourceBody {
    File { path: String },
    Silence { duration_ms: Option<u32> },
    Tone { frequency: f32, duration_ms: u32 },
    Url { url: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartRecordingBody {
    path: Option<String>,
    format: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoBody {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferBody {
    target: String,
    #[serde(default)]
    attended: bool,
    leg_id: Option<String>,
}

/// What the body asks for, and its name. `by` is who asks.
pub(super) fn read(body: Value, by: &str) -> Result<(String, Wish), Problem> {
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
        "accept" => accept(parts(&name, fields)?)?,
        "hangup" => hang_up(parts(&name, fields)?, by)?,
        "hold" | "unhold" => {
            let LegBody { leg_id } = parts(&name, fields)?;
            CallAction::Hold { side: leg_of(leg_id.as_deref())?, on: name == "hold" }
        }
        "mute" | "unmute" => {
            let MuteBody { track_id } = parts(&name, fields)?;
            CallAction::Mute { side: side_of(&track_id)?, on: name == "mute" }
        }
        "play" => return Ok((name.clone(), Wish::Play(play(parts(&name, fields)?)?))),
        "send_dtmf" => keys(parts(&name, fields)?)?,
        "stop_playback" => {
            let LegBody { leg_id } = parts(&name, fields)?;
            CallAction::StopPlaying { towards: legs_of(leg_id.as_deref())? }
        }
        "transfer" => transfer(parts(&name, fields)?)?,
        _ => match recording_word(&name) {
            Some(wanted) => record(wanted, &name, fields)?,
            None => {
                let text = format!("there is no action \"{}\"", shortened(&name));
                return Err(Problem::new(Code::CommandUnknown, text));
            }
        },
    };
    Ok((name, Wish::Action(action)))
}

fn accept(body: AcceptBody) -> Result<CallAction, Problem> {
    let sdp = body.sdp;
    if sdp.as_ref().is_some_and(|sdp| sdp.len() > SDP_BYTES_MAX) {
        return Err(invalid(format!("\"sdp\" is longer than {SDP_BYTES_MAX} bytes")));
    }
    Ok(CallAction::Accept { sdp: sdp.map(Into::into) })
}

fn hang_up(body: HangUpBody, by: &str) -> Result<CallAction, Problem> {
    let HangUpBody { reason, code, .. } = body;
    if let Some(code) = code.filter(|code| !(200..=699).contains(code)) {
        return Err(invalid(format!("\"code\" is a SIP status from 200 to 699, not {code}")));
    }
    let reason = reason.as_deref().map(text_of).transpose()?;
    Ok(CallAction::HangUp(HangUp { code, reason, by: by.into() }))
}

fn keys(body: KeysBody) -> Result<CallAction, Problem> {
    let KeysBody { digits, leg_id } = body;
    let is_key = |key: char| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d');
    if digits.is_empty() || digits.len() > KEYS_MAX || !digits.chars().all(is_key) {
        return Err(invalid(format!("\"digits\" are 1 to {KEYS_MAX} of 0-9, *, #, A-D")));
    }
    Ok(CallAction::Keys { side: leg_of(leg_id.as_deref())?, keys: digits.into() })
}

fn play(body: PlayBody) -> Result<PlayWish, Problem> {
    let PlayBody { source, leg_id, interrupt_on_dtmf, loop_playback } = body;
    let towards = legs_of(leg_id.as_deref())?;
    if interrupt_on_dtmf {
        return Err(not_built("\"interrupt_on_dtmf\""));
    }
    let in_range = |duration_ms: u32| {
        let fits = (20..=TONE_MS_MAX).contains(&duration_ms);
        let text = || invalid(format!("\"duration_ms\" is from 20 to {TONE_MS_MAX}"));
        fits.then_some(duration_ms).ok_or_else(text)
    };
    let (source, repeat) = match source {
        SourceBody::File { path } => (Source::File(path), loop_playback),
        SourceBody::Silence { duration_ms: None } => {
            (Source::Silence { duration_ms: SILENCE_MS }, true)
        }
        SourceBody::Silence { duration_ms: Some(duration_ms) } => {
            (Source::Silence { duration_ms: in_range(duration_ms)? }, loop_playback)
        }
        SourceBody::Tone { frequency: hz, duration_ms } => {
            if !TONE_HZ.contains(&hz) {
                let (low, high) = (TONE_HZ.start(), TONE_HZ.end());
                return Err(invalid(format!("\"frequency\" is from {low} to {high} Hz")));
            }
            (Source::Tone { hz, duration_ms: in_range(duration_ms)? }, loop_playback)
        }
        SourceBody::Url { url } => {
            return Err(not_built(&format!("to play from \"{}\"", shortened(&url))));
        }
    };
    Ok(PlayWish { towards, source, repeat })
}

fn recording_word(name: &str) -> Option<Recording> {
    match name {
        "pause_recording" => Some(Recording::Pause),
        "resume_recording" => Some(Recording::Resume),
        "start_recording" => Some(Recording::Start),
        "stop_recording" => Some(Recording::Stop),
        _ => None,
    }
}

fn record(wanted: Recording, name: &str, fields: Value) -> Result<CallAction, Problem> {
    if wanted == Recording::Start {
        let StartRecordingBody { path, format } = parts(name, fields)?;
        if path.is_some() {
            return Err(not_built("a \"path\" of a recording of its own"));
        }
        if format.as_deref().is_some_and(|format| !format.eq_ignore_ascii_case("wav")) {
            return Err(not_built("another \"format\" than wav"));
        }
    } else {
        let NoBody {} = parts(name, fields)?;
    }
    Ok(CallAction::Record(wanted))
}

/// Targets of the original's that are no address.
const APPLICATIONS: [&str; 6] =
    ["app:", "conference:", "ivr:", "queue:", "voicemail:", "voip_bridge:"];
const TARGET_CHARS_MAX: usize = 256;

fn transfer(body: TransferBody) -> Result<CallAction, Problem> {
    let TransferBody { target, attended, leg_id } = body;
    let leaves = leg_of(leg_id.as_deref())?;
    let target = target.trim();
    if attended {
        return Err(not_built("an attended transfer"));
    }
    if let Some(prefix) = APPLICATIONS.iter().find(|prefix| target.starts_with(**prefix)) {
        return Err(not_built(&format!("a transfer to \"{prefix}...\"")));
    }
    let length = target.chars().count();
    if length == 0 || length > TARGET_CHARS_MAX || target.chars().any(char::is_control) {
        return Err(invalid(format!(
            "\"target\" is a user, a number or a sip: URI of at most {TARGET_CHARS_MAX} characters"
        )));
    }
    Ok(CallAction::Transfer { leaves, target: target.into() })
}

/// The leg that is meant: the callee's, unless the body names the other.
fn leg_of(leg_id: Option<&str>) -> Result<Side, Problem> {
    match leg_id {
        None | Some("callee") => Ok(Side::Callee),
        Some("caller") => Ok(Side::Caller),
        Some(other) => {
            let other = shortened(other);
            Err(invalid(format!("\"leg_id\" is caller or callee, not \"{other}\"")))
        }
    }
}

/// Caller, callee: both, unless the body names one.
fn legs_of(leg_id: Option<&str>) -> Result<[bool; 2], Problem> {
    match leg_id {
        None | Some("both") => Ok([true, true]),
        Some("caller") => Ok([true, false]),
        Some("callee") => Ok([false, true]),
        Some(other) => {
            let other = shortened(other);
            Err(invalid(format!("\"leg_id\" is caller, callee or both, not \"{other}\"")))
        }
    }
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

fn not_built(what: &str) -> Problem {
    Problem::new(Code::NotBuilt, format!("{what} is not built yet"))
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

    fn action_of(body: Value) -> CallAction {
        match read(body.clone(), "ops") {
            Ok((_, Wish::Action(action))) => action,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn play_of(body: Value) -> PlayWish {
        match read(body.clone(), "ops") {
            Ok((_, Wish::Play(wish))) => wish,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn what_the_guide_prints_is_read() {
        let hang_up = HangUp { code: None, reason: Some("admin_kick".into()), by: "ops".into() };
        let guide = [
            (json!({"action": "hangup", "reason": "admin_kick"}), CallAction::HangUp(hang_up)),
            (
                json!({"action": "mute", "track_id": "audio-0"}),
                CallAction::Mute { side: Side::Caller, on: true },
            ),
            (
                json!({"action": "unmute", "track_id": "audio-1"}),
                CallAction::Mute { side: Side::Callee, on: false },
            ),
            (
                json!({"action": "transfer", "target": "sip:1002@pbx.com"}),
                CallAction::Transfer { leaves: Side::Callee, target: "sip:1002@pbx.com".into() },
            ),
            (
                json!({"action": "accept", "sdp": "v=0..."}),
                CallAction::Accept { sdp: Some("v=0...".into()) },
            ),
        ];
        for (body, action) in guide {
            assert_eq!(action_of(body.clone()), action, "{body}");
            let (name, _) = read(body.clone(), "ops").expect("it was read before");
            assert_eq!(body["action"], name);
        }
    }

    #[test]
    fn the_commands_of_the_original_are_read_with_and_without_a_leg() {
        let hold = |side, on| CallAction::Hold { side, on };
        let keys = |side, keys: &str| CallAction::Keys { side, keys: keys.into() };
        for (body, action) in [
            (json!({"action": "accept", "callee": "1002"}), CallAction::Accept { sdp: None }),
            (json!({"action": "hold"}), hold(Side::Callee, true)),
            (json!({"action": "unhold", "leg_id": "caller"}), hold(Side::Caller, false)),
            (json!({"action": "send_dtmf", "digits": "0*#aD"}), keys(Side::Callee, "0*#aD")),
            (
                json!({"action": "send_dtmf", "digits": "1", "leg_id": "caller"}),
                keys(Side::Caller, "1"),
            ),
            (json!({"action": "stop_playback"}), CallAction::StopPlaying { towards: [true; 2] }),
            (
                json!({"action": "stop_playback", "leg_id": "caller"}),
                CallAction::StopPlaying { towards: [true, false] },
            ),
            (json!({"action": "start_recording"}), CallAction::Record(Recording::Start)),
            (
                json!({"action": "start_recording", "format": "WAV"}),
                CallAction::Record(Recording::Start),
            ),
            (json!({"action": "pause_recording"}), CallAction::Record(Recording::Pause)),
            (json!({"action": "resume_recording"}), CallAction::Record(Recording::Resume)),
            (json!({"action": "stop_recording"}), CallAction::Record(Recording::Stop)),
        ] {
            assert_eq!(action_of(body.clone()), action, "{body}");
        }
    }

    #[test]
    fn what_is_to_be_played_is_named() {
        let wish = |towards, source, repeat| PlayWish { towards, source, repeat };
        for (source, more, expected) in [
            (
                json!({"type": "file", "path": "en/hello.wav"}),
                json!({"leg_id": "callee"}),
                wish([false, true], Source::File("en/hello.wav".to_owned()), false),
            ),
            (
                json!({"type": "tone", "frequency": 440.0, "duration_ms": 250}),
                json!({"loop_playback": true, "interrupt_on_dtmf": false}),
                wish([true; 2], Source::Tone { hz: 440.0, duration_ms: 250 }, true),
            ),
            (
                json!({"type": "silence"}),
                json!({"leg_id": "both"}),
                wish([true; 2], Source::Silence { duration_ms: 1_000 }, true),
            ),
            (
                json!({"type": "silence", "duration_ms": 300}),
                json!({}),
                wish([true; 2], Source::Silence { duration_ms: 300 }, false),
            ),
        ] {
            let mut body = json!({"action": "play", "source": source});
            for (name, value) in more.as_object().expect("an object") {
                body[name] = value.clone();
            }
            assert_eq!(play_of(body.clone()), expected, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let play = |source: Value| json!({"action": "play", "source": source});
        for body in [
            json!([]),
            json!({}),
            json!({"action": 7}),
            json!({"action": "accept", "sdp": "x".repeat(SDP_BYTES_MAX + 1)}),
            json!({"action": "hangup", "code": 100}),
            json!({"action": "hangup", "code": "486"}),
            json!({"action": "hangup", "reason": "a\r\nVia: x"}),
            json!({"action": "hangup", "reason": "x".repeat(129)}),
            json!({"action": "hangup", "raeson": "x"}),
            json!({"action": "hold", "leg_id": "both"}),
            json!({"action": "mute"}),
            json!({"action": "mute", "track_id": "audio-2"}),
            json!({"action": "unmute", "track_id": 0}),
            json!({"action": "send_dtmf"}),
            json!({"action": "send_dtmf", "digits": ""}),
            json!({"action": "send_dtmf", "digits": "12w"}),
            json!({"action": "send_dtmf", "digits": "1".repeat(65)}),
            json!({"action": "stop_playback", "leg_id": "nobody"}),
            json!({"action": "stop_recording", "path": "x"}),
            json!({"action": "transfer"}),
            json!({"action": "transfer", "target": " "}),
            json!({"action": "transfer", "target": "10\n03"}),
            json!({"action": "transfer", "target": "1003", "leg_id": "both"}),
            play(json!("hello.wav")),
            play(json!({"type": "smell"})),
            play(json!({"type": "file"})),
            play(json!({"type": "tone", "frequency": 440.0})),
            play(json!({"type": "tone", "frequency": 4_000.0, "duration_ms": 100})),
            play(json!({"type": "tone", "frequency": 440.0, "duration_ms": 60_001})),
            play(json!({"type": "silence", "duration_ms": 1})),
        ] {
            assert_eq!(code_of(body.clone()), Code::CommandInvalid, "{body}");
        }
        assert_eq!(code_of(json!({"action": "explode"})), Code::CommandUnknown);
        for body in [
            json!({"action": "transfer", "target": "sip:1003@pbx.com", "attended": true}),
            json!({"action": "transfer", "target": "queue:support"}),
            json!({"action": "start_recording", "path": "/tmp/x.wav"}),
            json!({"action": "start_recording", "format": "mp3"}),
            play(json!({"type": "url", "url": "http://prompts.example/x.wav"})),
            json!({
                "action": "play",
                "source": {"type": "silence"},
                "interrupt_on_dtmf": true,
            }),
        ] {
            assert_eq!(code_of(body.clone()), Code::NotBuilt, "{body}");
        }
    }
}
