//! Outbound calls against a real receiver: the guard at the address, the signature on the wire, caps
//! and time-outs.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap as AxumHeaders, Request, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use controlplane::webhooks::{
    AddressKind, Answer, Client, Ending, Failed, Guard, Lookup, Outgoing, Payload, Refused, Signer,
    SystemLookup, header_map,
};
use reqwest::Method;
use reqwest::header::HeaderMap;
use sha2::{Digest, Sha256};
use shared::config::{SigningKey, WebHeader};
use tokio::net::TcpListener;
use url::Url;

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"];

#[derive(Debug)]
struct Heard {
    line: String,
    headers: AxumHeaders,
    body: Bytes,
}

type Log = Arc<Mutex<Vec<Heard>>>;

/// What the path asks for is what it does.
async fn answer(State(log): State<Log>, request: Request<Body>) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let path = parts.uri.path().to_owned();
    log.lock().expect("no test panics with it").push(Heard { line, headers: parts.headers, body });
    match path.as_str() {
        "/busy" => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")], "later").into_response()
        }
        "/hang" => std::future::pending().await,
        "/long" => Body::from(vec![b'x'; 10 << 20]).into_response(),
        "/moved" => Redirect::temporary("/").into_response(),
        "/stuck" => {
            let first = futures_util::stream::once(async { Ok::<_, io::Error>("begun") });
            let then = futures_util::stream::pending();
            Body::from_stream(futures_util::StreamExt::chain(first, then)).into_response()
        }
        _ => "fine".into_response(),
    }
}

async fn receiver() -> (Log, u16) {
    let log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let app = Router::new().fallback(any(answer)).with_state(Arc::clone(&log));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (log, port)
}

/// Answers each look-up with the next line of its script, and the last one for ever.
#[derive(Debug)]
struct Script {
    lines: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn new(lines: &[&[&str]]) -> Arc<Self> {
        let line = |line: &&[&str]| {
            line.iter().map(|text| text.parse().expect("an address")).collect::<Vec<IpAddr>>()
        };
        Arc::new(Self {
            lines: Mutex::new(lines.iter().map(line).collect()),
            asked: Mutex::default(),
        })
    }
}

impl Lookup for Script {
    fn look_up(
        &self,
        host: String,
    ) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.asked.lock().expect("no test panics with it").push(host);
        let mut lines = self.lines.lock().expect("no test panics with it");
        let line = if lines.len() > 1 { lines.pop_front() } else { lines.front().cloned() };
        Box::pin(async move { Ok(line.unwrap_or_default()) })
    }
}

fn client(named: &[Url], lookup: Arc<dyn Lookup>) -> Client {
    let keys = SECRETS.map(|text| SigningKey::parse(text).expect("a key"));
    Client::new(Guard::new(named), Signer::new(&keys), lookup).expect("a client")
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

async fn ask(client: &Client, url: &Url) -> Result<Answer, Failed> {
    let call = Outgoing {
        method: Method::POST,
        url,
        headers: &HeaderMap::new(),
        id: "msg_1",
        payload: Payload::Json(b"{}".to_vec()),
        timeout: Duration::from_secs(20),
        answer_max: 1_024,
    };
    client.send(call).await
}

/// HMAC by its definition (RFC 2104), so that a fault of ours does not check itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn assert_signed(heard: &Heard, content: &[u8]) {
    let header = |name: &str| heard.headers[name].to_str().expect("text").to_owned();
    let at: i64 = header("webhook-timestamp").parse().expect("seconds");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    assert!(now.abs_diff(at.unsigned_abs()) < 300, "{at} is not about {now}");
    let mut message = format!("{}.{at}.", header("webhook-id")).into_bytes();
    message.extend_from_slice(content);
    let expected = SECRETS.map(|secret| {
        let padded =
            format!("{}{}", &secret["whsec_".len()..], if secret.len() > 40 { "=" } else { "" });
        let key = STANDARD.decode(padded).expect("base64");
        format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &message)))
    });
    assert_eq!(header("webhook-signature"), expected.join(" "));
}

