//! Stand-ins that the integration tests share: a plane without shards, a store that can fail, calls.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses its part")]

pub(crate) mod archiving;
pub(crate) mod asking;
#[cfg(feature = "s3")]
pub(crate) mod bucket;
pub(crate) mod deciding;
pub(crate) mod disk_image;
pub(crate) mod gate;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod small_disk;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use controlplane::access::Access;
use controlplane::archive::{Archive, Targets};
use controlplane::board::Board;
use controlplane::configuration::Configured;
use controlplane::directory::{Directory, Surroundings};
use controlplane::names::NameServers;
use controlplane::plane::Plane;
use controlplane::store::{
    AuditLog, Connections, Db, Exchanges, Extensions, IdempotencyKeys, Journals, LocalCopies,
    Outbox, OutboxList, Pending, Recordings, Records, Roles, Row, Rows, Sessions, Store,
    StoreError, Table, Tokens, Uploads, Users,
};
use controlplane::supervisor::{Ending, Publisher, Reloader};
use controlplane::webhooks::Client;
use controlplane::webhooks::outbox::{Deliveries, Endpoints};
use shard::Keys;
use shared::act::{Acted, CallAction, CallName, Refusal};
use shared::ask::Decision;
use shared::cdr::{CallStatus, Cdr, Direction, HangupReason, LegRole};
use shared::command::{Command, Intake, Question};
use shared::config::{ApiToken, Archive as Rules, Config, Effective, Sources, TOKEN_SCOPES, load};
use shared::event::{Answer, BindingView, CallState, CallView, DialogView, Event};
use shared::ids::{CallId, ShardId, Side};
use shared::originate::{Originate, Originated};
use shared::route::Explanation;
use shared::snapshot::Snapshot;
use shared::time::WallMs;
use shared::trunk_view::TrunkView;

/// Every promise is a test on each database, with a database of its own.
macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $promise() {
                    let db = controlplane::store::Db::in_memory().await.expect("it opens");
                    super::$promise(db).await;
                }
            )*
        }

        mod postgresql {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::stand_ins::postgres::db().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// 2026-11-24T10:00:00Z
pub(crate) const MORNING: WallMs = WallMs(1_795_514_400_000);

/// A folder that goes away with the test.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let unique = format!("{name}-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        fs::create_dir_all(&path).expect("the target folder is writable");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is a nuisance and no failure of the test.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// For tests that upload nothing.
pub(crate) fn no_archive(store: Arc<dyn Store>, board: &Arc<Board>) -> Arc<Archive> {
    Archive::new(store, Arc::clone(board), Targets::default(), &Rules::default())
}

pub(crate) fn call_id(number: u64) -> CallId {
    let ms = MORNING.0.unsigned_abs() + number;
    CallId((u128::from(ms) << 80) | u128::from(number))
}

pub(crate) fn config(text: &str) -> Config {
    let loaded = load(&Sources {
        file: Some(("test.toml", text)),
        env: Vec::new(),
        read_secret: &|_| Err("no secrets here".to_owned()),
        strict: true,
    });
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems))
}

/// Opens everything, for tests that are not about who asks.
pub(crate) const TOKEN: &str = "token-of-the-tests-with-every-scope";

/// `TOKEN`, and a token per scope that is called `only-` and the scope.
pub(crate) fn api_tokens() -> Vec<ApiToken> {
    let token = |token: &str, scopes: &[&str]| {
        format!("[[console.api_tokens]]\ntoken = {token:?}\nscopes = {scopes:?}\n")
    };
    let mut text = token(TOKEN, &TOKEN_SCOPES);
    for scope in TOKEN_SCOPES {
        text += &token(&only(scope), &[scope]);
    }
    config(&text).http().api_tokens().to_vec()
}

pub(crate) fn only(scope: &str) -> String {
    format!("only-{scope}-and-no-other")
}

