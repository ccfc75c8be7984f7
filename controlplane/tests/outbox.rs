//! Events from the database to real receivers: their form on the wire, faults, restarts.

mod stand_ins;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::HeaderMap;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use controlplane::board::Board;
use controlplane::store::{
    Connections, Db, DeliverySearch, DeliveryState, OutboxList, Recording, RecordingState,
    Recordings, Records, Store,
};
use controlplane::webhooks::Client;
use controlplane::webhooks::outbox::{
    CALL_RECORD, Deliveries, Endpoints, HttpTransport, LOCATOR, RegistrationWriter, Running,
    Transport, recover,
};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use loadtest::receiver::{Delivery, Fault, Receiver, Spell};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::cdr::Cdr;
use shared::config::{Config, Database};
use shared::event::{Registration, RegistrationChange};
use shared::net::Transport as SipTransport;
use shared::time::WallMs;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use stand_ins::{Folder, call_id, cdr, config};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATIENCE: Duration = Duration::from_secs(60);

fn signed(text: &str) -> Config {
    config(&format!("[webhooks]\nsecret = \"{SECRET}\"\n{text}"))
}

fn locator_at(address: SocketAddr) -> String {
    format!("[proxy.locator_webhook]\nurl = \"http://{address}/events?k=1\"\n")
}

fn call_record_at(address: SocketAddr, with_media: bool) -> String {
    format!(
        "[callrecord]\ntype = \"http\"\nurl = \"http://{address}/cdr\"\nwith_media = {with_media}\n\
         headers = {{ X-Key = \"k\" }}\ntimeout_ms = 5000\n"
    )
}

/// What the gateway runs of it.
struct Post {
    store: Arc<Db>,
    deliveries: Arc<Deliveries>,
    running: Running,
}

impl Post {
    async fn start(store: Arc<Db>, config: &Config) -> Self {
        let shared: Arc<dyn Store> = store.clone();
        let deliveries = Deliveries::open(shared, Endpoints::of_config(config)).await;
        let deliveries = deliveries.expect("the database answers");
        let client = Arc::new(Client::of_config(config).expect("a client"));
        let board = Arc::new(Board::new(&[0]));
        let transport = HttpTransport { client, deliveries: Arc::clone(&deliveries), board };
        let transport: Arc<dyn Transport> = Arc::new(transport);
        let running = deliveries.start(&transport);
        Self { store, deliveries, running }
    }

    async fn fresh(config: &Config) -> Self {
        Self::start(Arc::new(Db::in_memory().await.expect("a database")), config).await
    }

    async fn add(&self, batch: &[Cdr]) {
        let events = self.deliveries.of_cdrs(batch);
        self.store.add_cdrs_with(batch, &events).await.expect("it is stored");
        self.deliveries.wake(&events);
    }

    async fn register(&self, changes: impl IntoIterator<Item = Registration>) {
        let folder = PathBuf::from("/nonexistent");
        let (writer, queue) = RegistrationWriter::start(Arc::clone(&self.deliveries), folder);
        for change in changes {
            queue.send(Box::new(change)).await.expect("the writer runs");
        }
        drop(queue);
        writer.finish(PATIENCE).await;
    }

    /// Until so many rows are in this state.
    async fn wait(&self, state: DeliveryState, count: usize) {
        let search = DeliverySearch { state: Some(state), limit: 10_000, ..Default::default() };
        let until = async {
            let mut looks = interval(Duration::from_millis(20));
            while self.store.deliveries(&search).await.expect("it is read").len() < count {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, until).await.expect("it comes");
    }
}

fn registration(change: RegistrationChange, aor: &str) -> Registration {
    Registration {
        change,
        at: WallMs(1_708_201_234_567),
        aor: aor.to_owned(),
        contact: "<sip:1001@192.0.2.7:5060>".to_owned(),
        destination: "192.0.2.7:5060".parse().expect("an address"),
        transport: SipTransport::Udp,
        user_agent: Some("test phone".to_owned()),
        expires_s: 3_600,
    }
}

/// A request as it came, and as the library that we did not write reads it.
#[derive(Debug)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<Heard>) {
    let (sender, heard) = mpsc::unbounded_channel();
    let take = |State(sender): State<mpsc::UnboundedSender<Heard>>, request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
        let path = parts.uri.to_string();
        sender.send(Heard { path, headers: parts.headers, body }).expect("the test listens");
    };
    let app = Router::new().fallback(post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, heard)
}

