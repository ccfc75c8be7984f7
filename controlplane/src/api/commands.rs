//! Commands on calls that stand: `POST /calls/active/{call_id}/commands`.
//! Owns:  the way of a command to its call and of the outcome back, and its line in the log.
//! Gives: 200 when it happened on the wire; else why it did not, with a stable code.
//! Never: 200 for what was only sent.
//! Holds: every command that reached a shard is logged once, with who, what and its outcome.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use shared::act::{Acted, CallAction, CallName, Play, Refusal, Samples};
use shared::ids::{CallId, ShardId};

use super::asked::{Document, Id};
use super::command_body::{self, PlayWish, Source, Wish};
use super::routes::{Need, Routes};
use super::{App, Code, Problem, command_doc};
use crate::access::{Caller, Deed, Outcome, Right};
use crate::prompts::{self, NoPrompt};
use crate::questions::Unanswered;

pub(super) fn routes() -> Routes {
    let need = Need::Right(Right::CallsControl);
    Routes::new().post("/calls/active/{call_id}/commands", need, command).doc(command_doc::doc())
}

async fn command(
    State(app): State<App>,
    caller: Caller,
    Id(call_id): Id,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let (name, wish) = command_body::read(body.clone(), &caller.to_string())?;
    let action = match wish {
        Wish::Action(action) => action,
        Wish::Play(wish) => CallAction::Play(to_play(&app, wish).await?),
    };
    let call: CallName = match call_id.parse() {
        Ok(call) => call,
        Err(never) => match never {},
    };
    let outcome = app.questions.act(&call, &action).await;
    note(&app, &caller, &name, &call_id, body, &outcome).await;
    let (shard, acted) = outcome?;
    match acted {
        Acted::Done { call, at } => Ok(Json(json!({
            "message": format!("{name} done"),
            "data": {
                "action": name,
                "applied_at": at,
                "call_id": call,
                "outcome": "done",
                "shard": shard.map(|shard| shard.0),
            },
        }))),
        Acted::Refused { call, why } => Err(refused(&name, call, why)),
        Acted::UnknownCall => Err(Problem::new(
            Code::NoSuchCall,
            format!("no call that stands now has the id \"{call_id}\""),
        )),
    }
}

/// The one place where every command leaves its trace: in the audit log and in the process log.
async fn note(
    app: &App,
    caller: &Caller,
    action: &str,
    call_id: &str,
    body: Value,
    outcome: &Result<(Option<ShardId>, Acted), Unanswered>,
) {
    let (came, word) = match outcome {
        Ok((_, Acted::Done { .. })) => (Outcome::Done, None),
        Ok((_, Acted::Refused { why, .. })) => (Outcome::Refused, Some(code_of(*why))),
        Ok((_, Acted::UnknownCall)) => (Outcome::Refused, Some(Code::NoSuchCall)),
        Err(_) => (Outcome::Failed, Some(Code::ShardsSilent)),
    };
    let word = word.map(Code::as_str);
    tracing::info!(by = %caller, action, call_id, outcome = word.unwrap_or("done"), "call command");
    let (name, call) = (format!("call.{action}"), format!("call {call_id}"));
    let mut deed = Deed::new(&name, &call, came).change(None, Some(body));
    if let Some(word) = word {
        deed = deed.detail(word);
    }
    app.access.record(caller, deed).await;
}

/// Reads the prompt, or makes the tone.
async fn to_play(app: &App, wish: PlayWish) -> Result<Play, Problem> {
    let PlayWish { towards, source, repeat } = wish;
    let samples = match source {
        Source::Silence { duration_ms } => prompts::silence(duration_ms),
        Source::Tone { hz, duration_ms } => prompts::tone(hz, duration_ms),
        Source::File(name) => read_prompt(app, name).await?,
    };
    Ok(Play { towards, samples, repeat })
}

async fn read_prompt(app: &App, name: String) -> Result<Samples, Problem> {
    let folder = app.prompts.clone();
    let read = tokio::task::spawn_blocking(move || {
        let samples = prompts::read(&folder, &name);
        (samples, name)
    });
    let (samples, name) = read.await.map_err(|error| {
        tracing::error!(%error, "a prompt was not read");
        Problem::new(Code::Internal, "the prompt could not be read")
    })?;
    samples.map_err(|why| {
        let code = match &why {
            NoPrompt::Name | NoPrompt::TooLong | NoPrompt::Unplayable(_) => Code::CommandInvalid,
            NoPrompt::NotThere => Code::PromptAbsent,
            NoPrompt::Read(_) => Code::Internal,
        };
        let name: String = name.chars().take(64).collect();
        Problem::new(code, format!("play \"{name}\": {why}"))
    })
}

fn refused(action: &str, call: CallId, why: Refusal) -> Problem {
    let text = match why {
        Refusal::AlreadyRecording => "the call is recorded already",
        Refusal::Busy => "another change of the call was under way for too long",
        Refusal::CallEnded => "the call has ended, or ended meanwhile",
        Refusal::CodecUnknown => "the phone speaks no codec that we can write, or encrypts",
        Refusal::DiskFull => "the disk is full: nothing more is recorded until it has room",
        Refusal::NoMedia => "the call has no audio that goes through the gateway",
        Refusal::NoOffer => "the caller has made no offer that could be answered",
        Refusal::NotAnswered => "there is no phone on that side yet",
        Refusal::NotConfirmed => "it was sent, and nobody confirmed it in time",
        Refusal::NotNow => "the call is not answered, or another change of it is under way",
        Refusal::NotPlaying => "nothing is played there",
        Refusal::NotRecording => "the call is not recorded",
        Refusal::NotRinging => "the call does not ring, or was answered",
        Refusal::PeerRefused(status) => {
            let text = format!("{action} on call {call}: the phone refused it (SIP {status})");
            return Problem::new(code_of(why), text);
        }
        Refusal::SdpUnusable => "\"sdp\" cannot be read, or does not answer the caller's offer",
        Refusal::SpeakersFull => "the gateway speaks to too many phones already",
        Refusal::TargetFailed(status) => {
            let text =
                format!("{action} on call {call}: the target did not take it (SIP {status})");
            return Problem::new(code_of(why), text);
        }
        Refusal::TargetUnreadable => "the target is a user, a number or a sip: URI without headers",
        Refusal::TooMany => "too many commands on this call wait for its phones",
    };
    Problem::new(code_of(why), format!("{action} on call {call}: {text}"))
}

const fn code_of(why: Refusal) -> Code {
    match why {
        Refusal::AlreadyRecording => Code::AlreadyRecording,
        Refusal::Busy | Refusal::NotNow => Code::NotNow,
        Refusal::CallEnded => Code::CallEnded,
        Refusal::CodecUnknown => Code::CodecUnknown,
        Refusal::DiskFull => Code::DiskFull,
        Refusal::NoMedia => Code::NoMedia,
        Refusal::NoOffer => Code::NoOffer,
        Refusal::NotAnswered => Code::NotAnswered,
        Refusal::NotConfirmed => Code::NotConfirmed,
        Refusal::NotPlaying => Code::NotPlaying,
        Refusal::NotRecording => Code::NotRecording,
        Refusal::NotRinging => Code::NotRinging,
        Refusal::PeerRefused(_) => Code::PeerRefused,
        Refusal::SdpUnusable | Refusal::TargetUnreadable => Code::CommandInvalid,
        Refusal::SpeakersFull => Code::SpeakersFull,
        Refusal::TargetFailed(_) => Code::TargetFailed,
        Refusal::TooMany => Code::CommandsFull,
    }
}
