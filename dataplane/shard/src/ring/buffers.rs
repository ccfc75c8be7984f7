//! Provided buffers: memory that the kernel fills with what arrives, one buffer per datagram or read.
//! Owns:  `Group` (one size of buffer), `Loan` (one filled buffer), `Datagram` (what lies in it).
//! Gives: a loan's bytes without a copy; giving the loan back consumes it.
//! Never: a second loan of the same buffer; a loan's bytes after it was given back.
//! Holds: a buffer is either in the kernel's ring or out on exactly one loan.

use std::io;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::address::{ADDRESS_BYTES, read_address};
use crate::{arrival, pktinfo};

/// Bytes in front of what a multishot `recvmsg` delivers: `struct io_uring_recvmsg_out`.
const OUT_HEADER_BYTES: usize = 16;
/// Room for one `IP_PKTINFO` or `IPV6_PKTINFO` control message, and one `SCM_TIMESTAMPNS`.
pub(crate) const CONTROL_BYTES: usize = 80;
const _: () = assert!(pktinfo::CONTROL_WORDS * 8 + arrival::CONTROL_BYTES <= CONTROL_BYTES);

/// What lies in front of the payload of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The sender's address.
    Plain,
    /// The sender's address, then control messages.
    WithControl,
}

impl Shape {
    pub(crate) const fn control_bytes(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::WithControl => CONTROL_BYTES,
        }
    }

    /// Bytes that a buffer needs beside the payload.
    pub(crate) const fn overhead(self) -> usize {
        OUT_HEADER_BYTES + ADDRESS_BYTES + self.control_bytes()
    }
}

/// Anonymous memory of the process, page aligned, zeroed, touched only where it is used.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    #[allow(unsafe_code)]
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing
        // that exists. The allocator would not do: over-aligned zeroed memory is touched whole by it,
        // and most of the SIP buffers stay untouched for ever.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("a mapping never starts at address zero");
        Ok(Self { start, length })
    }
}

impl Drop for Mapping {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of `mmap`, and nobody else unmaps them. The ring
        // that writes here holds a count of this mapping, so the ring is gone by now.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One filled buffer. It must be given back, or its group runs dry.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to its group"]
pub(crate) struct Loan {
    pub(super) group: u16,
    pub(super) buffer: u16,
    /// Bytes that the kernel wrote.
    pub(super) length: u32,
}

/// One received datagram, in place.
#[derive(Debug)]
pub(crate) struct Datagram<'b> {
    pub(crate) from: SocketAddr,
    pub(crate) control: &'b [u8],
    pub(crate) payload: &'b [u8],
    /// The datagram was longer than the buffer.
    pub(crate) truncated: bool,
}

/// Buffers of one size, and the ring of them that the kernel takes from.
#[derive(Debug)]
pub(crate) struct Group {
    id: u16,
    entries: u16,
    buffer_bytes: usize,
    ring: Rc<Mapping>,
    memory: Rc<Mapping>,
    tail: u16,
}

impl Group {
    /// `entries` is a power of two, at most 32 768.
    pub(crate) fn new(id: u16, entries: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(entries.is_power_of_two(), "the kernel masks the index");
        let ring = Rc::new(Mapping::new(usize::from(entries) * size_of::<BufRingEntry>())?);
        let memory = Rc::new(Mapping::new(usize::from(entries) * buffer_bytes)?);
        let mut group = Self { id, entries, buffer_bytes, ring, memory, tail: 0 };
        for buffer in 0..entries {
            group.place(buffer);
        }
        group.publish();
        Ok(group)
    }

    pub(super) const fn id(&self) -> u16 {
        self.id
    }

    pub(super) const fn entries(&self) -> u16 {
        self.entries
    }

    pub(super) fn ring_address(&self) -> u64 {
        self.ring.start.as_ptr() as u64
    }

    /// What the kernel writes to; the ring keeps these alive for as long as it lives.
    pub(super) fn mappings(&self) -> [Rc<Mapping>; 2] {
        [Rc::clone(&self.ring), Rc::clone(&self.memory)]
    }

