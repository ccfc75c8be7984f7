//! Unguessable names: tags, branches, Call-IDs, call ids; each tells which shard minted it.
//! Owns:  the shard's random stream: SHA-256 in counter mode over the seed.
//! Gives: `Tag` and `Branch` texts whose slot is found again without a table.
//! Never: repeats a name within a process; the seed differs with every start.
//! Holds: `shard_of_tag` and `shard_of_branch` read back what was minted, from untrusted text.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use shared::ids::{CallId, ShardId};
use shared::limits::CALLS_PER_SHARD_MAX;
use shared::time::WallMs;

use crate::slots::Key;

/// Starts every branch of ours, after the RFC 3261 magic cookie.
const BRANCH_PREFIX: &[u8] = b"z9hG4bKrg";
const TAG_PREFIX: &[u8] = b"rg";
/// A call's slot has 24 bits in its id.
const SLOT_MASK: u32 = 0x00ff_ffff;
const _: () = assert!(CALLS_PER_SHARD_MAX <= SLOT_MASK as usize);

#[derive(Debug)]
pub(crate) struct Mint {
    shard: ShardId,
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

/// What a tag of ours says: the call's slot and the leg in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TagParts {
    pub call: Key,
    pub leg: u8,
}

/// A leg as its tag names it for good, wherever it has gone since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LegName {
    pub shard: ShardId,
    pub parts: TagParts,
}

impl Mint {
    pub(crate) fn new(shard: ShardId, seed: [u8; 32]) -> Self {
        Self { shard, seed, counter: 0, block: [0; 32], used: 32 }
    }

    pub(crate) fn random(&mut self) -> u64 {
        if self.used + 8 > self.block.len() {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_be_bytes());
            self.block = hash.finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        u64::from_be_bytes(word)
    }

    /// A dialog's local tag (RFC 3261 19.3): at least 32 random bits, ours has 64.
    pub(crate) fn tag(&mut self, call: Key, leg: u8) -> String {
        let random = self.random();
        let Key { slot, generation } = call;
        format!("rg{:02x}{slot:08x}{generation:08x}{leg:02x}{random:016x}", self.shard.0)
    }

    /// A To tag for an answer that creates no dialog.
    pub(crate) fn stray_tag(&mut self) -> String {
        let random = self.random();
        format!("rg{:02x}-{random:016x}", self.shard.0)
    }

    /// A client transaction's branch (RFC 3261 8.1.1.7). Returns its random part, which a response
    /// has to bring back.
    pub(crate) fn write_branch(&mut self, out: &mut String, transaction: Key) -> u64 {
        let random = self.random();
        let Key { slot, generation } = transaction;
        write!(out, "z9hG4bKrg{:02x}{slot:08x}{generation:08x}{random:016x}", self.shard.0)
            .expect("a String takes all");
        random
    }

    pub(crate) fn call_id(&mut self, wall: WallMs, call: Key) -> CallId {
        let time = u128::from(wall.0.max(0).unsigned_abs()) & 0xffff_ffff_ffff;
        let slot = u128::from(call.slot & SLOT_MASK);
        let random = u128::from(self.random() >> 16);
        CallId((time << 80) | (u128::from(self.shard.0) << 72) | (slot << 48) | random)
    }
}

