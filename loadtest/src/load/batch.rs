//! Many datagrams per system call: sendmmsg and recvmmsg over fixed buffers.
//! Owns:  the arrays that the kernel reads and fills.
//! Gives: `Outbox` (queue and send) and `Inbox` (receive with the kernel's time stamp).
//! Never: allocates after it was made; IPv4 only.
//! Holds: a pointer handed to the kernel points into a boxed array that lives longer than the call.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Datagrams per system call.
pub const BATCH: usize = 64;
/// The longest datagram of a batch.
pub const BYTES: usize = 2_048;
const CONTROL: usize = 128;

struct Arrays {
    buffers: [[u8; BYTES]; BATCH],
    control: [[u64; CONTROL / 8]; BATCH],
    names: [libc::sockaddr_in; BATCH],
    vectors: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

impl Arrays {
    fn boxed() -> Box<Self> {
        // SAFETY: every field is plain numbers and pointers, for which all zeros is a valid value;
        // building 140 kB on the stack first is what this avoids.
        let mut arrays: Box<Self> = unsafe { Box::new_zeroed().assume_init() };
        for vector in &mut arrays.vectors {
            vector.iov_len = BYTES;
        }
        arrays
    }

    /// Points headers at the buffers, afresh before every system call, so that no pointer outlives
    /// a borrow of what it points at.
    fn link(&mut self) {
        for index in 0..BATCH {
            self.vectors[index].iov_base = self.buffers[index].as_mut_ptr().cast();
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
        }
    }
}

fn to_name(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: sockaddr_in is plain numbers; zeros are valid, and the padding must be zero.
    let mut name: libc::sockaddr_in = unsafe { zeroed() };
    name.sin_family = libc::AF_INET as u16;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    name
}

fn from_name(name: &libc::sockaddr_in) -> SocketAddrV4 {
    let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
    SocketAddrV4::new(ip, u16::from_be(name.sin_port))
}

/// Datagrams on their way out.
pub struct Outbox {
    arrays: Box<Arrays>,
    queued: usize,
    /// Datagrams that the kernel did not take.
    pub refused: u64,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbox({} queued, {} refused)", self.queued, self.refused)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { arrays: Arrays::boxed(), queued: 0, refused: 0 }
    }
}

impl Outbox {
    pub fn is_full(&self) -> bool {
        self.queued == BATCH
    }

    /// Queues one datagram that `fill` writes; it gives the length.
    pub fn push(&mut self, to: SocketAddrV4, fill: impl FnOnce(&mut [u8; BYTES]) -> usize) {
        assert!(!self.is_full(), "flush before the batch is full");
        let index = self.queued;
        let length = fill(&mut self.arrays.buffers[index]);
        self.arrays.vectors[index].iov_len = length.min(BYTES);
        self.arrays.names[index] = to_name(to);
        self.queued += 1;
    }

    /// Queues one datagram, sending first what fills the batch. One that is too long for a batch leaves
    /// at once.
    pub fn send(&mut self, socket: &UdpSocket, to: SocketAddrV4, bytes: &[u8]) {
        if bytes.len() > BYTES {
            self.refused += u64::from(socket.send_to(bytes, to).is_err());
            return;
        }
        if self.is_full() {
            self.flush(socket);
        }
        self.push(to, |buffer| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
    }

    /// Sends what is queued. What the kernel refuses is counted and dropped.
    pub fn flush(&mut self, socket: &UdpSocket) {
        if self.queued == 0 {
            return;
        }
        self.arrays.link();
        let mut sent = 0;
        while sent < self.queued {
            let rest = (self.queued - sent) as u32;
            let first = &raw mut self.arrays.headers[sent];
            // SAFETY: `first` points at `rest` headers, linked to buffers of the same box.
            let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, rest, 0) };
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => sent += taken,
                _ => {
                    self.refused += 1;
                    sent += 1;
                }
            }
        }
        self.queued = 0;
    }
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'b> {
    pub from: SocketAddrV4,
    pub bytes: &'b [u8],
    /// When the kernel took it in: nanoseconds of the wall clock; 0 without a stamp.
    pub at_ns: u64,
}

pub struct Inbox {
    arrays: Box<Arrays>,
    filled: usize,
    /// Datagrams that this socket's full buffer cost, by the kernel's own count (SO_RXQ_OVFL).
    pub overflowed: u32,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} filled, {} overflowed)", self.filled, self.overflowed)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self { arrays: Arrays::boxed(), filled: 0, overflowed: 0 }
    }
}

