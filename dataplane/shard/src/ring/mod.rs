//! The shard's own io_uring: it drives every socket of the shard, SIP and media alike.
//! Owns:  submission, completions, and whatever the kernel may still read from a request of ours.
//! Gives: safe requests by socket and token; `Completion`s in batches; what a request no longer needs.
//! Never: blocks; knows what a message, a flow or a relay is.
//! Holds: bytes, loans and sockets of a request outlive it; the ring goes before its memory does.

pub(crate) mod address;
pub(crate) mod buffers;
pub(crate) mod outgoing;
pub(crate) mod setup;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustc_hash::FxHashMap;

use buffers::{Group, Loan, Mapping, Shape};
use outgoing::Outgoing;
use setup::{ENTRIES, SetupError};
use token::Token;

/// Media packets: one RTP or RTCP packet each, and its sender.
pub(crate) const GROUP_MEDIA: u16 = 1;
/// SIP datagrams of any size.
pub(crate) const GROUP_DATAGRAMS: u16 = 2;
/// Pieces of TCP streams.
pub(crate) const GROUP_STREAMS: u16 = 3;

/// What became of a request, or one of the many results of a multishot one.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// Bytes, a file descriptor, or a negated errno.
    pub(crate) result: i32,
    /// The request goes on; without this it is over.
    pub(crate) more: bool,
    pub(crate) loan: Option<Loan>,
    /// The connection that a listener took.
    pub(crate) accepted: Option<OwnedFd>,
}

/// What a submitted request no longer needs.
#[derive(Debug)]
pub(crate) enum Released {
    Bytes(Rc<Vec<u8>>),
    Loan(Loan),
    /// Closed by being dropped.
    Socket(OwnedFd),
}

/// The submission queue is full and the kernel takes nothing more right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

pub(crate) struct Ring {
    // First, so that the kernel lets go before the memory below it goes.
    uring: IoUring,
    /// One per place in the submission queue.
    outgoing: Box<[Outgoing]>,
    shapes: Box<[libc::msghdr; 2]>,
    /// Requests pushed so far.
    pushed: u64,
    /// What unsubmitted requests refer to, each with the count of pushes that covers it.
    held: VecDeque<(u64, Released)>,
    /// Bytes of stream sends, until their completion.
    streams: FxHashMap<u64, Rc<Vec<u8>>>,
    _mappings: Vec<Rc<Mapping>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("pushed", &self.pushed).finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes the ring of this thread. The kernel adds one to `bell` when completions wait.
    pub(crate) fn new(bell: BorrowedFd<'_>, groups: &[&Group]) -> Result<Self, SetupError> {
        let uring = setup::make(bell, groups)?;
        let outgoing = (0..ENTRIES).map(|_| Outgoing::EMPTY).collect();
        let shapes = Box::new([Shape::Plain, Shape::WithControl].map(outgoing::template));
        Ok(Self {
            uring,
            outgoing,
            shapes,
            pushed: 0,
            held: VecDeque::new(),
            streams: FxHashMap::default(),
            _mappings: groups.iter().flat_map(|group| group.mappings()).collect(),
        })
    }

