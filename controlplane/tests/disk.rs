//! How a disk that fills reaches the shards: once per change, and again when there is room.

mod stand_ins;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controlplane::board::{Board, Counts};
use controlplane::disk::{DiskWatch, Gauge, Level};
use shared::config::{DiskRules, WhenFull};
use stand_ins::FakePlane;
use tokio::time::sleep;

/// Tells one figure of the script per look; the last one for ever.
#[derive(Debug)]
struct Script(Mutex<VecDeque<Option<u8>>>);

impl Gauge for Script {
    fn used_percent(&self, folder: &Path) -> io::Result<u8> {
        if folder == Path::new("empty") {
            return Ok(1);
        }
        let mut script = self.0.lock().expect("no test panics with it");
        let told = if script.len() > 1 { script.pop_front() } else { script.front().copied() };
        told.flatten().ok_or_else(|| io::Error::other("it hangs"))
    }
}

fn watch(script: &[Option<u8>], when_full: WhenFull) -> (Arc<FakePlane>, Arc<Board>) {
    let (plane, board) = (FakePlane::new(2), Arc::new(Board::new(&[0, 1])));
    let watch = DiskWatch {
        folders: vec![PathBuf::from("empty"), PathBuf::from("recordings")],
        messages: None,
        gauge: Arc::new(Script(Mutex::new(script.iter().copied().collect()))),
        rules: DiskRules { when_full, ..DiskRules::default() },
        plane: plane.clone(),
        board: Arc::clone(&board),
    };
    watch.start();
    (plane, board)
}

fn told(plane: &FakePlane) -> Vec<&'static str> {
    plane.commands.lock().expect("no test panics with it").iter().map(|(_, word)| *word).collect()
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_recordings_until_there_is_room_again() {
    let script = [50, 96, 94, 97, 92, 50].map(Some);
    let (plane, board) = watch(&script, WhenFull::Continue);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(told(&plane), ["intake of calls"; 2], "each shard once");
    assert_eq!(Counts::of(&board.counts.disk_level), Level::Full as u64);
    assert_eq!(Counts::of(&board.counts.disk_used_percent), 97, "the fullest counts");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(told(&plane)[2..4], ["intake without messages"; 2], "they come back last");
    assert_eq!(told(&plane)[4..], ["intake of all"; 2]);
    assert_eq!(Counts::of(&board.counts.disk_level), Level::Fine as u64);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_calls_where_none_may_go_unrecorded() {
    let (plane, _) = watch(&[Some(95)], WhenFull::Reject);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(told(&plane), ["intake of nothing"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_looked_at_changes_nothing_and_a_full_queue_is_asked_again() {
    let (plane, board) = watch(&[Some(96), None, None, Some(96)], WhenFull::Continue);
    plane.full.store(true, std::sync::atomic::Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(told(&plane), [""; 0]);
    assert_eq!(Counts::of(&board.counts.disk_level), Level::Full as u64, "it stays what it was");
    plane.full.store(false, std::sync::atomic::Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(told(&plane), ["intake of calls"; 2]);
    assert_eq!(Counts::of(&board.counts.disk_level), Level::Full as u64);
}

/// Only the disk under `messages` fills.
#[derive(Debug)]
struct OwnDisk;

impl Gauge for OwnDisk {
    fn used_percent(&self, folder: &Path) -> io::Result<u8> {
        Ok(if folder == Path::new("messages") { 99 } else { 10 })
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_messages_stops_them_and_nothing_else() {
    let (plane, board) = (FakePlane::new(2), Arc::new(Board::new(&[0, 1])));
    let watch = DiskWatch {
        folders: vec![PathBuf::from("empty")],
        messages: Some(PathBuf::from("messages")),
        gauge: Arc::new(OwnDisk),
        rules: DiskRules { when_full: WhenFull::Reject, ..DiskRules::default() },
        plane: plane.clone(),
        board: Arc::clone(&board),
    };
    watch.start();
    sleep(Duration::from_secs(7)).await;
    assert_eq!(told(&plane), ["intake without messages"; 2], "each shard once");
    assert_eq!(Counts::of(&board.counts.disk_level), Level::Fine as u64);
}
