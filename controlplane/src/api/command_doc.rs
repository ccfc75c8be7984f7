//! What the route of commands on calls says about itself.
//! Owns:  the schema of a command.
//! Gives: its `Doc`.
//! Never: which fields go with which action; `command_body` has that.
//! Holds: the actions are those that `command_body` reads.

use serde_json::json;

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

pub(super) fn doc() -> Doc {
    // What `play` plays; a path is below the prompts folder.
    let source = doc::object(&[
        ("!type", doc::word(&["file", "silence", "tone"])),
        ("path", doc::text()),
        ("frequency", json!({ "type": "number" })),
        ("duration_ms", doc::number(1, 60_000)),
    ]);
    let schema = json!({
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": doc::word(&ACTIONS),
            "reason": doc::text(),
            "code": doc::number(200, 699),
            "target": doc::text(),
            "track_id": doc::word(&["audio-0", "audio-1"]),
            "leg_id": doc::text(),
            "digits": doc::text(),
            "sdp": doc::text(),
            "source": source,
            "loop_playback": doc::flag(),
        },
    });
    let done =
        json!({ "message": "hangup done", "data": { "action": "hangup", "outcome": "done" } });
    Doc::new("Act on a call that stands; the answer comes when it happened")
        .at("call_id", "nobody")
        .body(schema, json!({ "action": "hangup", "reason": "admin_kick" }))
        .answer(200, "It happened", done)
        .refuses(&[
            Code::AlreadyRecording,
            Code::CallEnded,
            Code::CodecUnknown,
            Code::CommandInvalid,
            Code::CommandUnknown,
            Code::CommandsFull,
            Code::NoMedia,
            Code::NoOffer,
            Code::NoSuchCall,
            Code::NotAnswered,
            Code::NotBuilt,
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