#[tokio::test]
async fn calls_are_signed_with_every_key() {
    let (log, port) = receiver().await;
    let hook = url(&format!("http://127.0.0.1:{port}/hook"));
    let client = client(std::slice::from_ref(&hook), Arc::new(SystemLookup));
    let own = WebHeader { name: "X-API-Key".to_owned(), value: "k".to_owned() };
    let call = Outgoing {
        method: Method::POST,
        url: &hook,
        headers: &header_map(&[own]),
        id: "msg_77",
        payload: Payload::Json(br#"{"a":1}"#.to_vec()),
        timeout: Duration::from_secs(20),
        answer_max: 1_024,
    };
    let answer = client.send(call).await.expect("an answer");
    assert!(answer.is_success());
    assert_eq!(answer.whole(), Ok(&b"fine"[..]));

    let auth = url(&format!("http://127.0.0.1:{port}/auth?u=10%2001&r=pbx"));
    let call = Outgoing {
        method: Method::GET,
        url: &auth,
        headers: &HeaderMap::new(),
        id: "msg_78",
        payload: Payload::Nothing,
        timeout: Duration::from_secs(20),
        answer_max: 1_024,
    };
    assert!(client.send(call).await.expect("an answer").is_success());

    let log = log.lock().expect("no test panics with it");
    assert_eq!(log[0].line, "POST /hook");
    assert_eq!(log[0].headers["x-api-key"], "k");
    assert_eq!(log[0].headers["content-type"], "application/json");
    assert_eq!(log[0].headers["webhook-id"], "msg_77");
    assert_eq!(&log[0].body[..], br#"{"a":1}"#);
    assert_signed(&log[0], br#"{"a":1}"#);
    assert_eq!(log[1].line, "GET /auth?u=10%2001&r=pbx");
    assert_signed(&log[1], b"GET /auth?u=10%2001&r=pbx");
}

#[tokio::test]
async fn redirects_are_answers_and_long_ones_are_cut() {
    let (log, port) = receiver().await;
    let at = |path: &str| url(&format!("http://127.0.0.1:{port}{path}"));
    let client = client(&[at("/")], Arc::new(SystemLookup));
    let moved = ask(&client, &at("/moved")).await.expect("an answer");
    assert_eq!((moved.status, moved.is_success()), (307, false));
    assert_eq!(log.lock().expect("no test panics with it").len(), 1, "nobody followed it");
    let busy = ask(&client, &at("/busy")).await.expect("an answer");
    assert_eq!((busy.status, busy.retry_after), (503, Some(Duration::from_secs(7))));
    let long = ask(&client, &at("/long")).await.expect("an answer");
    assert_eq!((long.body.len(), &long.ending), (1_024, &Ending::Cut));
    assert_eq!(long.whole(), Err(Failed::TooLong));
}

#[tokio::test]
async fn an_answer_that_never_comes_or_never_ends_is_given_up() {
    let (_, port) = receiver().await;
    let at = |path: &str| url(&format!("http://127.0.0.1:{port}{path}"));
    let client = client(&[at("/")], Arc::new(SystemLookup));
    let within = |url: Url| {
        let client = &client;
        async move {
            let call = Outgoing {
                method: Method::POST,
                url: &url,
                headers: &HeaderMap::new(),
                id: "msg_1",
                payload: Payload::Nothing,
                timeout: Duration::from_millis(300),
                answer_max: 1_024,
            };
            client.send(call).await
        }
    };
    assert_eq!(within(at("/hang")).await.expect_err("no answer"), Failed::TimedOut);
    // The status came: what it says holds, although the body never ends.
    let stuck = within(at("/stuck")).await.expect("a status");
    assert_eq!((stuck.status, &stuck.ending), (200, &Ending::TimedOut));
    assert_eq!(stuck.whole(), Err(Failed::TimedOut));
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection() {
    let spare = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = url(&format!("http://{}/?token=secret", spare.local_addr().expect("it has one")));
    drop(spare);
    let client = client(std::slice::from_ref(&gone), Arc::new(SystemLookup));
    let failed = ask(&client, &gone).await.expect_err("nobody is there");
    assert!(matches!(failed, Failed::Connect(_)), "{failed:?}");
    assert!(!failed.to_string().contains("secret"), "{failed}");
}

/// The rebinding trick: the name is good when it is first asked and points inside when it counts.
#[tokio::test]
async fn a_name_that_turns_inward_reaches_nobody() {
    let (log, port) = receiver().await;
    let target = url(&format!("http://rebind.example:{port}/"));
    for lines in [
        &[&["127.0.0.1"][..]][..],
        &[&["8.8.8.8", "127.0.0.1"]],
        &[&["::ffff:127.0.0.1"]],
        &[&["::1"]],
    ] {
        let script = Script::new(lines);
        let client = client(&[], Arc::clone(&script) as Arc<dyn Lookup>);
        let failed = ask(&client, &target).await.expect_err("it points inside");
        assert!(matches!(failed, Failed::Refused(Refused::Address { .. })), "{failed:?}");
        assert_eq!(script.asked.lock().expect("no test panics with it").len(), 1, "asked once");
    }
    // Each attempt resolves and checks again: a later inward answer does not slip through.
    let script = Script::new(&[&["10.1.1.1"], &["192.168.3.4"]]);
    let client = client(&[], script);
    for (address, kind) in
        [("10.1.1.1", AddressKind::Private), ("192.168.3.4", AddressKind::Private)]
    {
        let address = address.parse().expect("an address");
        let failed = ask(&client, &target).await.expect_err("it points inside");
        assert_eq!(failed, Failed::Refused(Refused::Address { address, kind }));
    }
    assert!(log.lock().expect("no test panics with it").is_empty());
}

#[tokio::test]
async fn a_named_target_is_reached_wherever_it_lies_and_only_while_it_is_named() {
    let (log, port) = receiver().await;
    let target = url(&format!("http://hooks.internal:{port}/"));
    let script = Script::new(&[&["127.0.0.1"]]);
    let client = client(std::slice::from_ref(&target), Arc::clone(&script) as Arc<dyn Lookup>);
    let answer = ask(&client, &target).await.expect("an answer");
    assert!(answer.is_success());
    let by_address = url(&format!("http://127.0.0.1:{port}/"));
    let failed = ask(&client, &by_address).await.expect_err("this one is not named");
    assert!(matches!(failed, Failed::Refused(_)), "{failed:?}");
    client.adopt_rules(Guard::default(), Signer::default());
    // The open connection of the time before must not help.
    let failed = ask(&client, &target).await.expect_err("no longer named");
    assert!(matches!(failed, Failed::Refused(_)), "{failed:?}");
    assert_eq!(log.lock().expect("no test panics with it").len(), 1);
}

#[tokio::test]
async fn a_name_without_an_address_says_so() {
    let client = client(&[], Script::new(&[&[]]));
    let failed = ask(&client, &url("http://nowhere.example/")).await.expect_err("no address");
    assert_eq!(failed, Failed::Unresolved("it has no address".to_owned()));
}
