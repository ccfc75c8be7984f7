//! A call's flow as the original shows it: a ladder diagram in JSON.
//! Owns:  the shape; `transport` and what `diagnostics` says of gaps are ours.
//! Gives: one object; the streams are those of the call record.
//! Never: a field that is guessed: what is not known is null.
//! Holds: `seq` counts from 1, in the order in which the gateway saw the messages.

use serde_json::{Value, json};
use shared::cdr::{Cdr, StreamQuality};
use shared::ids::Side;
use shared::time::WallMs;

use super::{Flow, Message};

/// `detail`: somebody asked for it; there is no less.
pub fn show(cdr: &Cdr, flow: &Flow, is_on: bool, detail: bool) -> Value {
    let messages: Vec<Value> = (1..).zip(&flow.messages).map(|(seq, one)| row(seq, one)).collect();
    let streams: Vec<Value> = cdr.media_quality.iter().map(|one| stream(cdr, one)).collect();
    let window = flow.messages.first().zip(flow.messages.last());
    let window = window.map(|(first, last)| json!({ "start": first.at, "end": last.at }));
    let legs = cdr.sip_leg_roles.iter().map(|leg| {
        let own = messages.iter().filter(|message| message["call_id"] == leg.call_id.as_str());
        json!({ "call_id": leg.call_id, "role": leg.role, "sip_msgs": own.count() })
    });
    json!({
        "call_id": cdr.call_id,
        "session_id": cdr.session_id,
        "start_time": cdr.start_time,
        "status": cdr.status,
        "diagnostics": {
            "backend_configured": is_on,
            "backend_type": if is_on { "local" } else { "none" },
            "detail_requested": detail,
            "time_window": window,
            "sip_leg_roles_source": "cdr",
            "cdr_loaded": true,
            "sip_dropped_count": flow.dropped,
            "total_sip_msgs": messages.len(),
            "total_rtp_streams": streams.len(),
            "legs": legs.collect::<Vec<_>>(),
            "complete": flow.missing.is_empty() && flow.dropped == 0,
            "missing": flow.missing.iter().map(|missing| missing.as_str()).collect::<Vec<_>>(),
        },
        "flow": messages,
        "rtp_streams": streams,
    })
}

fn row(seq: usize, message: &Message) -> Value {
    let text = String::from_utf8_lossy(&message.raw);
    json!({
        "timestamp": micros(message.at),
        "seq": seq,
        "msg_type": if text.starts_with("SIP/2.0 ") { "response" } else { "request" },
        "src_addr": message.source().to_string(),
        "dst_addr": message.target().to_string(),
        "transport": message.transport,
        "role": message.side,
        "call_id": call_id(&text),
        "raw_message": text,
    })
}

const fn micros(at: WallMs) -> i64 {
    at.0.saturating_mul(1_000)
}

fn call_id(message: &str) -> Option<&str> {
    let mut head = message.lines().skip(1).take_while(|line| !line.is_empty());
    head.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim();
        let is_it = name.eq_ignore_ascii_case("call-id") || name.eq_ignore_ascii_case("i");
        is_it.then_some(value.trim())
    })
}

/// What the record says of a stream; it does not know what was in the packets.
fn stream(cdr: &Cdr, stream: &StreamQuality) -> Value {
    let leg = cdr.sip_leg_roles.iter().find(|leg| Some(leg.role) == stream.side);
    let expected = stream.packets.saturating_add(stream.lost);
    let percent = if expected == 0 { 0.0 } else { 100.0 * stream.lost as f64 / expected as f64 };
    json!({
        "leg": leg.map(|leg| &leg.call_id),
        "role": stream.side.map(role),
        "line": stream.line,
        "src_addr": null,
        "packet_count": stream.packets,
        "lost_packets": stream.lost,
        "expected_packets": expected,
        "loss_percent": percent,
        "jitter_ms": stream.jitter_us as f64 / 1_000.0,
        "ssrc": null,
        "ssrc_hex": null,
        "payload_type": null,
        "clock_rate": null,
    })
}

const fn role(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}
