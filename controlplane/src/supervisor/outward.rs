//! What tells others: the outbox's tasks and the writer that feeds it with registrations.
//! Owns:  both, from the start to the last written outcome.
//! Gives: the queue for registrations; an orderly end.
//! Never: a call record; those come with the journal.
//! Holds: the writer ends before the tasks that deliver what it wrote.

use std::sync::Arc;
use std::time::Duration;

use shared::event::Registration;
use tokio::sync::mpsc;

use super::prepared::{Prepared, unsaved};
use crate::board::Board;
use crate::webhooks::outbox::{HttpTransport, RegistrationWriter, Running, Transport};

#[derive(Debug)]
pub(super) struct Outward {
    writer: RegistrationWriter,
    running: Running,
}

impl Outward {
    pub(super) fn start(
        prepared: &Prepared,
        board: &Arc<Board>,
    ) -> (Self, mpsc::Sender<Box<Registration>>) {
        let deliveries = &prepared.deliveries;
        let transport: Arc<dyn Transport> = Arc::new(HttpTransport {
            client: Arc::clone(&prepared.client),
            deliveries: Arc::clone(deliveries),
            board: Arc::clone(board),
        });
        let running = deliveries.start(&transport);
        let unsaved = unsaved(&prepared.configured.config);
        let (writer, queue) = RegistrationWriter::start(Arc::clone(deliveries), unsaved);
        (Self { writer, running }, queue)
    }

    pub(super) fn hurry(&self) {
        self.writer.hurry();
    }

    pub(super) async fn finish(self, patience: Duration) {
        self.writer.finish(patience).await;
        self.running.finish().await;
    }
}
