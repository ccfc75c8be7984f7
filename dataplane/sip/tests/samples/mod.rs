//! Messages that the tests of the wire layer share.
//! Owns:  the torture set of RFC 4475 and RFC 5118 (files), messages of known phones (text).
//! Gives: `torture`, `PHONES`, `INVITE`, `Random`, `verdict`.
//! Never: reads a clock or a real source of randomness.
//! Holds: the files are byte for byte those of RFC 4475; RFC 5118's have the CRLF of RFC 3261 7.

#![allow(dead_code, unreachable_pub, reason = "each test file takes what it needs")]

use std::fs;
use std::path::Path;

use sip::wire::{Message, scan};

/// Every file in `torture`, sorted by name, without its ending.
pub fn torture() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the folder is part of the crate")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "dat"))
        .map(|path| {
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    found.sort();
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// Nothing is sent back.
    Drop,
    Refuse(u16),
}

/// What the wire layer decides alone. Responses are never answered.
pub fn verdict(bytes: &[u8]) -> Verdict {
    let refusal = |status: Option<u16>| status.map_or(Verdict::Drop, Verdict::Refuse);
    let message = match scan(bytes) {
        Ok(message) => message,
        Err(why) => return refusal(why.status()),
    };
    if message.is_request() {
        message.check_request().map_or_else(|why| refusal(why.status()), |()| Verdict::Accept)
    } else {
        message.check_response().map_or(Verdict::Drop, |()| Verdict::Accept)
    }
}

/// Every reader of the wire layer once; the results do not matter, only that each one returns.
pub fn read_all(message: &Message<'_>) {
    let _ = (message.check_request(), message.check_response());
    let _ = (message.call_id(), message.cseq(), message.expires(), message.max_forwards());
    let _ = (message.method(), message.status(), message.body(), message.via().map(|v| v.branch));
    let _ = (message.session_expires(), message.min_se());
    for address in [message.from(), message.to()].into_iter().flatten() {
        let _ = (address.tag(), address.param("x"));
        if let Ok(uri) = address.parsed_uri() {
            let _ = (uri.user_unescaped(), uri.param("lr"), uri.host.to_string());
            assert!(uri.equals(&uri), "a URI equals itself");
        }
    }
    for (name, _, _) in message.lines() {
        for value in message.values(name) {
            let _ = sip::wire::Via::parse(value).map(|via| via.host.to_string());
            let _ = sip::wire::SessionExpires::parse(value).map(|one| one.seconds);
            if let Ok(address) = sip::wire::NameAddr::parse(value) {
                let _ = (address.tag(), address.parsed_uri().map(|uri| uri.port));
            }
        }
    }
}

/// xorshift64*: the same numbers on every machine.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        let wide = self.number() >> 16;
        usize::try_from(wide).expect("48 bits") % limit
    }
}

pub const INVITE: &[u8] = b"INVITE sip:+12025550123@gw.example.net:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.45:5060;branch=z9hG4bK-524287-1---9a3c7de80bb2f431;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice Example\" <sip:1001@gw.example.net>;tag=8f1c2a77d0\r\n\
    To: <sip:+12025550123@gw.example.net;user=phone>\r\n\
    Call-ID: 61e1b8a0-5b0f-4c1e-9f63-2f0c1f4a7c55@192.0.2.45\r\n\
    CSeq: 102 INVITE\r\n\
    Contact: <sip:1001@192.0.2.45:5060;transport=udp>\r\n\
    User-Agent: Deskphone T46 66.86.0.15 805ec0aabbcc (second line of the switchboard)\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, UPDATE\r\n\
    Supported: replaces, timer, 100rel\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 202\r\n\r\n\
    v=0\r\no=- 1700000000 1700000000 IN IP4 192.0.2.45\r\ns=-\r\nc=IN IP4 192.0.2.45\r\n\
    t=0 0\r\nm=audio 16410 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n";

/// In the manner of phones and gateways that are met every day: order, case, parameters and
/// lengths are theirs.
pub const PHONES: [&[u8]; 5] = [
    INVITE,
    b"REGISTER sip:pbx.example.net SIP/2.0\r\n\
    Via: SIP/2.0/TCP 10.1.1.20:50412;branch=z9hG4bK3f2c1e90;rport;alias\r\n\
    From: \"214\" <sip:214@pbx.example.net>;tag=a41f0077bc9d0003\r\n\
    To: <sip:214@pbx.example.net>\r\n\
    Call-ID: 00a289c1-77bc0005-3c9f1e22-0b41aa01@10.1.1.20\r\n\
    Max-Forwards: 70\r\nCSeq: 105 REGISTER\r\nUser-Agent: CP-8841/12.8.1\r\n\
    Contact: <sip:8c1e22aa-91bc@10.1.1.20:50412;transport=tcp>;\
    +sip.instance=\"<urn:uuid:00000000-0000-0000-0000-00a289c177bc>\";reg-id=1;expires=3600\r\n\
    Supported: replaces,join,sdp-anat,norefersub\r\nContent-Length: 0\r\nExpires: 3600\r\n\r\n",
    b"SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 198.51.100.7:5060;received=198.51.100.7;rport=5060;\
    branch=z9hG4bKPj.7Yv~s1\r\n\
    Record-Route: <sip:198.51.100.9;lr;ftag=77ab>\r\n\
    Call-ID: 5Kq0-.zX91\r\nFrom: <sip:4477@198.51.100.7>;tag=77ab\r\n\
    To: <sip:+442079460123@carrier.example>;tag=as6e2f\r\nCSeq: 21007 INVITE\r\n\
    Contact: <sip:198.51.100.20:5060>\r\nServer: Softswitch\r\nContent-Length: 0\r\n\r\n",
    b"SUBSCRIBE sip:300@office.example.org SIP/2.0\r\n\
    v: SIP/2.0/UDP 172.16.4.31:2048;branch=z9hG4bK-dyq0v1n7gm2c;rport\r\n\
    f: \"Front Desk\" <sip:300@office.example.org>;tag=bqx1r4d7zo\r\n\
    t: <sip:300@office.example.org>\r\ni: 313539343732-k2v9x1qd8z7e\r\nCSeq: 1 SUBSCRIBE\r\n\
    Max-Forwards: 70\r\nm: <sip:300@172.16.4.31:2048;line=1yqk7o>;reg-id=1\r\n\
    o: message-summary\r\nAccept: application/simple-message-summary\r\nExpires: 3600\r\n\
    l: 0\r\n\r\n",
    b"BYE sip:1001@192.0.2.45:5060;transport=udp SIP/2.0\r\n\
    Via: SIP/2.0/UDP [2001:db8::12]:5060;branch=z9hG4bK2d4790.1\r\n\
    From: <sip:+12025550123@gw.example.net;user=phone>;tag=3919384-91\r\n\
    To: \"Alice Example\" <sip:1001@gw.example.net>;tag=8f1c2a77d0\r\n\
    Call-ID: 61e1b8a0-5b0f-4c1e-9f63-2f0c1f4a7c55@192.0.2.45\r\nCSeq: 2 BYE\r\n\
    Max-Forwards: 69\r\nReason: Q.850;cause=16;text=\"Normal call clearing\"\r\n\
    Content-Length: 0\r\n\r\n",
];
