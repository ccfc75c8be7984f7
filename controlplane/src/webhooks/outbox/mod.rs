//! Events to the outside, at least once: from rows in the database to endpoints of the configuration.
//! Owns:  the endpoints with their states and numbers; the tasks that deliver, count and sweep.
//! Gives: `Deliveries`: rows to store together with what they report, wake-ups, operators' switches.
//! Never: keeps an event in memory only: what is not in the database is not accepted yet.
//! Holds: a slow or dead endpoint delays no other one; each has a task and calls of its own.

mod desk;
mod dispatch;
mod endpoints;
mod events;
mod http;
mod line;
mod registrations;
mod schedule;
mod track;
mod unsaved;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use shared::cdr::Cdr;
use shared::config::Config;
use shared::event::Registration;
use shared::time::WallMs;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

pub use desk::{Desk, Standing};
pub use dispatch::{Delivering, Transport};
pub use endpoints::{CALL_RECORD, Endpoint, Endpoints, LOCATOR, NAMES};
pub use http::HttpTransport;
pub use line::{Health, Input, Limits, Line, Output, Verdict};
pub use registrations::RegistrationWriter;
pub use schedule::{AGE_MAX, gap_after};
pub use unsaved::recover;

use crate::store::{EndpointState, Keep, NewEvent, Store, StoreError};
use crate::webhooks::fresh_id;
use dispatch::{Dispatcher, wall_now};

/// Between two looks at the backlog, and between two sweeps.
const COUNT_EVERY: Duration = Duration::from_secs(5);
const DELIVERED_KEPT: Duration = Duration::from_secs(24 * 3_600);
const DELIVERED_MAX: u32 = 100_000;
const DEAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Rows that one statement of a sweep touches: others write between two of them.
const SWEEP_ROWS: u32 = 2_000;
const SWEEP_PIECES: usize = 20;

#[derive(Debug)]
pub struct Deliveries {
    store: Arc<dyn Store>,
    endpoints: ArcSwap<Endpoints>,
    desks: [Desk; NAMES.len()],
    /// Grows when an endpoint may have been switched on or off.
    changes: watch::Sender<u64>,
}

/// The tasks, and the way to end them.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Deliveries {
    /// Reads which endpoints were switched off before.
    pub async fn open(
        store: Arc<dyn Store>,
        endpoints: Endpoints,
    ) -> Result<Arc<Self>, StoreError> {
        let deliveries = Self {
            store,
            endpoints: ArcSwap::from_pointee(endpoints),
            desks: NAMES.map(Desk::new),
            changes: watch::Sender::new(0),
        };
        for desk in &deliveries.desks {
            let known = deliveries.store.endpoint_state(desk.name).await?;
            let target = deliveries.fingerprint(desk.name);
            desk.configure(&target, known);
        }
        Ok(Arc::new(deliveries))
    }

    /// One task per endpoint, and one that counts and sweeps.
    pub fn start(self: &Arc<Self>, transport: &Arc<dyn Transport>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for desk in NAMES {
            let dispatcher = Dispatcher {
                desk,
                deliveries: Arc::clone(self),
                transport: Arc::clone(transport),
                stop: stopped.clone(),
            };
            tasks.spawn(dispatcher.run());
        }
        tasks.spawn(keep(Arc::clone(self), stopped));
        Running { tasks, stop }
    }

    /// Another configuration: other targets from the next attempt on.
    pub fn adopt(&self, config: &Config) {
        self.endpoints.store(Arc::new(Endpoints::of_config(config)));
        for desk in &self.desks {
            desk.configure(&self.fingerprint(desk.name), None);
        }
        self.changed();
    }

    pub fn desks(&self) -> &[Desk] {
        &self.desks
    }

    /// Of the names in `NAMES`.
    pub fn desk(&self, name: &str) -> &Desk {
        let place = NAMES.iter().position(|known| *known == name);
        &self.desks[place.expect("endpoints have fixed names")]
    }

    pub fn endpoint(&self, name: &str) -> Option<Endpoint> {
        self.endpoints.load().one(name).cloned()
    }

    /// To be stored in one transaction with these call records; `woken` says when they are.
    pub fn of_cdrs(&self, batch: &[Cdr]) -> Vec<NewEvent> {
        self.endpoints.load().of_cdrs(batch)
    }

    pub fn of_registration(&self, change: &Registration) -> Option<NewEvent> {
        self.endpoints.load().of_registration(change)
    }

    /// There are new rows.
    pub fn wake(&self, events: &[NewEvent]) {
        for desk in &self.desks {
            if events.iter().any(|event| event.endpoint == desk.name) {
                desk.wake();
            }
        }
    }

    /// There are rows to be tried again.
    pub fn wake_one(&self, name: &str) {
        if let Some(desk) = self.desks.iter().find(|desk| desk.name == name) {
            desk.wake();
        }
    }

    /// An event that an operator asks for; its id.
    pub async fn test(&self, name: &'static str) -> Result<String, StoreError> {
        let event_id = fresh_id();
        let event = NewEvent {
            event_id: event_id.clone(),
            endpoint: name.into(),
            key: event_id.clone(),
            kind: "test".into(),
            payload: events::of_test(wall_now()),
        };
        let events = [event];
        self.store.add_events(&events).await?;
        self.wake(&events);
        Ok(event_id)
    }

    /// An operator switches an endpoint on or off; it stays so over restarts.
    pub async fn switch(&self, name: &'static str, enabled: bool) -> Result<(), StoreError> {
        let reason = (!enabled).then(|| "an operator switched it off".to_owned());
        let state = EndpointState {
            name: name.to_owned(),
            enabled,
            reason,
            changed_at: wall_now(),
            target: self.fingerprint(name),
        };
        self.store.put_endpoint_state(&state).await?;
        self.desk(name).configure(&self.fingerprint(name), Some(state));
        self.changed();
        Ok(())
    }

    fn fingerprint(&self, name: &str) -> String {
        self.endpoints.load().one(name).map(Endpoint::fingerprint).unwrap_or_default()
    }

    fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Running {
    /// Lets calls under way end and writes outcomes; what is left is in the database.
    pub async fn finish(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the outbox ended badly");
            }
        }
    }
}

/// Counts what waits, gives up what is too old, removes what nobody asks for any more.
async fn keep(deliveries: Arc<Deliveries>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        for desk in deliveries.desks() {
            if let Err(error) = keep_one(&deliveries, desk).await {
                tracing::error!(endpoint = desk.name, %error, "the outbox cannot be swept");
            }
        }
    }
}

async fn keep_one(deliveries: &Deliveries, desk: &Desk) -> Result<(), StoreError> {
    let now = wall_now();
    let before = |age: Duration| WallMs(now.0 - i64::try_from(age.as_millis()).unwrap_or(0));
    let keep = Keep {
        pending_since: before(AGE_MAX),
        delivered_since: before(DELIVERED_KEPT),
        dead_since: before(DEAD_KEPT),
        delivered_max: DELIVERED_MAX,
        rows_max: SWEEP_ROWS,
    };
    for _ in 0..SWEEP_PIECES {
        let swept = deliveries.store.sweep(desk.name, keep).await?;
        desk.expired(swept.expired);
        if swept.expired.max(swept.removed) < u64::from(SWEEP_ROWS) {
            break;
        }
    }
    desk.stands(deliveries.store.backlog(desk.name).await?);
    Ok(())
}
