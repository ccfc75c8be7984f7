//! A gateway with SIPp peers around it: what nearly every test starts with.
//! Owns:  one gateway; addresses for peers.
//! Gives: registration, callers and callees with their credentials filled in, CDR checks.
//! Never: asserts anything that one test alone is about.
//! Holds: every failure says what the peers saw on the wire.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use shared::cdr::Cdr;
use shared::ids::Side;
use shared::net::Transport;

use crate::baresip::{Account, Baresip};
use crate::gateway::{Gateway, Plan, spare_port};
use crate::sipp::{Run, Sipp, Transcript};
use crate::wav::{Stereo, longest_gap_ms, loudest_share, spoken, steady_share};

/// For a scenario without long pauses.
pub const SOON: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Scene {
    pub gateway: Gateway,
}

impl Scene {
    /// The gateway comes before its peers: on a host that is busy with others too, messages would wait for
    /// its CPU so long that it refuses some of them (503), which few tests are about.
    pub fn start(plan: Plan) -> Result<Self, String> {
        let gateway = Gateway::start(plan)?;
        gateway.usage()?.prefer();
        Ok(Self { gateway })
    }

    /// An address for a peer.
    pub fn spare(&self) -> Result<SocketAddr, String> {
        let ip = self.gateway.sip.ip();
        spare_port(ip).map(|port| SocketAddr::new(ip, port))
    }

    /// Registers `user` at `at` with SIPp.
    pub fn register(&self, user: &str, at: SocketAddr) -> Result<Transcript, String> {
        self.registration(user, self.gateway.password(user), 200, 300).complete(
            at,
            self.gateway.sip,
            SOON,
        )
    }

    pub fn registration(&self, user: &str, password: &str, status: u16, expires_s: u32) -> Run {
        Run::new("register")
            .with("STATUS", status)
            .argument("-s", user)
            .key("expires", expires_s)
            .credentials(user, password)
            .calls(1)
    }

    /// A registered callee that runs `scenario` for one call.
    pub fn callee(&self, user: &str, scenario: Run) -> Result<Sipp, String> {
        let at = self.spare()?;
        self.register(user, at)?;
        scenario.calls(1).start(at, self.gateway.sip)
    }

    /// A registered baresip, which answers whoever calls it.
    pub fn baresip(&self, user: &str, tone_hz: u16) -> Result<Baresip, String> {
        self.baresip_over(Transport::Udp, self.gateway.sip, None, user, tone_hz)
    }

    /// The same at another listener; one of TLS bears the certificate that is believed.
    pub fn baresip_over(
        &self,
        transport: Transport,
        registrar: SocketAddr,
        believed: Option<&Path>,
        user: &str,
        tone_hz: u16,
    ) -> Result<Baresip, String> {
        let password = self.gateway.password(user);
        let account = Account { user, password, registrar, register_s: 300, tone_hz };
        let phone = Baresip::start_over(&account, transport, believed)?;
        phone.await_registered(SOON)?;
        Ok(phone)
    }

    /// Waits until so many further packets of RTP went on to the other side: 100 a second are both
    /// sides of a call.
    pub fn talk(&self, packets: u32) -> Result<(), String> {
        const FORWARDED: &str = "rtp_forwarded_total";
        let wanted = self.gateway.metric(FORWARDED)? + f64::from(packets);
        self.gateway.await_metric(FORWARDED, |count| count >= wanted).map(drop)
    }

    /// `scenario` with the caller's name and credentials.
    pub fn caller(&self, scenario: Run, user: &str, callee: &str) -> Run {
        scenario
            .argument("-s", callee)
            .key("caller", user)
            .credentials(user, self.gateway.password(user))
            .calls(1)
    }

    /// Runs a caller to its end, then the callee to its end.
    pub fn call(
        &self,
        caller: Run,
        callee: Sipp,
        limit: Duration,
    ) -> Result<(Transcript, Transcript), String> {
        let calling = caller.start(self.spare()?, self.gateway.sip)?;
        let caller = calling.succeed(limit).map_err(|error| self.explain("caller", &error))?;
        let callee = callee.succeed(SOON).map_err(|error| self.explain("callee", &error))?;
        Ok((caller, callee))
    }

    /// The CDR of what the caller saw.
    pub fn record(&self, caller: &Transcript) -> Result<Value, String> {
        let call_id = caller.call_id().ok_or("the caller sent nothing")?;
        self.gateway.await_record(&call_id)
    }

    fn explain(&self, who: &str, error: &str) -> String {
        format!("{who}: {error}\n-- gateway\n{}", self.gateway.log_tail())
    }
}

