//! The HTTP router against a real receiver: what it is told, what its answers do, how it fails.

mod stand_ins;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use controlplane::board::{Board, Counts};
use controlplane::store::Exchange;
use controlplane::webhooks::Decider;
use serde_json::json;
use shared::ask::{Ask, Decision, RouteAsk, RouteDecision, Strategy};
use shared::cdr::Direction;
use shared::ids::ShardId;
use stand_ins::deciding::{Behaviour, Program, decided, decider};
use stand_ins::{FakePlane, call_id};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Of each exchange in these tests.
const BUDGET: Duration = Duration::from_millis(400);

struct Bench {
    plane: Arc<FakePlane>,
    board: Arc<Board>,
    decider: Arc<Decider>,
    exchanges: mpsc::Receiver<Exchange>,
    asked: u64,
}

impl Bench {
    fn new(url: &str, more: &str) -> Self {
        let plane = FakePlane::new(2);
        let board = Arc::new(Board::new(&[0, 1]));
        let text = format!(
            "[webhooks]\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             [proxy.http_router]\nurl = \"{url}\"\ntimeout_ms = {}\n{more}",
            BUDGET.as_millis()
        );
        let (decider, exchanges) = decider(&plane, &board, &text);
        Self { plane, board, decider, exchanges, asked: 0 }
    }

    fn ask(&mut self) {
        self.asked += 1;
        let ask = RouteAsk {
            call: call_id(self.asked),
            call_id: format!("call-{}", self.asked),
            from: "<sip:1001@pbx.com>".to_owned(),
            to: "<sip:200@pbx.com>".to_owned(),
            caller: "1001".to_owned(),
            callee: "200".to_owned(),
            uri: "sip:200@pbx.com".to_owned(),
            source: "1.2.3.4:5060".parse().expect("an address"),
            direction: Direction::Internal,
            headers: vec![("User-Agent".to_owned(), "Yealink T54W".to_owned())],
            body: "v=0\r\n".to_owned(),
        };
        self.decider.decide(ShardId(1), self.asked, Ask::Route(ask));
    }

    /// Asks, and gives the decision, its exchange and how long both took.
    async fn decision(&mut self) -> (RouteDecision, Exchange, Duration) {
        let begun = Instant::now();
        self.ask();
        let (shard, id, decision) = decided(&self.plane).await;
        let took = begun.elapsed();
        assert_eq!((shard, id), (ShardId(1), self.asked));
        let Decision::Route(decision) = decision else { panic!("{decision:?}") };
        let exchange = timeout(Duration::from_secs(5), self.exchanges.recv()).await;
        let exchange = exchange.expect("it is kept").expect("the queue is open");
        assert_eq!(exchange.call, call_id(self.asked));
        (decision, exchange, took)
    }
}

#[tokio::test]
async fn the_router_hears_the_contract_and_is_followed() {
    let answer = json!({
        "action": "forward",
        "targets": ["sip:1001@127.0.0.1:5070", "sip:bot@localhost"],
        "strategy": "parallel",
        "timeout": 30,
        "headers": { "X-Call-Reason": "support-ticket-123", "Via": "no" },
    });
    let program = Program::that(Behaviour::json(&answer));
    let headers = "headers = { X-API-Key = \"secret-token\" }\n";
    let mut bench = Bench::new(&program.url("/pbx/route"), headers);
    let (decision, exchange, _) = bench.decision().await;

    let heard = program.heard().remove(0);
    assert_eq!((heard.method.as_str(), heard.target.as_str()), ("POST", "/pbx/route"));
    assert_eq!(heard.headers["x-api-key"], "secret-token");
    assert_eq!(heard.headers["content-type"], "application/json");
    assert_eq!(heard.headers["webhook-id"], format!("route_{}", call_id(1)));
    assert!(heard.headers["webhook-signature"].to_str().expect("text").starts_with("v1,"));
    assert!(!heard.headers.contains_key("ringgate-probe"));
    let told = heard.json();
    assert_eq!((&told["caller"], &told["body"]), (&json!("1001"), &json!("v=0\r\n")));
    assert_eq!(told["headers"], json!({ "User-Agent": "Yealink T54W" }));

    let RouteDecision::Forward(forward) = decision else { panic!("{decision:?}") };
    assert_eq!(forward.strategy, Strategy::Parallel);
    assert_eq!(forward.ring_timeout, Some(Duration::from_secs(30)));
    let peers: Vec<_> =
        forward.targets.iter().map(|target| target.at.expect("an address").peer).collect();
    assert_eq!(peers[0].to_string(), "127.0.0.1:5070");
    assert!(peers[1].ip().is_loopback() && peers[1].port() == 5060, "{peers:?}");
    assert_eq!(forward.orders.headers.len(), 1);

    assert_eq!((exchange.outcome, exchange.status), ("forward", Some(200)));
    assert_eq!(exchange.request.as_bytes(), &heard.body[..]);
    assert_eq!(exchange.answer, Some(answer.to_string()));
    assert_eq!(exchange.notes.len(), 1, "{:?}", exchange.notes);
}

