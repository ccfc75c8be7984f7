//! Where records go: the database, or a stand-in of a test.
//! Owns:  the trait `Sink`.
//! Gives: `Database`, which is the store that everything else uses.
//! Never: half of a batch, or a batch without its mark.
//! Holds: whether a batch that failed is stored is unknown; trying it again does no harm.

use std::fmt;
use std::sync::Arc;

use shared::cdr::Cdr;
use shared::journal::Stream;

use crate::store::{JournalMark, Pending, Store};
use crate::webhooks::outbox::Deliveries;

pub trait Sink: fmt::Debug + Send + Sync {
    /// Stores the records, what follows from them, and how far the journal is stored by that.
    fn take<'a>(&'a self, ends: &'a [Cdr], mark: JournalMark) -> Pending<'a, ()>;

    fn marks(&self) -> Pending<'_, Vec<JournalMark>>;

    /// The segments of this journal are gone.
    fn forget(&self, stream: Stream) -> Pending<'_, ()>;
}

#[derive(Debug)]
pub struct Database {
    pub store: Arc<dyn Store>,
    /// Knows who wants to hear of call records.
    pub deliveries: Arc<Deliveries>,
}

impl Sink for Database {
    fn take<'a>(&'a self, ends: &'a [Cdr], mark: JournalMark) -> Pending<'a, ()> {
        Box::pin(async move {
            let events = self.deliveries.of_cdrs(ends);
            self.store.take_journal(ends, &events, mark).await?;
            self.deliveries.wake(&events);
            Ok(())
        })
    }

    fn marks(&self) -> Pending<'_, Vec<JournalMark>> {
        self.store.journal_marks()
    }

    fn forget(&self, stream: Stream) -> Pending<'_, ()> {
        self.store.forget_journal(stream)
    }
}
