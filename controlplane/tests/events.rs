//! The event stream as its readers see it: form, resume, picking, the slow reader, who may listen.

mod stand_ins;

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};
use shared::cdr::{Direction, HangupReason};
use shared::event::{CallNews, CallStage};
use shared::ids::{ShardId, Side};
use shared::time::WallMs;
use stand_ins::asking::{Ask, Gate};
use stand_ins::{MORNING, TOKEN, call_id};
use tokio::time::{advance, pause, resume, timeout};
use tower::ServiceExt;

const EVENTS: &str = "/api/v1/events";

struct Stream {
    headers: HeaderMap,
    body: BodyDataStream,
}

/// One event as it came: its three fields.
#[derive(Debug)]
struct Heard {
    id: String,
    kind: String,
    data: Value,
}

impl Stream {
    async fn open(gate: &Gate, ask: Ask) -> Self {
        let response = gate.router.clone().oneshot(ask.request).await.expect("never fails");
        let (parts, body): (_, Body) = response.into_parts();
        assert_eq!(parts.status, StatusCode::OK);
        Self { headers: parts.headers, body: body.into_data_stream() }
    }

    /// None: the stream has ended.
    async fn text(&mut self) -> Option<String> {
        let bytes = self.body.next().await?.expect("it does not break");
        Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    async fn next(&mut self) -> Heard {
        let text = self.text().await.expect("an event");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text:?}")).trim().to_owned()
        };
        let data = serde_json::from_str(&field("data:")).expect("JSON");
        Heard { id: field("id:"), kind: field("event:"), data }
    }
}

fn listen(path: &str) -> Ask {
    Ask::get(path).bearer(TOKEN)
}

fn call(number: u64, stage: CallStage) -> CallNews {
    CallNews {
        call: call_id(number),
        shard: ShardId(0),
        stage,
        at: MORNING,
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        sip_call_id: format!("a-leg-{number}@phone"),
        direction: Direction::Internal,
    }
}

const ENDED: CallStage =
    CallStage::Ended { reason: HangupReason::ByCaller, by: Some(Side::Caller), sip_status: 200 };

