//! What a send or connect request points to until it is submitted: address, header, control message.
//! Owns:  `Outgoing`, one per place in the submission queue, at a fixed address.
//! Gives: submission entries for one datagram, with or without a source address.
//! Never: the payload; the ring holds that.
//! Holds: every pointer in an entry leads into the same `Outgoing` or into the payload.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::address::{ADDRESS_BYTES, RawAddress};
use super::buffers::Shape;
use crate::pktinfo;

/// MSG_DONTWAIT: it is sent while it is submitted, or fails; it is never parked in the kernel.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

pub(super) struct Outgoing {
    pub(super) to: RawAddress,
    header: libc::msghdr,
    vector: libc::iovec,
    control: [u64; pktinfo::CONTROL_WORDS],
}

impl Outgoing {
    pub(super) const EMPTY: Self = Self {
        to: RawAddress::EMPTY,
        header: EMPTY_HEADER,
        vector: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
        control: [0; pktinfo::CONTROL_WORDS],
    };

    /// `to` must be written before.
    pub(super) fn send(&self, socket: BorrowedFd<'_>, payload: &[u8]) -> squeue::Entry {
        opcode::Send::new(Fd(socket.as_raw_fd()), payload.as_ptr(), payload.len() as u32)
            .flags(FLAGS)
            .dest_addr(self.to.as_ptr())
            .dest_addr_len(self.to.length())
            .build()
    }

    /// The same from one of the socket's addresses (`ip(7)`, IP_PKTINFO). `to` must be written before.
    pub(super) fn send_from(
        &mut self,
        socket: BorrowedFd<'_>,
        payload: &[u8],
        from: IpAddr,
    ) -> squeue::Entry {
        let control_bytes = pktinfo::write_source(from, &mut self.control);
        // The kernel only reads through these: the casts drop a `const` that the C types lack.
        self.vector.iov_base = payload.as_ptr().cast_mut().cast();
        self.vector.iov_len = payload.len();
        self.header.msg_name = self.to.as_ptr().cast_mut().cast();
        self.header.msg_namelen = self.to.length();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        self.header.msg_control = self.control.as_mut_ptr().cast();
        self.header.msg_controllen = control_bytes as _;
        opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const self.header)
            .flags(FLAGS as u32)
            .build()
    }
}

/// What a multishot receive is told about the room in front of each payload.
pub(super) fn template(shape: Shape) -> libc::msghdr {
    let mut header = EMPTY_HEADER;
    header.msg_namelen = ADDRESS_BYTES as u32;
    header.msg_controllen = shape.control_bytes() as _;
    header
}

const EMPTY_HEADER: libc::msghdr = libc::msghdr {
    msg_name: std::ptr::null_mut(),
    msg_namelen: 0,
    msg_iov: std::ptr::null_mut(),
    msg_iovlen: 0,
    msg_control: std::ptr::null_mut(),
    msg_controllen: 0,
    msg_flags: 0,
};
