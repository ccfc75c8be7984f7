//! Call records on their way into a database that is not always there.

mod stand_ins;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use controlplane::board::{Board, Counts};
use controlplane::cdrs::{CdrWriter, recover};
use controlplane::store::{RecordSearch, Records, Store};
use shared::cdr::Cdr;
use stand_ins::{Folder, MoodyStore, cdr};

struct Desk {
    store: Arc<MoodyStore>,
    board: Arc<Board>,
    folder: Folder,
}

impl Desk {
    async fn new(failures: u64) -> Self {
        let store = MoodyStore::new(failures).await;
        Self { store, board: Arc::new(Board::new(&[0])), folder: Folder::new("unsaved") }
    }

    fn start(&self) -> (CdrWriter, tokio::sync::mpsc::Sender<Cdr>) {
        let store: Arc<dyn Store> = self.store.clone();
        CdrWriter::start(store, Arc::clone(&self.board), self.folder.path().join("unsaved"))
    }

    async fn stored(&self) -> u64 {
        let search = RecordSearch { page: 1, per_page: 5, ..Default::default() };
        self.store.records(&search).await.expect("it is read").total
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("unsaved")).map_or(0, Iterator::count)
    }
}

#[tokio::test]
async fn records_are_written_in_batches_of_at_most_five_hundred() {
    let desk = Desk::new(0).await;
    let (writer, records) = desk.start();
    for number in 0..1_200 {
        records.send(cdr(number)).await.expect("the writer takes it");
    }
    drop(records);
    writer.finish(Duration::from_secs(60)).await;
    assert_eq!(desk.stored().await, 1_200);
    let batches = desk.store.batches.lock().expect("no panic").clone();
    assert_eq!(batches.iter().sum::<usize>(), 1_200);
    assert!(batches.iter().all(|size| *size <= 500), "{batches:?}");
    assert!(batches.len() < 100, "one transaction carries many records: {batches:?}");
    assert_eq!(Counts::of(&desk.board.counts.cdrs_stored), 1_200);
    assert_eq!(Counts::of(&desk.board.counts.cdr_backlog), 0);
}

#[tokio::test]
async fn a_batch_that_fails_is_kept_and_tried_again() {
    let desk = Desk::new(3).await;
    let (writer, records) = desk.start();
    for number in 0..10 {
        records.send(cdr(number)).await.expect("the writer takes it");
    }
    drop(records);
    writer.finish(Duration::from_secs(60)).await;
    assert_eq!(desk.stored().await, 10);
    assert_eq!(Counts::of(&desk.board.counts.cdr_failures), 3);
    assert_eq!(desk.files(), 0);
}

#[tokio::test]
async fn what_the_database_never_takes_is_stored_by_the_next_start() {
    let desk = Desk::new(u64::MAX).await;
    let (writer, records) = desk.start();
    for number in 0..700 {
        records.send(cdr(number)).await.expect("the writer takes it");
    }
    desk.store.failed.notified().await;
    drop(records);
    writer.finish(Duration::ZERO).await;
    assert_eq!(desk.stored().await, 0);
    assert_eq!(desk.files(), 2, "700 records are two batches");

    let folder = desk.folder.path().join("unsaved");
    let nothing = recover(&*desk.store, &folder).await.expect("the folder is read");
    assert_eq!((nothing, desk.files()), (0, 2), "a database that still fails loses nothing");
    desk.store.failures.store(0, Ordering::Relaxed);
    let recovered = recover(&*desk.store, &folder).await.expect("the folder is read");
    assert_eq!((recovered, desk.files()), (700, 0));
    assert_eq!(desk.stored().await, 700);
}

#[tokio::test]
async fn nothing_to_recover_is_no_error() {
    let desk = Desk::new(0).await;
    let recovered = recover(&*desk.store, &desk.folder.path().join("none")).await;
    assert_eq!(recovered.expect("no folder is fine"), 0);
}
