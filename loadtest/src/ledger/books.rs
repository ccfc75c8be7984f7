//! The books as files and as pages of the API: one JSON value per line, or a list of records.
//! Owns:  the names of the fields, in every spelling that the gateway has.
//! Gives: `read_lines`, `write_lines`, and `fetch` for the records of a running gateway.
//! Never: a judgement.
//! Holds: a line that cannot be read is an error with its number, not a line less.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::cdr::HangupReason;
use shared::time::WallMs;

use crate::http;

/// What the checker needs of a call record: of a list item, or of a whole CDR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(alias = "callId")]
    pub call_id: String,
    #[serde(alias = "sessionId")]
    pub session_id: String,
    #[serde(alias = "answerTime")]
    pub answer_time: Option<WallMs>,
    #[serde(alias = "ended_at", alias = "endTime")]
    pub end_time: WallMs,
    #[serde(alias = "hangupReason")]
    pub hangup_reason: HangupReason,
}

/// One SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kill {
    /// Sent.
    pub at: WallMs,
    /// The process was gone.
    pub gone_at: WallMs,
}

/// One request that a webhook receiver got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The `webhook-id` of the request.
    #[serde(alias = "webhook_id", alias = "webhookId")]
    pub id: String,
    #[serde(alias = "sessionId", alias = "call")]
    pub session_id: String,
}

/// Most items of one page.
const PER_PAGE: u32 = 100;

/// Every record that the gateway has, oldest first. The token needs the scope `cdr:read`.
pub fn fetch(server: SocketAddr, token: Option<&str>) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for page in 1_u64.. {
        let path =
            format!("/console/call-records?page={page}&per_page={PER_PAGE}&sort=started_at_asc");
        let answer = http::json(server, &path, token)?;
        let items = answer["items"].as_array().ok_or_else(|| format!("GET {path}: no items"))?;
        for item in items {
            let record = Record::deserialize(item);
            records.push(record.map_err(|error| format!("GET {path}: {error}: {item}"))?);
        }
        if page >= answer["total_pages"].as_u64().unwrap_or(0) {
            break;
        }
    }
    Ok(records)
}

pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut values = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| format!("{shown}: {error}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str(&line);
        values.push(value.map_err(|error| format!("{shown}:{}: {error}", number + 1))?);
    }
    Ok(values)
}

/// The lines of a receiver: those that it took, as far as they are about calls. One that says nothing about
/// its answer took everything.
pub fn read_deliveries(path: &Path) -> Result<Vec<Delivery>, String> {
    let mut deliveries = Vec::new();
    for line in read_lines::<Value>(path)? {
        let taken = match &line["status"] {
            Value::Null => line.get("status").is_none(),
            status => status.as_u64().is_some_and(|status| (200..300).contains(&status)),
        };
        let of_call = line.get("kind").is_none_or(|kind| kind == "cdr");
        if taken && of_call {
            let read = Delivery::deserialize(&line);
            deliveries.push(read.map_err(|error| format!("{}: {error}: {line}", path.display()))?);
        }
    }
    Ok(deliveries)
}

pub fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for value in values {
        let line = serde_json::to_string(value).map_err(|error| error.to_string())?;
        writeln!(file, "{line}").map_err(failed)?;
    }
    file.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_receiver_took_is_a_delivery() {
        let folder = crate::gateway::Folder::new("books").expect("a folder");
        let path = folder.path.join("receiver.jsonl");
        let lines = r#"{"id":"cdr_1","kind":"cdr","call":"1","aor":null,"status":500}
{"id":"cdr_1","kind":"cdr","call":"1","aor":null,"status":null}
{"id":"cdr_1","kind":"cdr","call":"1","aor":null,"status":200}
{"id":"msg_1","kind":"registered","call":null,"aor":"sip:1@x","status":200}
{"webhookId":"cdr_2","sessionId":"2"}
"#;
        std::fs::write(&path, lines).expect("it is written");
        let ids: Vec<_> =
            read_deliveries(&path).expect("lines").into_iter().map(|d| d.id).collect();
        assert_eq!(ids, ["cdr_1", "cdr_2"]);
    }

    #[test]
    fn a_record_is_read_in_every_spelling() {
        let item = r#"{"call_id":"a","session_id":"s","answer_time":"2026-11-24T10:00:00.000Z",
            "ended_at":"2026-11-24T10:00:05.000Z","hangup_reason":"systemCrash","id":7}"#;
        let cdr = r#"{"callId":"a","sessionId":"s","answerTime":"2026-11-24T10:00:00.000Z",
            "endTime":"2026-11-24T10:00:05.000Z","hangupReason":"systemCrash","shard":0}"#;
        let [one, two] = [item, cdr].map(serde_json::from_str::<Record>);
        let one = one.expect("a list item");
        assert_eq!(one, two.expect("a CDR"));
        let own = serde_json::to_string(&one).expect("JSON");
        assert_eq!(serde_json::from_str::<Record>(&own).expect("our own lines"), one);
    }
}
