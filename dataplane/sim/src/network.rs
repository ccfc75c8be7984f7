//! The lines between the phones and the gateway: loss, doubles, delay, address translation.
//! Owns:  `Line` (what becomes of one datagram), `Nat` (who is who outside).
//! Gives: arrival times; several datagrams overtake each other because each draws its own delay.
//! Never: looks into a datagram.
//! Holds: everything is drawn from one seeded stream.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shared::time::Instant;

use crate::random::Random;

/// How bad the network is; chances in per cent.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u32,
    pub duplication: u32,
    pub delay_min: Duration,
    pub delay_max: Duration,
}

impl Weather {
    /// What the issue asks for: 10 % loss, 5 % doubles, delays that reorder.
    pub const ROUGH: Self = Self {
        loss: 10,
        duplication: 5,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(200),
    };

    pub const CALM: Self = Self {
        loss: 0,
        duplication: 0,
        delay_min: Duration::from_millis(5),
        delay_max: Duration::from_millis(5),
    };
}

#[derive(Debug)]
pub struct Line {
    pub weather: Weather,
    random: Random,
}

impl Line {
    pub const fn new(weather: Weather, random: Random) -> Self {
        Self { weather, random }
    }

    /// When the copies of one datagram arrive: none, one or two.
    pub fn carry(&mut self, now: Instant) -> impl Iterator<Item = Instant> + use<> {
        let copies = [
            !self.random.percent(self.weather.loss),
            self.random.percent(self.weather.duplication),
        ];
        let arrivals = copies.map(|there| there.then(|| now + self.delay()));
        arrivals.into_iter().flatten()
    }

    pub fn delay(&mut self) -> Duration {
        let Weather { delay_min, delay_max, .. } = self.weather;
        self.random.delay(delay_min, delay_max)
    }
}

/// Endpoint-independent mapping (RFC 4787 4.1): one outside port per inside socket.
#[derive(Debug)]
pub struct Nat {
    outside: IpAddr,
    next_port: u16,
    mapped: BTreeMap<SocketAddr, SocketAddr>,
    inside: BTreeMap<SocketAddr, SocketAddr>,
}

impl Nat {
    pub const fn new(outside: IpAddr) -> Self {
        Self { outside, next_port: 30_001, mapped: BTreeMap::new(), inside: BTreeMap::new() }
    }

    pub fn outbound(&mut self, from: SocketAddr) -> SocketAddr {
        if let Some(&known) = self.mapped.get(&from) {
            return known;
        }
        let to = SocketAddr::new(self.outside, self.next_port);
        self.next_port += 3;
        self.mapped.insert(from, to);
        self.inside.insert(to, from);
        to
    }

    pub fn inbound(&self, to: SocketAddr) -> Option<SocketAddr> {
        self.inside.get(&to).copied()
    }

    /// The box restarted: what was mapped is forgotten, the next packet gets a new port.
    pub fn rebind(&mut self) {
        self.mapped.clear();
        self.inside.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_doubles_come_at_their_rates() {
        let mut line = Line::new(Weather::ROUGH, Random::new(5));
        let arrived: usize = (0..10_000).map(|_| line.carry(Instant::ZERO).count()).sum();
        // 0.90 first copies and 0.05 doubles.
        assert!((9_300..=9_700).contains(&arrived), "{arrived}");
    }

    #[test]
    fn datagrams_overtake_each_other() {
        let mut line = Line::new(Weather::ROUGH, Random::new(6));
        let mut sent = Vec::new();
        for millis in 0..100 {
            sent.extend(line.carry(Instant::from_millis(millis)));
        }
        assert!(!sent.is_sorted());
    }

    #[test]
    fn a_nat_keeps_its_mapping_until_it_restarts() {
        let mut nat = Nat::new([203, 0, 113, 1].into());
        let inside = "192.168.1.2:5060".parse().expect("an address");
        let outside = nat.outbound(inside);
        assert_eq!(nat.outbound(inside), outside);
        assert_eq!(nat.inbound(outside), Some(inside));
        nat.rebind();
        assert_eq!(nat.inbound(outside), None);
        assert_ne!(nat.outbound(inside), outside);
    }
}