/// An answered call of ten seconds, `number` seconds after ten in the morning.
pub(crate) fn cdr(number: u64) -> Cdr {
    let start = MORNING.add_ms(number * 1_000);
    Cdr {
        call_id: format!("a-leg-{number}@phone"),
        session_id: call_id(number),
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        caller_uri: "sip:1001@pbx.example".to_owned(),
        callee_uri: "sip:1002@pbx.example".to_owned(),
        direction: Direction::Internal,
        status: CallStatus::Completed,
        start_time: start,
        ring_time: Some(start.add_ms(100)),
        answer_time: Some(start.add_ms(2_000)),
        end_time: start.add_ms(12_000),
        duration_ms: 10_000,
        status_code: 200,
        hangup_reason: HangupReason::ByCaller,
        hangup_messages: Vec::new(),
        sip_leg_roles: vec![
            LegRole { call_id: format!("a-leg-{number}@phone"), role: Side::Caller },
            LegRole { call_id: format!("b-leg-{number}@gate"), role: Side::Callee },
        ],
        leg_timeline: shared::cdr::LegTimeline::default(),
        source_addr: "192.0.2.1:5060".to_owned(),
        sip_trunk: None,
        outbound_trunk: None,
        user_agent: Some("test".to_owned()),
        recorded: false,
        media_quality: Vec::new(),
        last_error: None,
        sip_flow: None,
        metadata: Default::default(),
        shard: 0,
    }
}

/// Answers questions at once, unless it is told to be silent.
#[derive(Debug)]
pub(crate) struct FakePlane {
    shards: u8,
    events: Mutex<VecDeque<Event>>,
    ring: UnixStream,
    heard: UnixStream,
    pub(crate) silent: AtomicBool,
    pub(crate) full: AtomicBool,
    pub(crate) commands: Mutex<Vec<(ShardId, &'static str)>>,
    pub(crate) calls: Mutex<Vec<CallView>>,
    pub(crate) dialogs: Mutex<Vec<DialogView>>,
    /// What becomes of every wish for a call, and the wishes that came.
    pub(crate) originated: Mutex<Originated>,
    pub(crate) wished: Mutex<Vec<(ShardId, Originate)>>,
    pub(crate) bindings: Mutex<Vec<BindingView>>,
    /// What each shard knows of trunks.
    pub(crate) trunks: Mutex<HashMap<ShardId, Vec<TrunkView>>>,
    pub(crate) explanation: Mutex<Option<Explanation>>,
    pub(crate) acts: Mutex<Vec<(ShardId, CallId, CallAction)>>,
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// What each shard was told to serve last.
    pub(crate) served: Mutex<HashMap<ShardId, Arc<Snapshot>>>,
    /// Where generations are reported when nobody pumps.
    pub(crate) board: OnceLock<Arc<Board>>,
    /// What became of asks, in the order in which they were answered.
    pub(crate) decided: Mutex<Vec<(ShardId, u64, Decision)>>,
    pub(crate) heard_decision: tokio::sync::Notify,
    /// Where answers go when nobody pumps.
    pub(crate) direct: OnceLock<Arc<controlplane::questions::Questions>>,
}

impl FakePlane {
    pub(crate) fn new(shards: u8) -> Arc<Self> {
        let (ring, heard) = UnixStream::pair().expect("a pair of sockets");
        ring.set_nonblocking(true).expect("a socket");
        heard.set_nonblocking(true).expect("a socket");
        Arc::new(Self {
            shards,
            events: Mutex::default(),
            ring,
            heard,
            silent: AtomicBool::new(false),
            full: AtomicBool::new(false),
            commands: Mutex::default(),
            calls: Mutex::default(),
            dialogs: Mutex::default(),
            originated: Mutex::new(Originated::Started(call_id(1))),
            wished: Mutex::default(),
            bindings: Mutex::default(),
            trunks: Mutex::default(),
            explanation: Mutex::default(),
            acts: Mutex::default(),
            refusal: Mutex::default(),
            served: Mutex::default(),
            board: OnceLock::new(),
            decided: Mutex::default(),
            heard_decision: tokio::sync::Notify::new(),
            direct: OnceLock::new(),
        })
    }