    /// Every connection that arrives, until the listener closes.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, token: Token) -> Result<(), Full> {
        let entry = opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(token.pack()))
    }

    /// Ends the request with this token, which reports that itself. By token and not by socket: the
    /// kernel finds a token in its hash table and would walk all of it for a socket.
    pub(crate) fn cancel(&mut self, token: Token) -> Result<(), Full> {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(token.pack())).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(Token::Cancel.pack()))
    }

    pub(crate) fn connect(
        &mut self,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
        token: Token,
    ) -> Result<(), Full> {
        self.make_room()?;
        let place = self.next_outgoing();
        place.to.write(to);
        let entry = opcode::Connect::new(fd(socket), place.to.as_ptr(), place.to.length()).build();
        self.push(entry.user_data(token.pack()))
    }

    /// Every datagram that arrives, each in a buffer of the group, until an error ends it.
    pub(crate) fn receive_datagrams(
        &mut self,
        socket: BorrowedFd<'_>,
        shape: Shape,
        group: u16,
        token: Token,
    ) -> Result<(), Full> {
        let template = &raw const self.shapes[shape as usize];
        let entry = opcode::RecvMsgMulti::new(fd(socket), template, group).build();
        self.push(entry.user_data(token.pack()))
    }

    /// Everything that a stream delivers, piece by piece, until it ends.
    pub(crate) fn receive_stream(
        &mut self,
        socket: BorrowedFd<'_>,
        token: Token,
    ) -> Result<(), Full> {
        let entry = opcode::RecvMulti::new(fd(socket), GROUP_STREAMS).build();
        self.push(entry.user_data(token.pack()))
    }

    /// Sends one datagram, from the local address `from` where the socket has several. It is sent or
    /// has failed when it is submitted; only a failure is reported.
    pub(crate) fn send_datagram(
        &mut self,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
        from: Option<IpAddr>,
        bytes: Rc<Vec<u8>>,
        token: Token,
    ) -> Result<(), Rc<Vec<u8>>> {
        if self.make_room().is_err() {
            return Err(bytes);
        }
        let place = self.next_outgoing();
        place.to.write(to);
        let entry = match from {
            None => place.send(socket, &bytes),
            Some(from) => place.send_from(socket, &bytes, from),
        };
        let entry = entry.flags(Flags::SKIP_SUCCESS).user_data(token.pack());
        self.push(entry).expect("room was made");
        self.held.push_back((self.pushed, Released::Bytes(bytes)));
        Ok(())
    }

    /// Sends the datagram in a received buffer on to `to`, without copying it. The loan comes back
    /// through `released` once the kernel has the packet.
    pub(crate) fn forward(
        &mut self,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
        group: &Group,
        loan: Loan,
    ) -> Result<(), Loan> {
        if self.make_room().is_err() {
            return Err(loan);
        }
        let payload = group.bytes(&loan).get(Shape::Plain.overhead()..).unwrap_or_default();
        let place = self.next_outgoing();
        place.to.write(to);
        let entry = place.send(socket, payload);
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(Token::MediaSend.pack()))
            .expect("room was made");
        self.held.push_back((self.pushed, Released::Loan(loan)));
        Ok(())
    }

    /// Sends `bytes[start..]` over a stream, whole, and reports how many bytes went.
    /// The token must have no other send under way.
    pub(crate) fn send_stream(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: &Rc<Vec<u8>>,
        start: usize,
        token: Token,
    ) -> Result<(), Full> {
        let rest = &bytes[start..];
        let entry = opcode::Send::new(fd(socket), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry.user_data(token.pack()))?;
        let before = self.streams.insert(token.pack(), Rc::clone(bytes));
        assert!(before.is_none(), "one send at a time on a flow keeps its bytes in order");
        Ok(())
    }

    /// Closes the socket once nothing that waits for submission names it.
    pub(crate) fn retire(&mut self, socket: OwnedFd) {
        self.held.push_back((self.pushed, Released::Socket(socket)));
    }

    /// What requests that were submitted no longer need.
    pub(crate) fn released(&mut self) -> Option<Released> {
        let submitted = self.pushed - self.uring.submission().len() as u64;
        self.held.pop_front_if(|(covered, _)| *covered <= submitted).map(|(_, released)| released)
    }

    /// Whether an `enter` would find something to do.
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.uring.submission();
        let waiting = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        waiting || !self.uring.completion().is_empty()
    }

    /// Submits what was pushed and lets the kernel deliver what arrived. Does not wait.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        let queue = self.uring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        drop(queue);
        passing(self.uring.submitter().submit())
    }

    /// Takes at most `most` completions.
    pub(crate) fn reap(&mut self, most: usize, out: &mut Vec<Completion>) {
        for entry in self.uring.completion().take(most) {
            let Some(token) = Token::unpack(entry.user_data()) else { continue };
            if matches!(token, Token::FlowSend(_)) {
                self.streams.remove(&entry.user_data());
            }
            let group = match token {
                Token::Media { .. } => GROUP_MEDIA,
                Token::Datagram { .. } => GROUP_DATAGRAMS,
                _ => GROUP_STREAMS,
            };
            let loan = cqueue::buffer_select(entry.flags()).map(|buffer| Loan {
                group,
                buffer,
                length: u32::try_from(entry.result()).unwrap_or(0),
            });
            let more = cqueue::more(entry.flags());
            let accepted = accepted(token, entry.result());
            out.push(Completion { token, result: entry.result(), more, loan, accepted });
        }
    }

    /// Whether the kernel rings the bell when completions wait. Off while the shard ticks anyway.
    pub(crate) fn set_bell(&mut self, on: bool) {
        let queue = self.uring.completion();
        if on {
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }

    /// Submits what was pushed, then waits for `count` completions, at most this long. The shard
    /// sleeps in its executor instead.
    #[cfg(test)]
    pub(crate) fn wait(&mut self, count: usize, most: std::time::Duration) -> io::Result<()> {
        let most = io_uring::types::Timespec::from(most);
        let arguments = io_uring::types::SubmitArgs::new().timespec(&most);
        passing(self.uring.submitter().submit_with_args(count, &arguments))
    }

    /// Submits until one more request fits.
    fn make_room(&mut self) -> Result<(), Full> {
        if !self.uring.submission().is_full() {
            return Ok(());
        }
        // A failure shows as a queue that is still full, and again at the next `enter`.
        let outcome = self.uring.submitter().submit();
        if outcome.is_err() || self.uring.submission().is_full() { Err(Full) } else { Ok(()) }
    }

    fn next_outgoing(&mut self) -> &mut Outgoing {
        // At most `ENTRIES` requests are unsubmitted, so this place's last user is long taken.
        &mut self.outgoing[(self.pushed % u64::from(ENTRIES)) as usize]
    }

    #[allow(unsafe_code)]
    fn push(&mut self, entry: squeue::Entry) -> Result<(), Full> {
        self.make_room()?;
        // SAFETY: what the entry points to stays put until the kernel is done with it: addresses and
        // headers lie in `outgoing` and `shapes`, whose places are reused only after submission (the
        // kernel copies them there); bytes and loans are in `held` until submission (datagrams are
        // sent inline, MSG_DONTWAIT) or in `streams` until completion; sockets are closed through
        // `retire`. The interface has no safe form of this.
        let outcome = unsafe { self.uring.submission().push(&entry) };
        outcome.map_err(|_| Full)?;
        self.pushed += 1;
        Ok(())
    }
}

#[allow(unsafe_code)]
fn accepted(token: Token, result: i32) -> Option<OwnedFd> {
    if !matches!(token, Token::Accept { .. }) || result < 0 {
        return None;
    }
    // SAFETY: the kernel opened this descriptor for the accept request and told nobody else. It
    // comes as a number in a completion, so there is no safe way to take it.
    Some(unsafe { OwnedFd::from_raw_fd(result) })
}

fn fd(socket: BorrowedFd<'_>) -> Fd {
    Fd(socket.as_raw_fd())
}

/// Outcomes of `io_uring_enter` that only mean "again": a signal, no memory now, completions first.
fn passing(outcome: io::Result<usize>) -> io::Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ETIME) => Ok(()),
            _ => Err(error),
        },
    }
}
