//! Descriptions as phones and gateways write them, with documentation addresses.
//! Owns:  the texts, one constant per peer.
//! Gives: LF line ends here; `crlf` gives the form of the wire.
//! Never: anything that a test expects of them.
//! Holds: order and spelling are the peer's, oddities included.

pub(super) fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

pub(super) const ALL: [&str; 12] = [
    BAREBONES,
    BFCP_ROOM,
    CISCO_GATEWAY,
    HOLD_BY_ADDRESS,
    HOLD_INACTIVE,
    HOST_NAME,
    LINPHONE_VIDEO,
    MICROSIP,
    SIX_TO_FOUR,
    T38_SWITCH,
    TRAILING_GARBAGE,
    YEALINK,
];

/// A desk phone: the direction stands last, the user name in o= is a dash.
pub(super) const YEALINK: &str = "\
v=0
o=- 20021 20021 IN IP4 192.0.2.21
s=SDP
c=IN IP4 192.0.2.21
t=0 0
m=audio 11796 RTP/AVP 0 8 18 9 101
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:9 G722/8000
a=fmtp:101 0-15
a=rtpmap:101 telephone-event/8000
a=ptime:20
a=sendrecv
";

/// A soft phone on top of PJSIP: b= lines, a=rtcp with its address, ssrc and cname.
pub(super) const MICROSIP: &str = "\
v=0
o=- 3907654321 3907654321 IN IP4 192.0.2.34
s=pjmedia
b=AS:84
t=0 0
a=X-nat:0
m=audio 4006 RTP/AVP 8 0 101
c=IN IP4 192.0.2.34
b=TIAS:64000
a=rtcp:4007 IN IP4 192.0.2.34
a=sendrecv
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ssrc:1409853072 cname:0d4e3a5567dd27b9
";

/// A voice gateway: c= on both levels, a port count.
pub(super) const CISCO_GATEWAY: &str = "\
v=0
o=CiscoSystemsSIP-GW-UserAgent 6264 4268 IN IP4 198.51.100.5
s=SIP Call
c=IN IP4 198.51.100.5
t=0 0
m=audio 16638/1 RTP/AVP 18 0 101
c=IN IP4 198.51.100.6
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=yes
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
";

/// Audio and video with ICE, AVPF feedback and description-level attributes.
pub(super) const LINPHONE_VIDEO: &str = "\
v=0
o=alice 2710 1482 IN IP4 192.0.2.48
s=Talk
c=IN IP4 192.0.2.48
t=0 0
a=ice-pwd:f3a4b5c6d7e8f9a0b1c2d3e4
a=ice-ufrag:9b2c
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
a=record:off
m=audio 7078 RTP/AVPF 96 97 0 8 98
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=fmtp:97 vbr=on
a=rtpmap:98 telephone-event/48000
a=rtcp:40321
a=candidate:1 1 UDP 2130706303 192.0.2.48 7078 typ host
a=candidate:1 2 UDP 2130706302 192.0.2.48 40321 typ host
a=rtcp-fb:* trr-int 1000
a=rtcp-fb:* ccm tmmbr
m=video 9078 RTP/AVPF 99
a=rtpmap:99 VP8/90000
a=candidate:1 1 UDP 2130706303 192.0.2.48 9078 typ host
a=remote-candidates:1 203.0.113.9 9078
a=end-of-candidates
a=rtcp-mux
a=rtcp-fb:99 nack pli
a=recvonly
";

/// Hold as RFC 2543 had it: the address goes, the direction stays.
pub(super) const HOLD_BY_ADDRESS: &str = "\
v=0
o=- 77 3 IN IP4 192.0.2.21
s=-
c=IN IP4 0.0.0.0
t=0 0
m=audio 11800 RTP/AVP 0
a=rtpmap:0 PCMU/8000
";

pub(super) const HOLD_INACTIVE: &str = "\
v=0
o=- 77 4 IN IP4 192.0.2.21
s=-
c=IN IP4 192.0.2.21
t=0 0
a=inactive
m=audio 11800 RTP/AVP 0
a=rtpmap:0 PCMU/8000
";

/// A fax machine changes from voice to T.38.
pub(super) const T38_SWITCH: &str = "\
v=0
o=gw 1 2 IN IP4 198.51.100.5
s=-
c=IN IP4 198.51.100.5
t=0 0
m=audio 0 RTP/AVP 0
m=image 16640 udptl t38
a=T38FaxVersion:0
a=T38MaxBitRate:14400
a=T38FaxRateManagement:transferredTCF
a=T38FaxUdpEC:t38UDPRedundancy
";

/// A meeting room: two videos with labels, floor control over TCP.
pub(super) const BFCP_ROOM: &str = "\
v=0
o=room 4 4 IN IP4 198.51.100.77
s=-
c=IN IP4 198.51.100.77
b=AS:2048
t=0 0
m=audio 49170 RTP/AVP 0
a=label:10
m=video 49172 RTP/AVP 97
i=people
b=TIAS:1024000
a=rtpmap:97 H264/90000
a=fmtp:97 profile-level-id=428014
a=label:11
a=content:main
m=video 49174 RTP/AVP 97
a=rtpmap:97 H264/90000
a=label:12
a=content:slides
m=application 5070 TCP/BFCP *
a=setup:actpass
a=connection:new
a=floorctrl:c-s
a=confid:1
a=userid:2
a=floorid:1 mstrm:12
";

/// IPv6 on the description level, IPv4 on the line.
pub(super) const SIX_TO_FOUR: &str = "\
v=0
o=- 9 9 IN IP6 2001:db8::9
s=-
c=IN IP6 2001:db8::9
t=0 0
m=audio 20000 RTP/SAVP 8
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz
m=audio 20002 RTP/AVP 8
c=IN IP4 192.0.2.9
";

pub(super) const HOST_NAME: &str = "\
v=0
o=- 9 9 IN IP4 phone.example.net
s=-
c=IN IP4 phone.example.net
t=0 0
m=audio 20000 RTP/AVP 8
";

/// Neither o=, s=, c= nor t=; an attribute on the description level.
pub(super) const BAREBONES: &str = "\
v=0
a=tool:barebones
m=audio 5004 RTP/AVP 0
";

pub(super) const TRAILING_GARBAGE: &str = "\
v=0
o=- 5 5 IN IP4 192.0.2.5
s=-
c=IN IP4 192.0.2.5
t=0 0
m=audio 5004 RTP/AVP 0
a=ptime:20

--boundary42--
 c=IN IP4 203.0.113.66
C=IN IP4 203.0.113.66
";