async fn next(heard: &mut mpsc::UnboundedReceiver<Heard>) -> Heard {
    timeout(PATIENCE, heard.recv()).await.expect("it comes").expect("the receiver runs")
}

/// HMAC by its definition (RFC 2104), so that a fault of ours does not check itself.
fn assert_signed(heard: &Heard) {
    let header = |name: &str| heard.headers[name].to_str().expect("text").to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let mut message = format!("{id}.{at}.").into_bytes();
    message.extend_from_slice(&heard.body);
    let mut block = [0_u8; 64];
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    block[..key.len()].copy_from_slice(&key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let mac = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    assert_eq!(header("webhook-signature"), format!("v1,{}", STANDARD.encode(mac)));
}

async fn parts(heard: Heard) -> HashMap<String, (Option<String>, Bytes)> {
    let mut request = Request::builder().method("POST");
    *request.headers_mut().expect("a builder") = heard.headers;
    let request = request.body(heard.body.into()).expect("a request");
    let mut form = Multipart::from_request(request, &()).await.expect("it is a form");
    let mut parts = HashMap::new();
    while let Some(field) = form.next_field().await.expect("a field") {
        let name = field.name().expect("every part has one").to_owned();
        let content_type = field.content_type().map(str::to_owned);
        parts.insert(name, (content_type, field.bytes().await.expect("its bytes")));
    }
    parts
}

/// Caller left at 1000, callee right at -1000.
fn write_recording(folder: &Path, frames: u32) -> PathBuf {
    let path = folder.join("recording.wav");
    let spec = WavSpec {
        channels: 2,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = WavWriter::create(&path, spec).expect("a file");
    for _ in 0..frames {
        wav.write_sample(1_000_i16).expect("it is written");
        wav.write_sample(-1_000_i16).expect("it is written");
    }
    wav.finalize().expect("it is whole");
    path
}

fn recording(number: u64, state: RecordingState, path: Option<PathBuf>) -> Recording {
    Recording {
        call: call_id(number),
        state,
        capture: PathBuf::from("/captures/x.rgcap"),
        path,
        duration_ms: Some(5_000),
        size: Some(160_044),
        packets_lost: 0,
        error: None,
    }
}

fn recorded(number: u64) -> Cdr {
    Cdr { recorded: true, ..cdr(number) }
}

#[tokio::test]
async fn a_registration_is_told_as_the_guide_says_and_signed() {
    let (address, mut heard) = receiver().await;
    let post = Post::fresh(&signed(&locator_at(address))).await;
    post.register([registration(RegistrationChange::Registered, "sip:1001@pbx.com")]).await;
    let first = next(&mut heard).await;
    assert_eq!(first.path, "/events?k=1");
    assert_eq!(first.headers["content-type"], "application/json");
    assert_signed(&first);
    let body: Value = serde_json::from_slice(&first.body).expect("JSON");
    assert_eq!(body["event"], "registered");
    assert_eq!(body["timestamp"], 1_708_201_234);
    assert_eq!(body["location"]["aor"], "sip:1001@pbx.com");
    assert_eq!(body["location"]["destination"], "192.0.2.7:5060");
    post.wait(DeliveryState::Delivered, 1).await;
    post.running.finish().await;
}

#[tokio::test]
async fn only_the_events_that_the_endpoint_wants_become_rows() {
    let (address, mut heard) = receiver().await;
    let text = locator_at(address) + "events = [\"offline\"]\n";
    let post = Post::fresh(&signed(&text)).await;
    post.register([
        registration(RegistrationChange::Registered, "sip:1@x"),
        registration(RegistrationChange::Offline, "sip:1@x"),
    ])
    .await;
    let body: Value = serde_json::from_slice(&next(&mut heard).await.body).expect("JSON");
    assert_eq!(body["event"], "offline");
    assert_eq!(body["locations"], json!([body["location"]]));
    post.add(&[cdr(1)]).await;
    let rows = post.store.deliveries(&DeliverySearch { limit: 9, ..Default::default() }).await;
    assert_eq!(rows.expect("it is read").len(), 1, "nobody asked for call records");
    post.running.finish().await;
}

#[tokio::test]
async fn a_call_record_comes_as_a_form_with_one_file_per_track() {
    let folder = Folder::new("outbox-media");
    let (address, mut heard) = receiver().await;
    let post = Post::fresh(&signed(&call_record_at(address, true))).await;
    let path = write_recording(folder.path(), 40_000);
    let ready = recording(1, RecordingState::Ready, Some(path));
    post.store.put_recording(&ready).await.expect("it is written");
    post.add(&[recorded(1)]).await;
    let first = next(&mut heard).await;
    assert_eq!(first.path, "/cdr");
    assert_eq!(first.headers["x-key"], "k");
    assert_eq!(first.headers["webhook-id"], format!("cdr_{}", call_id(1)).as_str());
    assert_eq!(first.headers["content-length"], first.body.len().to_string().as_str());
    assert_signed(&first);
    let parts = parts(first).await;
    assert_eq!(parts.len(), 3);
    let (content_type, json) = &parts["calllog.json"];
    assert_eq!(content_type.as_deref(), Some("application/json"));
    let found: Cdr = serde_json::from_slice(json).expect("a call record");
    assert_eq!(found, recorded(1));
    for (name, level) in [("media_audio-0", 1_000), ("media_audio-1", -1_000)] {
        let (content_type, bytes) = &parts[name];
        assert_eq!(content_type.as_deref(), Some("audio/wav"), "{name}");
        let wav = WavReader::new(&bytes[..]).expect("a WAV file");
        assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, 8_000));
        let samples: Vec<i16> = wav.into_samples().map(|s| s.expect("a sample")).collect();
        assert_eq!(samples.len(), 40_000);
        assert!(samples.iter().all(|sample| *sample == level), "{name}");
    }
    post.running.finish().await;
}