    pub(crate) fn report(&self, event: Event) {
        self.events.lock().expect("no test panics with it").push_back(event);
        match (&self.ring).write(b"!") {
            Ok(_) => {}
            // No room: it is readable already.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.events.lock().expect("no test panics with it").len()
    }

    fn answer(&self, shard: ShardId, id: u64, question: Question) {
        let answer = match question {
            Question::Calls => {
                let calls = self.calls.lock().expect("no test panics with it");
                Answer::Calls(calls.iter().filter(|c| c.shard == shard).cloned().collect())
            }
            Question::Dialogs => {
                let dialogs = self.dialogs.lock().expect("no test panics with it");
                Answer::Dialogs(dialogs.iter().filter(|d| d.shard == shard).cloned().collect())
            }
            Question::Bindings(names) => {
                let bindings = self.bindings.lock().expect("no test panics with it");
                let asked = |view: &&BindingView| names.iter().any(|name| **name == *view.aor);
                // The bindings of the test world are kept by the first shard.
                let mine = bindings.iter().filter(asked).filter(|_| shard.0 == 0);
                Answer::Bindings(mine.cloned().collect())
            }
            Question::Trunks(names) => {
                let trunks = self.trunks.lock().expect("no test panics with it");
                let asked = |view: &&TrunkView| names.iter().any(|name| **name == *view.name);
                let own = trunks.get(&shard).into_iter().flatten();
                Answer::Trunks(own.filter(asked).cloned().collect())
            }
            Question::Explain(trial) => {
                let explanation = self.explanation.lock().expect("no test panics with it");
                let mut explanation = explanation.clone().expect("the test has set one");
                explanation.rewrites = vec![("to.user".to_owned(), trial.to.clone())];
                Answer::Explained(Box::new(explanation))
            }
        };
        self.give(shard, id, answer);
    }

    /// Every act on a call that stands is done, unless `refusal` says otherwise.
    fn acted(&self, shard: ShardId, name: &CallName, action: CallAction) -> Acted {
        let calls = self.calls.lock().expect("no test panics with it");
        let is_meant = |call: &&CallView| match name {
            CallName::Id(id) => call.id == *id,
            CallName::Leg(leg) => call.sip_call_ids.iter().any(|own| **own == **leg),
        };
        let mut here = calls.iter().filter(|call| call.shard == shard);
        let Some(call) = here.find(is_meant).map(|call| call.id) else {
            return Acted::UnknownCall;
        };
        self.acts.lock().expect("no test panics with it").push((shard, call, action));
        match *self.refusal.lock().expect("no test panics with it") {
            Some(why) => Acted::Refused { call, why },
            None => Acted::Done { call, at: MORNING },
        }
    }

    fn give(&self, shard: ShardId, id: u64, answer: Answer) {
        match self.direct.get() {
            Some(questions) => questions.answer(id, shard, answer),
            None => self.report(Event::Answer { id, shard, answer }),
        }
    }
}

impl Plane for FakePlane {
    fn count(&self) -> u8 {
        self.shards
    }

    fn send(&self, shard: ShardId, command: Command) -> Result<(), Command> {
        if self.full.load(Ordering::Relaxed) {
            return Err(command);
        }
        let word = match command {
            Command::Act { id, call, action } => {
                let acted = self.acted(shard, &call, action);
                if !self.silent.load(Ordering::Relaxed) {
                    self.give(shard, id, Answer::Acted(acted));
                }
                "act"
            }
            Command::Ask { id, question } => {
                if !self.silent.load(Ordering::Relaxed) {
                    self.answer(shard, id, question);
                }
                "ask"
            }
            Command::Decided { id, decision } => {
                self.decided.lock().expect("no test panics with it").push((shard, id, *decision));
                self.heard_decision.notify_one();
                "decided"
            }
            Command::Drain => "drain",
            Command::Intake(Intake { calls: false, .. }) => "intake of nothing",
            Command::Intake(Intake { recordings: false, .. }) => "intake of calls",
            Command::Intake(Intake { messages: false, .. }) => "intake without messages",
            Command::Intake(Intake::ALL) => "intake of all",
            Command::Originate { id, wanted } => {
                self.wished.lock().expect("no test panics with it").push((shard, *wanted));
                let originated = *self.originated.lock().expect("no test panics with it");
                self.give(shard, id, Answer::Originated(originated));
                "originate"
            }
            Command::Publish(snapshot) => {
                let generation = snapshot.generation;
                self.served.lock().expect("no test panics with it").insert(shard, snapshot);
                match self.board.get() {
                    Some(_) if self.silent.load(Ordering::Relaxed) => {}
                    Some(board) => board.live(shard, generation),
                    None => self.report(Event::SnapshotLive { shard, generation }),
                }
                "publish"
            }
            Command::Stop => "stop",
        };
        self.commands.lock().expect("no test panics with it").push((shard, word));
        Ok(())
    }

    fn renew(&self, _: &Arc<Keys>) -> Option<Arc<Keys>> {
        self.commands.lock().expect("no test panics with it").push((ShardId(0), "renew"));
        None
    }

    fn take_events(&self, most: usize, out: &mut Vec<Event>) -> usize {
        let mut events = self.events.lock().expect("no test panics with it");
        let count = most.min(events.len());
        out.extend(events.drain(..count));
        count
    }

