//! What programs decide: the decider and the writer of its exchanges.
//! Owns:  both, from the start to the last stored exchange.
//! Gives: the decider for the pump and for a reload; an orderly end.
//! Never: a decision.
//! Holds: the writer ends after the pump and before the database.

use std::sync::Arc;
use std::time::Duration;

use super::prepared::Prepared;
use crate::board::Board;
use crate::plane::Plane;
use crate::webhooks::{Decider, ExchangeWriter};

#[derive(Debug)]
pub(super) struct Deciding {
    pub(super) decider: Arc<Decider>,
    writer: ExchangeWriter,
}

impl Deciding {
    pub(super) fn start(prepared: &Prepared, plane: &Arc<dyn Plane>, board: &Arc<Board>) -> Self {
        let (store, client) = (Arc::clone(&prepared.store), Arc::clone(&prepared.client));
        let (writer, exchanges) = ExchangeWriter::start(store, Arc::clone(board));
        let decider = Decider::new(Arc::clone(plane), Arc::clone(board), client, exchanges);
        decider.adopt(&prepared.configured.config);
        Self { decider: Arc::new(decider), writer }
    }

    pub(super) async fn finish(self, patience: Duration) {
        self.writer.finish(patience).await;
    }
}