#[tokio::test]
async fn a_call_record_waits_for_its_recording_and_others_do_not() {
    let folder = Folder::new("outbox-wait");
    let (address, mut heard) = receiver().await;
    let post = Post::fresh(&signed(&call_record_at(address, true))).await;
    let pending = recording(1, RecordingState::Pending, None);
    post.store.put_recording(&pending).await.expect("it is written");
    let failed = recording(3, RecordingState::Failed, None);
    post.store.put_recording(&failed).await.expect("it is written");
    post.add(&[recorded(1), cdr(2), recorded(3)]).await;
    let id = |number| format!("cdr_{}", call_id(number));
    let early = [next(&mut heard).await, next(&mut heard).await];
    let early: HashSet<_> = early.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(early.len(), 2);
    assert!(!early.iter().any(|found| found == id(1).as_str()), "it is not ready");
    let path = write_recording(folder.path(), 800);
    let ready = recording(1, RecordingState::Ready, Some(path));
    post.store.put_recording(&ready).await.expect("it is written");
    let late = next(&mut heard).await;
    assert_eq!(late.headers["webhook-id"], id(1).as_str());
    assert_eq!(parts(late).await.len(), 3);
    post.wait(DeliveryState::Delivered, 3).await;
    let search =
        DeliverySearch { key: Some(call_id(1).to_string()), limit: 1, ..Default::default() };
    let row = &post.store.deliveries(&search).await.expect("it is read")[0];
    assert_eq!(row.attempts, 1, "waiting is no attempt");
    post.running.finish().await;
}

/// A receiver with bad times, and what it heard.
struct Moody {
    receiver: Receiver,
    log: Arc<Mutex<Vec<Delivery>>>,
}

