//! Inputs and instruments that the benches share.
//! Owns:  the INVITE of 900 bytes, the counting allocator.
//! Gives: `INVITE_900`, `Counting`.
//! Never: a figure; the benches measure.
//! Holds: the INVITE is exactly 900 bytes with its SDP, and well-formed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a common desk phone sends: authorised, one audio line with four payload types.
pub const INVITE_900: &str = concat!(
    "INVITE sip:1002@pbx.example.com SIP/2.0\r\n",
    "Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-524287-1---2f7a9c4e;rport\r\n",
    "Max-Forwards: 70\r\n",
    "From: \"Alice\" <sip:1001@pbx.example.com>;tag=8c61d2aa\r\n",
    "To: <sip:1002@pbx.example.com>\r\n",
    "Call-ID: 84105ZTgyNWQ1OTc0@192.0.2.101\r\n",
    "CSeq: 2 INVITE\r\n",
    "Contact: <sip:1001@192.0.2.101:5060;transport=udp>\r\n",
    "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n",
    "Supported: replaces\r\n",
    "Proxy-Authorization: Digest username=\"1001\", realm=\"pbx\", nonce=\"5f2b\", ",
    "uri=\"sip:1002@pbx.example.com\", response=\"6629fae49393a05397450978507c4ef1\", ",
    "algorithm=MD5, qop=auth, nc=00000001, cnonce=\"0a4f113b\"\r\n",
    "User-Agent: Desk Phone 4.2.1 build 4711 abcdefghi\r\n",
    "Content-Type: application/sdp\r\n",
    "Content-Length: 196\r\n",
    "\r\n",
    "v=0\r\n",
    "o=- 13345678 1 IN IP4 192.0.2.101\r\n",
    "s=-\r\n",
    "c=IN IP4 192.0.2.101\r\n",
    "t=0 0\r\n",
    "m=audio 40010 RTP/AVP 0 8 101\r\n",
    "a=rtpmap:0 PCMU/8000\r\n",
    "a=rtpmap:8 PCMA/8000\r\n",
    "a=rtpmap:101 telephone-event/8000\r\n",
    "a=sendrecv\r\n",
);

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    /// Allocations of the whole process so far.
    pub fn count() -> u64 {
        ALLOCATIONS.load(Ordering::Relaxed)
    }
}

// SAFETY: every call is handed on unchanged to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invite_is_900_bytes_and_its_body_as_long_as_it_says() {
        assert_eq!(INVITE_900.len(), 900);
        let (head, body) = INVITE_900.split_once("\r\n\r\n").expect("head and body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let message = sip::wire::scan(INVITE_900.as_bytes()).expect("well-formed");
        message.check_request().expect("a request that we would take");
    }
}
