//! In which order a call tries the addresses of a trunk (RFC 2782, RFC 3263 4.2).
//! Owns:  the lots that are drawn among addresses of one rank.
//! Gives: `in_order`.
//! Never: looks whether an address is down or resting; the router and the hunt do.
//! Holds: every address is in the order once; a lower rank comes before a higher one.

use shared::limits::ENTRANCES_PER_TRUNK_MAX;
use shared::snapshot::{Entrance, Trunk};

use crate::router::weighted;

/// One draw of lots takes so many bits of the random number.
const LOT_BITS: u32 = 64 / ENTRANCES_PER_TRUNK_MAX as u32;

/// The control plane names no more than `ENTRANCES_PER_TRUNK_MAX` addresses; what is beyond is not
/// tried.
pub(crate) fn in_order(trunk: &Trunk, random: u64) -> impl Iterator<Item = &Entrance> {
    let entrances = &trunk.entrances[..trunk.entrances.len().min(ENTRANCES_PER_TRUNK_MAX)];
    let mut order = [0_u8; ENTRANCES_PER_TRUNK_MAX];
    for (place, number) in order.iter_mut().zip(0..) {
        *place = number;
    }
    let mut start = 0;
    while let Some(first) = entrances.get(start) {
        let same = entrances[start..].iter().take_while(|one| one.rank == first.rank).count();
        draw(
            &mut order[start..start + same],
            entrances,
            random.rotate_left(start as u32 * LOT_BITS),
        );
        start += same;
    }
    let count = entrances.len();
    order.into_iter().take(count).map(|place| &entrances[usize::from(place)])
}

/// Brings places of one rank into an order by lot. Weight 0 is drawn only when nothing else is left.
fn draw(places: &mut [u8], entrances: &[Entrance], mut random: u64) {
    let mut weights = [0_u32; ENTRANCES_PER_TRUNK_MAX];
    for drawn in 0..places.len().saturating_sub(1) {
        let left = &mut places[drawn..];
        for (weight, place) in weights.iter_mut().zip(&*left) {
            *weight = entrances[usize::from(*place)].weight.into();
        }
        random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(LOT_BITS);
        left.swap(0, weighted(&weights[..left.len()], random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::net::Transport;

    fn trunk(ranks_and_weights: &[(u16, u16)]) -> Trunk {
        let mut trunk = Trunk::plain("a", "a.test", ([10, 0, 0, 1], 1).into(), Transport::Udp);
        let entrance = |(number, (rank, weight)): (u16, &(u16, u16))| Entrance {
            rank: *rank,
            weight: *weight,
            ..Entrance::plain("a.test", ([10, 0, 0, 1], number).into(), Transport::Udp)
        };
        trunk.entrances = (0..).zip(ranks_and_weights).map(entrance).collect();
        trunk
    }

    fn ports(trunk: &Trunk, random: u64) -> Vec<u16> {
        in_order(trunk, random).map(|entrance| entrance.address.port()).collect()
    }

    fn lots() -> impl Iterator<Item = u64> {
        (1..=10_000_u64).map(|call| call.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17))
    }

    #[test]
    fn ranks_come_first_whatever_the_lot() {
        let trunk = trunk(&[(0, 1), (10, 50), (10, 50), (20, 0)]);
        for lot in lots() {
            let ports = ports(&trunk, lot);
            assert!(matches!(ports[..], [0, 1, 2, 3] | [0, 2, 1, 3]), "{ports:?}");
        }
        assert_eq!(ports(&self::trunk(&[]), 7), [0_u16; 0]);
    }

    #[test]
    fn among_equals_calls_split_by_weight_within_three_points() {
        let trunk = trunk(&[(5, 60), (5, 30), (5, 10), (5, 0)]);
        let mut hits = [0_u32; 4];
        for lot in lots() {
            let ports = ports(&trunk, lot);
            hits[usize::from(ports[0])] += 1;
            let mut all = ports.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3], "each once");
            assert_eq!(ports[3], 3, "weight 0 comes last");
        }
        for (hits, share) in hits.into_iter().zip([6_000, 3_000, 1_000, 0]) {
            assert!(hits.abs_diff(share) < 300, "{hits} of {share}");
        }
    }

    #[test]
    fn addresses_without_weights_are_equal() {
        let trunk = trunk(&[(0, 0), (0, 0), (0, 0)]);
        let mut hits = [0_u32; 3];
        lots().for_each(|lot| hits[usize::from(ports(&trunk, lot)[0])] += 1);
        assert!(hits.iter().all(|hits| hits.abs_diff(3_333) < 300), "{hits:?}");
    }

    #[test]
    fn more_addresses_than_the_limit_are_not_tried() {
        let trunk = trunk(&[(0, 1); 12]);
        assert_eq!(in_order(&trunk, 3).count(), ENTRANCES_PER_TRUNK_MAX);
    }
}
