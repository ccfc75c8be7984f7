//! What waits to be written into one capture file, between the shard's loop and the writing task.
//! Owns:  the bytes that are not on their way to the file, and the tally of packets.
//! Gives: chunks to the writer in order; "lost" to the loop when there is no room.
//! Never: touches a file, reads a clock.
//! Holds: every packet ends up in `written` or in `lost`, exactly once.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use media::capture;
use media::relay::Component;
use shared::ids::{CallId, Side};
use shared::time::{Instant, Now};

/// A chunk goes to the writer when it has grown to this, or after `FLUSH_WAIT`: less than a second
/// of a G.711 call both ways, in an allocation of 16 KiB.
pub(super) const CHUNK_BYTES: usize = 15 * 1_024;
/// The newest second is what a crash may cost; the sweep that looks comes four times a second.
pub(super) const FLUSH_WAIT: Duration = Duration::from_millis(750);
/// What one capture may always hold back while its disk is slow.
const CAPTURE_BYTES_MAX: usize = 16 * 1_024;
/// What all captures of a shard may hold back beyond that.
pub(super) const STALL_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What all captures of a shard share.
#[derive(Debug, Default)]
pub(super) struct Stock {
    /// Bytes that are held back at this moment.
    held: Cell<usize>,
    /// Packets since these were last asked for.
    written: Cell<u64>,
    lost: Cell<u64>,
}

impl Stock {
    /// Packets that reached a file, and that did not, since the last call.
    pub(super) fn take_packets(&self) -> (u64, u64) {
        (self.written.take(), self.lost.take())
    }

    pub(super) fn lose(&self, packets: u64) {
        self.lost.set(self.lost.get() + packets);
    }
}

/// One recorded packet and the moment it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'p> {
    pub(crate) at: Instant,
    pub(crate) side: Side,
    pub(crate) component: Component,
    pub(crate) packet: &'p [u8],
}

#[derive(Debug)]
pub(super) struct Feed {
    started: Instant,
    filling: Vec<u8>,
    /// When the oldest byte of `filling` came.
    since: Option<Instant>,
    filling_packets: u64,
    /// The writer is between a chunk and the next.
    writer_idle: bool,
    flush: bool,
    ended: bool,
    waker: Option<Waker>,
    stock: Rc<Stock>,
    pub(super) tally: Tally,
}

/// What became of the packets so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) written: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) error: Option<String>,
}

/// Bytes for the file and how many packets are in them.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) packets: u64,
}

impl Feed {
    pub(super) fn new(now: Now, call: CallId, stock: Rc<Stock>) -> Self {
        let mut feed = Self {
            started: now.mono,
            filling: Vec::new(),
            since: Some(now.mono),
            filling_packets: 0,
            writer_idle: false,
            flush: false,
            ended: false,
            waker: None,
            stock,
            tally: Tally::default(),
        };
        capture::write_header(&mut feed.filling, call, now.wall);
        feed.hold(feed.filling.len());
        feed
    }

    /// Appends one packet; `false` when it is lost for want of room or of a file. Want of room is no
    /// error: packets are taken again when the disk is back.
    pub(super) fn append(&mut self, line: u8, heard: &Heard<'_>) -> bool {
        let stalled = self.stock.held.get() >= STALL_BYTES_MAX;
        let full = stalled && self.filling.len() >= CAPTURE_BYTES_MAX;
        if full || self.tally.error.is_some() {
            self.lose(1);
            return false;
        }
        let before = self.filling.len();
        if before == 0 {
            self.filling.reserve(CHUNK_BYTES + 512);
            self.since = Some(heard.at);
        }
        let at = Instant::ZERO + heard.at.since(self.started);
        let Heard { side, component, packet, .. } = *heard;
        capture::write_packet(&mut self.filling, at, line, side, component, packet);
        self.filling_packets += 1;
        self.hold(self.filling.len() - before);
        if self.filling.len() >= CHUNK_BYTES {
            self.wake();
        }
        true
    }

