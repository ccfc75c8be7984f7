//! Nonces: minted without a trace, checked by their signature, counted once they are used.
//! Owns:  the key, the lifetime, and the counts that each nonce in use has seen.
//! Gives: a verdict for each use; `Stale` and `Foreign` deserve a new challenge with stale=true.
//! Never: grows beyond `limits::NONCES_MAX` entries; trusts a nonce whose signature is wrong.
//! Holds: no count of a nonce is `Fresh` twice, whatever was evicted in between.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use rustc_hash::FxHashMap;
use sha2::Sha256;
use sha2::digest::Digest as _;
use shared::ids::ShardId;
use shared::limits::NONCES_MAX;
use shared::time::Instant;

use super::algorithms::hex_digit;

/// Minting time (ms) 6, shard 1, random 8, signature 16.
const NONCE_BYTES: usize = 31;
const SIGNED_BYTES: usize = 15;
/// Counts below the highest that may still come, out of order on UDP (RFC 7616 3.4.5).
const WINDOW: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// Another shard of ours minted it: it counts its uses, so here it is as good as stale.
    Foreign,
    Fresh,
    /// This count was used before, or is too far behind to know.
    Replayed,
    /// Expired, from before a restart, never ours, or forgotten under pressure.
    Stale,
}

/// The nonces of one shard.
pub struct Nonces {
    signer: Signer,
    shard: ShardId,
    lifetime: Duration,
    entries_max: usize,
    /// Nonces in use, by first use. `oldest` is the number of the front one.
    entries: VecDeque<Entry>,
    oldest: u64,
    numbers: FxHashMap<Nonce, u64>,
    /// An unknown nonce minted at or before this may be one whose entry was evicted.
    forgotten_until: Option<u64>,
}

/// What a nonce says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Nonce {
    minted_ms: u64,
    shard: u8,
    random: u64,
}

/// A nonce in use.
struct Entry {
    nonce: Nonce,
    /// Bit n: the count `highest - n` was used.
    highest: u32,
    seen: u64,
    /// Used without a count (RFC 2069), which may happen once.
    bare: bool,
}

impl Nonces {
    pub fn new(key: [u8; 32], shard: ShardId, lifetime: Duration) -> Self {
        Self::with_entries_max(key, shard, lifetime, NONCES_MAX)
    }

    fn with_entries_max(
        key: [u8; 32],
        shard: ShardId,
        lifetime: Duration,
        entries_max: usize,
    ) -> Self {
        Self {
            signer: Signer::new(key),
            shard,
            lifetime,
            entries_max,
            entries: VecDeque::new(),
            oldest: 0,
            numbers: FxHashMap::default(),
            forgotten_until: None,
        }
    }