#[tokio::test]
async fn every_way_to_fail_leaves_the_call_to_the_fallback_within_the_budget() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let refusing = format!("http://{}/", gone.local_addr().expect("it has one"));
    drop(gone);
    let answer = |status, text: &str| Some(Behaviour::Answer(status, text.to_owned()));
    for (outcome, behaviour) in [
        ("timed_out", Some(Behaviour::Hang)),
        ("too_long", Some(Behaviour::Long)),
        ("status", answer(500, "{}")),
        ("status", answer(302, "{\"action\":\"reject\"}")),
        ("status", answer(404, "{\"action\":\"reject\"}")),
        ("unparsable", answer(200, "<html>welcome</html>")),
        ("unparsable", answer(200, "{\"action\":\"forward\",\"targets\":[]}")),
        ("connect", None),
    ] {
        let url = match behaviour.clone() {
            Some(behaviour) => Program::that(behaviour).url("/"),
            None => refusing.clone(),
        };
        let mut bench = Bench::new(&url, "");
        let (decision, exchange, took) = bench.decision().await;
        assert!(matches!(decision, RouteDecision::Unavailable), "{behaviour:?}: {decision:?}");
        assert_eq!(exchange.outcome, outcome, "{behaviour:?}");
        assert!(took < BUDGET + Duration::from_millis(400), "{behaviour:?} took {took:?}");
        assert!(exchange.answer.is_none_or(|answer| answer.len() <= 16 << 10));
        assert_eq!(Counts::of(&bench.board.counts.route_failures), 1);
    }
}

/// Five calls wait for the budget, the sixth for nothing; a probe finds out when the router is back.
#[tokio::test]
async fn a_dead_router_costs_five_calls_their_time_and_is_noticed_when_it_is_back() {
    let program = Program::that(Behaviour::Hang);
    let mut bench = Bench::new(&program.url("/"), "");
    for number in 1..=5 {
        let (_, exchange, took) = bench.decision().await;
        assert_eq!((exchange.outcome, took >= BUDGET), ("timed_out", true), "call {number}");
    }
    assert_eq!(Counts::of(&bench.board.counts.router_open), 1);
    let (decision, exchange, took) = bench.decision().await;
    assert!(matches!(decision, RouteDecision::Unavailable));
    assert_eq!((exchange.outcome, program.heard().len()), ("breaker_open", 5));
    assert!(took < BUDGET, "{took:?}");

    program.now(|_| Behaviour::json(&json!({ "action": "not_handled" })));
    let back = async {
        loop {
            let (decision, ..) = bench.decision().await;
            if matches!(decision, RouteDecision::NotHandled) {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), back).await.expect("it is asked again");
    assert_eq!(Counts::of(&bench.board.counts.router_open), 0);
    let probes = program.heard();
    let probes = probes.iter().filter(|heard| heard.headers.contains_key("ringgate-probe"));
    assert_eq!(probes.count(), 1);
}

/// 404 for a number that it does not know: it is not the router that is in trouble.
#[tokio::test]
async fn an_answer_that_refuses_one_call_opens_no_breaker() {
    let program = Program::that(Behaviour::Answer(404, String::new()));
    let mut bench = Bench::new(&program.url("/"), "");
    for _ in 0..8 {
        bench.decision().await;
    }
    assert_eq!((program.heard().len(), Counts::of(&bench.board.counts.router_open)), (8, 0));
}

#[tokio::test]
async fn a_hanging_exchange_holds_up_no_other() {
    let program = Program::start(|heard| match heard.json()["call_id"].as_str() {
        Some("call-1" | "call-2" | "call-3") => Behaviour::Hang,
        _ => Behaviour::json(&json!({ "action": "reject", "status": 486 })),
    });
    let mut bench = Bench::new(&program.url("/"), "");
    (0..4).for_each(|_| bench.ask());
    let (_, id, decision) = decided(&bench.plane).await;
    assert_eq!(id, 4, "the one that was asked last comes first");
    let Decision::Route(RouteDecision::Reject(reject)) = decision else { panic!("{decision:?}") };
    assert_eq!(reject.status, 486);
    for _ in 0..3 {
        let (.., decision) = decided(&bench.plane).await;
        assert!(matches!(decision, Decision::Route(RouteDecision::Unavailable)));
    }
}

/// A shard whose queue is full gets its decision when there is room.
#[tokio::test]
async fn a_full_queue_is_offered_again() {
    let program = Program::that(Behaviour::json(&json!({ "action": "not_handled" })));
    let mut bench = Bench::new(&program.url("/"), "");
    bench.plane.full.store(true, Ordering::Relaxed);
    bench.ask();
    let exchange = timeout(Duration::from_secs(5), bench.exchanges.recv()).await;
    assert!(exchange.expect("it was asked").is_some());
    bench.plane.full.store(false, Ordering::Relaxed);
    let (.., decision) = decided(&bench.plane).await;
    assert!(matches!(decision, Decision::Route(RouteDecision::NotHandled)));
}
