//! STUN as a keep-alive of SIP over UDP: how a phone is seen from here (RFC 5626 4.4.2, RFC 8489).
//! Owns:  the binding request that is answered, and its answer.
//! Gives: `write_answer`.
//! Never: credentials, other methods, other attributes than the address.
//! Holds: what is not a whole request that we understand has no answer.

use std::net::{IpAddr, SocketAddr};

const HEADER_BYTES: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes below this have to be understood (RFC 8489 14).
const OPTIONAL_FROM: u16 = 0x8000;

/// Writes the answer to a binding request of `from`. `false`: the bytes are none.
pub fn write_answer(request: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> bool {
    let Some((header, attributes)) = request.split_at_checked(HEADER_BYTES) else { return false };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_whole = usize::from(word(2)) == attributes.len() && attributes.len().is_multiple_of(4);
    if word(0) != BINDING_REQUEST || header[4..8] != COOKIE || !is_whole {
        return false;
    }
    if !asks_for_nothing_else(attributes) {
        return false;
    }
    let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
    value.extend((from.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]])).to_be_bytes());
    // The cookie, and for IPv6 the transaction behind it (RFC 8489 14.2).
    let mask = &header[4..];
    match from.ip() {
        IpAddr::V4(ip) => {
            value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask))
        }
        IpAddr::V6(ip) => {
            value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask))
        }
    }
    let length = value.len() as u16;
    out.extend(BINDING_SUCCESS.to_be_bytes());
    out.extend((length + 4).to_be_bytes());
    out.extend(mask);
    out.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(value);
    true
}

/// Whether nothing in here would have to be understood for an answer.
fn asks_for_nothing_else(mut attributes: &[u8]) -> bool {
    while let [kind_high, kind_low, length_high, length_low, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let Some(next) = rest.get(length.next_multiple_of(4)..) else { return false };
        if u16::from_be_bytes([*kind_high, *kind_low]) < OPTIONAL_FROM {
            return false;
        }
        attributes = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [&[0, 1][..], &length, &COOKIE, &[7; 12], attributes].concat()
    }

    fn answer(request: &[u8], from: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let from = from.parse().expect("an address");
        write_answer(request, from, &mut out).then_some(out)
    }

    #[test]
    fn the_address_of_who_asked_comes_back_masked() {
        let heard = answer(&request(&[]), "192.0.2.1:32853").expect("an answer");
        // The values of RFC 5769 2.2.
        let mapped = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        assert_eq!(heard, [&[1, 1, 0, 12][..], &COOKIE, &[7; 12], &mapped].concat());
        let heard = answer(&request(&[]), "[2001:db8::1]:5060").expect("an answer");
        assert_eq!((heard.len(), &heard[..4], heard[25]), (44, &[1, 1, 0, 24][..], 2));
        assert_eq!(heard[28..32], [0x20 ^ 0x21, 0x01 ^ 0x12, 0x0d ^ 0xa4, 0xb8 ^ 0x42]);
        assert_eq!(heard[43], 1 ^ 7);
    }

    #[test]
    fn what_is_optional_is_passed_over_and_anything_else_has_no_answer() {
        let software = [0x80, 0x22, 0, 3, b'p', b'b', b'x', 0];
        assert!(answer(&request(&software), "192.0.2.1:9").is_some());
        let username = [0, 6, 0, 4, b'u', b's', b'e', b'r'];
        let beyond = [0x80, 0x22, 0, 9, 1, 2, 3, 4];
        let good = request(&[]);
        let mut other_cookie = good.clone();
        other_cookie[4] = 0;
        let mut indication = good.clone();
        indication[1] = 0x11;
        let cases = [
            request(&username),
            request(&beyond),
            request(&[0x80, 0x22]),
            good[..19].to_vec(),
            [&good[..], b"more"].concat(),
            other_cookie,
            indication,
            Vec::new(),
        ];
        for bytes in cases {
            assert_eq!(answer(&bytes, "192.0.2.1:9"), None, "{bytes:?}");
        }
    }
}
