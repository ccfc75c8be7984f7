//! From the configuration to what each shard is started with.
//! Owns:  listeners, the slices of the RTP range, the seeds.
//! Gives: one `ShardSettings` per shard CPU.
//! Never: a user or a trunk; those come with the snapshot.
//! Holds: slices do not overlap, and each has room for a call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use shared::config::Config;
use shared::ids::ShardId;
use shared::settings::{
    JournalSettings, PortSlice, RecordingSettings, ShardSettings, SipFlowSettings, WebListeners,
};
use shared::sipflow;

use crate::PRODUCT;

/// A call takes two pairs of ports; a slice must have them.
const PAIRS_MIN: u32 = 2;

/// Whether this host has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

pub(super) fn shard_settings(
    config: &Config,
    cpus: &[usize],
    ipv6: bool,
) -> Result<Vec<ShardSettings>, String> {
    let slices = slices(config.rtp_ports(), cpus.len())?;
    let count = u8::try_from(cpus.len()).map_err(|_| "there are too many shards".to_owned())?;
    let addresses = listen_addresses(config, ipv6);
    let sip = config.sip();
    let at = |port: u16| addresses.iter().map(move |ip| SocketAddr::new(*ip, port));
    let udp: Vec<SocketAddr> = sip.udp_ports().iter().copied().flat_map(at).collect();
    let tcp: Vec<SocketAddr> = sip.tcp_port().into_iter().flat_map(at).collect();
    let tls: Vec<SocketAddr> = config.tls().map(|tls| tls.port).into_iter().flat_map(at).collect();
    let web = WebListeners {
        ws: config.web().ws_port.into_iter().flat_map(at).collect(),
        wss: config.web().wss_port.into_iter().flat_map(at).collect(),
        path: config.web().path.clone(),
    };
    let nonce_key = rand::random();
    let journal = JournalSettings {
        folder: config.files().journal(),
        front: config.dataplane().journal_front().map(Into::into),
        run: run(),
        segment_bytes: u64::from(config.dataplane().journal_segment_mb()) << 20,
    };
    let sipflow = config.messages().map(|kept| SipFlowSettings {
        folder: kept.folder.clone(),
        run: journal.run,
        segment_bytes: flow_segment(kept.bytes_max, cpus.len()),
        bytes_max: kept.bytes_max,
        ttl: kept.ttl,
    });
    let settings =
        cpus.iter().zip(slices).zip(0..count).map(|((cpu, rtp_ports), shard)| ShardSettings {
            shard: ShardId(shard),
            shards: count,
            cpu: *cpu,
            udp: udp.clone(),
            tcp: tcp.clone(),
            tls: tls.clone(),
            tls_files: config.tls_files().cloned(),
            web: web.clone(),
            external_ip: config.external_ip().to_vec(),
            media_bind: addresses.clone(),
            rtp_ports,
            realm: sip.realm().to_owned(),
            algorithms: sip.algorithms().to_vec(),
            domains: sip.realms().to_vec(),
            product: sip.product().unwrap_or(PRODUCT).to_owned(),
            call_auth: sip.call_auth(),
            timers: sip.timers(),
            registrar: sip.registrar(),
            media: sip.media(),
            recording: RecordingSettings {
                auto_start: config.files().recording().is_some_and(|on| on.auto_start),
                captures: config.files().captures(),
            },
            journal: journal.clone(),
            sipflow: sipflow.clone(),
            random_seed: rand::random(),
            nonce_key,
        });
    Ok(settings.collect())
}

/// Those that are being written take at most an eighth of the room.
fn flow_segment(bytes_max: u64, shards: usize) -> u64 {
    let share = bytes_max / 8 / u64::try_from(shards).unwrap_or(u64::MAX).max(1);
    share.clamp(sipflow::SEGMENT_BYTES_MIN, sipflow::SEGMENT_BYTES_MAX)
}

/// The number of this start: later ones are higher, as long as the wall clock is not set back, and no
/// two are the same.
fn run() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    (ms << 16) | u64::from(rand::random::<u16>())
}

/// The address of the configuration, or the wildcard of every family that the host has.
fn listen_addresses(config: &Config, ipv6: bool) -> Vec<IpAddr> {
    match config.sip().addr() {
        Some(ip) => vec![ip],
        None if ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        None => vec![Ipv4Addr::UNSPECIFIED.into()],
    }
}

/// Equal shares of the pairs; what does not divide goes unused.
fn slices(range: PortSlice, shards: usize) -> Result<Vec<PortSlice>, String> {
    let pairs = (u32::from(range.last) + 1 - u32::from(range.first)) / 2;
    let shards = u32::try_from(shards).unwrap_or(u32::MAX);
    let share = pairs / shards.max(1);
    if share < PAIRS_MIN {
        return Err(format!(
            "rtp_end_port: {pairs} port pairs are too few for {shards} shards: each needs \
             {PAIRS_MIN}"
        ));
    }
    let slice = |shard: u32| {
        let first = u32::from(range.first) + 2 * share * shard;
        let port = |port: u32| u16::try_from(port).expect("it lies within the range");
        PortSlice { first: port(first), last: port(first + 2 * share - 1) }
    };
    Ok((0..shards).map(slice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_start_even_and_do_not_overlap() {
        let range = PortSlice { first: 12_000, last: 42_000 };
        for shards in [1, 2, 3, 7, 64] {
            let slices = slices(range, shards).expect("they fit");
            assert_eq!(slices.len(), shards);
            for slice in &slices {
                assert_eq!(slice.first % 2, 0);
                assert_eq!(slice.last % 2, 1);
                assert!(range.first <= slice.first && slice.last <= range.last);
            }
            for two in slices.windows(2) {
                assert!(two[0].last < two[1].first);
            }
        }
        let whole = slices(PortSlice { first: 60_000, last: 65_535 }, 1).expect("it fits");
        assert_eq!(whole, [PortSlice { first: 60_000, last: 65_535 }]);
    }

    #[test]
    fn a_range_that_is_too_small_is_refused() {
        let range = PortSlice { first: 12_000, last: 12_007 };
        assert!(slices(range, 2).is_ok());
        assert!(slices(range, 3).is_err());
    }
}
