//! `GET /metrics`: the counters in the text form of Prometheus.
//! Owns:  the prefix `ringgate_` and the label `shard`.
//! Gives: the shards' counters and the control plane's own.
//! Never: a label that a caller can choose.
//! Holds: every series has HELP and TYPE, once.

use std::fmt::{self, Write};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use shared::metrics::{Counter, Kind};

use super::App;
use super::doc::Doc;
use super::routes::{Need, Routes};
use crate::VERSION;
use crate::board::Counts;
use crate::webhooks::outbox::{Deliveries, Desk, Standing};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/metrics", Need::Metrics, metrics)
        .doc(Doc::new("Counters for Prometheus").file(200, "The text form", "text/plain"))
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let mut out = String::with_capacity(32 << 10);
    write(&app, &mut out).expect("text grows");
    write_webhooks(&app.deliveries, &mut out).expect("text grows");
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out)
}

fn write(app: &App, out: &mut String) -> fmt::Result {
    let board = &app.board;
    let shards = board.shards();
    for counter in Counter::ALL {
        let kind = match counter.kind() {
            Kind::Gauge => "gauge",
            Kind::Total => "counter",
        };
        head(out, counter.name(), kind, counter.help())?;
        for (number, shard) in shards.iter().enumerate() {
            let value = shard.counters.of(*counter);
            writeln!(out, "ringgate_{}{{shard=\"{number}\"}} {value}", counter.name())?;
        }
    }
    head(out, "snapshot_generation", "gauge", "Generation of users and trunks that is served")?;
    for (number, shard) in shards.iter().enumerate() {
        writeln!(out, "ringgate_snapshot_generation{{shard=\"{number}\"}} {}", shard.generation)?;
    }
    let counts = &board.counts;
    let single = [
        (
            "snapshot_published",
            "gauge",
            "Newest generation of users and trunks",
            Counts::of(&counts.published),
        ),
        ("uptime_seconds", "gauge", "Seconds since the start", board.uptime().as_secs()),
        (
            "cdr_backlog",
            "gauge",
            "Call records not in the database yet",
            Counts::of(&counts.cdr_backlog),
        ),
        ("cdr_stored_total", "counter", "Call records stored", Counts::of(&counts.cdrs_stored)),
        (
            "cdr_store_failures_total",
            "counter",
            "Tries to store call records that failed",
            Counts::of(&counts.cdr_failures),
        ),
        (
            "journal_damaged_total",
            "counter",
            "Pieces of the journal that could not be read or stored",
            Counts::of(&counts.journal_damaged),
        ),
        ("event_readers", "gauge", "Event streams that are open", app.news.readers() as u64),
    ];
    single_values(
        out,
        single
            .into_iter()
            .chain(of_archive(counts))
            .chain(of_access(counts))
            .chain(of_deciders(counts)),
    )?;
    head(out, "build_info", "gauge", "Version of the running program")?;
    writeln!(out, "ringgate_build_info{{version=\"{VERSION}\"}} 1")
}

