//! `GET /call-records/{id}/sip-flow` and `/pcap`: what passed on the wire for a call.
//! Owns:  the answer when there is little or nothing: 200, and `diagnostics` says why.
//! Gives: the ladder of the original as JSON, and the same as a capture file.
//! Never: credentials, passwords or keys: they are masked before they get here.
//! Holds: a call has a flow once it has a record; one that stands is 404.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::asked::{Id, Pairs};
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::Right;
use crate::sipflow::{Flow, ladder, pcap};
use crate::store::CallRecord;

const READ: Need = Need::Right(Right::CdrRead);
const PCAP: &str = "application/vnd.tcpdump.pcap";

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/call-records/{id}/sip-flow", READ, sip_flow)
        .doc(
            Doc::new("Every SIP message of a call, as a ladder diagram; secrets are masked")
                .at("id", "1")
                .query("detail", doc::text(), "Accepted; there is one form, the whole")
                .answer(200, "What was kept; diagnostics say what is missing and why", example())
                .refuses(&[Code::NoSuchRecord]),
        )
        .get("/call-records/{id}/pcap", READ, capture)
        .doc(
            Doc::new("The same as a capture file, in packets made up round the messages")
                .at("id", "1")
                .file(200, "A classic pcap file, empty when nothing was kept", PCAP)
                .refuses(&[Code::NoSuchRecord]),
        )
}

fn example() -> Value {
    json!({
        "call_id": "a-leg-1@phone",
        "start_time": "2026-11-24T10:00:00.000Z",
        "status": "completed",
        "flow": [{
            "timestamp": 1_795_514_400_000_000_i64,
            "seq": 1,
            "msg_type": "request",
            "src_addr": "192.0.2.7:5062",
            "dst_addr": "192.0.2.1:5060",
            "transport": "UDP",
            "role": "caller",
            "call_id": "a-leg-1@phone",
            "raw_message": "INVITE sip:1002@pbx.example SIP/2.0\r\n...",
        }],
        "rtp_streams": [{
            "leg": "a-leg-1@phone",
            "role": "caller",
            "packet_count": 500,
            "lost_packets": 0,
            "expected_packets": 500,
            "loss_percent": 0.0,
            "jitter_ms": 0.5,
        }],
        "diagnostics": {
            "backend_configured": true,
            "backend_type": "local",
            "sip_dropped_count": 0,
            "total_sip_msgs": 1,
            "total_rtp_streams": 1,
            "legs": [{ "call_id": "a-leg-1@phone", "role": "caller", "sip_msgs": 1 }],
            "complete": true,
            "missing": ["the newest messages are not on the disk"],
        },
    })
}

async fn sip_flow(
    State(app): State<App>,
    Id(id): Id,
    pairs: Pairs,
) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&["detail"])?;
    let (record, flow) = flow_of(&app, &id).await?;
    let detail = pairs.last("detail").is_some_and(|word| !matches!(word, "0" | "false"));
    Ok(Json(ladder::show(&record.cdr, &flow, app.ladders.is_on(), detail)))
}

async fn capture(State(app): State<App>, Id(id): Id, pairs: Pairs) -> Result<Response, Problem> {
    pairs.refuse_unknown(&[])?;
    let (record, flow) = flow_of(&app, &id).await?;
    let name = format!("attachment; filename=\"{}.pcap\"", record.cdr.session_id);
    let headers = [(header::CONTENT_TYPE, PCAP.to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, pcap::write(&flow.messages)).into_response())
}

async fn flow_of(app: &App, id: &str) -> Result<(CallRecord, Flow), Problem> {
    let Some(record) = app.store.record(id).await? else {
        let text = format!(
            "no call record has the number, session id or Call-ID \"{id}\"; a call that stands has its \
             flow when it has ended"
        );
        return Err(Problem::new(Code::NoSuchRecord, text));
    };
    match app.ladders.of(&record.cdr).await {
        Ok(flow) => Ok((record, flow)),
        Err(error) => {
            tracing::error!(error, "a SIP flow cannot be read");
            Err(Problem::new(Code::Internal, "the log of the gateway says why"))
        }
    }
}
