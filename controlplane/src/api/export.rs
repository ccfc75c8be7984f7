//! Call records as a stream: `text/csv` and NDJSON, everything that fits, no pages.
//! Owns:  the columns of the CSV; how many exports run at once.
//! Gives: a body that is made piece by piece, as fast as it is read.
//! Never: all records in memory: 500 at a time.
//! Holds: no cell of a CSV is a formula to a spreadsheet. A stream that cannot go on breaks off; it does
//!        not look complete.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::record_shapes::detail;
use super::{Code, Prefix, Problem};
use crate::store::{CallRecord, SliceSearch, Store};

/// Each of them keeps a reader of the database busy.
const EXPORTS_MAX: usize = 4;
static EXPORTS: Semaphore = Semaphore::const_new(EXPORTS_MAX);

const COLUMNS: [&str; 26] = [
    "id",
    "callId",
    "sessionId",
    "startTime",
    "ringTime",
    "answerTime",
    "endTime",
    "direction",
    "status",
    "caller",
    "callee",
    "callerUri",
    "calleeUri",
    "durationMs",
    "statusCode",
    "hangupReason",
    "sourceAddr",
    "sipTrunk",
    "outboundTrunk",
    "userAgent",
    "recorded",
    "recordingState",
    "recordingUrl",
    "lastError",
    "tags",
    "note",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Ndjson,
}

/// What `Accept` wants most. None: a page in JSON.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Format> {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = (0.0, None);
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/csv" => Some(Format::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Some(Format::Ndjson)
            }
            "application/json" | "application/*" | "*/*" => None,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

struct Export {
    store: Arc<dyn Store>,
    prefix: Prefix,
    format: Format,
    search: SliceSearch,
    stage: Stage,
    _permit: SemaphorePermit<'static>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    Middle,
    Over,
}

/// The first piece is made before the answer starts, so that a database that fails is still a problem.
pub(super) async fn export(
    store: Arc<dyn Store>,
    prefix: Prefix,
    format: Format,
    search: SliceSearch,
) -> Result<Response, Problem> {
    let permit = EXPORTS.try_acquire().map_err(|_| {
        let text = format!("{EXPORTS_MAX} exports run already");
        Problem::new(Code::TooBusy, text)
    })?;
    let stage = Stage::First;
    let mut export = Export { store, prefix, format, search, stage, _permit: permit };
    let first = export.piece().await?;
    let rest = stream::unfold(Some((export, first)), |state| async move {
        let (mut export, piece) = state?;
        let piece = piece?;
        let next = match export.piece().await {
            Ok(next) => next,
            Err(problem) => {
                // The reason is in the log already.
                let broken = std::io::Error::other(format!("{:?}", problem.code()));
                return Some((Err(broken), None));
            }
        };
        Some((Ok(piece), Some((export, next))))
    });
    let mut response = Response::new(Body::from_stream(rest));
    let (kind, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"call-records.csv\""),
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"call-records.ndjson\""),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

impl Export {
    /// None: there is nothing left.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let mut bytes = Vec::new();
        if self.format == Format::Csv && self.stage == Stage::First {
            write_line(&mut bytes, &COLUMNS)?;
        }
        // A walk that finds little gives empty slices on its way.
        while self.stage != Stage::Over {
            let slice = self.store.record_slice(&self.search).await?;
            self.search.mark = slice.next;
            self.stage = if slice.next.is_some() { Stage::Middle } else { Stage::Over };
            for record in &slice.records {
                self.write(record, &mut bytes)?;
            }
            if !slice.records.is_empty() {
                break;
            }
        }
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn write(&self, record: &CallRecord, bytes: &mut Vec<u8>) -> Result<(), Problem> {
        let value = detail(record, &self.prefix)?;
        match self.format {
            Format::Csv => {
                let cells: Vec<_> = COLUMNS.iter().map(|name| cell(&value, name)).collect();
                write_line(bytes, &cells)
            }
            Format::Ndjson => {
                bytes.extend_from_slice(value.to_string().as_bytes());
                bytes.push(b'\n');
                Ok(())
            }
        }
    }
}

fn write_line(bytes: &mut Vec<u8>, cells: &[impl AsRef<[u8]>]) -> Result<(), Problem> {
    // RFC 4180 ends lines with CR LF.
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(bytes);
    let written = writer.write_record(cells).and_then(|()| writer.flush().map_err(Into::into));
    written.map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// What a column holds: text as it is, anything else as JSON, nothing for null.
fn cell(record: &Value, name: &str) -> String {
    let text = match (name, record.get(name)) {
        (_, None | Some(Value::Null)) => String::new(),
        (_, Some(Value::String(text))) => text.clone(),
        ("tags", Some(Value::Array(tags))) => {
            let tags: Vec<_> = tags.iter().filter_map(Value::as_str).collect();
            tags.join(", ")
        }
        ("note", Some(note)) => note["text"].as_str().unwrap_or_default().to_owned(),
        ("lastError", Some(error)) => {
            format!("{} {}", error["code"], error["reason"].as_str().unwrap_or_default())
        }
        (_, Some(other)) => other.to_string(),
    };
    harmless(text)
}

/// A spreadsheet runs a cell that starts like this; with an apostrophe before it, it is text.
fn harmless(mut text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        text.insert(0, '\'');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn accept_is_weighed() {
        let wanted = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("plain text"));
            wanted(&headers)
        };
        assert_eq!(wanted("text/csv"), Some(Format::Csv));
        assert_eq!(wanted("application/x-ndjson, */*;q=0.1"), Some(Format::Ndjson));
        assert_eq!(wanted("application/json, text/csv;q=0.5"), None);
        assert_eq!(wanted("text/csv;q=0.9, application/json;q=0.5"), Some(Format::Csv));
        assert_eq!(wanted("*/*"), None);
        assert_eq!(wanted("text/csv;q=0"), None);
        assert_eq!(super::wanted(&HeaderMap::new()), None);
    }

    #[test]
    fn no_cell_is_a_formula() {
        let record = json!({
            "caller": "=cmd|' /C calc'!A0", "callee": "+4930", "userAgent": "@SUM(1)",
            "tags": ["-1", "b"], "note": { "text": "\tx" }, "durationMs": 7, "ringTime": null,
            "lastError": { "code": 486, "reason": "Busy" },
        });
        let cells: Vec<_> = [
            "caller",
            "callee",
            "userAgent",
            "tags",
            "note",
            "durationMs",
            "ringTime",
            "lastError",
        ]
        .into_iter()
        .map(|name| cell(&record, name))
        .collect();
        assert_eq!(
            cells,
            ["'=cmd|' /C calc'!A0", "'+4930", "'@SUM(1)", "'-1, b", "'\tx", "7", "", "486 Busy"]
        );
        let mut bytes = Vec::new();
        write_line(&mut bytes, &["a,b", "c\"d", "e"]).expect("it is written");
        assert_eq!(String::from_utf8_lossy(&bytes), "\"a,b\",\"c\"\"d\",e\r\n");
    }
}