/// Name, kind, help line and value of what is not kept per shard.
type Single = (&'static str, &'static str, &'static str, u64);

fn single_values(out: &mut String, values: impl Iterator<Item = Single>) -> fmt::Result {
    for (name, kind, help, value) in values {
        head(out, name, kind, help)?;
        writeln!(out, "ringgate_{name} {value}")?;
    }
    Ok(())
}

/// What was recorded, what left this disk, what still has to, and how full it is.
fn of_archive(counts: &Counts) -> [Single; 11] {
    [
        (
            "recordings_backlog",
            "gauge",
            "Captures that wait for their recording",
            Counts::of(&counts.recordings_backlog),
        ),
        (
            "recordings_ready_total",
            "counter",
            "Recordings made",
            Counts::of(&counts.recordings_ready),
        ),
        (
            "recordings_failed_total",
            "counter",
            "Captures that became no recording at the first try",
            Counts::of(&counts.recordings_failed),
        ),
        (
            "recordings_expired_total",
            "counter",
            "Recordings removed for their age or number",
            Counts::of(&counts.recordings_expired),
        ),
        ("uploads_backlog", "gauge", "Uploads that wait", Counts::of(&counts.uploads_backlog)),
        (
            "uploads_oldest_seconds",
            "gauge",
            "How long the oldest upload has waited",
            Counts::of(&counts.uploads_oldest),
        ),
        ("uploads_done_total", "counter", "Uploads verified", Counts::of(&counts.uploads_done)),
        (
            "upload_failures_total",
            "counter",
            "Tries to upload that failed",
            Counts::of(&counts.upload_failures),
        ),
        ("uploads_lost", "gauge", "Uploads without a file", Counts::of(&counts.uploads_lost)),
        (
            "disk_used_percent",
            "gauge",
            "Fill of the fuller one of the disks of data and recordings",
            Counts::of(&counts.disk_used_percent),
        ),
        ("disk_level", "gauge", "0 fine, 1 warn, 2 high, 3 full", Counts::of(&counts.disk_level)),
    ]
}

/// Who was let in and who was not.
fn of_access(counts: &Counts) -> [Single; 4] {
    [
        ("logins_total", "counter", "Logins that succeeded", Counts::of(&counts.logins)),
        (
            "login_failures_total",
            "counter",
            "Logins with a wrong name or password",
            Counts::of(&counts.login_failures),
        ),
        (
            "logins_throttled_total",
            "counter",
            "Logins that were not tried because there were too many",
            Counts::of(&counts.logins_throttled),
        ),
        (
            "requests_denied_total",
            "counter",
            "Requests refused for who sent them",
            Counts::of(&counts.requests_denied),
        ),
    ]
}

/// How the programs do that decide about calls and users.
fn of_deciders(counts: &Counts) -> [Single; 8] {
    [
        (
            "route_requests_total",
            "counter",
            "Questions to the HTTP router, probes included",
            Counts::of(&counts.route_requests),
        ),
        (
            "route_request_failures_total",
            "counter",
            "Questions to the HTTP router that ended without a decision",
            Counts::of(&counts.route_failures),
        ),
        (
            "route_breaker_open",
            "gauge",
            "1 while calls do not wait for the HTTP router",
            Counts::of(&counts.router_open),
        ),
        (
            "route_exchanges_lost_total",
            "counter",
            "Exchanges with the HTTP router that could not be stored",
            Counts::of(&counts.exchanges_lost),
        ),
        (
            "user_backend_requests_total",
            "counter",
            "Questions to user backends, probes included",
            Counts::of(&counts.user_requests),
        ),
        (
            "user_backend_failures_total",
            "counter",
            "Questions to user backends that ended without an answer",
            Counts::of(&counts.user_failures),
        ),
        (
            "user_cache_hits_total",
            "counter",
            "Questions to user backends that a cache answered",
            Counts::of(&counts.user_cache_hits),
        ),
        (
            "user_breakers_open",
            "gauge",
            "User backends that nobody waits for",
            Counts::of(&counts.users_open),
        ),
    ]
}

/// The label is one of the fixed names of endpoints.
fn write_webhooks(deliveries: &Deliveries, out: &mut String) -> fmt::Result {
    type Read = fn(&Standing) -> u64;
    let series: [(&str, &str, &str, Read); 7] = [
        ("webhook_backlog", "gauge", "Events that wait for their endpoint", |it| {
            it.backlog.pending
        }),
        ("webhook_backlog_age_seconds", "gauge", "Age of the oldest event that waits", |it| {
            it.oldest_age().as_secs()
        }),
        ("webhook_dead", "gauge", "Events that were given up and can be replayed", |it| {
            it.backlog.dead
        }),
        ("webhook_up", "gauge", "1 while the endpoint is configured, enabled and answers", |it| {
            u64::from(it.state() == "up")
        }),
        ("webhook_delivered_total", "counter", "Events delivered", |it| it.delivered),
        ("webhook_failures_total", "counter", "Attempts to deliver that failed", |it| it.failed),
        ("webhook_dead_total", "counter", "Events given up", |it| it.dead),
    ];
    let standings: Vec<Standing> = deliveries.desks().iter().map(Desk::standing).collect();
    for (name, kind, help, read) in series {
        head(out, name, kind, help)?;
        for standing in &standings {
            let (endpoint, value) = (standing.name, read(standing));
            writeln!(out, "ringgate_{name}{{endpoint=\"{endpoint}\"}} {value}")?;
        }
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP ringgate_{name} {help}")?;
    writeln!(out, "# TYPE ringgate_{name} {kind}")
}
