//! `GET /call-records/{id}/recording`: the stereo WAV, in ranges if asked so.
//! Owns:  the answer when there is none, and why.
//! Gives: the file as it lies on the disk.
//! Never: a path from the request; the record's row names the file.
//! Holds: Range, If-Range and If-Modified-Since follow RFC 9110.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use shared::ids::CallId;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::asked::{Id, Pairs};
use super::call_records::{find, is_being_recorded};
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Problem, remote_recording};
use crate::access::Right;
use crate::store::RecordingState;

pub(super) fn routes() -> Routes {
    let need = Need::Right(Right::RecordingsRead);
    Routes::new().get("/call-records/{id}/recording", need, recording).doc(
        Doc::new("The stereo WAV of a call, whole or in ranges")
            .at("id", "1")
            .query("stream", doc::word(&["mixed"]), "Both sides, left and right")
            .file(200, "The file", "audio/wav")
            .file(206, "A part of it", "audio/wav")
            .empty(304, "It has not changed")
            .empty(416, "It has no such part")
            .lacks("stream: one side alone")
            .refuses(&[
                Code::ArchiveUnavailable,
                Code::NoSuchRecord,
                Code::RecordingAbsent,
                Code::RecordingElsewhere,
                Code::RecordingExpired,
                Code::RecordingFailed,
                Code::RecordingPending,
            ]),
    )
}

async fn recording(
    State(app): State<App>,
    Id(id): Id,
    pairs: Pairs,
    request: Request,
) -> Result<Response, Problem> {
    // The original picks one side with `stream`; ours are in one file, left and right.
    pairs.refuse_unknown(&["stream"])?;
    if let Some(stream) = pairs.last("stream").filter(|stream| *stream != "mixed") {
        let text = format!("stream={stream} is not built yet: the file has both sides");
        return Err(Problem::new(Code::NotBuilt, text));
    }
    let record = find(&app, &id).await?;
    let being_recorded = is_being_recorded(&app, &record).await?;
    let Some(recording) = record.recording else {
        let (code, why) = match (record.cdr.recorded, being_recorded) {
            (false, _) => (Code::RecordingAbsent, "it was not recorded"),
            (true, true) => {
                (Code::RecordingPending, "it is being made from the capture of the call")
            }
            (true, false) => {
                (Code::RecordingFailed, "nothing of it reached the disk, or it was lost there")
            }
        };
        return Err(Problem::new(code, format!("call record {}: {why}", record.id)));
    };
    let path = match (recording.state, recording.path) {
        (RecordingState::Ready, Some(path)) => path,
        (RecordingState::Pending, _) => {
            let text = "it is being made from the capture of the call";
            return Err(Problem::new(Code::RecordingPending, text));
        }
        (RecordingState::Uploaded, _) => {
            let call = record.cdr.session_id;
            return named(remote_recording::serve(&app, call, request.headers()).await?, call);
        }
        (RecordingState::Expired, _) => {
            let text = "the configuration keeps recordings for a limited time or size";
            return Err(Problem::new(Code::RecordingExpired, text));
        }
        (_, _) => {
            let reason = recording.error.unwrap_or_else(|| "no reason is known".to_owned());
            return Err(Problem::new(Code::RecordingFailed, reason));
        }
    };
    let (call, headers) = (record.cdr.session_id, request.headers().clone());
    let served = ServeFile::new(&path).oneshot(request).await;
    let response = match served {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    };
    if response.status() == StatusCode::NOT_FOUND {
        // An uploaded file goes a moment before its row says so.
        if app.archive.find_remote(call).await?.is_some() {
            return named(remote_recording::serve(&app, call, &headers).await?, call);
        }
        tracing::error!(file = %path.display(), "a recording that was made is gone");
        return Err(Problem::new(Code::RecordingFailed, "the file of the recording is gone"));
    }
    named(response, call)
}

/// What it is, and what a person who saves it sees.
fn named(mut response: Response, call: CallId) -> Result<Response, Problem> {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    let name = format!("inline; filename=\"{call}.wav\"");
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