    fn event_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    fn clear_event_fd(&self) {
        let mut bytes = [0; 256];
        while (&self.heard).read(&mut bytes).is_ok_and(|count| count > 0) {}
    }
}

/// The directory of a gateway with this configuration and an empty database.
pub(crate) async fn directory(
    config: Config,
    plane: &Arc<FakePlane>,
    board: &Arc<Board>,
    store: Arc<dyn Store>,
) -> Arc<Directory> {
    plane.board.set(Arc::clone(board)).expect("set once");
    let mut odd = Vec::new();
    let records = Arc::new(NameServers::new(&[]).expect("name servers"));
    let around = Surroundings { ipv6: false, records };
    let contents = Directory::read(Arc::new(config), &*store, &around, &mut odd).await;
    let contents = contents.expect("it can be served");
    assert_eq!(odd, [""; 0], "every row can be served");
    let publisher = Publisher::new(plane.clone(), Arc::clone(board));
    let publisher = publisher.with_patience(Duration::from_millis(50));
    Arc::new(Directory::new(contents, 1, store, publisher, around))
}

/// Of a gateway that was started with this configuration, which stands in `file` by now.
pub(crate) fn reloader(
    file: Option<PathBuf>,
    config: &Config,
    access: &Arc<Access>,
    directory: &Arc<Directory>,
    deliveries: &Arc<Deliveries>,
) -> Arc<Reloader> {
    let client = Arc::new(Client::of_config(config).expect("it calls nobody"));
    let effective = Effective::default();
    let configured = Configured { config: config.clone(), problems: Vec::new(), effective, file };
    let (plane, board) = (FakePlane::new(1), Arc::new(Board::new(&[0])));
    let (decider, _) = deciding::decider(&plane, &board, "");
    let (access, directory) = (Arc::clone(access), Arc::clone(directory));
    let deliveries = Arc::clone(deliveries);
    Arc::new(Reloader::new(configured, access, directory, client, decider, deliveries))
}

pub(crate) fn ending() -> Arc<Ending> {
    Arc::new(Ending::new(Duration::from_secs(30)))
}

pub(crate) fn call_view(number: u64, shard: u8, talking: bool) -> CallView {
    CallView {
        id: CallId(call_id(number).0 | u128::from(shard) << 72),
        shard: ShardId(shard),
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        sip_call_ids: vec![format!("a-leg-{number}@phone"), format!("b-leg-{number}@gate")],
        direction: "internal",
        state: if talking { CallState::Talking } else { CallState::Ringing },
        started_at: MORNING,
        answered_at: talking.then(|| MORNING.add_ms(2_000)),
        legs: 2,
        recording: false,
        held: [true, false],
        muted: [false; 2],
        relays: 1,
        media_past_us: false,
    }
}

/// An outbox whose events nobody wants.
pub(crate) async fn no_deliveries(store: Arc<dyn Store>) -> Arc<Deliveries> {
    Deliveries::open(store, Endpoints::default()).await.expect("the database answers")
}

/// A store that is out of reach as long as it is told to be.
#[derive(Debug)]
pub(crate) struct MoodyStore {
    pub(crate) real: Db,
    pub(crate) failures: AtomicU64,
}

impl MoodyStore {
    pub(crate) async fn new(failures: u64) -> Arc<Self> {
        Arc::new(Self {
            real: Db::in_memory().await.expect("a database in memory"),
            failures: AtomicU64::new(failures),
        })
    }
}

impl Connections for MoodyStore {
    fn db(&self) -> &Db {
        &self.real
    }

    fn ping(&self) -> Pending<'_, ()> {
        if self.failures.load(Ordering::Relaxed) > 0 {
            return Box::pin(async { Err(StoreError::Unavailable("locked".to_owned())) });
        }
        self.real.ping()
    }
}

impl Exchanges for MoodyStore {}

impl Extensions for MoodyStore {}

impl Journals for MoodyStore {}
impl Rows for MoodyStore {
    fn add_row<'a>(
        &'a self,
        table: &'static Table,
        fields: &'a serde_json::Map<String, serde_json::Value>,
    ) -> Pending<'a, Row> {
        if self.failures.load(Ordering::Relaxed) > 0 {
            return Box::pin(async { Err(StoreError::Unavailable("locked".to_owned())) });
        }
        self.real.add_row(table, fields)
    }
}

impl Outbox for MoodyStore {}

impl OutboxList for MoodyStore {}
impl LocalCopies for MoodyStore {}

impl Recordings for MoodyStore {}

impl AuditLog for MoodyStore {}

impl IdempotencyKeys for MoodyStore {}

impl Roles for MoodyStore {}

impl Sessions for MoodyStore {}

impl Tokens for MoodyStore {}

impl Uploads for MoodyStore {}

impl Users for MoodyStore {}

impl Records for MoodyStore {}