impl Moody {
    fn new() -> Self {
        let log = Arc::new(Mutex::new(Vec::<Delivery>::new()));
        let ledger = {
            let log = Arc::clone(&log);
            move |delivery: &Delivery| {
                log.lock().expect("no test panics with it").push(delivery.clone());
            }
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = Receiver::start(any, Vec::new(), Box::new(ledger)).expect("a port");
        Self { receiver, log }
    }

    fn play(&self, fault: Fault, length: Duration) {
        self.receiver.play(&[Spell { from: Duration::ZERO, to: length, fault }]);
    }

    fn heard(&self) -> Vec<Delivery> {
        self.log.lock().expect("no test panics with it").clone()
    }

    fn accepted(&self) -> Vec<Delivery> {
        self.heard().into_iter().filter(|one| one.status == Some(200)).collect()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_everything_once_and_in_order() {
    let moody = Moody::new();
    let post = Post::fresh(&signed(&locator_at(moody.receiver.address))).await;
    moody.play(Fault::Status(500), HOUR);
    let changes = (0..400_u32).map(|number| {
        let mut change =
            registration(RegistrationChange::Registered, &format!("sip:{}@x", number % 20));
        change.at = WallMs(i64::from(number) * 1_000);
        change
    });
    post.register(changes).await;
    let down = async {
        let mut looks = interval(Duration::from_millis(20));
        while post.deliveries.desk(LOCATOR).standing().state() != "down" {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, down).await.expect("it is noticed");
    assert_eq!(moody.accepted().len(), 0);
    moody.receiver.play(&[]);
    post.wait(DeliveryState::Delivered, 400).await;
    assert_eq!(post.deliveries.desk(LOCATOR).standing().state(), "up");
    let accepted = moody.accepted();
    let ids: HashSet<_> = accepted.iter().map(|one| one.id.clone()).collect();
    assert_eq!((accepted.len(), ids.len()), (400, 400), "each once");
    let mut by_aor: HashMap<String, Vec<&Delivery>> = HashMap::new();
    for one in &accepted {
        by_aor.entry(one.aor.clone().expect("a registration")).or_default().push(one);
    }
    let order: HashMap<String, i64> = {
        let search = DeliverySearch { limit: 1_000, ..Default::default() };
        let rows = post.store.deliveries(&search).await.expect("it is read");
        rows.into_iter().map(|row| (row.event_id, row.id)).collect()
    };
    for (aor, deliveries) in by_aor {
        let rows: Vec<i64> = deliveries.iter().map(|one| order[&one.id]).collect();
        assert!(rows.is_sorted(), "{aor}: {rows:?}");
    }
    post.running.finish().await;
}

#[tokio::test]
async fn a_slow_endpoint_does_not_delay_another() {
    let (slow, quick) = (Moody::new(), Moody::new());
    slow.play(Fault::Hang, HOUR);
    let text = call_record_at(slow.receiver.address, false) + &locator_at(quick.receiver.address);
    let post = Post::fresh(&signed(&text)).await;
    let batch: Vec<Cdr> = (0..200).map(cdr).collect();
    post.add(&batch).await;
    let started = Instant::now();
    let changes = (0..100_u32)
        .map(|number| registration(RegistrationChange::Registered, &format!("sip:{number}@x")));
    post.register(changes).await;
    post.wait(DeliveryState::Delivered, 100).await;
    // The other endpoint takes five seconds for each of its calls.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(quick.accepted().len(), 100);
    assert_eq!(slow.accepted().len(), 0);
    drop(slow);
    post.running.finish().await;
}

#[tokio::test]
async fn what_a_process_did_not_deliver_the_next_one_does() {
    let moody = Moody::new();
    let config = signed(&call_record_at(moody.receiver.address, false));
    let post = Post::fresh(&config).await;
    moody.play(Fault::Hang, HOUR);
    let batch: Vec<Cdr> = (0..50).map(cdr).collect();
    post.add(&batch).await;
    let hung = async {
        let mut looks = interval(Duration::from_millis(20));
        while moody.heard().is_empty() {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, hung).await.expect("it hangs in the middle of a delivery");
    let store = Arc::clone(&post.store);
    // As a killed process would: nothing is written any more.
    drop(post);
    moody.receiver.play(&[]);
    let post = Post::start(store, &config).await;
    post.wait(DeliveryState::Delivered, 50).await;
    let ids: HashSet<_> = moody.accepted().into_iter().map(|one| one.id).collect();
    let expected: HashSet<_> = (0..50).map(|number| format!("cdr_{}", call_id(number))).collect();
    assert_eq!(ids, expected);
    post.running.finish().await;
}

#[tokio::test]
async fn gone_switches_off_over_restarts_until_an_operator_switches_on() {
    let moody = Moody::new();
    let text = call_record_at(moody.receiver.address, false);
    let post = Post::fresh(&signed(&text)).await;
    moody.play(Fault::Status(410), HOUR);
    post.add(&[cdr(1)]).await;
    let off = async {
        let mut looks = interval(Duration::from_millis(20));
        while post.deliveries.desk(CALL_RECORD).standing().state() != "disabled" {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, off).await.expect("it is switched off");
    moody.receiver.play(&[]);
    post.add(&[cdr(2)]).await;
    let Post { store, running, .. } = post;
    running.finish().await;
    let post = Post::start(store, &signed(&text)).await;
    let standing = post.deliveries.desk(CALL_RECORD).standing();
    assert_eq!(
        (standing.state(), standing.reason.as_deref()),
        ("disabled", Some("it answered 410 Gone"))
    );
    assert_eq!(moody.heard().len(), 1);
    post.deliveries.switch(CALL_RECORD, true).await.expect("it is written");
    post.wait(DeliveryState::Delivered, 2).await;
    assert_eq!(moody.accepted().len(), 2, "nothing was lost while it was off");
    post.running.finish().await;
}

#[tokio::test]
async fn a_switch_holds_for_its_url_only() {
    let (old, new) = (Moody::new(), Moody::new());
    let text = |moody: &Moody| call_record_at(moody.receiver.address, false);
    let post = Post::fresh(&signed(&text(&old))).await;
    post.deliveries.switch(CALL_RECORD, false).await.expect("it is written");
    post.add(&[cdr(1)]).await;
    let Post { store, running, .. } = post;
    running.finish().await;
    assert_eq!(old.heard().len(), 0);
    let post = Post::start(store, &signed(&text(&new))).await;
    post.wait(DeliveryState::Delivered, 1).await;
    assert_eq!((old.heard().len(), new.accepted().len()), (0, 1));
    post.running.finish().await;
}

#[tokio::test]
async fn a_reload_brings_another_target_live() {
    let (old, new) = (Moody::new(), Moody::new());
    let config_of = |moody: &Moody| signed(&call_record_at(moody.receiver.address, false));
    let store = Arc::new(Db::in_memory().await.expect("a database"));
    let client = Arc::new(Client::of_config(&config_of(&old)).expect("a client"));
    let shared: Arc<dyn Store> = store.clone();
    let deliveries = Deliveries::open(shared, Endpoints::of_config(&config_of(&old))).await;
    let deliveries = deliveries.expect("the database answers");
    let transport: Arc<dyn Transport> = Arc::new(HttpTransport {
        client: Arc::clone(&client),
        deliveries: Arc::clone(&deliveries),
        board: Arc::new(Board::new(&[0])),
    });
    let running = deliveries.start(&transport);
    let post = Post { store, deliveries, running };
    post.add(&[cdr(1)]).await;
    post.wait(DeliveryState::Delivered, 1).await;
    client.adopt(&config_of(&new));
    post.deliveries.adopt(&config_of(&new));
    post.add(&[cdr(2)]).await;
    post.wait(DeliveryState::Delivered, 2).await;
    assert_eq!((old.accepted().len(), new.accepted().len()), (1, 1));
    post.running.finish().await;
}

/// What the endpoint wants to know of 30 registrations of three addresses.
fn thirty() -> impl Iterator<Item = Registration> {
    (0..30_u32).map(|number| {
        let mut change =
            registration(RegistrationChange::Registered, &format!("sip:{}@x", number % 3));
        change.at = WallMs(i64::from(number) * 1_000);
        change
    })
}

/// The second of each event, by address, in the order of the outbox.
async fn seconds_by_aor(store: &Db) -> HashMap<String, Vec<i64>> {
    let search = DeliverySearch { limit: 1_000, ..Default::default() };
    let mut rows = store.deliveries(&search).await.expect("it is read");
    rows.reverse();
    let mut seconds: HashMap<String, Vec<i64>> = HashMap::new();
    for row in rows {
        let body: Value = serde_json::from_str(&row.payload).expect("JSON");
        let at = body["timestamp"].as_i64().expect("a number");
        seconds.entry(row.key).or_default().push(at);
    }
    seconds
}

/// A locked database: nobody waits for it, nothing is lost, and what comes later stays behind.
#[tokio::test]
async fn registrations_wait_in_a_file_while_the_database_is_locked() {
    let folder = Folder::new("outbox-locked");
    let path = folder.path().join("gate.sqlite3");
    let database = Database::Sqlite(path.clone());
    let store = Arc::new(Db::open(&database).await.expect("it opens"));
    let moody = Moody::new();
    let post = Post::start(store, &signed(&locator_at(moody.receiver.address))).await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("the lock");
    let kept = folder.path().join("unsaved");
    let (writer, queue) = RegistrationWriter::start(Arc::clone(&post.deliveries), kept.clone());
    let mut changes = thirty();
    for change in changes.by_ref().take(20) {
        queue.send(Box::new(change)).await.expect("the writer runs");
    }
    let file = kept.join("registrations.events");
    let on_disk = async {
        let mut looks = interval(Duration::from_millis(20));
        while std::fs::read_to_string(&file).map_or(0, |text| text.lines().count()) < 20 {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, on_disk).await.expect("they are safe while the database is locked");
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("the lock is free");
    for change in changes {
        queue.send(Box::new(change)).await.expect("the writer runs");
    }
    post.wait(DeliveryState::Delivered, 30).await;
    drop(queue);
    writer.finish(PATIENCE).await;
    assert!(!file.exists(), "everything is in the database");
    let accepted = moody.accepted();
    let ids: HashSet<_> = accepted.iter().map(|one| one.id.clone()).collect();
    assert_eq!((accepted.len(), ids.len()), (30, 30), "each once");
    for (aor, seconds) in seconds_by_aor(&post.store).await {
        assert!(seconds.is_sorted() && seconds.len() == 10, "{aor}: {seconds:?}");
    }
    post.running.finish().await;
}

#[tokio::test]
async fn registrations_survive_a_database_that_is_gone_when_the_process_ends() {
    let folder = Folder::new("outbox-kept");
    let moody = Moody::new();
    let config = signed(&locator_at(moody.receiver.address));
    let post = Post::fresh(&config).await;
    post.store.close().await;
    let kept = folder.path().to_owned();
    let (writer, queue) = RegistrationWriter::start(Arc::clone(&post.deliveries), kept.clone());
    for change in thirty() {
        queue.send(Box::new(change)).await.expect("the writer runs");
    }
    drop(queue);
    writer.finish(PATIENCE).await;
    // Killed in the middle of a line, then started without a database once more.
    let file = kept.join("registrations.events");
    let mut text = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(text.lines().count(), 30);
    text.push_str("{\"event_id\":\"msg_");
    std::fs::write(&file, text).expect("it is written");
    let (writer, queue) = RegistrationWriter::start(Arc::clone(&post.deliveries), kept.clone());
    let last = registration(RegistrationChange::Offline, "sip:1@x");
    queue.send(Box::new(last)).await.expect("the writer runs");
    drop(queue);
    writer.finish(PATIENCE).await;
    let post = Post::fresh(&config).await;
    assert_eq!(recover(&*post.store, &kept).await, 31);
    post.wait(DeliveryState::Delivered, 31).await;
    assert!(!file.exists());
    assert_eq!(recover(&*post.store, &kept).await, 0, "no file is no error");
    post.running.finish().await;
}
