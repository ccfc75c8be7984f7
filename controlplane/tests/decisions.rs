//! Programs that decide, with real calls: the gateway as a process, SIPp and soft phones on the wire, a
//! program over HTTP that answers, refuses, talks nonsense or hangs.

mod stand_ins;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use loadtest::gateway::Plan;
use loadtest::phone::{Call, Phone, PhoneError};
use loadtest::scene::{SOON, Scene};
use loadtest::sipp::{Run, Transcript};
use serde_json::{Value, json};
use stand_ins::deciding::{Behaviour, Heard, Program};

const BUDGET_MS: u64 = 1_500;
/// For a call that a phone of ours places or waits for.
const LIMIT: Duration = Duration::from_secs(15);

fn with_router(url: &str, fallback: bool) -> Plan {
    let lines = format!(
        "\n[proxy.http_router]\nurl = \"{url}\"\ntimeout_ms = {BUDGET_MS}\n\
         fallback_to_static = {fallback}\n"
    );
    Plan { proxy_lines: vec![lines], ..Plan::default() }
}

fn scene(program: &Program, fallback: bool) -> Scene {
    Scene::start(with_router(&program.url("/pbx/route"), fallback)).expect("a gateway")
}

fn target(at: SocketAddr, user: &str) -> String {
    format!("sip:{user}@{at}")
}

/// 1001 calls 200, a number that only the router knows, and talks for a second.
fn answered_call(scene: &Scene) -> Transcript {
    let caller = scene.caller(Run::new("uac_call").argument("-d", 1_000), "1001", "200");
    let at = scene.spare().expect("a port");
    caller.complete(at, scene.gateway.sip, SOON).expect("the call is answered")
}

fn refused_call(scene: &Scene, callee: &str, status: u16) -> Transcript {
    let run = scene.caller(Run::new("uac_refused").with("STATUS", status), "1001", callee);
    let at = scene.spare().expect("a port");
    run.complete(at, scene.gateway.sip, SOON).expect("the call is refused")
}

async fn phone(scene: &Scene, user: &str) -> Phone {
    let mut phone =
        Phone::bind(scene.gateway.sip, user, scene.gateway.password(user)).expect("a port");
    phone.register(300).await.expect("it registers");
    phone
}

fn drained(scene: &Scene) {
    scene.gateway.await_drained(LIMIT).expect("nothing is left");
}

#[test]
fn targets_are_tried_one_after_the_other_with_the_header_that_the_router_adds() {
    let program = Program::that(Behaviour::Answer(503, String::new()));
    let scene = scene(&program, true);
    let [busy_at, free_at] = [scene.spare().expect("a port"), scene.spare().expect("a port")];
    program.now(move |_| {
        Behaviour::json(&json!({
            "action": "forward",
            "targets": [target(busy_at, "busy"), target(free_at, "free")],
            "timeout": 30,
            "media_proxy": "auto",
            "headers": { "X-Call-Reason": "support-ticket-123" },
        }))
    });
    let busy = Run::new("uas_refuses").with("STATUS", 486).with("REASON", "Busy Here").calls(1);
    let busy = busy.start(busy_at, scene.gateway.sip).expect("a peer");
    let free = Run::new("uas_answer").with("RING_MS", 200).calls(1);
    let free = free.start(free_at, scene.gateway.sip).expect("a peer");
    let caller = answered_call(&scene);
    let (busy, free) =
        (busy.succeed(SOON).expect("it refused"), free.succeed(SOON).expect("it answered"));
    for peer in [&busy, &free] {
        assert_eq!(peer.received("INVITE"), 1);
        assert_eq!(peer.values("X-Call-Reason")[0], "support-ticket-123");
    }

    let [heard] = &program.heard()[..] else { panic!("asked once: {:?}", program.heard()) };
    let told = heard.json();
    assert_eq!(told["call_id"].as_str(), caller.call_id().as_deref());
    assert_eq!((&told["caller"], &told["callee"]), (&json!("1001"), &json!("200")));
    assert_eq!((&told["method"], &told["direction"]), (&json!("INVITE"), &json!("internal")));
    assert!(told["source_addr"].as_str().expect("text").starts_with("127.0.0.1:"), "{told}");
    assert!(told["body"].as_str().expect("text").starts_with("v=0\r\n"), "{told}");
    assert_eq!(told["headers"]["Proxy-Authorization"], Value::Null);

    let record = scene.record(&caller).expect("a CDR");
    let exchange = &record["httpRouter"];
    assert_eq!((&exchange["outcome"], &exchange["status"]), (&json!("forward"), &json!(200)));
    assert_eq!(exchange["request"], told);
    assert_eq!(exchange["answer"]["timeout"], 30);
    drained(&scene);
}

