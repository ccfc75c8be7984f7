//! What waits to be sent over one flow, in order, bounded by bytes and pieces.
//! Owns:  the bytes until the kernel took them, and how far it got with the first.
//! Gives: the next piece to send; what was waiting, when the flow ends.
//! Never: sends; drops a message on its own.
//! Holds: `waiting_bytes <= limits::FLOW_SEND_BYTES_MAX`, the piece under way included.

use std::collections::VecDeque;
use std::rc::Rc;

use shared::limits;
use shared::net::Destination;

/// Answers to pings have two bytes each, and a piece costs far more than that. Messages fill the bytes
/// first.
const PIECES_MAX: usize = 2_048;

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that the kernel has.
    taken: usize,
    waiting_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Rc<Vec<u8>>,
    /// Who wants to know when it fails; nobody does for a keep-alive's answer.
    pub(super) to: Option<Destination>,
}

impl SendQueue {
    /// The piece comes back when the reader is too slow for it.
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), Piece> {
        let is_full = self.pieces.len() >= PIECES_MAX
            || self.waiting_bytes + piece.bytes.len() > limits::FLOW_SEND_BYTES_MAX;
        if is_full {
            return Err(piece);
        }
        self.waiting_bytes += piece.bytes.len();
        self.pieces.push_back(piece);
        Ok(())
    }

    /// The first piece and where in it to go on.
    pub(super) fn front(&self) -> Option<(&Rc<Vec<u8>>, usize)> {
        self.pieces.front().map(|piece| (&piece.bytes, self.taken))
    }

    /// The kernel took `count` bytes of the first piece; gives the piece back when that was all.
    pub(super) fn advance(&mut self, count: usize) -> Option<Piece> {
        let first = self.pieces.front()?;
        self.taken += count;
        if self.taken < first.bytes.len() {
            return None;
        }
        self.taken = 0;
        self.waiting_bytes -= first.bytes.len();
        self.pieces.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Everything that never went out, or not whole.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Piece> {
        self.taken = 0;
        self.waiting_bytes = 0;
        std::mem::take(&mut self.pieces).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Piece {
        Piece { bytes: Rc::new(vec![7; length]), to: None }
    }

    #[test]
    fn a_short_write_goes_on_where_it_stopped() {
        let mut queue = SendQueue::default();
        queue.push(piece(10)).expect("room");
        queue.push(piece(5)).expect("room");
        assert!(queue.advance(4).is_none());
        assert_eq!(queue.front().map(|(bytes, at)| (bytes.len(), at)), Some((10, 4)));
        assert_eq!(queue.advance(6).map(|piece| piece.bytes.len()), Some(10));
        assert_eq!(queue.front().map(|(bytes, at)| (bytes.len(), at)), Some((5, 0)));
    }

    #[test]
    fn a_reader_that_never_reads_is_bounded_by_bytes() {
        let mut queue = SendQueue::default();
        let mut pushed = 0;
        while queue.push(piece(1_000)).is_ok() {
            pushed += 1_000;
        }
        assert_eq!(pushed, limits::FLOW_SEND_BYTES_MAX / 1_000 * 1_000);
        queue.advance(1_000).expect("the first piece went out");
        queue.push(piece(1_000)).expect("room again");
    }

    #[test]
    fn what_waits_at_the_end_is_all_handed_out() {
        let mut queue = SendQueue::default();
        queue.push(piece(10)).expect("room");
        queue.push(piece(20)).expect("room");
        queue.advance(3);
        assert_eq!(queue.take_all().count(), 2);
        assert!(queue.is_empty());
        queue.push(piece(limits::FLOW_SEND_BYTES_MAX)).expect("all the room is back");
    }
}