    /// A new nonce; `random` makes those of the same millisecond differ.
    pub fn mint(&mut self, now: Instant, random: u64) -> String {
        let nonce = Nonce { minted_ms: now.as_millis(), shard: self.shard.0, random };
        let mut bytes = [0; NONCE_BYTES];
        let signed = nonce.to_bytes();
        bytes[..SIGNED_BYTES].copy_from_slice(&signed);
        bytes[SIGNED_BYTES..].copy_from_slice(&self.signer.sign(&signed));
        let digits = bytes.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]);
        digits.map(char::from).collect()
    }

    /// Judges one use and remembers it. Ask only after `verify` said yes: whoever does not know the
    /// secret must not be able to use up counts or fill the table.
    pub fn check(&mut self, now: Instant, nonce: &[u8], nc: Option<u32>) -> NonceVerdict {
        let Some(nonce) = self.read(nonce) else { return NonceVerdict::Stale };
        if nonce.shard != self.shard.0 {
            return NonceVerdict::Foreign;
        }
        if self.is_expired(now, nonce) {
            return NonceVerdict::Stale;
        }
        if let Some(&number) = self.numbers.get(&nonce) {
            return self.entry_mut(number).use_again(nc);
        }
        if self.forgotten_until.is_some_and(|until| nonce.minted_ms <= until) {
            return NonceVerdict::Stale;
        }
        match Entry::first_use(nonce, nc) {
            Some(entry) => {
                self.insert(now, entry);
                NonceVerdict::Fresh
            }
            None => NonceVerdict::Replayed,
        }
    }

    /// Whether this shard minted the nonce and it is not too old. Counts nothing: for what has to be
    /// decided before the secret is known.
    pub fn is_current(&self, now: Instant, nonce: &[u8]) -> bool {
        self.read(nonce)
            .is_some_and(|nonce| nonce.shard == self.shard.0 && !self.is_expired(now, nonce))
    }

    /// `None` when the text is not a nonce that a shard of ours has signed.
    fn read(&self, text: &[u8]) -> Option<Nonce> {
        let bytes = parse_hex(text)?;
        let (signed, signature) = bytes.split_first_chunk::<SIGNED_BYTES>()?;
        let expected = self.signer.sign(signed);
        let difference = expected.iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        (std::hint::black_box(difference) == 0).then(|| Nonce::from_bytes(signed))
    }

    /// A nonce from the future is from another clock: before a restart, say.
    fn is_expired(&self, now: Instant, nonce: Nonce) -> bool {
        let minted = Instant::from_millis(nonce.minted_ms);
        minted > now || now - minted >= self.lifetime
    }

    fn entry_mut(&mut self, number: u64) -> &mut Entry {
        let index = usize::try_from(number - self.oldest).expect("the table fits the memory");
        &mut self.entries[index]
    }

    fn insert(&mut self, now: Instant, entry: Entry) {
        // Two at most per use: the work is bounded and the table still shrinks.
        for _ in 0..2 {
            let is_full = self.entries.len() >= self.entries_max;
            match self.entries.front() {
                Some(oldest) if is_full || self.is_expired(now, oldest.nonce) => {
                    self.evict_oldest(now);
                }
                _ => break,
            }
        }
        self.numbers.insert(entry.nonce, self.oldest + self.entries.len() as u64);
        self.entries.push_back(entry);
    }

    fn evict_oldest(&mut self, now: Instant) {
        let Some(Entry { nonce, .. }) = self.entries.pop_front() else { return };
        self.oldest += 1;
        self.numbers.remove(&nonce);
        if !self.is_expired(now, nonce) {
            self.forgotten_until = self.forgotten_until.max(Some(nonce.minted_ms));
        }
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonces({:?}, {} in use)", self.shard, self.entries.len())
    }
}

impl Nonce {
    fn to_bytes(self) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        bytes[..6].copy_from_slice(&self.minted_ms.to_be_bytes()[2..]);
        bytes[6] = self.shard;
        bytes[7..].copy_from_slice(&self.random.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; SIGNED_BYTES]) -> Self {
        let (mut minted, mut random) = ([0; 8], [0; 8]);
        minted[2..].copy_from_slice(&bytes[..6]);
        random.copy_from_slice(&bytes[7..]);
        let (minted_ms, random) = (u64::from_be_bytes(minted), u64::from_be_bytes(random));
        Self { minted_ms, shard: bytes[6], random }
    }
}

impl Entry {
    /// Counts begin with 1, but a lost first request may make us see a later one first.
    fn first_use(nonce: Nonce, nc: Option<u32>) -> Option<Self> {
        match nc {
            Some(0) => None,
            Some(highest) => Some(Self { nonce, highest, seen: 1, bare: false }),
            None => Some(Self { nonce, highest: 0, seen: 0, bare: true }),
        }
    }

