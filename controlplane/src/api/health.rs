//! `GET /health`: what the gateway does and how far behind it is.
//! Owns:  the shape: the original's names, and ours per shard.
//! Gives: numbers that the shards sent within the last second or so.
//! Never: waits for a shard, so it answers when one is stuck, and `age_ms` shows it.
//! Holds: the status says `running`, `starting`, `draining` or `degraded`.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use shared::metrics::Counter;

use super::App;
use super::doc::Doc;
use super::routes::{Need, Routes};
use crate::VERSION;
use crate::access::Right;
use crate::board::{Counts, ShardState, Stage};
use crate::disk::Level;
use crate::webhooks::outbox::Desk;

pub(super) fn routes() -> Routes {
    Routes::new().get("/health", Need::Ami(Right::Ami), health).doc(
        Doc::new("What the gateway does and how far behind it is").answer(
            200,
            "Numbers of the last second or so",
            json!({
                "status": "running",
                "uptime": 3_600,
                "version": VERSION,
                "node": "gate-1",
                "calls": 2,
                "registrations": 17,
                "sipserver": { "calls": 2 },
                "callrecord": { "backlog": 0 },
                "shards": [{ "shard": 0, "state": "serving", "generation": 1 }],
            }),
        ),
    )
}

async fn health(State(app): State<App>) -> Json<Value> {
    let board = &app.board;
    let counts = &board.counts;
    let shards = board.shards();
    let totals = board.totals();
    let total = totals.of(Counter::CallsStarted);
    let failed = totals.of(Counter::CallsFailed);
    Json(json!({
        "status": status(&shards, counts.draining.load(Ordering::Relaxed)),
        "uptime": board.uptime().as_secs(),
        "version": VERSION,
        "node": app.node.as_ref(),
        "total": total,
        "failed": failed,
        "calls": totals.of(Counter::Calls),
        "calls_talking": totals.of(Counter::CallsTalking),
        "registrations": totals.of(Counter::Bindings),
        "sipserver": {
            "transactions": { "running": totals.of(Counter::Transactions) },
            "dialogs": totals.of(Counter::Dialogs),
            "calls": totals.of(Counter::Calls),
        },
        "media": {
            "relays": totals.of(Counter::Relays),
            "ports_in_use": totals.of(Counter::PortsInUse),
            "captures": totals.of(Counter::Captures),
        },
        "callrecord": {
            "backlog": Counts::of(&counts.cdr_backlog),
            "processed": Counts::of(&counts.cdrs_stored),
            "failed": Counts::of(&counts.cdr_failures),
            "damaged": Counts::of(&counts.journal_damaged),
        },
        "recordings": {
            "backlog": Counts::of(&counts.recordings_backlog),
            "ready": Counts::of(&counts.recordings_ready),
            "failed": Counts::of(&counts.recordings_failed),
            "expired": Counts::of(&counts.recordings_expired),
        },
        "sipflow": {
            "messages": totals.of(Counter::SipFlowMessages),
            "sip_flow_dropped": totals.of(Counter::SipFlowDropped),
            "failures": totals.of(Counter::SipFlowFailures),
        },
        "uploads": {
            "backlog": Counts::of(&counts.uploads_backlog),
            "oldest_seconds": Counts::of(&counts.uploads_oldest),
            "done": Counts::of(&counts.uploads_done),
            "failures": Counts::of(&counts.upload_failures),
            "lost": Counts::of(&counts.uploads_lost),
        },
        "disk": {
            "used_percent": Counts::of(&counts.disk_used_percent),
            "level": Level::of_number(Counts::of(&counts.disk_level)).as_str(),
        },
        "webhooks": app.deliveries.desks().iter().map(webhook).collect::<Map<_, _>>(),
        "generation": Counts::of(&counts.published),
        "shards": shards.iter().enumerate().map(|(n, shard)| show(n, shard)).collect::<Vec<_>>(),
    }))
}

fn webhook(desk: &Desk) -> (String, Value) {
    let standing = desk.standing();
    let value = json!({
        "state": standing.state(),
        "backlog": standing.backlog.pending,
        "oldest_s": standing.oldest_age().as_secs(),
        "dead": standing.backlog.dead,
        "delivered": standing.delivered,
        "failed": standing.failed,
    });
    (standing.name.to_owned(), value)
}

fn status(shards: &[ShardState], draining: bool) -> &'static str {
    let any = |stage: Stage| shards.iter().any(|shard| shard.stage == stage);
    if draining {
        "draining"
    } else if any(Stage::Starting) {
        "starting"
    } else if any(Stage::Stopped) || shards.iter().any(ShardState::is_silent) {
        "degraded"
    } else {
        "running"
    }
}

fn show(number: usize, shard: &ShardState) -> Value {
    let counters: Map<String, Value> = Counter::ALL
        .iter()
        .map(|counter| (counter.name().to_owned(), shard.counters.of(*counter).into()))
        .collect();
    json!({
        "shard": number,
        "cpu": shard.cpu,
        "state": shard.stage.as_str(),
        "generation": shard.generation,
        "age_ms": shard.counters_at.map(|at| at.elapsed().as_millis() as u64),
        "event_backlog": shard.counters.of(Counter::EventBacklog),
        "counters": counters,
    })
}
