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
    #[serde(alias = "sessionId")]
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