    fn use_again(&mut self, nc: Option<u32>) -> NonceVerdict {
        let Some(nc) = nc else {
            // Without counts nothing tells a repeat from a replay: a new nonce settles it.
            return if std::mem::replace(&mut self.bare, true) {
                NonceVerdict::Stale
            } else {
                NonceVerdict::Fresh
            };
        };
        if nc > self.highest {
            self.seen = self.seen.checked_shl(nc - self.highest).unwrap_or(0) | 1;
            self.highest = nc;
            return NonceVerdict::Fresh;
        }
        let behind = self.highest - nc;
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        if nc == 0 || behind >= WINDOW || self.seen & bit != 0 {
            return NonceVerdict::Replayed;
        }
        self.seen |= bit;
        NonceVerdict::Fresh
    }
}

/// HMAC-SHA-256 (RFC 2104), cut to 128 bits; both pads are hashed once.
#[derive(Debug)]
pub struct Signer {
    inner: Sha256,
    outer: Sha256,
}

impl Signer {
    pub fn new(key: [u8; 32]) -> Self {
        const BLOCK_BYTES: usize = 64;
        let padded = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    pub fn sign(&self, bytes: &[u8]) -> [u8; NONCE_BYTES - SIGNED_BYTES] {
        let inner = self.inner.clone().chain_update(bytes).finalize();
        let outer = self.outer.clone().chain_update(inner).finalize();
        let mut signature = [0; NONCE_BYTES - SIGNED_BYTES];
        let length = signature.len();
        signature.copy_from_slice(&outer[..length]);
        signature
    }
}

/// Our own spelling only: small digits, exact length. One nonce has one text.
fn parse_hex(text: &[u8]) -> Option<[u8; NONCE_BYTES]> {
    let mut bytes = [0; NONCE_BYTES];
    if text.len() != 2 * NONCE_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (parse_digit(pair[0])? << 4) | parse_digit(pair[1])?;
    }
    Some(bytes)
}

