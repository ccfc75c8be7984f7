//! A storm of mutated messages against a running gateway, and what it does to it.
//! Owns:  the rate, the passes, the samples of memory and health.
//! Gives: `Storm`: what came back, memory after each pass, the slowest health answer.
//! Never: stops at the first strange answer: only a crash, a hang or growth is a failure.
//! Holds: memory is compared after the transactions of a pass have died (RFC 3261: 32 s).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::gateway::Gateway;
use crate::load::batch::{self, BATCH, Inbox, Outbox};
use crate::mutate::Mutator;
use crate::wait;

/// After a pass: Timers F, H, L end everything within 32 s; some slack for a busy machine.
const QUIET: Duration = Duration::from_secs(60);
/// A gateway that answers health slower than this hangs.
const HEALTH_MAX: Duration = Duration::from_secs(3);
/// Growth from the first to the last pass that an allocator may show without a leak.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone, Copy, Debug)]
pub struct StormPlan {
    pub datagrams: u64,
    pub passes: u64,
    pub per_second: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Storm {
    pub sent: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    pub rss_before: u64,
    pub rss_after_pass: Vec<u64>,
    pub rss_peak: u64,
    pub health_max: Duration,
}

impl Storm {
    /// Whether memory stayed flat: the last pass ends where the first one did.
    pub fn is_flat(&self) -> bool {
        match self.rss_after_pass.as_slice() {
            [first, .., last] => *last <= first + first / 10 + GROWTH_BYTES_MAX,
            _ => true,
        }
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        writeln!(f, "  sent {} datagrams, answers {:?}", self.sent, self.answers)?;
        let passes: Vec<String> =
            self.rss_after_pass.iter().map(|bytes| format!("{:.1}", mb(*bytes))).collect();
        write!(
            f,
            "  memory {:.1} MB before, {} MB after each pass, peak {:.1} MB; slowest health \
             answer {:?}",
            mb(self.rss_before),
            passes.join(", "),
            mb(self.rss_peak),
            self.health_max
        )
    }
}

/// Sends the storm. An error is a crash or a hang.
pub fn blow(
    gateway: &mut Gateway,
    mutator: &mut Mutator,
    plan: StormPlan,
) -> Result<Storm, String> {
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let socket = batch::socket(SocketAddr::from(([127, 0, 0, 1], 0)))
        .map_err(|error| format!("a socket for the storm: {error}"))?;
    let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
    let mut storm = Storm { rss_before: gateway.usage()?.rss_bytes, ..Storm::default() };
    for pass in 0..plan.passes {
        let count = plan.datagrams / plan.passes;
        let started = Instant::now();
        let mut health_at = started;
        let mut sent = 0;
        while sent < count {
            let due = (started.elapsed().as_millis() as u64 * plan.per_second / 1_000).min(count);
            while sent < due {
                let datagram = mutator.next_datagram();
                // Long ones go out alone: a batch buffer holds what a network would carry.
                if datagram.len() > batch::BYTES {
                    // Refused by the kernel or not, it was offered.
                    let _ = socket.send_to(&datagram, target);
                } else {
                    outbox.push(target, |buffer| {
                        buffer[..datagram.len()].copy_from_slice(&datagram);
                        datagram.len()
                    });
                }
                if outbox.is_full() {
                    outbox.flush(&socket);
                }
                sent += 1;
            }
            outbox.flush(&socket);
            receive(&socket, &mut inbox, &mut storm);
            if health_at.elapsed() >= Duration::from_secs(1) {
                health_at = Instant::now();
                check(gateway, &mut storm)?;
            }
            wait::pause(Duration::from_millis(1));
        }
        storm.sent += sent;
        await_quiet(gateway).map_err(|error| format!("pass {pass}: {error}"))?;
        receive(&socket, &mut inbox, &mut storm);
        check(gateway, &mut storm)?;
        storm.rss_after_pass.push(gateway.usage()?.rss_bytes);
    }
    Ok(storm)
}

fn receive(socket: &std::net::UdpSocket, inbox: &mut Inbox, storm: &mut Storm) {
    loop {
        let count = inbox.fill(socket);
        for index in 0..count {
            let bytes = inbox.arrival(index).bytes;
            let status = bytes.get(8..11).and_then(|text| std::str::from_utf8(text).ok());
            let status = status.and_then(|text| text.parse().ok()).unwrap_or(0);
            *storm.answers.entry(status).or_default() += 1;
        }
        if count < BATCH {
            return;
        }
    }
}

fn check(gateway: &mut Gateway, storm: &mut Storm) -> Result<(), String> {
    let asked = Instant::now();
    let health = gateway.json("/ami/v1/health");
    storm.health_max = storm.health_max.max(asked.elapsed());
    if !gateway.is_running() {
        return Err(format!("the gateway crashed:\n{}", gateway.log_tail()));
    }
    health.map_err(|error| format!("{error}\n{}", gateway.log_tail()))?;
    if storm.health_max > HEALTH_MAX {
        return Err(format!("health took {:?}: the gateway hangs", storm.health_max));
    }
    storm.rss_peak = storm.rss_peak.max(gateway.usage()?.rss_bytes);
    Ok(())
}

/// Waits until no transaction and no call of the pass lives any more.
fn await_quiet(gateway: &Gateway) -> Result<(), String> {
    let mut left = String::new();
    wait::until("transactions and calls gone", QUIET, || {
        let metrics = gateway.metrics().ok()?;
        let of = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
        left = format!("transactions {}, calls {}", of("transactions"), of("calls"));
        (of("transactions") == 0.0 && of("calls") == 0.0).then_some(())
    })
    .map_err(|error| format!("{error}: {left}"))
}
