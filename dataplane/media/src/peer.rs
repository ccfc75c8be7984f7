//! What faces us on one side of a relay: the addresses of its SDP, its latches, its statistics.
//! Owns:  `Peer`: who may send to us on this side, and where packets for this side go.
//! Gives: admission of a packet by its source, or the counter of its drop.
//! Never: forwards (that is `relay`), reads a clock, allocates.
//! Holds: `rtp_to` and `rtcp_to` always follow from SDP and latches: every change ends in `settle`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shared::metrics::Counter;
use shared::settings::MediaLock;
use shared::time::Instant;

use crate::edit::{Mute, Remote};
use crate::latch::{Judgement, Latch, Rules, Stranger};
use crate::rtp::Header;
use crate::splice::Splice;
use crate::stream::Reception;

/// What faces us on one side.
#[derive(Debug)]
pub(crate) struct Peer {
    remote: Option<Remote>,
    pub(crate) may_send: bool,
    pub(crate) may_receive: bool,
    /// Whether this side wants to hear anything at all.
    pub(crate) hears: bool,
    pub(crate) mute: Mute,
    /// What the stream towards this side has become since we spoke in it.
    pub(crate) splice: Option<Box<Splice>>,
    /// Both components on one port.
    pub(crate) mux: bool,
    pub(crate) latch: Latch,
    rtcp_source: Option<SocketAddr>,
    /// Where packets for this side go, settled whenever one of the above changes.
    pub(crate) rtp_to: Option<SocketAddr>,
    pub(crate) rtcp_to: Option<SocketAddr>,
    pub(crate) reception: Reception,
}

impl Peer {
    pub(crate) const fn new() -> Self {
        Self {
            remote: None,
            may_send: true,
            may_receive: true,
            hears: true,
            mute: Mute::Off,
            splice: None,
            mux: false,
            latch: Latch::new(),
            rtcp_source: None,
            rtp_to: None,
            rtcp_to: None,
            reception: Reception::new(),
        }
    }

    /// False when nothing changed.
    pub(crate) fn set_remote(&mut self, now: Instant, remote: Remote) -> bool {
        let before = self.remote.replace(Remote { relearn: false, ..remote });
        if before == self.remote && !remote.relearn {
            return false;
        }
        self.may_send = remote.may_send && !remote.held;
        self.may_receive = remote.may_receive && !remote.held;
        self.hears = remote.may_receive;
        self.mux = remote.rtcp == remote.rtp;
        // An old hold (c=0.0.0.0, RFC 3264 8.4) names nobody: what was latched still stands.
        let moved = before.is_some_and(|b| b.rtp != remote.rtp) && is_usable(remote.rtp);
        if remote.relearn || moved {
            self.latch.forget(now);
            self.rtcp_source = None;
        } else if before.is_some_and(|b| b.rtcp != remote.rtcp) && is_usable(remote.rtcp) {
            self.rtcp_source = None;
        }
        self.settle();
        true
    }

    /// Where packets for this side go: to the latched source (symmetric RTP, RFC 4961), before that
    /// to the address of the SDP.
    fn settle(&mut self) {
        let named = self.remote.map(|remote| remote.rtp);
        let latched = self.latch.source();
        self.rtp_to = latched.or(named).filter(|&to| is_usable(to));
        // The RTCP address of the SDP is as far away as its RTP address: once RTP came from
        // elsewhere, it is a private address behind NAT, and not ours to send to.
        let reachable =
            |remote: &Remote| latched.is_none_or(|source| source.ip() == remote.rtp.ip());
        let named_rtcp = self.remote.filter(reachable).map(|remote| remote.rtcp);
        self.rtcp_to = self.rtcp_source.or(named_rtcp).filter(|&to| is_usable(to));
    }

    /// Whether signalling has named an address for this side, usable or not.
    pub(crate) const fn is_described(&self) -> bool {
        self.remote.is_some()
    }

    /// An RTP packet that does not come from the latched source. `heard`: the other side has an SDP
    /// too. Before that nobody but the SDP's own address may latch, so that a spray of packets at
    /// the ports of a ringing call gains nothing.
    #[cold]
    pub(crate) fn meet(
        &mut self,
        now: Instant,
        from: SocketAddr,
        header: &Header,
        bytes: usize,
        rules: Rules,
        heard: bool,
    ) -> Result<(), Counter> {
        if rules.lock == MediaLock::Off {
            self.latch.follow(now, from);
            self.settle();
            return Ok(());
        }
        let Some(named) = self.remote.map(|remote| remote.rtp) else {
            return Err(Counter::RtpOnProbation);
        };
        if !heard && self.latch.source().is_none() && from != named {
            return Err(Counter::RtpNoPeer);
        }
        let bytes = u32::try_from(bytes).expect("a packet within limits");
        let stranger = Stranger { now, from, named, header, bytes };
        match self.latch.judge(&stranger, rules) {
            Judgement::Held => Err(Counter::RtpOnProbation),
            Judgement::Mismatch => {
                self.reception.count_mismatch();
                Err(Counter::RtpSourceMismatch)
            }
            Judgement::Latched(probation) => {
                self.reception.credit(probation, header.ssrc);
                if self.rtcp_source.is_some_and(|rtcp| rtcp.ip() != from.ip()) {
                    self.rtcp_source = None;
                }
                self.settle();
                Ok(())
            }
        }
    }

    /// RTCP on its own port: before RTP latched only from the address of the SDP, afterwards from
    /// the IP address of the latched source. The first one that fits is kept.
    pub(crate) fn admit_rtcp(&mut self, from: SocketAddr, lock: MediaLock) -> Result<(), Counter> {
        if self.rtcp_source == Some(from) {
            return Ok(());
        }
        let named = self.remote.is_some_and(|remote| remote.rtcp == from);
        let beside_rtp = self.latch.source().is_some_and(|source| source.ip() == from.ip());
        let admitted = match lock {
            MediaLock::Off => true,
            MediaLock::Relearn => beside_rtp || (named && self.rtcp_source.is_none()),
            MediaLock::Strict => self.rtcp_source.is_none() && (beside_rtp || named),
        };
        if admitted {
            self.rtcp_source = Some(from);
            self.settle();
            return Ok(());
        }
        Err(self.refuse())
    }

    /// RTCP on the RTP port (RFC 5761): the latch of RTP decides, and is not moved by it.
    pub(crate) fn admit_muxed(&mut self, from: SocketAddr, lock: MediaLock) -> Result<(), Counter> {
        let expected = self.latch.source().or_else(|| self.remote.map(|remote| remote.rtp));
        if lock == MediaLock::Off || expected == Some(from) {
            return Ok(());
        }
        Err(self.refuse())
    }

    fn refuse(&mut self) -> Counter {
        if self.latch.source().is_none() && self.rtcp_source.is_none() {
            return Counter::RtpOnProbation;
        }
        self.reception.count_mismatch();
        Counter::RtpSourceMismatch
    }
}

/// Whether a packet may be sent there at all: a unicast address and a port.
fn is_usable(to: SocketAddr) -> bool {
    let ip = to.ip();
    to.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}
