//! A program that takes recordings as a form: `[recording] type = "http"`.
//! Owns:  the form, and the check of what the program says it keeps.
//! Gives: `Form`, a `Target` whose keys are the URLs that the program answered.
//! Never: sends the configuration's headers to another host than its own; tries again by itself.
//! Holds: a recording has a key only when all of it was read back from there with our SHA-256.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use shared::config::{WebTarget, parse_web_url};
use tokio::io::{AsyncReadExt, copy, sink};
use tokio_stream::StreamExt;
use tokio_util::io::{ReaderStream, StreamReader};
use url::Url;

use super::target::{Content, NotStored, Object, Source, Storing, Target, hex};
use crate::webhooks::{
    Client, Content as PartContent, Failed, Multipart, Outgoing, Part, Payload, fresh_id,
    header_map,
};

/// Of an answer: room for a URL and what a framework puts around it.
const ANSWER_MAX: usize = 4 << 10;
/// Bytes of the file that are read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// For a recording that somebody listens to while it comes.
const LISTEN_TIMEOUT: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub struct Form {
    client: Arc<Client>,
    target: WebTarget,
    headers: HeaderMap,
}

impl Form {
    pub fn new(client: Arc<Client>, target: &WebTarget) -> Self {
        Self { client, headers: header_map(&target.headers), target: target.clone() }
    }

    async fn hand_over(&self, source: &Source) -> Result<Option<Url>, NotStored> {
        let id = match &source.label {
            // The same for every try, so that a program can know a repetition.
            Some(label) => format!("rec_{}", label.session_id),
            None => fresh_id(),
        };
        let call = Outgoing {
            method: Method::POST,
            url: &self.target.url,
            headers: &self.headers,
            id: &id,
            payload: Payload::Parts(Multipart::new(parts(source))),
            timeout: self.target.timeout,
            answer_max: ANSWER_MAX,
        };
        let answer = self.client.send(call).await.map_err(|error| failed(&error))?;
        if !answer.is_success() {
            return Err(failed(&Failed::Status(answer.status)));
        }
        Ok(place_in(&answer.body))
    }

    /// Whether the program gives back what it took.
    async fn gives_back(&self, url: &Url, source: &Source) -> Result<(), String> {
        let mut response = self
            .get(url, None, self.target.timeout)
            .await
            .map_err(|error| format!("it cannot be read back: {error}"))?;
        if response.status() != StatusCode::OK {
            return Err(format!("reading it back was answered {}", response.status().as_u16()));
        }
        if response.content_length() != Some(source.size) {
            return Err(format!("it does not come back with its {} bytes", source.size));
        }
        let mut hash = Sha256::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(piece)) => hash.update(&piece),
                Err(error) => return Err(format!("it broke off: {}", error.without_url())),
            }
        }
        if <[u8; 32]>::from(hash.finalize()) != source.sha256 {
            return Err("what comes back has another SHA-256".to_owned());
        }
        Ok(())
    }

    async fn get(
        &self,
        url: &Url,
        range: Option<&RangeInclusive<u64>>,
        timeout: Duration,
    ) -> Result<Response, NotStored> {
        let ours = url.origin() == self.target.url.origin();
        let mut headers = if ours { self.headers.clone() } else { HeaderMap::new() };
        if let Some(range) = range {
            let text = format!("bytes={}-{}", range.start(), range.end());
            let value = HeaderValue::try_from(text);
            headers.insert(RANGE, value.map_err(|error| NotStored::Target(error.to_string()))?);
        }
        let call = Outgoing {
            method: Method::GET,
            url,
            headers: &headers,
            id: &fresh_id(),
            payload: Payload::Nothing,
            timeout,
            answer_max: 0,
        };
        self.client.open(call).await.map_err(|error| failed(&error))
    }
}