#[test]
fn the_first_of_two_that_ring_at_once_takes_the_call() {
    let program = Program::that(Behaviour::Hang);
    let scene = scene(&program, true);
    let [slow_at, quick_at] = [scene.spare().expect("a port"), scene.spare().expect("a port")];
    program.now(move |_| {
        let targets = [target(slow_at, "slow"), target(quick_at, "quick")];
        Behaviour::json(&json!({ "targets": targets, "strategy": "parallel" }))
    });
    let slow = Run::new("uas_rings_only").calls(1).start(slow_at, scene.gateway.sip);
    let quick = Run::new("uas_answer").with("RING_MS", 700).calls(1);
    let quick = quick.start(quick_at, scene.gateway.sip).expect("a peer");
    answered_call(&scene);
    let slow = slow.expect("a peer").succeed(SOON).expect("it is cancelled");
    assert_eq!((slow.received("INVITE"), slow.received("CANCEL")), (1, 1));
    quick.succeed(SOON).expect("it answered");
    drained(&scene);
}

#[test]
fn a_target_that_does_not_answer_rings_for_the_routers_time_out() {
    let program = Program::that(Behaviour::Hang);
    let scene = scene(&program, true);
    let [silent_at, next_at] = [scene.spare().expect("a port"), scene.spare().expect("a port")];
    program.now(move |_| {
        let targets = [target(silent_at, "silent"), target(next_at, "next")];
        Behaviour::json(&json!({ "targets": targets, "timeout": 2 }))
    });
    let silent = Run::new("uas_rings_only").calls(1).start(silent_at, scene.gateway.sip);
    let next = Run::new("uas_answer").with("RING_MS", 100).calls(1);
    let next = next.start(next_at, scene.gateway.sip).expect("a peer");
    let begun = Instant::now();
    answered_call(&scene);
    assert!(begun.elapsed() >= Duration::from_secs(3), "two seconds of ringing, one of talk");
    assert_eq!(silent.expect("a peer").succeed(SOON).expect("it ends").received("CANCEL"), 1);
    next.succeed(SOON).expect("it answered");
    drained(&scene);
}

#[test]
fn a_rejection_is_heard_as_the_router_worded_it() {
    let answer = json!({ "action": "reject", "status": 486, "reason": "Gone Fishing" });
    let program = Program::that(Behaviour::json(&answer));
    let scene = scene(&program, true);
    let caller = refused_call(&scene, "200", 486);
    assert_eq!(caller.received("SIP/2.0 486 Gone Fishing"), 1, "{}", caller.text);
    let record = scene.record(&caller).expect("a CDR");
    assert_eq!((&record["statusCode"], &record["hangupReason"]), (&json!(486), &json!("rejected")));
    assert_eq!(record["httpRouter"]["outcome"], "reject");

    program.now(|_| Behaviour::json(&json!({ "action": "spam" })));
    let caller = refused_call(&scene, "200", 403);
    assert_eq!(scene.record(&caller).expect("a CDR")["httpRouter"]["outcome"], "spam");
    scene.gateway.await_metric("spam_refused_total", |count| count == 1.0).expect("it is counted");
    drained(&scene);
}

#[test]
fn not_handled_leaves_the_call_to_us() {
    let program = Program::that(Behaviour::json(&json!({ "action": "not_handled" })));
    let scene = scene(&program, false);
    let callee = Run::new("uas_answer").with("RING_MS", 100);
    let callee = scene.callee("1002", callee).expect("a callee");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 500), "1001", "1002");
    let (caller, _) = scene.call(caller, callee, SOON).expect("the call");
    assert_eq!(scene.record(&caller).expect("a CDR")["httpRouter"]["outcome"], "not_handled");
    drained(&scene);
}

