//! When the kernel took a datagram in, and so how long it has waited to be read (`socket(7)`).
//! Owns:  the SO_TIMESTAMPNS option and its control message.
//! Gives: `wait`: the time between the arrival and the turn that reads it.
//! Never: another control message; unknown ones are passed over.
//! Holds: what the kernel wrote is read within its own length fields, whatever they say; a clock that
//!        was set back makes no wait.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use shared::time::WallMs;

/// `struct cmsghdr`: length, level, type; then `struct timespec`.
const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
/// What one message takes, as `CMSG_SPACE` rounds.
pub(crate) const CONTROL_BYTES: usize = HEADER_BYTES + size_of::<libc::timespec>();

/// The kernel shall tell the arrival of every datagram of this socket.
#[allow(unsafe_code)]
pub(crate) fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int and its size, both given; the socket is open. socket2 has no
    // safe call for this option.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How long a datagram with these control messages has waited at `now`; zero when none says so.
pub(crate) fn wait(control: &[u8], now: WallMs) -> Duration {
    let arrived_ms = read(control);
    let waited = arrived_ms.map_or(0, |arrived| now.0.saturating_sub(arrived));
    Duration::from_millis(u64::try_from(waited).unwrap_or(0))
}

/// Wall time of the arrival, in milliseconds.
fn read(mut control: &[u8]) -> Option<i64> {
    loop {
        let header = control.get(..HEADER_BYTES)?;
        let length = usize::from_ne_bytes(header[..8].try_into().ok()?);
        let level = i32::from_ne_bytes(header[8..12].try_into().ok()?);
        let kind = i32::from_ne_bytes(header[12..16].try_into().ok()?);
        let body = control.get(HEADER_BYTES..length)?;
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            let seconds = i64::from_ne_bytes(body.get(..8)?.try_into().ok()?);
            let nanos = i64::from_ne_bytes(body.get(8..16)?.try_into().ok()?);
            return seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000);
        }
        control = control.get(length.next_multiple_of(8)..)?;
    }
}

// The layout that the offsets above rely on: 64-bit Linux.
const _: () = assert!(HEADER_BYTES == 16 && size_of::<libc::timespec>() == 16);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use crate::pktinfo;

    fn message(level: i32, kind: i32, words: &[i64]) -> Vec<u8> {
        let mut bytes = (HEADER_BYTES + 8 * words.len()).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    fn stamp(seconds: i64, nanos: i64) -> Vec<u8> {
        message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[seconds, nanos])
    }

    #[test]
    fn a_wait_is_the_time_between_arrival_and_turn_and_never_negative() {
        let now = WallMs(10_250);
        assert_eq!(wait(&stamp(10, 200_000_000), now), Duration::from_millis(50));
        assert_eq!(wait(&stamp(10, 300_000_000), now), Duration::ZERO);
        assert_eq!(wait(&[], now), Duration::ZERO);
        let behind = [message(libc::SOL_SOCKET, 999, &[1]), stamp(10, 0)].concat();
        assert_eq!(wait(&behind, now), Duration::from_millis(250));
        assert_eq!(wait(&stamp(i64::MAX, i64::MAX), now), Duration::ZERO);
        assert_eq!(wait(&stamp(i64::MIN, 0), now), Duration::ZERO);
        for length in [0_usize, 3, 15, usize::MAX, 4_096] {
            let mut bytes = stamp(10, 0);
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(wait(&bytes, now), Duration::ZERO, "length {length}");
        }
    }

    /// Both messages of a wildcard socket have room, and each reader finds its own.
    #[test]
    fn an_address_and_an_arrival_stand_side_by_side() {
        let mut control = [0; pktinfo::CONTROL_WORDS];
        let local = "2001:db8::7".parse().expect("an address");
        let length = pktinfo::write_source(local, &mut control);
        let written: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let both = [stamp(10, 0), written[..length].to_vec()].concat();
        assert_eq!(pktinfo::read_local(&both), Some(local));
        assert_eq!(wait(&both, WallMs(10_007)), Duration::from_millis(7));
        assert!(both.len() <= crate::ring::buffers::CONTROL_BYTES);
    }

    #[test]
    fn the_kernel_knows_the_option() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        enable(socket.as_fd()).expect("SO_TIMESTAMPNS");
    }
}