/// `rg`, the shard, a hyphen, 64 bits.
const STRAY_TAG_BYTES: usize = 21;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A To tag for an answer that creates no dialog, the same for each repeat of its request (RFC 3261
/// 8.2.7). `hash`: the keyed one of the transaction; folded, so that neither half of it is told.
pub(crate) fn refusal_tag(shard: ShardId, hash: u128) -> [u8; STRAY_TAG_BYTES] {
    let folded = (hash >> 64) ^ (hash & u128::from(u64::MAX));
    let mut tag = *b"rg00-0000000000000000";
    let mut write = |at: usize, digits: usize, value: u128| {
        for (place, digit) in tag[at..at + digits].iter_mut().enumerate() {
            let nibble = value >> (4 * (digits - 1 - place)) & 0xf;
            *digit = HEX[nibble as usize];
        }
    };
    write(2, 2, u128::from(shard.0));
    write(5, 16, folded);
    tag
}

/// Whether a tag has the form of those: the tag of a leg has another length.
pub(crate) const fn is_stray(tag: &[u8]) -> bool {
    tag.len() == STRAY_TAG_BYTES && tag[4] == b'-'
}

pub(crate) fn shard_of_tag(tag: &[u8]) -> Option<ShardId> {
    hex(tag.strip_prefix(TAG_PREFIX)?.get(..2)?).and_then(|n| u8::try_from(n).ok()).map(ShardId)
}

pub(crate) fn parse_tag(tag: &[u8]) -> Option<TagParts> {
    let rest = tag.strip_prefix(TAG_PREFIX)?;
    let slot = u32::try_from(hex(rest.get(2..10)?)?).ok()?;
    let generation = u32::try_from(hex(rest.get(10..18)?)?).ok()?;
    let leg = u8::try_from(hex(rest.get(18..20)?)?).ok()?;
    Some(TagParts { call: Key { slot, generation }, leg })
}

pub(crate) fn leg_name(tag: &[u8]) -> Option<LegName> {
    Some(LegName { shard: shard_of_tag(tag)?, parts: parse_tag(tag)? })
}

pub(crate) fn shard_of_branch(branch: &[u8]) -> Option<ShardId> {
    hex(branch.strip_prefix(BRANCH_PREFIX)?.get(..2)?)
        .and_then(|n| u8::try_from(n).ok())
        .map(ShardId)
}

/// The slot of the transaction and the random part.
pub(crate) fn parse_branch(branch: &[u8]) -> Option<(Key, u64)> {
    let rest = branch.strip_prefix(BRANCH_PREFIX)?;
    let slot = u32::try_from(hex(rest.get(2..10)?)?).ok()?;
    let generation = u32::try_from(hex(rest.get(10..18)?)?).ok()?;
    let random = hex(rest.get(18..34)?)?;
    (rest.len() == 34).then_some((Key { slot, generation }, random))
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_names_read_back_and_do_not_repeat() {
        let mut mint = Mint::new(ShardId(7), [3; 32]);
        let call = Key { slot: 0x1234, generation: 9 };
        let tag = mint.tag(call, 2);
        assert_eq!(shard_of_tag(tag.as_bytes()), Some(ShardId(7)));
        assert_eq!(parse_tag(tag.as_bytes()), Some(TagParts { call, leg: 2 }));
        assert_ne!(tag, mint.tag(call, 2));
        let mut branch = String::new();
        let random = mint.write_branch(&mut branch, call);
        assert_eq!(shard_of_branch(branch.as_bytes()), Some(ShardId(7)));
        assert_eq!(parse_branch(branch.as_bytes()), Some((call, random)));
        let stray = mint.stray_tag();
        assert_eq!(shard_of_tag(stray.as_bytes()), Some(ShardId(7)));
        assert_eq!(parse_tag(stray.as_bytes()), None);
        let refusal = refusal_tag(ShardId(0x17), (0xff << 64) | 0x0123_4567_89ab_cd00);
        assert_eq!(&refusal, b"rg17-0123456789abcdff");
        assert_eq!((shard_of_tag(&refusal), parse_tag(&refusal)), (Some(ShardId(0x17)), None));
        assert!(is_stray(&refusal) && is_stray(stray.as_bytes()) && !is_stray(tag.as_bytes()));
    }

    #[test]
    fn foreign_text_is_nobodys() {
        for text in [&b""[..], b"rg", b"rgzz", b"1928301774", b"z9hG4bKrg", b"z9hG4bK776asdhds"] {
            assert_eq!(shard_of_tag(text), None);
            assert_eq!(shard_of_branch(text), None);
            assert_eq!((parse_tag(text), parse_branch(text)), (None, None));
        }
    }

    #[test]
    fn call_ids_sort_by_time_and_tell_their_place() {
        let mut mint = Mint::new(ShardId(5), [0; 32]);
        let call = |slot| Key { slot, generation: 3 };
        let early = mint.call_id(WallMs(1_000), call(19_999));
        let late = mint.call_id(WallMs(1_001), call(0x00ab_cdef));
        assert!(early < late);
        assert_eq!((early.slot(), late.slot()), (19_999, 0x00ab_cdef));
        assert_eq!(late.shard(), ShardId(5));
    }
}