/// How long it takes from the INVITE to its answer.
async fn set_up(caller: &mut Phone, callee: &mut Phone) -> Duration {
    let begun = Instant::now();
    let (placed, answered) = tokio::join!(
        async {
            let call = caller.call("1002", 440.0).await.expect("the fallback finds 1002");
            (call, begun.elapsed())
        },
        callee.answer_next(1_000.0),
    );
    let (call, took) = placed;
    call.hang_up().await.expect("it ends");
    answered.expect("it was answered").ended(LIMIT).await.expect("it ends");
    took
}

/// Of ten calls, one after the other.
async fn set_ups(scene: &Scene) -> Vec<Duration> {
    let (mut caller, mut callee) = (phone(scene, "1001").await, phone(scene, "1002").await);
    let mut took = Vec::new();
    for _ in 0..10 {
        took.push(set_up(&mut caller, &mut callee).await);
    }
    took
}

async fn refused(caller: &mut Phone, callee: &str) -> (u16, Duration) {
    let begun = Instant::now();
    match caller.call(callee, 440.0).await {
        Err(PhoneError::Refused { status, .. }) => (status, begun.elapsed()),
        other => panic!("{other:?}"),
    }
}

fn troubles() -> Vec<(&'static str, String)> {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let refusing = format!("http://{}/", gone.local_addr().expect("it has one"));
    let with = |behaviour| Program::that(behaviour).url("/");
    vec![
        ("hangs", with(Behaviour::Hang)),
        ("refuses", refusing),
        ("answers 500", with(Behaviour::Answer(500, String::new()))),
        ("talks nonsense", with(Behaviour::Answer(200, "<html>".to_owned()))),
        ("sends 10 MB", with(Behaviour::Long)),
    ]
}

