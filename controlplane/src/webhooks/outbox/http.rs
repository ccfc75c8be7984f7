//! The transport of the outbox: each event in the form that its endpoint reads.
//! Owns:  the forms: JSON for the locator, multipart for call records; what a status means.
//! Gives: `HttpTransport`.
//! Never: more than a beginning of an answer in the log of attempts; a URL or a header there.
//! Holds: a call record waits for its recording as long as that may still come, a day at most.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use shared::ids::CallId;
use tokio::time::Instant;

use super::Deliveries;
use super::dispatch::{Delivering, Transport, wall_now};
use super::endpoints::{CALL_RECORD, Endpoint};
use super::line::Verdict;
use super::track::Track;
use crate::board::{Board, Counts};
use crate::store::{RecordingState, StoreError, Tried, Waiting};
use crate::webhooks::multipart::{Multipart, Part};
use crate::webhooks::{Answer, Client, Failed, Outgoing, Payload};

/// Bytes of an answer that are read: receivers say little, and the connection is used again.
const ANSWER_MAX: usize = 64 << 10;
/// Of an answer that was no success, kept with the attempt.
const ANSWER_KEPT_CHARS: usize = 1_024;
/// Between two looks for a recording: an eighth of the time that it has been waited for.
const RECORDING_WAIT: Duration = Duration::from_secs(2);
const RECORDING_WAIT_LONGEST: Duration = Duration::from_secs(60);
/// No capture of the call was closed for so long, and none waits for the finalizer: there is none.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// A capture that is there becomes a recording at the next start at the latest.
const RECORDING_PATIENCE: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug)]
pub struct HttpTransport {
    pub client: Arc<Client>,
    pub deliveries: Arc<Deliveries>,
    /// Says whether captures wait for the finalizer.
    pub board: Arc<Board>,
}

impl Transport for HttpTransport {
    fn deliver(&self, endpoint: &'static str, row: Waiting) -> Delivering {
        let (client, deliveries) = (Arc::clone(&self.client), Arc::clone(&self.deliveries));
        let board = Arc::clone(&self.board);
        Box::pin(async move {
            let Some(endpoint) = deliveries.endpoint(endpoint) else {
                // A reload took it away a moment ago.
                return (Tried::default(), Verdict::NotYet { wait: RECORDING_WAIT });
            };
            let payload = match payload(&deliveries, &board, &endpoint, &row).await {
                Ok(payload) => payload,
                Err(wait) => return (Tried::default(), Verdict::NotYet { wait }),
            };
            let (at, started) = (wall_now(), Instant::now());
            let call = Outgoing {
                method: Method::POST,
                url: endpoint.url(),
                headers: &endpoint.headers,
                id: &row.event_id,
                payload,
                timeout: endpoint.timeout(),
                answer_max: ANSWER_MAX,
            };
            let outcome = client.send(call).await;
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (tried, verdict) = judge(outcome);
            (Tried { at, took_ms, ..tried }, verdict)
        })
    }
}

/// What is sent; the error is how long to wait for what is missing.
async fn payload(
    deliveries: &Deliveries,
    board: &Board,
    endpoint: &Endpoint,
    row: &Waiting,
) -> Result<Payload, Duration> {
    let body = row.payload.clone().into_bytes();
    if endpoint.name != CALL_RECORD {
        return Ok(Payload::Json(body));
    }
    let mut parts = vec![Part {
        name: "calllog.json",
        filename: None,
        content_type: "application/json",
        content: Arc::new(body),
    }];
    if endpoint.with_media && row.kind == "cdr" {
        for (track, name) in tracks(deliveries, board, row).await?.into_iter().zip(TRACK_NAMES) {
            parts.push(Part {
                name,
                filename: Some(format!("{name}.wav")),
                content_type: "audio/wav",
                content: Arc::new(track),
            });
        }
    }
    Ok(Payload::Parts(Multipart::new(parts)))
}

/// A recording has two channels at most.
const TRACK_NAMES: [&str; 2] = ["media_audio-0", "media_audio-1"];

async fn tracks(
    deliveries: &Deliveries,
    board: &Board,
    row: &Waiting,
) -> Result<Vec<Track>, Duration> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded {
        session_id: CallId,
        recorded: bool,
    }
    let Ok(cdr) = serde_json::from_str::<Recorded>(&row.payload) else { return Ok(Vec::new()) };
    if !cdr.recorded {
        return Ok(Vec::new());
    }
    let call = cdr.session_id;
    let recording = match deliveries.store.recording(call).await {
        Ok(recording) => recording,
        Err(StoreError::Unavailable(_)) => return Err(RECORDING_WAIT),
        Err(error) => {
            tracing::error!(%call, %error, "a call record is sent without its recording");
            return Ok(Vec::new());
        }
    };
    let state = recording.as_ref().map(|recording| recording.state);
    let path = recording.and_then(|recording| recording.path);
    match (state, path) {
        (Some(RecordingState::Ready), Some(path)) => Ok(open(call, &path).await),
        (None | Some(RecordingState::Pending), _) => {
            let waited = wall_now().0.saturating_sub(row.queued_at.0);
            let waited = Duration::from_millis(u64::try_from(waited).unwrap_or(0));
            let captures = Counts::of(&board.counts.recordings_backlog);
            if let Some(wait) = recording_wait(waited, state.is_some() || captures > 0) {
                return Err(wait);
            }
            tracing::warn!(%call, "a call record is sent without its recording: it does not come");
            Ok(Vec::new())
        }
        (Some(_), _) => Ok(Vec::new()),
    }
}