impl Inbox {
    /// Takes what is there, at most a batch, without waiting. Gives how many.
    pub fn fill(&mut self, socket: &UdpSocket) -> usize {
        let arrays = &mut *self.arrays;
        arrays.link();
        for (header, control) in arrays.headers.iter_mut().zip(&mut arrays.control) {
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL;
        }
        let first = self.arrays.headers.as_mut_ptr();
        // SAFETY: `first` points at BATCH headers, linked to buffers of the same box; no time-out.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                first,
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(taken).unwrap_or(0);
        self.filled
    }

    pub fn arrival(&mut self, index: usize) -> Arrival<'_> {
        assert!(index < self.filled, "only what the last fill gave");
        let header = &self.arrays.headers[index];
        let length = (header.msg_len as usize).min(BYTES);
        let (at_ns, overflowed) = control_of(&header.msg_hdr);
        self.overflowed = self.overflowed.max(overflowed);
        Arrival {
            from: from_name(&self.arrays.names[index]),
            bytes: &self.arrays.buffers[index][..length],
            at_ns,
        }
    }
}

/// Time stamp and overflow count from the control messages of one datagram.
fn control_of(header: &libc::msghdr) -> (u64, u32) {
    let (mut at_ns, mut overflowed) = (0, 0);
    // SAFETY: the kernel filled msg_control and msg_controllen of this header; the macros walk
    // inside that length only, and each payload is read unaligned with the size of its kind.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let stamp: libc::timespec =
                        std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    at_ns = (stamp.tv_sec as u64) * 1_000_000_000 + stamp.tv_nsec as u64;
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    overflowed = std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (at_ns, overflowed)
}

/// A UDP socket with large buffers, receive time stamps and a count of its own overflows.
pub fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SO_TIMESTAMPNS, 1)?;
    set_option(fd, libc::SO_RXQ_OVFL, 1)?;
    for (forced, asked) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        // Forcing needs CAP_NET_ADMIN; without it the system's limit has to do.
        if set_option(fd, forced, 16 << 20).is_err() {
            set_option(fd, asked, 4 << 20)?;
        }
    }
    Ok(socket)
}

fn set_option(fd: RawFd, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe one i32 that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until one of the sockets has something, at most so many milliseconds.
pub fn await_readable(sockets: [&UdpSocket; 2], wait_ms: i32) {
    let mut polled = sockets.map(|socket| libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the pointer and count describe the array above, which outlives the call. An error
    // (a signal) only makes the wait shorter.
    unsafe { libc::poll(polled.as_mut_ptr(), 2, wait_ms) };
}

/// The same for any descriptors and with less than a millisecond.
pub fn await_any<const N: usize>(descriptors: [RawFd; N], wait: Duration) {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let wait = libc::timespec {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(wait.subsec_nanos() as i32),
    };
    // SAFETY: the pointers and the count describe the array and the time above, which outlive the
    // call; no signal mask is given. An error (a signal) only makes the wait shorter.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, &raw const wait, std::ptr::null())
    };
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain bits; CPU_SET checks nothing, so the bound is checked here.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such CPU number"));
    }
    // SAFETY: `cpu` is inside the set; the set outlives the call.
    let result = unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_arrives_in_order_with_time_stamps() {
        let sender = socket("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let receiver = socket("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let SocketAddr::V4(to) = receiver.local_addr().expect("bound") else { panic!("IPv4") };
        let mut outbox = Outbox::default();
        for index in 0..BATCH {
            outbox.push(to, |buffer| {
                buffer[0] = index as u8;
                172
            });
        }
        outbox.flush(&sender);
        assert_eq!(outbox.refused, 0);
        let mut inbox = Inbox::default();
        let mut seen = Vec::new();
        crate::wait::until("the batch", Duration::from_secs(5), || {
            for index in 0..inbox.fill(&receiver) {
                let arrival = inbox.arrival(index);
                assert!(arrival.at_ns > 0 && arrival.bytes.len() == 172);
                assert_eq!(SocketAddr::V4(arrival.from), sender.local_addr().expect("bound"));
                seen.push(arrival.bytes[0]);
            }
            (seen.len() == BATCH).then_some(())
        })
        .expect("all arrive");
        assert_eq!(seen, (0..BATCH as u8).collect::<Vec<_>>());
    }
}