/// What a CDR must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub caller: &'a str,
    pub callee: &'a str,
    pub status: u16,
    /// Empty: not compared.
    pub hangup_reason: &'a str,
    pub answered: bool,
    /// Whether a ring time must be there; answered calls may lack it.
    pub rang: bool,
    /// From ring to answer, give or take half a second.
    pub ring_ms: Option<u64>,
    /// From answer to end, give or take half a second.
    pub talk_ms: Option<u64>,
}

impl Expected<'_> {
    /// 1001 called 1002, 1002 answered, 1001 hung up.
    pub const ANSWERED: Self = Expected {
        caller: "1001",
        callee: "1002",
        status: 200,
        hangup_reason: "byCaller",
        answered: true,
        rang: false,
        ring_ms: None,
        talk_ms: None,
    };
    pub const REFUSED: Self = Expected { status: 0, answered: false, ..Self::ANSWERED };
}

/// Panics with the whole record when it does not say what is expected.
pub fn assert_record(record: &Value, expected: &Expected<'_>) {
    let cdr: Cdr = serde_json::from_value(record.clone())
        .unwrap_or_else(|error| panic!("not a CDR: {error}: {record}"));
    let parties = (cdr.caller.as_str(), cdr.callee.as_str());
    assert_eq!(parties, (expected.caller, expected.callee), "{record}");
    assert_eq!(cdr.status_code, expected.status, "{record}");
    if !expected.hangup_reason.is_empty() {
        assert_eq!(record["hangupReason"], expected.hangup_reason, "{record}");
    }
    assert_eq!(cdr.answer_time.is_some(), expected.answered, "{record}");
    assert!(cdr.ring_time.is_some() || !expected.rang, "{record}");
    let times = [Some(cdr.start_time), cdr.ring_time, cdr.answer_time, Some(cdr.end_time)];
    let times: Vec<i64> = times.into_iter().flatten().map(|at| at.0).collect();
    assert!(times.is_sorted(), "times out of order: {record}");
    if !expected.answered {
        assert_eq!(cdr.duration_ms, 0, "{record}");
    }
    if let Some(talk_ms) = expected.talk_ms {
        assert!(cdr.duration_ms.abs_diff(talk_ms) <= 500, "talked {talk_ms} ms: {record}");
    }
    if let (Some(answer), true) = (cdr.answer_time, expected.answered) {
        let wall = u64::try_from(cdr.end_time.0 - answer.0).unwrap_or(0);
        assert!(wall.abs_diff(cdr.duration_ms) <= 500, "duration against times: {record}");
        if let (Some(ring), Some(ring_ms)) = (cdr.ring_time, expected.ring_ms) {
            let rang = u64::try_from(answer.0 - ring.0).unwrap_or(0);
            assert!(rang.abs_diff(ring_ms) <= 500, "rang {ring_ms} ms: {record}");
        }
    }
    assert!(cdr.ring_time.is_some() || expected.ring_ms.is_none(), "no ring time: {record}");
}

/// Each side was heard, and so many packets of it went on to the other one.
pub fn assert_both_spoke(record: &Value, packets: u64) {
    let streams = record["mediaQuality"].as_array().map(Vec::as_slice).unwrap_or_default();
    for side in [Side::Caller, Side::Callee] {
        let of_side = |stream: &&Value| stream["side"] == serde_json::json!(side);
        let forwarded = |stream: &Value| stream["forwarded"].as_u64().unwrap_or(0);
        let went_on: u64 = streams.iter().filter(of_side).map(forwarded).sum();
        assert!(went_on >= packets, "{went_on} packets of the {side:?} went on: {record}");
    }
}

/// Stereo within 100 ms of the talk time, 440 Hz of the caller on the left, 1000 Hz of the callee
/// on the right and not the other way round, no gap above 40 ms.
pub fn assert_recording(bytes: &[u8], record: &Value) {
    let talked_ms = record["durationMs"].as_u64().expect("a CDR has a duration");
    let wav = Stereo::read(bytes).unwrap_or_else(|error| panic!("recording: {error}"));
    let length_ms = wav.duration_ms();
    assert!(length_ms.abs_diff(talked_ms) <= 100, "{length_ms} ms of {talked_ms} ms: {record}");
    for (name, side, own, other) in
        [("left", &wav.left, 440.0, 1_000.0), ("right", &wav.right, 1_000.0, 440.0)]
    {
        let (share, foreign) = (steady_share(side, own), loudest_share(side, other));
        assert!(share > 0.9, "{name}: share of {own} Hz falls to {share}");
        assert!(foreign < 0.05, "{name}: share of {other} Hz rises to {foreign}");
        let gap_ms = longest_gap_ms(side);
        assert!(gap_ms <= 40, "{name}: a gap of {gap_ms} ms");
        let spoken_ms = spoken(side).len() as u64 / 8;
        assert!(spoken_ms + 500 >= talked_ms, "{name}: sound for {spoken_ms} of {talked_ms} ms");
    }
}