    /// Hands over what is older than `FLUSH_WAIT`.
    pub(super) fn flush_old(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.since(since) >= FLUSH_WAIT) {
            self.flush = true;
            self.wake();
        }
    }

    /// Nothing more will come: the writer takes the rest and closes.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    /// For the writer: the next chunk, or `None` at the end.
    pub(super) fn poll_chunk(&mut self, waker: &Waker) -> Poll<Option<Chunk>> {
        let due = self.filling.len() >= CHUNK_BYTES || self.flush || self.ended;
        if due && !self.filling.is_empty() {
            let bytes = std::mem::take(&mut self.filling);
            self.release(bytes.len());
            self.flush = false;
            self.since = None;
            self.writer_idle = false;
            return Poll::Ready(Some(Chunk {
                bytes,
                packets: std::mem::take(&mut self.filling_packets),
            }));
        }
        self.flush = false;
        if self.ended {
            return Poll::Ready(None);
        }
        self.writer_idle = true;
        self.waker = Some(waker.clone());
        Poll::Pending
    }

    /// For the writer: a chunk is in the file.
    pub(super) fn written(&mut self, chunk_bytes: usize, packets: u64) {
        self.tally.written += packets;
        self.tally.bytes += chunk_bytes as u64;
        self.stock.written.set(self.stock.written.get() + packets);
    }

    /// For the writer: a chunk, and with it everything that follows, is not in the file.
    pub(super) fn failed(&mut self, error: String, packets: u64) {
        let waiting = std::mem::take(&mut self.filling_packets);
        self.lose(packets + waiting);
        self.tally.error.get_or_insert(error);
        self.release(self.filling.len());
        self.filling = Vec::new();
        self.since = None;
    }

    fn lose(&mut self, packets: u64) {
        self.tally.lost += packets;
        self.stock.lose(packets);
    }

    fn hold(&self, bytes: usize) {
        self.stock.held.set(self.stock.held.get() + bytes);
    }

    fn release(&self, bytes: usize) {
        self.stock.held.set(self.stock.held.get() - bytes);
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.writer_idle)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::time::WallMs;

    const PACKET: [u8; 172] = [0x80; 172];

    fn feed(stock: &Rc<Stock>) -> Feed {
        let now = Now { mono: Instant::from_millis(1_000), wall: WallMs(0) };
        Feed::new(now, CallId(7), Rc::clone(stock))
    }

    fn heard(ms: u64) -> Heard<'static> {
        Heard {
            at: Instant::from_millis(1_000 + ms),
            side: Side::Caller,
            component: Component::Rtp,
            packet: &PACKET,
        }
    }

    fn next(feed: &mut Feed) -> Poll<Option<Chunk>> {
        feed.poll_chunk(Waker::noop())
    }

    #[test]
    fn a_chunk_is_handed_over_when_it_is_large_enough() {
        let stock = Rc::<Stock>::default();
        let mut feed = feed(&stock);
        let mut appended = 0;
        while next(&mut feed).is_pending() {
            assert!(feed.append(0, &heard(appended * 20)));
            appended += 1;
            assert!(stock.held.get() <= CHUNK_BYTES + PACKET.len() + 16);
        }
        assert!(appended > 60, "{appended} packets of 172 bytes in 15 KiB");
        assert_eq!(stock.held.get(), 0);
    }

    #[test]
    fn what_is_there_is_flushed_within_a_second() {
        let mut feed = feed(&Rc::default());
        assert!(feed.append(0, &heard(0)));
        feed.flush_old(Instant::from_millis(1_100));
        assert!(next(&mut feed).is_pending());
        feed.flush_old(Instant::from_millis(1_750));
        let Poll::Ready(Some(chunk)) = next(&mut feed) else { panic!("nothing to write") };
        assert_eq!(chunk.packets, 1);
        feed.flush_old(Instant::from_millis(9_000));
        assert!(next(&mut feed).is_pending(), "an empty capture has nothing to flush");
    }

    #[test]
    fn the_end_hands_over_the_rest_first() {
        let mut feed = feed(&Rc::default());
        assert!(feed.append(0, &heard(0)));
        feed.end();
        assert!(matches!(next(&mut feed), Poll::Ready(Some(Chunk { packets: 1, .. }))));
        assert!(matches!(next(&mut feed), Poll::Ready(None)));
    }

    #[test]
    fn a_stalled_disk_costs_bounded_memory_and_counts_what_it_costs() {
        let stock = Rc::<Stock>::default();
        let (mut greedy, mut other) = (feed(&stock), feed(&stock));
        let mut sent: u64 = 0;
        while greedy.append(0, &heard(sent)) {
            sent += 1;
        }
        assert!(stock.held.get() < STALL_BYTES_MAX + 1_024);
        assert_eq!(greedy.tally.lost, 1);
        // Another call still has its own share.
        assert!(other.append(0, &heard(0)));
    }

    #[test]
    fn a_file_error_loses_what_waited_and_all_that_follows() {
        let stock = Rc::<Stock>::default();
        let mut feed = feed(&stock);
        assert!(feed.append(0, &heard(0)));
        feed.failed("no space left on device".to_owned(), 3);
        assert!(!feed.append(0, &heard(1)));
        assert_eq!(feed.tally.lost, 5);
        assert_eq!(stock.take_packets(), (0, 5));
        assert_eq!(stock.take_packets(), (0, 0));
        assert_eq!(stock.held.get(), 0);
        feed.end();
        assert!(matches!(next(&mut feed), Poll::Ready(None)));
    }
}
