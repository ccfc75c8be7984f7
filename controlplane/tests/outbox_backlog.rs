//! A long outage on a real database: what waited an hour is delivered, and memory stays flat meanwhile.
//! `OUTBOX_EVENTS=36000 cargo test --workspace --test outbox_backlog -- --nocapture` prints an hour's figures.

mod stand_ins;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controlplane::board::Board;
use controlplane::store::{Db, Outbox, Records, Store};
use controlplane::webhooks::Client;
use controlplane::webhooks::outbox::{
    CALL_RECORD, Deliveries, Endpoints, HttpTransport, Running, Transport,
};
use loadtest::receiver::{Delivery, Fault, Receiver, Spell};
use shared::cdr::Cdr;
use shared::config::Database;
use stand_ins::{Folder, cdr, config as config_of};
use tokio::time::{Instant, interval, timeout};

/// A quarter of an hour at ten events a second; OUTBOX_EVENTS=36000 is the hour.
fn events() -> u64 {
    std::env::var("OUTBOX_EVENTS").map_or(9_000, |text| text.parse().expect("a number"))
}

/// The growth of memory at most.
const GROWTH_MAX_KB: u64 = 20 << 10;
const PATIENCE: Duration = Duration::from_secs(600);

/// Resident memory of this process.
fn resident_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

/// What the receiver took.
#[derive(Debug, Default)]
struct Book {
    heard: u64,
    ids: HashSet<String>,
}

/// A gateway's outbox on a file, and a receiver that nobody can reach.
struct Bench {
    store: Arc<Db>,
    deliveries: Arc<Deliveries>,
    running: Running,
    receiver: Receiver,
    book: Arc<Mutex<Book>>,
}

impl Bench {
    async fn start(folder: &Folder) -> Self {
        let path = folder.path().join("gate.sqlite3");
        let store = Arc::new(Db::open(&Database::Sqlite(path)).await.expect("it opens"));
        let ids = HashSet::with_capacity(events() as usize);
        let book = Arc::new(Mutex::new(Book { heard: 0, ids }));
        let ledger = {
            let book = Arc::clone(&book);
            move |delivery: &Delivery| {
                if delivery.is_accepted() {
                    let mut book = book.lock().expect("no test panics with it");
                    book.heard += 1;
                    book.ids.insert(delivery.id.clone());
                }
            }
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = Receiver::start(any, Vec::new(), Box::new(ledger)).expect("a port");
        let ever = Spell { from: Duration::ZERO, to: PATIENCE * 10, fault: Fault::Refuse };
        receiver.play(&[ever]);
        let at = receiver.address;
        let config = format!("[callrecord]\ntype = \"http\"\nurl = \"http://{at}/cdr\"\n");
        let config = config_of(&config);
        let shared: Arc<dyn Store> = store.clone();
        let deliveries = Deliveries::open(shared, Endpoints::of_config(&config)).await;
        let deliveries = deliveries.expect("the database answers");
        let client = Arc::new(Client::of_config(&config).expect("a client"));
        let board = Arc::new(Board::new(&[0]));
        let transport: Arc<dyn Transport> =
            Arc::new(HttpTransport { client, deliveries: Arc::clone(&deliveries), board });
        let running = deliveries.start(&transport);
        Self { store, deliveries, running, receiver, book }
    }

    async fn add(&self, from: u64, to: u64) {
        let batch: Vec<Cdr> = (from..to).map(cdr).collect();
        let events = self.deliveries.of_cdrs(&batch);
        self.store.add_cdrs_with(&batch, &events).await.expect("it is stored");
        self.deliveries.wake(&events);
    }

    async fn pending(&self) -> u64 {
        self.store.backlog(CALL_RECORD).await.expect("it is read").pending
    }

    fn heard(&self) -> (u64, u64) {
        let book = self.book.lock().expect("no test panics with it");
        (book.heard, book.ids.len() as u64)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outage_waits_on_the_disk_and_drains() {
    let folder = Folder::new("backlog");
    let bench = Bench::start(&folder).await;
    // Warm: the page of the line, the database's own cache.
    bench.add(0, 2_000).await;
    let down = async {
        let mut looks = interval(Duration::from_millis(20));
        while bench.deliveries.desk(CALL_RECORD).standing().state() != "down" {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, down).await.expect("it is noticed");
    let before = resident_kb();
    let started = Instant::now();
    for from in (2_000..events()).step_by(500) {
        bench.add(from, from + 500).await;
    }
    let added = started.elapsed();
    let grown = resident_kb().saturating_sub(before);
    assert_eq!((bench.heard(), bench.pending().await), ((0, 0), events()));
    assert!(grown < GROWTH_MAX_KB, "{grown} kB more in memory");

    bench.receiver.play(&[]);
    let started = Instant::now();
    let drained = async {
        let mut looks = interval(Duration::from_millis(50));
        while bench.pending().await > 0 {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, drained).await.expect("it drains");
    let took = started.elapsed();
    let peak = resident_kb().saturating_sub(before);
    println!(
        "{} events added in {added:?} (memory +{grown} kB), drained in {took:?}: {:.0}/s, \
         memory +{peak} kB with the ledger of the test",
        events(),
        events() as f64 / took.as_secs_f64()
    );
    assert_eq!(bench.heard(), (events(), events()), "each once");
    bench.running.finish().await;
}