    /// Everything that the kernel wrote into the loaned buffer.
    #[allow(unsafe_code)]
    pub(crate) fn bytes<'b>(&'b self, loan: &'b Loan) -> &'b [u8] {
        assert!(loan.group == self.id && loan.buffer < self.entries, "a loan of another group");
        let length = (loan.length as usize).min(self.buffer_bytes);
        // SAFETY: the buffer lies inside `memory` (checked above) and is initialised (mappings are
        // zeroed). While the loan exists the kernel does not have the buffer, and nobody gives it
        // back, because that consumes the loan which this slice borrows. A copy would be the safe
        // way and would cost a pass over every media packet.
        unsafe {
            let start = self.memory.start.add(usize::from(loan.buffer) * self.buffer_bytes);
            std::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// The datagram of a multishot `recvmsg` completion; `None` when it is not one.
    pub(crate) fn datagram<'b>(&'b self, loan: &'b Loan, shape: Shape) -> Option<Datagram<'b>> {
        let bytes = self.bytes(loan);
        let payload = bytes.get(shape.overhead()..)?;
        let (header, rest) = bytes.split_at(OUT_HEADER_BYTES);
        let word = |at: usize| -> usize {
            let field: [u8; 4] = header[at..at + 4].try_into().expect("four bytes of sixteen");
            u32::from_ne_bytes(field) as usize
        };
        let (name_bytes, control_bytes, payload_bytes) = (word(0), word(4), word(8));
        let flags = word(12) as i32;
        let (name, rest) = rest.split_at(ADDRESS_BYTES);
        let control = &rest[..shape.control_bytes().min(control_bytes)];
        Some(Datagram {
            from: read_address(&name[..ADDRESS_BYTES.min(name_bytes)])?,
            control,
            payload: &payload[..payload.len().min(payload_bytes)],
            truncated: flags & libc::MSG_TRUNC != 0,
        })
    }

    /// The payload of the same datagram, to be changed in place before it is sent.
    #[allow(unsafe_code)]
    pub(crate) fn payload_mut<'b>(
        &'b self,
        loan: &'b mut Loan,
        shape: Shape,
    ) -> Option<&'b mut [u8]> {
        let length = self.datagram(loan, shape)?.payload.len();
        // SAFETY: a datagram's payload lies behind `overhead` bytes of the loaned buffer and inside
        // it (`datagram` checked both), and that memory is initialised and mapped writable. Nobody
        // else has it: the kernel gets the buffer back by `give_back`, which consumes the loan, and
        // every slice of it borrows the loan, which this one borrows exclusively. The safe way
        // would be a copy of the packet.
        Some(unsafe {
            let offset = usize::from(loan.buffer) * self.buffer_bytes + shape.overhead();
            std::slice::from_raw_parts_mut(self.memory.start.add(offset).as_ptr(), length)
        })
    }

    /// Puts the buffer back into the kernel's ring.
    pub(crate) fn give_back(&mut self, loan: Loan) {
        assert!(loan.group == self.id && loan.buffer < self.entries, "a loan of another group");
        self.place(loan.buffer);
        self.publish();
    }

    #[allow(unsafe_code)]
    fn place(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.entries - 1));
        // SAFETY: `slot` is below `entries`, so the entry lies inside `ring`. The kernel reads an
        // entry only once the tail was moved past it (`publish`). There is no safe view of memory
        // that the kernel reads.
        let entry = unsafe { &mut *self.ring.start.cast::<BufRingEntry>().as_ptr().add(slot) };
        let at = self.memory.start.as_ptr() as u64;
        entry.set_addr(at + u64::from(buffer) * self.buffer_bytes as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    #[allow(unsafe_code)]
    fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry of `ring`, which is initialised, two-byte aligned
        // and shared with the kernel only; the store is atomic as the interface asks.
        unsafe {
            let tail = BufRingEntry::tail(self.ring.start.cast().as_ptr());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loan(length: u32) -> Loan {
        Loan { group: 3, buffer: 1, length }
    }

    #[test]
    fn a_short_completion_is_no_datagram() {
        let group = Group::new(3, 2, 256).expect("memory");
        assert!(group.datagram(&loan(10), Shape::Plain).is_none());
        assert!(group.datagram(&loan(44), Shape::WithControl).is_none());
    }

    #[test]
    fn an_address_of_no_family_is_no_datagram() {
        let group = Group::new(3, 2, 256).expect("memory");
        assert!(group.datagram(&loan(100), Shape::Plain).is_none());
    }

    #[test]
    fn a_length_beyond_the_buffer_is_cut_to_it() {
        let group = Group::new(3, 2, 256).expect("memory");
        assert_eq!(group.bytes(&loan(u32::MAX)).len(), 256);
    }

    #[test]
    fn a_payload_is_changed_in_place_and_nothing_around_it() {
        let group = Group::new(3, 2, 256).expect("memory");
        let mut loan = loan(256);
        let from: SocketAddr = "192.0.2.1:4000".parse().expect("an address");
        write_datagram(&group, &mut loan, from, b"sound");
        group.payload_mut(&mut loan, Shape::Plain).expect("a datagram").fill(0xd5);
        let datagram = group.datagram(&loan, Shape::Plain).expect("still a datagram");
        assert_eq!((datagram.payload, datagram.from), ([0xd5; 5].as_slice(), from));
        let behind = &group.bytes(&loan)[Shape::Plain.overhead() + 5..];
        assert!(behind.iter().all(|byte| *byte == 0));
    }

    /// What the kernel writes for one received datagram.
    #[allow(unsafe_code)]
    fn write_datagram(group: &Group, loan: &mut Loan, from: SocketAddr, payload: &[u8]) {
        let mut bytes = Vec::new();
        for word in [16_u32, 0, u32::try_from(payload.len()).expect("short"), 0] {
            bytes.extend(word.to_ne_bytes());
        }
        let SocketAddr::V4(v4) = from else { panic!("the test is IPv4") };
        bytes.extend((libc::AF_INET as u16).to_ne_bytes());
        bytes.extend(v4.port().to_be_bytes());
        bytes.extend(v4.ip().octets());
        bytes.resize(Shape::Plain.overhead(), 0);
        bytes.extend(payload);
        let offset = usize::from(loan.buffer) * group.buffer_bytes;
        // SAFETY: the bytes fit the buffer, and the test alone has it.
        unsafe {
            let start = group.memory.start.add(offset).as_ptr();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }

    #[test]
    #[should_panic(expected = "a loan of another group")]
    fn a_loan_of_another_group_is_refused() {
        let mut group = Group::new(4, 2, 256).expect("memory");
        group.give_back(loan(1));
    }
}