impl Target for Form {
    fn store<'a>(&'a self, _key: &'a str, source: &'a Source) -> Storing<'a, Option<String>> {
        Box::pin(async move {
            let Some(url) = self.hand_over(source).await? else { return Ok(None) };
            if let Err(reason) = self.gives_back(&url, source).await {
                // Handed over it is; a second time would make it two.
                let session = source.label.as_ref().map(|label| &label.session_id);
                tracing::warn!(
                    call = session,
                    reason,
                    "a recording was taken, and is not given back: its local copy stays"
                );
                return Ok(None);
            }
            Ok(Some(url.into()))
        })
    }

    fn read<'a>(&'a self, key: &'a str, range: Option<RangeInclusive<u64>>) -> Storing<'a, Object> {
        Box::pin(async move {
            let url = parse_web_url(key).map_err(NotStored::Target)?;
            let response = self.get(&url, range.as_ref(), LISTEN_TIMEOUT).await?;
            let (status, length) = (response.status(), response.content_length());
            let Some(length) = length.filter(|_| status.is_success()) else {
                let reason = format!("answered {} or without a length", status.as_u16());
                return Err(NotStored::Target(reason));
            };
            let pieces = response.bytes_stream().map(|piece| piece.map_err(io::Error::other));
            let mut reader = StreamReader::new(pieces);
            let Some(range) = range.filter(|_| status != StatusCode::PARTIAL_CONTENT) else {
                return Ok(Object { body: Body::from_stream(ReaderStream::new(reader)), length });
            };
            // It knows no ranges: what comes before is read past.
            let (start, asked) = (*range.start(), range.end() - range.start() + 1);
            let skipped = copy(&mut (&mut reader).take(start), &mut sink()).await;
            skipped.map_err(|error| NotStored::Target(error.to_string()))?;
            let length = asked.min(length.saturating_sub(start));
            let stream = ReaderStream::new(reader.take(length));
            Ok(Object { body: Body::from_stream(stream), length })
        })
    }

    fn key_for(&self, below_root: &str) -> String {
        below_root.to_owned()
    }

    fn wants_label(&self) -> bool {
        true
    }
}

fn parts(source: &Source) -> Vec<Part> {
    let text = |name, value: String| Part {
        name,
        filename: None,
        content_type: "text/plain",
        content: Arc::new(value.into_bytes()),
    };
    let mut parts = Vec::new();
    let mut filename = "recording.wav".to_owned();
    if let Some(label) = &source.label {
        filename = format!("{}.wav", label.session_id);
        parts.push(text("call_id", label.call_id.clone()));
        parts.push(text("session_id", label.session_id.clone()));
    }
    // Caller and callee are the two channels of one file.
    parts.push(text("track_id", "stereo".to_owned()));
    parts.push(text("sha256", hex(&source.sha256)));
    let content: Arc<dyn PartContent> = match &source.content {
        Content::Bytes(bytes) => Arc::new(bytes.clone()),
        Content::File(path) => Arc::new(OnDisk { path: path.clone(), size: source.size }),
    };
    parts.push(Part {
        name: "recording",
        filename: Some(filename),
        content_type: source.media_type,
        content,
    });
    parts
}

/// A file that is read for each pass.
#[derive(Debug)]
struct OnDisk {
    path: PathBuf,
    size: u64,
}

impl PartContent for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            if count == 0 || !take(piece) {
                return Ok(());
            }
        }
    }
}

/// Where the program says that it keeps the recording: a URL, bare or as a JSON string.
fn place_in(body: &[u8]) -> Option<Url> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let quoted = serde_json::from_str::<String>(text).ok();
    parse_web_url(quoted.as_deref().unwrap_or(text)).ok()
}

fn failed(error: &Failed) -> NotStored {
    NotStored::Target(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_a_url_says_where_the_recording_lies() {
        let place = |text: &str| place_in(text.as_bytes()).map(String::from);
        let url = "https://store.example/r/1.wav";
        for text in [url, " https://store.example/r/1.wav\n", "\"https://store.example/r/1.wav\""] {
            assert_eq!(place(text).as_deref(), Some(url), "{text}");
        }
        for text in ["", "ok", "{\"ok\": true}", "ftp://store.example/1.wav", "/r/1.wav"] {
            assert_eq!(place(text), None, "{text}");
        }
        assert_eq!(place_in(&[0xff, 0xfe]), None);
    }
}
