//! What WebSocket clients say, on its way to the core: each message is one SIP message (RFC 7118 5).
//! Owns:  which messages are keep-alives.
//! Gives: SIP messages to the core, pongs to who pings with CRLFs, the end to who is done.
//! Never: cuts a message: what is behind its Content-Length is dropped as in a datagram.
//! Holds: a flow that the core closed is not read any further.

use call::Input;
use shared::metrics::Counter;
use shared::time::Now;

use crate::ring::token::Seat;
use crate::shell::Shell;
use crate::sip_tcp::web_flow::Heard;

impl Shell {
    /// A piece of the stream of a WebSocket flow.
    pub(crate) fn web(&mut self, now: Now, mut piece: &[u8], seat: Seat) {
        let mut whole = false;
        while let Some(from) = self.tcp.source(seat) {
            let counters = self.core.plain_counters();
            let heard = self.tcp.hear(&mut self.ring, now.mono, seat, &mut piece, counters);
            whole |= heard != Heard::More;
            match heard {
                Heard::More => {
                    self.tcp.read_out(seat, whole, now.mono);
                    break;
                }
                Heard::Alive | Heard::Upgraded => {}
                Heard::Message(bytes) if is_keep_alive(&bytes) => {
                    counters.bump(Counter::SipKeepAlives);
                    // CRLFCRLF wants CRLF back (RFC 5626 4.4.1).
                    if bytes.starts_with(b"\r\n\r\n") {
                        self.tcp.answer_ping(&mut self.ring, seat, counters);
                    }
                }
                Heard::Message(bytes) => {
                    let bytes = &bytes[..];
                    self.core.waited(now.mono, self.late);
                    self.message(now, from, bytes, Input::Received { from, bytes });
                }
                Heard::Over { .. } | Heard::Refused => {
                    if let Some(flow) = from.flow {
                        self.tcp.finish(&mut self.ring, now.mono, flow);
                    }
                    break;
                }
            }
        }
        self.settle(now);
    }
}

fn is_keep_alive(message: &[u8]) -> bool {
    message.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}
