//! Exchanges with the router on their way into the database.
//! Owns:  the queue and the one task behind it.
//! Gives: `Exchanges`, which never waits; an orderly end.
//! Never: holds a call up for the database; what finds the queue full is counted and gone.
//! Holds: what is in the queue is stored in its order, however long the database is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::board::Board;
use crate::store::{Exchange, Store, StoreError};

/// With some kilobytes each; a minute without a database at seventy calls a second.
const QUEUE_LEN: usize = 4_096;
const BATCH: usize = 200;
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Exchanges {
    queue: mpsc::Sender<Exchange>,
    board: Arc<Board>,
}

impl Exchanges {
    /// The queue, and its end from which a writer takes.
    pub fn new(board: Arc<Board>) -> (Self, mpsc::Receiver<Exchange>) {
        let (queue, taken) = mpsc::channel(QUEUE_LEN);
        (Self { queue, board }, taken)
    }

    pub fn keep(&self, exchange: Exchange) {
        if self.queue.try_send(exchange).is_err() {
            let lost = self.board.counts.exchanges_lost.fetch_add(1, Ordering::Relaxed);
            if lost.is_multiple_of(1_000) {
                tracing::error!("exchanges with the router are lost: the database is far behind");
            }
        }
    }
}

#[derive(Debug)]
pub struct ExchangeWriter {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl ExchangeWriter {
    pub fn start(store: Arc<dyn Store>, board: Arc<Board>) -> (Self, Exchanges) {
        let (exchanges, queue) = Exchanges::new(Arc::clone(&board));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(store, board, queue, stopped));
        (Self { task, stop }, exchanges)
    }

    /// Stores what is in the queue; what takes longer is lost.
    pub async fn finish(self, patience: Duration) {
        let Self { mut task, stop } = self;
        // The task only ends before this when it panicked, which the wait shows.
        let _told = stop.send(());
        match timeout(patience, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the writer of exchanges ended badly"),
            Err(_) => {
                task.abort();
                tracing::error!("exchanges with the router are lost: the database is away");
            }
        }
    }
}

async fn run(
    store: Arc<dyn Store>,
    board: Arc<Board>,
    mut queue: mpsc::Receiver<Exchange>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped, if open => {
                open = false;
                queue.close();
                continue;
            }
            count = queue.recv_many(&mut batch, BATCH) => if count == 0 { return },
        }
        put(&*store, &board, &batch).await;
        batch.clear();
    }
}

async fn put(store: &dyn Store, board: &Board, batch: &[Exchange]) {
    let mut again = AGAIN_FIRST;
    loop {
        match store.add_exchanges(batch).await {
            Ok(()) => return,
            Err(StoreError::Unavailable(reason)) => {
                tracing::debug!(reason, "exchanges wait for the database");
                sleep(again).await;
                again = AGAIN_MAX.min(2 * again);
            }
            Err(error) if batch.len() == 1 => {
                board.counts.exchanges_lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, call = %batch[0].call, "an exchange cannot be stored");
                return;
            }
            // One of them is at fault: the others are stored one by one.
            Err(_) => {
                for one in batch {
                    Box::pin(put(store, board, std::slice::from_ref(one))).await;
                }
                return;
            }
        }
    }
}