/// How long until the next look; `None` when the call record goes without. `comes`: there is a capture
/// of the call, or it may be among those that wait.
fn recording_wait(waited: Duration, comes: bool) -> Option<Duration> {
    let patience = if comes { RECORDING_PATIENCE } else { CAPTURE_PATIENCE };
    (waited < patience).then(|| (waited / 8).clamp(RECORDING_WAIT, RECORDING_WAIT_LONGEST))
}

async fn open(call: CallId, path: &Path) -> Vec<Track> {
    let opened = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || Track::of_recording(&path)
    });
    let opened = opened.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    opened.unwrap_or_else(|error| {
        let file = path.display();
        tracing::error!(%call, %file, %error, "a call record is sent without its recording");
        Vec::new()
    })
}

/// 2xx is delivered, whatever the body; everything else is tried again, but for 410.
fn judge(outcome: Result<Answer, Failed>) -> (Tried, Verdict) {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(failed) => {
            let outage = !matches!(failed, Failed::Refused(_));
            let tried = Tried { error: Some(failed.to_string()), ..Tried::default() };
            return (tried, Verdict::Failed { outage, retry_after: None });
        }
    };
    let status = answer.status;
    let mut tried = Tried { status: Some(status), ..Tried::default() };
    if answer.is_success() {
        return (tried, Verdict::Delivered);
    }
    tried.error = Some(Failed::Status(status).to_string());
    tried.answer = Some(beginning(&answer.body));
    let verdict = match status {
        410 => Verdict::Gone,
        429 | 502..=504 => Verdict::Failed { outage: true, retry_after: answer.retry_after },
        _ => Verdict::Failed { outage: status >= 500, retry_after: None },
    };
    (tried, verdict)
}

/// Text without characters that a terminal or a database would stumble over.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c });
    plain.take(ANSWER_KEPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::{Ending, Refused};

    fn of_status(status: u16, retry_after: Option<u64>) -> Verdict {
        let answer = Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: b"no\0".to_vec(),
            ending: Ending::Whole,
        };
        judge(Ok(answer)).1
    }

    #[test]
    fn statuses_mean_what_standard_webhooks_says() {
        let failed = |outage, seconds: Option<u64>| Verdict::Failed {
            outage,
            retry_after: seconds.map(Duration::from_secs),
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(of_status(status, None), Verdict::Delivered, "{status}");
        }
        assert_eq!(of_status(410, Some(5)), Verdict::Gone);
        for status in [429, 502, 503, 504] {
            assert_eq!(of_status(status, Some(7)), failed(true, Some(7)), "{status}");
        }
        assert_eq!(of_status(500, Some(7)), failed(true, None));
        for status in [301, 307, 400, 401, 404, 422] {
            assert_eq!(of_status(status, Some(7)), failed(false, None), "{status}");
        }
        assert_eq!(judge(Err(Failed::TimedOut)).1, failed(true, None));
        assert_eq!(judge(Err(Failed::Refused(Refused::Port))).1, failed(false, None));
    }

    /// Ten minutes when there is nothing to wait for, a day when there is.
    #[test]
    fn a_recording_is_waited_for_while_it_may_come() {
        let looks = |comes| {
            let mut waited = Duration::ZERO;
            let mut looks = 0;
            while let Some(wait) = recording_wait(waited, comes) {
                (waited, looks) = (waited + wait, looks + 1);
            }
            (waited, looks)
        };
        let (waited, count) = looks(false);
        assert!(waited >= CAPTURE_PATIENCE && waited < 2 * CAPTURE_PATIENCE, "{waited:?}");
        assert!(count < 60, "{count} looks");
        let (waited, count) = looks(true);
        assert!(waited >= RECORDING_PATIENCE, "{waited:?}");
        assert!(count < 1_600, "{count} looks in a day");
    }

    #[test]
    fn an_answer_is_kept_as_plain_text() {
        assert_eq!(beginning(b"a\0b\x1b[1m\nc"), "a\u{fffd}b\u{fffd}[1m\nc");
        assert_eq!(beginning(&[b'x'; 5_000]).len(), ANSWER_KEPT_CHARS);
    }
}
