//! Which of our addresses a datagram came to, and which one an answer leaves from (`ip(7)`, `ipv6(7)`).
//! Owns:  the IP_PKTINFO and IPV6_PKTINFO control messages, byte by byte.
//! Gives: the local address of a datagram on a socket that is bound to the wildcard.
//! Never: another control message; unknown ones are passed over.
//! Holds: what the kernel wrote is read within its own length fields, whatever they say.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct cmsghdr`: length, level, type. Its data starts right behind it.
const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const LENGTH_BYTES: usize = size_of::<usize>();
/// Room for the longer of the two messages, in words of eight bytes as `CMSG_SPACE` rounds.
pub(crate) const CONTROL_WORDS: usize = (HEADER_BYTES + size_of::<libc::in6_pktinfo>()).div_ceil(8);

/// The kernel shall tell the local address of every datagram of this socket.
#[allow(unsafe_code)]
pub(crate) fn enable(socket: BorrowedFd<'_>, v4: bool) -> io::Result<()> {
    let (level, name) = if v4 {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int and its size, both given; the socket is open. socket2 has no
    // safe call for this option.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address that a datagram was sent to; `None` when no control message says so.
pub(crate) fn read_local(mut control: &[u8]) -> Option<IpAddr> {
    loop {
        let header = control.get(..HEADER_BYTES)?;
        let length = usize::from_ne_bytes(header[..LENGTH_BYTES].try_into().ok()?);
        let level = word(header, LENGTH_BYTES)?;
        let kind = word(header, LENGTH_BYTES + 4)?;
        let body = control.get(HEADER_BYTES..length)?;
        match (level, kind) {
            // in_pktinfo: interface, local address of the route, destination of the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let octets: [u8; 4] = body.get(8..12)?.try_into().ok()?;
                return Some(IpAddr::V4(Ipv4Addr::from(octets)));
            }
            // in6_pktinfo: destination, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let octets: [u8; 16] = body.get(..16)?.try_into().ok()?;
                return Some(IpAddr::V6(Ipv6Addr::from(octets)));
            }
            _ => control = control.get(length.next_multiple_of(8)..)?,
        }
    }
}

/// Writes the message that makes a datagram leave from `from`; returns its length in bytes.
pub(crate) fn write_source(from: IpAddr, control: &mut [u64; CONTROL_WORDS]) -> usize {
    let mut bytes = [0_u8; CONTROL_WORDS * 8];
    let (level, kind, body_bytes) = match from {
        IpAddr::V4(address) => {
            // ipi_spec_dst is the second word; interface zero leaves the route to the kernel.
            bytes[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&address.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        }
        IpAddr::V6(address) => {
            bytes[HEADER_BYTES..HEADER_BYTES + 16].copy_from_slice(&address.octets());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
    };
    let length = HEADER_BYTES + body_bytes;
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_ne_bytes());
    bytes[LENGTH_BYTES..LENGTH_BYTES + 4].copy_from_slice(&level.to_ne_bytes());
    bytes[LENGTH_BYTES + 4..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
    for (word, octets) in control.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(octets.try_into().expect("chunks of eight"));
    }
    length.next_multiple_of(8)
}

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

// The layout that the offsets above rely on: 64-bit Linux.
const _: () = assert!(HEADER_BYTES == 16 && LENGTH_BYTES == 8);
const _: () = assert!(size_of::<libc::in_pktinfo>() == 12 && size_of::<libc::in6_pktinfo>() == 20);

#[cfg(test)]
mod tests {
    use super::*;

    fn as_bytes(control: &[u64]) -> Vec<u8> {
        control.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_v6_source_reads_back_as_the_local_address() {
        let from: IpAddr = "2001:db8::7".parse().expect("an address");
        let mut control = [0; CONTROL_WORDS];
        let length = write_source(from, &mut control);
        assert_eq!(length, 40);
        assert_eq!(read_local(&as_bytes(&control)), Some(from));
    }

    #[test]
    fn a_v4_source_goes_where_the_kernel_looks_for_it() {
        let mut control = [0; CONTROL_WORDS];
        let length = write_source("192.0.2.9".parse().expect("an address"), &mut control);
        let bytes = as_bytes(&control);
        assert_eq!(length, 32);
        assert_eq!(bytes[..8], 28_u64.to_ne_bytes());
        assert_eq!(bytes[16..28], [0, 0, 0, 0, 192, 0, 2, 9, 0, 0, 0, 0]);
    }

    #[test]
    fn an_unknown_message_in_front_is_passed_over() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&20_u64.to_ne_bytes());
        bytes.extend_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        bytes.extend_from_slice(&libc::SCM_TIMESTAMP.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut control = [0; CONTROL_WORDS];
        let local: IpAddr = "::1".parse().expect("an address");
        write_source(local, &mut control);
        bytes.extend(as_bytes(&control));
        assert_eq!(read_local(&bytes), Some(local));
    }

    #[test]
    fn broken_lengths_end_the_search() {
        assert_eq!(read_local(&[]), None);
        for length in [0_u64, 3, 15, u64::MAX, 4096] {
            let mut bytes = vec![0; 40];
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(read_local(&bytes), None, "length {length}");
        }
    }
}
