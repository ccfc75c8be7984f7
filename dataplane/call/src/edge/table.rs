//! Sources and names that are counted: a table of fixed size, found by a keyed hash.
//! Owns:  the rows, their places, who makes room for whom.
//! Gives: `find` and `row`; windows and buckets that a row counts in.
//! Never: grows beyond its size, whoever sends; before it is first needed it takes no memory at all.
//! Holds: a banned source gives way last, so a flood of new sources frees next to nobody.

use std::time::Duration;

use shared::time::Instant;

const SETS: usize = 2_048;
/// Places that a key may stand in. Its four keys share a cache line.
const WAYS: usize = 4;
/// Probes and wrong passwords count for so long.
const MINUTE: Duration = Duration::from_secs(60);
/// A challenge that was not answered by the end of its beat is a probe.
const BEAT: Duration = Duration::from_secs(10);
/// Stands in an empty place.
const NOBODY: u128 = 0;

#[derive(Debug)]
pub(crate) struct Table {
    keys: Vec<[u128; WAYS]>,
    rows: Vec<[Row; WAYS]>,
    seed: [u64; 2],
}

/// What is known of one source, or of one name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    seen: Instant,
    pub banned_until: Instant,
    /// Until then it counts as one of ours, or as a stranger, without another search.
    pub known_until: Instant,
    pub strange_until: Instant,
    /// Requests that open something, and everything that comes.
    pub requests: Bucket,
    pub packets: Bucket,
    minute: Instant,
    beat: Instant,
    pub probes: u32,
    pub failures: u32,
    /// Of this beat.
    pub challenged: u32,
    pub answered: u32,
}

impl Row {
    /// Begins the windows anew whose time is over.
    pub(crate) fn roll(&mut self, now: Instant) {
        if now.since(self.minute) >= MINUTE {
            self.minute = now;
            (self.probes, self.failures) = (0, 0);
        }
        if now.since(self.beat) >= BEAT {
            self.beat = now;
            self.probes = self.probes.saturating_add(self.challenged.saturating_sub(self.answered));
            (self.challenged, self.answered) = (0, 0);
        }
    }

    /// Nothing is held against it any more.
    pub(crate) fn pardon(&mut self) {
        self.banned_until = Instant::ZERO;
        (self.probes, self.failures, self.challenged, self.answered) = (0, 0, 0, 0);
    }
}

/// A token bucket that holds one second of its rate; full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When it will be full again.
    full_at: Instant,
}

impl Bucket {
    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Instant, per_second: u32) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        let one = SECOND / per_second.max(1);
        let full_at = self.full_at.max(now) + one;
        if full_at.since(now) > SECOND {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

impl Table {
    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self { keys: Vec::new(), rows: Vec::new(), seed }
    }

    /// A hash that nobody outside can foresee.
    pub(crate) fn hash(&self, key: u128) -> u64 {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let product = u128::from(low ^ self.seed[0]) * u128::from(high ^ self.seed[1]);
        let folded = (product >> 64) as u64 ^ product as u64;
        // Once more: the low bits of a product depend on few bits of its factors.
        let product = u128::from(folded) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        (product >> 64) as u64 ^ product as u64
    }

    fn place(&self, key: u128) -> (usize, Option<usize>) {
        let set = self.hash(key) as usize % SETS;
        let way = self.keys.get(set).and_then(|keys| keys.iter().position(|&one| one == key));
        (set, way)
    }

    pub(crate) fn find(&self, key: u128) -> Option<&Row> {
        let (set, way) = self.place(key);
        way.map(|way| &self.rows[set][way])
    }

    /// The row of `key`, made when there is none.
    pub(crate) fn row(&mut self, now: Instant, key: u128) -> &mut Row {
        if self.rows.is_empty() {
            self.keys = vec![[NOBODY; WAYS]; SETS];
            self.rows = vec![[Row::default(); WAYS]; SETS];
        }
        let (set, way) = self.place(key);
        let way = way.unwrap_or_else(|| {
            let rows = &self.rows[set];
            let worth = |way: &usize| {
                let Row { banned_until, seen, .. } = rows[*way];
                (if banned_until > now { banned_until } else { Instant::ZERO }, seen)
            };
            let way = (0..WAYS).min_by_key(worth).expect("there are ways");
            self.keys[set][way] = key;
            self.rows[set][way] = Row { minute: now, beat: now, ..Row::default() };
            way
        });
        let row = &mut self.rows[set][way];
        row.seen = now;
        row
    }

    /// Rows with their keys.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = (u128, &mut Row)> {
        let keys = self.keys.iter().flatten().copied();
        keys.zip(self.rows.iter_mut().flatten()).filter(|(key, _)| *key != NOBODY)
    }

    pub(crate) fn banned(&self, now: Instant) -> usize {
        self.rows.iter().flatten().filter(|row| row.banned_until > now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(1_000);

    #[test]
    fn a_bucket_gives_a_second_of_its_rate_at_once_and_then_one_by_one() {
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, now| (0..1_000).filter(|_| bucket.take(now, 100)).count();
        assert_eq!(taken(&mut bucket, START), 100);
        assert_eq!(taken(&mut bucket, START + Duration::from_millis(9)), 0);
        assert_eq!(taken(&mut bucket, START + Duration::from_millis(50)), 5);
        assert_eq!(taken(&mut bucket, START + Duration::from_secs(60)), 100);
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room_and_frees_nobody() {
        let mut table = Table::new([0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f]);
        assert!(table.find(1).is_none());
        let until = START + Duration::from_secs(600);
        for key in 1..=1_000 {
            table.row(START, key).banned_until = until;
        }
        let banned = table.banned(START);
        assert!(banned > 990, "{banned} of 1000: a set that is full gives up one");
        for key in 10_000..200_000_u128 {
            table.row(START + Duration::from_secs(1), key).probes += 1;
        }
        let full = |key: u128| table.find(key).is_some_and(|row| row.banned_until > START);
        let held = (1..=1_000).filter(|key| full(*key)).count();
        // Only where a set holds nothing but bans does one of them make room.
        assert!(held >= banned - 10, "{held} of {banned}");
        assert_eq!((table.rows.len(), table.keys.len()), (SETS, SETS));
    }

    #[test]
    fn unanswered_challenges_are_probes_when_their_beat_is_over() {
        let mut row = Row { minute: START, beat: START, ..Row::default() };
        (row.challenged, row.answered) = (70, 20);
        row.roll(START + Duration::from_secs(9));
        assert_eq!(row.probes, 0, "they may still be answered");
        row.roll(START + Duration::from_secs(10));
        assert_eq!((row.probes, row.challenged), (50, 0));
        row.roll(START + Duration::from_secs(60));
        assert_eq!(row.probes, 0);
    }
}