const fn parse_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use NonceVerdict::{Foreign, Fresh, Replayed, Stale};

    const KEY: [u8; 32] = [7; 32];
    const LIFETIME: Duration = Duration::from_secs(300);

    fn nonces() -> Nonces {
        Nonces::new(KEY, ShardId(5), LIFETIME)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn check(nonces: &mut Nonces, ms: u64, nonce: &str, nc: u32) -> NonceVerdict {
        nonces.check(at(ms), nonce.as_bytes(), Some(nc))
    }

    /// The signature was computed by another implementation of HMAC-SHA-256.
    #[test]
    fn a_nonce_carries_time_shard_random_and_signature() {
        let key = std::array::from_fn(|at| u8::try_from(at).expect("32 fit"));
        let mut nonces = Nonces::new(key, ShardId(5), LIFETIME);
        let text = nonces.mint(at(1_234_567), 0x1122_3344_5566_7788);
        assert_eq!(text, "00000012d687051122334455667788a076ed90b4e82a4e6edd8521e01ac83a");
    }

    #[test]
    fn a_count_is_fresh_once() {
        let mut nonces = nonces();
        let nonce = nonces.mint(at(0), 1);
        assert_eq!(check(&mut nonces, 1, &nonce, 1), Fresh);
        assert_eq!(check(&mut nonces, 2, &nonce, 1), Replayed);
        assert_eq!(check(&mut nonces, 3, &nonce, 2), Fresh);
        assert_eq!(check(&mut nonces, 4, &nonce, 0), Replayed, "counts begin with 1");
        let other = nonces.mint(at(0), 2);
        assert_eq!(check(&mut nonces, 5, &other, 0), Replayed);
        assert_eq!(check(&mut nonces, 5, &other, 1), Fresh, "each nonce counts by itself");
    }

    /// Requests overtake each other on UDP: 64 counts stay open below the highest.
    #[test]
    fn counts_may_come_out_of_order_within_the_window() {
        let mut nonces = nonces();
        let nonce = nonces.mint(at(0), 1);
        assert_eq!(check(&mut nonces, 1, &nonce, 100), Fresh);
        for nc in (37..100).rev() {
            assert_eq!(check(&mut nonces, 1, &nonce, nc), Fresh, "{nc}");
        }
        assert_eq!(check(&mut nonces, 1, &nonce, 36), Replayed, "too far behind to know");
        for nc in 1..=100 {
            assert_eq!(check(&mut nonces, 1, &nonce, nc), Replayed, "{nc}");
        }
        assert_eq!(check(&mut nonces, 1, &nonce, 163), Fresh);
        assert_eq!(check(&mut nonces, 1, &nonce, 100), Replayed, "still in the window");
        assert_eq!(check(&mut nonces, 1, &nonce, 101), Fresh);
        assert_eq!(check(&mut nonces, 1, &nonce, u32::MAX), Fresh);
        assert_eq!(check(&mut nonces, 1, &nonce, 163), Replayed);
        assert_eq!(check(&mut nonces, 1, &nonce, u32::MAX - 63), Fresh);
    }

    #[test]
    fn a_nonce_lives_its_time_from_minting() {
        let mut nonces = nonces();
        let nonce = nonces.mint(at(1_000), 1);
        assert_eq!(check(&mut nonces, 999, &nonce, 1), Stale, "from another clock");
        let current =
            [999, 1_000, 300_999, 301_000].map(|ms| nonces.is_current(at(ms), nonce.as_bytes()));
        assert_eq!(current, [false, true, true, false]);
        assert_eq!(check(&mut nonces, 1_000, &nonce, 1), Fresh);
        assert_eq!(check(&mut nonces, 300_999, &nonce, 2), Fresh);
        assert_eq!(check(&mut nonces, 301_000, &nonce, 3), Stale);
        assert_eq!(check(&mut nonces, 301_000, &nonce, 1), Stale);
    }

    #[test]
    fn a_nonce_of_another_shard_is_foreign() {
        let mut other = Nonces::new(KEY, ShardId(6), LIFETIME);
        let nonce = other.mint(at(0), 1);
        assert!(!nonces().is_current(at(1), nonce.as_bytes()), "it counts elsewhere");
        assert_eq!(check(&mut nonces(), 1, &nonce, 1), Foreign);
        assert_eq!(check(&mut other, 1, &nonce, 1), Fresh);
    }

    #[test]
    fn what_we_did_not_sign_is_stale() {
        let mut nonces = nonces();
        let nonce = Nonces::new([8; 32], ShardId(5), LIFETIME).mint(at(0), 1);
        assert_eq!(check(&mut nonces, 1, &nonce, 1), Stale, "another key");
        let nonce = nonces.mint(at(0), 1);
        for index in 0..nonce.len() {
            let mut forged = Vec::from(nonce.as_bytes());
            forged[index] = if forged[index] == b'0' { b'1' } else { b'0' };
            assert_eq!(nonces.check(at(1), &forged, Some(1)), Stale, "digit {index}");
        }
        let loud = nonce.to_uppercase();
        for text in ["", "0", &nonce[1..], &nonce[2..], &format!("{nonce}00"), &loud] {
            assert_eq!(check(&mut nonces, 1, text, 1), Stale, "{text}");
        }
        assert_eq!(nonces.entries.len(), 0, "none of them takes room");
        assert_eq!(check(&mut nonces, 1, &nonce, 1), Fresh);
    }

    /// RFC 2069 has no count, so each use needs a nonce of its own.
    #[test]
    fn without_a_count_a_nonce_serves_once() {
        let mut nonces = nonces();
        let nonce = nonces.mint(at(0), 1);
        assert_eq!(nonces.check(at(1), nonce.as_bytes(), None), Fresh);
        assert_eq!(nonces.check(at(2), nonce.as_bytes(), None), Stale);
        assert_eq!(check(&mut nonces, 3, &nonce, 1), Fresh, "a count is another response");
        assert_eq!(check(&mut nonces, 3, &nonce, 1), Replayed);
        let counted = nonces.mint(at(0), 2);
        assert_eq!(check(&mut nonces, 3, &counted, 1), Fresh);
        assert_eq!(nonces.check(at(3), counted.as_bytes(), None), Fresh);
        assert_eq!(nonces.check(at(3), counted.as_bytes(), None), Stale);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let mut nonces = nonces();
        let all: Vec<_> = (0..NONCES_MAX as u64 + 10).map(|n| nonces.mint(at(n), n)).collect();
        let now = NONCES_MAX as u64 + 10;
        for nonce in &all {
            assert_eq!(check(&mut nonces, now, nonce, 1), Fresh);
        }
        assert_eq!((nonces.entries.len(), nonces.numbers.len()), (NONCES_MAX, NONCES_MAX));
        assert_eq!(check(&mut nonces, now, &all[9], 1), Stale, "forgotten, so not fresh again");
        assert_eq!(check(&mut nonces, now, &all[9], 2), Stale);
        assert_eq!(check(&mut nonces, now, &all[10], 1), Replayed, "still known");
        assert_eq!(check(&mut nonces, now, &all[10], 2), Fresh);
    }

    #[test]
    fn expired_entries_leave_room_and_nothing_is_forgotten_for_it() {
        let mut nonces = Nonces::with_entries_max(KEY, ShardId(0), LIFETIME, 4);
        for random in 0..4 {
            let nonce = nonces.mint(at(0), random);
            assert_eq!(check(&mut nonces, 0, &nonce, 1), Fresh);
        }
        let early = nonces.mint(at(299_999), 8);
        let late = nonces.mint(at(300_000), 9);
        assert_eq!(check(&mut nonces, 300_000, &late, 1), Fresh);
        assert_eq!(nonces.entries.len(), 3, "two left for the one that came");
        assert_eq!(check(&mut nonces, 300_000, &early, 1), Fresh);
        assert_eq!(nonces.forgotten_until, None);
    }

    #[test]
    fn no_secret_is_printed() {
        assert_eq!(format!("{:?}", nonces()), "Nonces(ShardId(5), 0 in use)");
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Mint,
        Use { which: prop::sample::Index, nc: Option<u32> },
        Wait { ms: u64 },
    }

    fn a_step() -> impl Strategy<Value = Step> {
        let counts = prop_oneof![Just(None), (0_u32..80).prop_map(Some)];
        prop_oneof![
            2 => Just(Step::Mint),
            6 => (any::<prop::sample::Index>(), counts)
                .prop_map(|(which, nc)| Step::Use { which, nc }),
            1 => (0_u64..2_000).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        /// The promise of this file, with a table far too small for the nonces in use.
        #[test]
        fn no_use_is_fresh_twice(steps in prop::collection::vec(a_step(), 0..200)) {
            let lifetime = Duration::from_secs(5);
            let mut nonces = Nonces::with_entries_max(KEY, ShardId(1), lifetime, 3);
            let (mut now_ms, mut minted, mut used) = (0, Vec::new(), HashSet::new());
            for step in steps {
                match step {
                    Step::Mint => minted.push(nonces.mint(at(now_ms), minted.len() as u64)),
                    Step::Wait { ms } => now_ms += ms,
                    Step::Use { which, nc } if !minted.is_empty() => {
                        let nonce = which.get(&minted).clone();
                        let verdict = nonces.check(at(now_ms), nonce.as_bytes(), nc);
                        let is_new = verdict != Fresh || used.insert((nonce, nc));
                        prop_assert!(is_new, "fresh twice with {nc:?}");
                        prop_assert_ne!(verdict, Foreign);
                    }
                    Step::Use { .. } => {}
                }
                prop_assert!(nonces.entries.len() <= 3);
                prop_assert_eq!(nonces.entries.len(), nonces.numbers.len());
            }
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..80), nc in any::<u32>()) {
            prop_assert_eq!(nonces().check(at(5), &text, Some(nc)), Stale);
        }
    }
}
