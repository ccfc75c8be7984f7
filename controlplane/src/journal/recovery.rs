//! What earlier runs left: their last records, and the calls that stood when they were killed.
//! Owns:  the order in which journals of earlier runs are read, stored and removed.
//! Gives: one record for every answered call of theirs, `systemCrash` where no end was written.
//! Never: touches a journal of this run.
//! Holds: it may be killed itself at any moment; the next start does the rest, and nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use shared::journal::{Position, Stream};

use super::folder;
use super::reader::Reader;
use super::tailer::{BATCH_MAX, Desk};
use crate::store::JournalMark;

pub(super) async fn run(mut desk: Desk, run: u64) {
    let marks: BTreeMap<Stream, JournalMark> =
        desk.marks().await.into_iter().map(|mark| (mark.stream, mark)).collect();
    let found = match folder::segments(&desk.folder) {
        Ok(found) => found,
        Err(error) => {
            let folder = desk.folder.display();
            tracing::error!(%folder, %error, "the journal cannot be listed");
            return;
        }
    };
    let earlier: BTreeSet<Stream> =
        found.iter().map(|segment| segment.stream).filter(|stream| stream.run != run).collect();
    for stream in earlier.iter().copied() {
        match marks.get(&stream) {
            // Killed between its last transaction and the removal of its files.
            Some(mark) if mark.finished => {
                if desk.remove(stream, u64::MAX).await {
                    desk.forget(stream).await;
                }
            }
            mark => {
                let stored = mark.map_or_else(Position::default, |mark| mark.position);
                recover(&mut desk, stream, stored).await;
            }
        }
    }
    // Killed between the removal of the files and that of the mark.
    for stream in marks.into_keys().filter(|stream| stream.run != run) {
        if !earlier.contains(&stream) {
            desk.forget(stream).await;
        }
    }
}

async fn recover(desk: &mut Desk, stream: Stream, stored: Position) {
    let reader = match Reader::earlier(desk.folder.clone(), stream, stored) {
        Ok(Some(reader)) => reader,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(run = stream.run, shard = stream.shard.0, %error, "a journal is left");
            return;
        }
    };
    let before = desk.taken();
    let mut reader = desk.take_all(reader, None).await;
    let cut = reader.cut();
    let (calls, position) = (cut.len(), reader.at);
    // The last of them are stored together with the word that all is.
    let (rest, last) = cut.split_at(calls.saturating_sub(1) / BATCH_MAX * BATCH_MAX);
    for batch in rest.chunks(BATCH_MAX) {
        desk.store(batch, JournalMark { stream, position, finished: false }).await;
    }
    desk.finish(last, stream, position).await;
    let (shard, records) = (stream.shard.0, desk.taken() - before);
    if calls > 0 {
        tracing::warn!(shard, calls, records, "calls were cut when an earlier run was killed");
    } else if records > 0 {
        tracing::info!(shard, records, "call records of an earlier run are stored now");
    }
}
