//! What the route of commands on calls says about itself.
//! Owns:  the schema of a command.
//! Gives: its `Doc`.
//! Never: which fields go with which action; `command_body` has that.
//! Holds: the actions are those that `command_body` reads.

use serde_json::{Value, json};

use super::Code;
use super::doc::{self, Doc};

const ACTIONS: [&str; 14] = [
    "accept",
    "hangup",
    "hold",
    "mute",
    "pause_recording",
    "play",
    "resume_recording",
    "send_dtmf",
    "start_recording",
    "stop_playback",
    "stop_recording",
    "transfer",
    "unhold",
    "unmute",
];

/// What `play` plays.
fn source() -> Value {
    let kind = |name: &'static str, fields: &[(&str, Value)]| {
        let kind = [("!type", doc::word(&[name]))];
        doc::object(&[&kind[..], fields].concat())
    };
    let duration = || doc::number(20, 60_000);
    json!({ "oneOf": [
        kind("file", &[("!path", doc::text())]),
        kind("silence", &[("duration_ms", duration())]),
        kind("tone", &[("!frequency", doc::number(20, 3_900)), ("!duration_ms", duration())]),
        kind("url", &[("!url", doc::text())]),
    ] })
}

/// One body per action, and more than one where they differ.
fn bodies() -> [Value; 14] {
    let tone = json!({ "type": "tone", "frequency": 440, "duration_ms": 200 });
    [
        json!({ "action": "accept" }),
        json!({ "action": "hold", "leg_id": "callee" }),
        json!({ "action": "unhold", "leg_id": "callee" }),
        json!({ "action": "mute", "track_id": "audio-0" }),
        json!({ "action": "unmute", "track_id": "audio-0" }),
        json!({ "action": "play", "source": tone }),
        json!({ "action": "play", "source": { "type": "silence" }, "leg_id": "caller" }),
        json!({ "action": "stop_playback" }),
        json!({ "action": "send_dtmf", "digits": "12#" }),
        json!({ "action": "pause_recording" }),
        json!({ "action": "resume_recording" }),
        json!({ "action": "stop_recording" }),
        json!({ "action": "start_recording" }),
        json!({ "action": "transfer", "target": "1002" }),
    ]
}

pub(super) fn doc() -> Doc {
    let schema = json!({
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": doc::word(&ACTIONS),
            "reason": doc::text(),
            "code": doc::number(200, 699),
            "target": doc::text(),
            "track_id": doc::word(&["audio-0", "audio-1"]),
            "leg_id": doc::word(&["caller", "callee", "both"]),
            "digits": { "type": "string", "pattern": "^[0-9*#A-Da-d]+$", "maxLength": 64 },
            "sdp": doc::text(),
            "source": source(),
            "loop_playback": doc::flag(),
            "interrupt_on_dtmf": doc::flag(),
            "attended": doc::flag(),
            "path": doc::text(),
            "format": doc::text(),
        },
    });
    let done =
        json!({ "message": "hangup done", "data": { "action": "hangup", "outcome": "done" } });
    Doc::new("Act on a call that stands; the answer comes when it happened")
        .at("call_id", "a-leg-1@phone")
        .body(schema, json!({ "action": "hangup", "reason": "admin_kick" }))
        .bodies(bodies())
        .answer(200, "It happened", done)
        .lacks("play: interrupt_on_dtmf")
        .lacks("play: a source of type url")
        .lacks("start_recording: path, and another format than wav")
        .lacks("transfer: attended; to app:, conference:, ivr:, queue:, voicemail:, voip_bridge:")
        .refuses(&[
            Code::AlreadyRecording,
            Code::CallEnded,
            Code::CodecUnknown,
            Code::CommandInvalid,
            Code::CommandUnknown,
            Code::CommandsFull,
            Code::DiskFull,
            Code::NoMedia,
            Code::NoOffer,
            Code::NoSuchCall,
            Code::NotAnswered,
            Code::NotConfirmed,
            Code::NotNow,
            Code::NotPlaying,
            Code::NotRecording,
            Code::NotRinging,
            Code::PeerRefused,
            Code::PromptAbsent,
            Code::ShardsSilent,
            Code::SpeakersFull,
            Code::TargetFailed,
        ])
}
