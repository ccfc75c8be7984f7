//! Socket addresses in the form that the kernel reads and writes (`sockaddr_in`, `sockaddr_in6`).
//! Owns:  `RawAddress`, 28 bytes at most, aligned as the kernel wants it.
//! Gives: conversions without `unsafe`: the fields are placed byte by byte.
//! Never: a family other than IPv4 and IPv6.
//! Holds: `read_address(raw.as_bytes()) == Some(address)` for every address that was written.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for `sockaddr_in6`, the longer of the two.
pub(crate) const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();
const V4_BYTES: usize = size_of::<libc::sockaddr_in>();

#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct RawAddress {
    bytes: [u8; 32],
    length: u32,
}

impl RawAddress {
    pub(crate) const EMPTY: Self = Self { bytes: [0; 32], length: 0 };

    pub(crate) fn write(&mut self, address: SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                self.bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                self.bytes[4..8].copy_from_slice(&v4.ip().octets());
                self.bytes[8..16].fill(0);
                self.length = V4_BYTES as u32;
            }
            SocketAddr::V6(v6) => {
                self.bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
                self.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                self.bytes[8..24].copy_from_slice(&v6.ip().octets());
                self.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                self.length = ADDRESS_BYTES as u32;
            }
        }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(crate) const fn length(&self) -> libc::socklen_t {
        self.length
    }

    #[cfg(test)]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }
}

/// Reads what the kernel wrote; `None` for another family or a short field.
pub(crate) fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(octets), port)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope)))
        }
        _ => None,
    }
}

const _: () = assert!(ADDRESS_BYTES == 28 && V4_BYTES == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_come_back_as_written() {
        let scoped = SocketAddrV6::new("fe80::1".parse().expect("an address"), 5060, 3, 7);
        let addresses: [SocketAddr; 3] = [
            "192.0.2.1:5060".parse().expect("an address"),
            "[2001:db8::2]:65535".parse().expect("an address"),
            SocketAddr::V6(scoped),
        ];
        let mut raw = RawAddress::EMPTY;
        for address in addresses {
            raw.write(address);
            assert_eq!(read_address(raw.as_bytes()), Some(address));
        }
    }

    #[test]
    fn a_v4_address_after_a_v6_one_leaves_nothing_behind() {
        let mut raw = RawAddress::EMPTY;
        raw.write("[2001:db8::2]:65535".parse().expect("an address"));
        raw.write("192.0.2.1:1".parse().expect("an address"));
        assert_eq!(raw.length(), 16);
        assert_eq!(raw.as_bytes()[8..16], [0; 8]);
    }

    #[test]
    fn other_families_and_short_fields_are_refused() {
        assert_eq!(read_address(&[]), None);
        assert_eq!(read_address(&(libc::AF_UNIX as u16).to_ne_bytes()), None);
        assert_eq!(read_address(&[2, 0, 0, 1, 127]), None);
    }
}