/// Must show 2 of issue 3: the first five calls lose the budget at most, the others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_in_trouble_leaves_calls_to_the_static_routes() {
    let budget = Duration::from_millis(BUDGET_MS);
    let took = set_ups(&Scene::start(Plan::default()).expect("a gateway")).await;
    println!("no router at all: set-up in {took:?}");
    for (trouble, url) in troubles() {
        let scene = Scene::start(with_router(&url, true)).expect("a gateway");
        let took = set_ups(&scene).await;
        println!("a router that {trouble}: set-up in {took:?}");
        let slowest = |times: &[Duration]| times.iter().copied().max().expect("some");
        assert!(slowest(&took[..5]) < budget + Duration::from_millis(500), "{trouble}: {took:?}");
        // Far below the budget on any machine: none of them waited for the router.
        assert!(slowest(&took[5..]) < budget / 2, "{trouble}: {took:?}");
        drained(&scene);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_in_trouble_refuses_calls_where_nothing_else_may_decide() {
    for (trouble, url) in troubles() {
        let scene = Scene::start(with_router(&url, false)).expect("a gateway");
        let mut caller = phone(&scene, "1001").await;
        let _callee = phone(&scene, "1002").await;
        for number in 0..6 {
            let (status, took) = refused(&mut caller, "1002").await;
            assert_eq!(status, 503, "{trouble}, call {number}");
            assert!(took < Duration::from_millis(BUDGET_MS + 500), "{trouble}: {took:?}");
        }
        drained(&scene);
    }
}

fn callee_of(heard: &Heard) -> String {
    heard.json()["callee"].as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_router_leaves_other_calls_alone() {
    let program = Program::start(|heard| match callee_of(heard).as_str() {
        "200" => Behaviour::Hang,
        _ => Behaviour::json(&json!({ "action": "not_handled" })),
    });
    let lines = format!(
        "\n[proxy.http_router]\nurl = \"{}\"\ntimeout_ms = 10000\nfallback_to_static = true\n",
        program.url("/")
    );
    let scene = Scene::start(Plan { proxy_lines: vec![lines], ..Plan::default() });
    let scene = scene.expect("a gateway");
    let (mut caller, mut callee) = (phone(&scene, "1001").await, phone(&scene, "1002").await);
    let (standing, other) = tokio::join!(caller.call("1002", 440.0), callee.answer_next(1_000.0));
    let (standing, other) = (standing.expect("a call"), other.expect("a call"));

    // Four calls hang; fewer than open the breaker.
    let sip = scene.gateway.sip;
    let password = scene.gateway.password("1003").to_owned();
    let hanging: Vec<_> = (0..4)
        .map(|_| {
            let mut phone = Phone::bind(sip, "1003", &password).expect("a port");
            tokio::spawn(async move { phone.call("200", 440.0).await.map(drop) })
        })
        .collect();
    let all = loadtest::wait::until("four that hang", LIMIT, || {
        (program.heard().iter().filter(|heard| callee_of(heard) == "200").count() == 4)
            .then_some(())
    });
    all.expect("they are asked about");
    let mut took = Vec::new();
    for _ in 0..3 {
        let mut second = phone(&scene, "1001").await;
        let mut answering = phone(&scene, "1003").await;
        let begun = Instant::now();
        let (placed, answered) = tokio::join!(
            async {
                let call = second.call("1003", 440.0).await.expect("a call");
                (call, begun.elapsed())
            },
            answering.answer_next(1_000.0)
        );
        took.push(placed.1);
        placed.0.hang_up().await.expect("it ends");
        answered.expect("a call").ended(LIMIT).await.expect("it ends");
        answering.register(0).await.expect("it leaves");
    }
    println!("beside four hanging calls: set-up in {took:?}");
    assert!(took.iter().all(|took| *took < Duration::from_secs(2)), "{took:?}");
    assert!(hanging.iter().all(|task| !task.is_finished()), "they still wait");
    let report = standing.hang_up().await.expect("it ends");
    other.ended(LIMIT).await.expect("it ends");
    assert!(report.heard.longest_gap_ms < 2_000, "media went on: {:?}", report.heard);
    for task in hanging {
        let ended = task.await.expect("no panic");
        // The static routes do not know 200.
        assert!(matches!(ended, Err(PhoneError::Refused { status: 404, .. })), "{ended:?}");
    }
    drained(&scene);
}

/// Scenario B of the guide: the router sends the caller to a program that speaks SIP and RTP.
#[tokio::test(flavor = "multi_thread")]
async fn an_assistant_behind_the_router_is_heard() {
    let program = Program::that(Behaviour::Hang);
    let scene = scene(&program, true);
    let mut bot = Phone::bind(scene.gateway.sip, "ai-bot-service", "").expect("a port");
    let at = format!("sip:ai-bot-service@localhost:{}", bot.local_addr().port());
    program.now(move |_| Behaviour::json(&json!({ "action": "forward", "targets": [at] })));
    let mut caller = phone(&scene, "1001").await;
    let (placed, answered) =
        tokio::join!(caller.call("+49301234567", 440.0), bot.answer_next(1_000.0));
    let (placed, answered) = (placed.expect("the bot answers"), answered.expect("a call"));
    hear(&placed, 1_000.0).await;
    hear(&answered, 440.0).await;
    placed.hang_up().await.expect("it ends");
    answered.ended(LIMIT).await.expect("it ends");
    drained(&scene);
}

/// Waits until the other side's tone is what is heard.
async fn hear(call: &Call, hz: f32) {
    let until = Instant::now() + LIMIT;
    while call.tone_share(hz) < 0.8 {
        assert!(Instant::now() < until, "{hz} Hz is not heard: {:?}", call.heard());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn with_backend(program: &Program, more: &str) -> Plan {
    let lines = format!(
        "\n[[proxy.user_backends]]\ntype = \"http\"\nurl = \"{}\"\nusername_field = \"u\"\n\
         realm_field = \"r\"\nhttp_timeout_ms = 500\nhttp_retry_count = 0\ncache_ttl_secs = 0\n\
         negative_cache_ttl_secs = 0\n{more}",
        program.url("/pbx/auth")
    );
    Plan { proxy_lines: vec![lines], ..Plan::default() }
}

async fn registering(scene: &Scene, user: &str, password: &str) -> Result<Phone, u16> {
    let mut phone = Phone::bind(scene.gateway.sip, user, password).expect("a port");
    match phone.register(300).await {
        Ok(_) => Ok(phone),
        Err(PhoneError::Refused { status, .. }) => Err(status),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_only_a_program_knows_registers_and_is_called() {
    let program = Program::start(|heard| match heard.query("u").as_deref() {
        Some("3001") => Behaviour::json(&json!({ "username": "3001", "password": "only here" })),
        Some("locked") => Behaviour::Answer(
            403,
            json!({ "reason": "invalid_password", "message": "Account locked" }).to_string(),
        ),
        Some("down") => Behaviour::Answer(500, String::new()),
        Some("slow") => Behaviour::Hang,
        _ => Behaviour::Answer(404, json!({ "reason": "not_found" }).to_string()),
    });
    let scene = Scene::start(with_backend(&program, "")).expect("a gateway");
    let mut remote = registering(&scene, "3001", "only here").await.expect("it is known");
    let heard = &program.heard()[0];
    assert_eq!(heard.target, "/pbx/auth?u=3001&r=ringgate.test");
    for (user, password, status) in [
        ("3001", "wrong", 403),
        ("nobody", "x", 403),
        ("locked", "x", 403),
        ("down", "x", 503),
        ("slow", "x", 503),
    ] {
        assert_eq!(registering(&scene, user, password).await.err(), Some(status), "{user}");
    }
    // Whom the file knows stands behind the program in the chain: it is asked, and knows nothing.
    let mut local = registering(&scene, "1001", scene.gateway.password("1001")).await;
    let local = local.as_mut().expect("it is known");
    let (placed, answered) = tokio::join!(local.call("3001", 440.0), remote.answer_next(1_000.0));
    placed.expect("3001 answers").hang_up().await.expect("it ends");
    answered.expect("a call").ended(LIMIT).await.expect("it ends");
    let (placed, answered) = tokio::join!(remote.call("1001", 440.0), local.answer_next(1_000.0));
    placed.expect("1001 answers").hang_up().await.expect("it ends");
    answered.expect("a call").ended(LIMIT).await.expect("it ends");
    drained(&scene);
}

/// Scenario C of the guide, the half before the call record: who has no balance does not call, and who has
/// little does not call for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_billing_service_decides_who_may_call_and_for_how_long() {
    let balance = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(2));
    let program = Program::start({
        let balance = std::sync::Arc::clone(&balance);
        move |heard| {
            let left = balance.load(std::sync::atomic::Ordering::Relaxed);
            if heard.method == "POST" {
                let targets = [heard.json()["uri"].clone()];
                return Behaviour::json(&json!({ "targets": targets, "max_duration": left }));
            }
            match heard.query("u").as_deref() {
                Some("3001") if left > 0 => Behaviour::json(
                    &json!({ "id": 3001, "username": "3001", "password": "p", "balance": left }),
                ),
                Some("3001") => {
                    Behaviour::Answer(402, json!({ "reason": "payment_required" }).to_string())
                }
                _ => Behaviour::Answer(404, String::new()),
            }
        }
    });
    let router = format!("[proxy.http_router]\nurl = \"{}\"\n", program.url("/pbx/route"));
    let scene = Scene::start(with_backend(&program, &router)).expect("a gateway");
    let mut callee = phone(&scene, "1002").await;
    let mut payer = registering(&scene, "3001", "p").await.expect("it has two seconds left");
    let (placed, answered) = tokio::join!(payer.call("1002", 440.0), callee.answer_next(1_000.0));
    let placed = placed.expect("a call");
    let call_id = placed.call_id().to_owned();
    placed.ended(LIMIT).await.expect("its time is over");
    answered.expect("a call").ended(LIMIT).await.expect("its time is over");
    let record = scene.gateway.await_record(&call_id).expect("a CDR");
    assert_eq!(record["hangupReason"], "autohangup", "{record}");

    balance.store(0, std::sync::atomic::Ordering::Relaxed);
    let (status, _) = refused(&mut payer, "1002").await;
    assert_eq!(status, 402);
    assert_eq!(registering(&scene, "3001", "p").await.err(), Some(402));
    drained(&scene);
}

/// SIGHUP: the router is asked from the next call on, although the process was started without one.
#[test]
fn a_reload_brings_the_router_live() {
    let answer = json!({ "action": "reject", "status": 480, "reason": "By The Router" });
    let program = Program::that(Behaviour::json(&answer));
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let caller = refused_call(&scene, "200", 404);
    assert_eq!(scene.record(&caller).expect("a CDR")["httpRouter"], Value::Null);
    let file = scene.gateway.folder().join("ringgate.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let router = format!("\n[proxy.http_router]\nurl = \"{}\"\n", program.url("/"));
    std::fs::write(&file, text + &router).expect("it is writable");
    let pid = i32::try_from(scene.gateway.pid()).expect("a small number");
    let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    scene.gateway.await_metric("snapshot_generation", |now| now == 2.0).expect("it is live");
    let caller = refused_call(&scene, "200", 480);
    assert_eq!(caller.received("SIP/2.0 480 By The Router"), 1, "{}", caller.text);
    drained(&scene);
}