#[tokio::test]
async fn a_call_is_heard_from_its_start_to_its_end() {
    let gate = Gate::new("").await;
    gate.news.call(&call(7, CallStage::Created));
    let mut stream = Stream::open(&gate, listen(EVENTS)).await;
    assert_eq!(stream.headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    for stage in [CallStage::Created, CallStage::Ringing, CallStage::Answered, ENDED] {
        gate.news.call(&call(1, stage));
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let heard = stream.next().await;
        assert_eq!(heard.data["id"], heard.id);
        assert_eq!(heard.data["type"], heard.kind);
        assert_eq!(heard.data["timestamp"], "2026-11-24T10:00:00.000Z");
        assert_eq!(heard.data["data"]["call_id"], call_id(1).to_string(), "nothing from before");
        kinds.push(heard.kind);
    }
    assert_eq!(kinds, ["call_created", "call_ringing", "call_answered", "call_hangup"]);
}

#[tokio::test]
async fn a_reader_goes_on_behind_the_event_that_it_names() {
    let gate = Gate::new("").await;
    for number in 1..=3 {
        gate.news.call(&call(number, CallStage::Created));
    }
    let first = gate.news.id(1);
    let by_header = listen(EVENTS).header("last-event-id", &first);
    let by_query = listen(&format!("{EVENTS}?last_event_id={first}"));
    for ask in [by_header, by_query] {
        let mut stream = Stream::open(&gate, ask).await;
        assert_eq!(stream.next().await.id, gate.news.id(2));
        assert_eq!(stream.next().await.id, gate.news.id(3));
    }
    // Of an earlier start of the process: it is said that events are missing, then comes what is there.
    let mut stream = Stream::open(&gate, listen(EVENTS).header("last-event-id", "0-99")).await;
    let lagged = stream.next().await;
    assert_eq!((lagged.kind.as_str(), &lagged.data["type"]), ("lagged", &json!("lagged")));
    assert_eq!(stream.next().await.id, gate.news.id(1));
}

#[tokio::test]
async fn a_reader_can_pick_and_mistakes_are_refused() {
    let gate = Gate::new("").await;
    let picked = format!("{EVENTS}?types=call_hangup,trunks_reloaded");
    let mut stream = Stream::open(&gate, listen(&picked)).await;
    gate.news.call(&call(1, CallStage::Created));
    gate.news.published(WallMs(0), 5, 2, 3);
    gate.news.call(&call(1, ENDED));
    let published = stream.next().await;
    assert_eq!(published.kind, "trunks_reloaded");
    assert_eq!(published.data["data"], json!({ "generation": 5, "trunks": 2, "users": 3 }));
    assert_eq!(stream.next().await.kind, "call_hangup");
    for (query, code) in [("types=calls", "filter_invalid"), ("type=offline", "filter_unknown")] {
        let answer = gate.ask(listen(&format!("{EVENTS}?{query}"))).await;
        answer.assert_problem(StatusCode::BAD_REQUEST, code);
    }
}

#[tokio::test]
async fn a_slow_reader_is_cut_with_a_word_and_can_resume() {
    let gate = Gate::new("").await;
    let mut slow = Stream::open(&gate, listen(EVENTS)).await;
    const MORE_THAN_ARE_KEPT: u64 = 8_192 + 100;
    for number in 0..MORE_THAN_ARE_KEPT {
        gate.news.call(&call(number, CallStage::Created));
    }
    let lagged = slow.next().await;
    assert_eq!((lagged.kind.as_str(), lagged.id), ("lagged", gate.news.id(MORE_THAN_ARE_KEPT)));
    assert_eq!(slow.text().await, None, "that was the last word");
    let newest = gate.news.id(MORE_THAN_ARE_KEPT);
    let mut again = Stream::open(&gate, listen(EVENTS).header("last-event-id", &newest)).await;
    gate.news.call(&call(1, ENDED));
    assert_eq!(again.next().await.kind, "call_hangup", "nothing is missing from there on");
}

#[tokio::test]
async fn there_is_room_for_so_many_and_a_reader_that_goes_makes_room() {
    let gate = Gate::new("").await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Stream::open(&gate, listen(EVENTS)).await);
    }
    let refused = gate.ask(listen(EVENTS)).await;
    refused.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "too_busy");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    streams.pop();
    Stream::open(&gate, listen(EVENTS)).await;
    streams.clear();
    assert_eq!(gate.news.readers(), 0);
}

#[tokio::test]
async fn a_quiet_stream_is_kept_open_and_ends_with_the_token() {
    let gate = Gate::new("").await;
    let mut stream = Stream::open(&gate, listen(EVENTS)).await;
    // Tokens of the configuration need no database, which has no place in virtual time.
    pause();
    assert_eq!(stream.text().await.as_deref(), Some(": still here\n\n"));
    gate.access.set_configured(&[]);
    advance(Duration::from_secs(10)).await;
    // Whether the database knows the token takes real time; the stream may be kept open meanwhile.
    resume();
    let end = async { while stream.text().await.is_some() {} };
    timeout(Duration::from_secs(60), end).await.expect("the token is not known any more");
}

#[tokio::test]
async fn the_end_of_the_gateway_is_the_end_of_every_stream() {
    let gate = Gate::new("").await;
    let mut stream = Stream::open(&gate, listen(EVENTS)).await;
    gate.news.call(&call(1, CallStage::Created));
    gate.news.close();
    assert_eq!(stream.next().await.kind, "call_created", "what is there comes first");
    let ended = timeout(Duration::from_secs(10), stream.text()).await;
    assert_eq!(ended.expect("it ends at once"), None);
}
