//! Messages between shards: one bounded queue per ordered pair, one wake-up per turn and target.
//! Owns:  the queues' ends of one shard and whom it has to wake.
//! Gives: what the other shards sent, fairly; a message back when its queue is full.
//! Never: a lock; a wake-up of a shard that is awake; the loss of a word about a leg, which would leave
//!        it in two calls or in none, or about an account, whose caps would be wrong until its next call:
//!        one that finds its lane full waits here for room.
//! Holds: messages from one shard to another arrive in order, as far as none of them has to wait; what
//!        is said of accounts takes no place from words about legs, which go first.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use call::MeshMessage;
use call::io::Account;
use crossbeam::queue::ArrayQueue;
use shared::ids::ShardId;
use shared::limits;

use crate::bell::Bell;

type Lane = Arc<ArrayQueue<MeshMessage>>;

/// Queues of many shards stay short, or they would cost memory with the square of the shards.
const LANE_LEN_MIN: usize = 256;
/// Words that wait for room, of one shard: far more than it can have legs on loan at a time.
const LATE_MAX: usize = 4_096;
/// Accounts that a word waits for, of one shard and once for each that is to hear it.
const LATE_ACCOUNTS_MAX: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Mesh {
    /// By shard; a shard has no lane to itself.
    outgoing: Vec<Option<Lane>>,
    incoming: Vec<Option<Lane>>,
    bells: Vec<Arc<Bell>>,
    /// What has to arrive and found its lane full, oldest first; nothing about accounts.
    late: VecDeque<(ShardId, MeshMessage)>,
    /// One bit per shard that something in `late` is for.
    late_to: u64,
    /// What is to be said of accounts and found its lane full, by shard.
    accounts: Vec<LateAccounts>,
    /// In all of `accounts`.
    accounts_waiting: usize,
    /// One bit per shard that was sent something in this turn.
    to_wake: u64,
    /// Where the next `take` starts.
    next: usize,
}

/// The newest word about each account, for one shard.
#[derive(Debug, Default)]
struct LateAccounts {
    words: BTreeMap<Account, MeshMessage>,
    /// The account that was last spoken of: those behind it are next, so that none waits for ever.
    last: Option<Account>,
}

impl LateAccounts {
    fn pop(&mut self) -> Option<MeshMessage> {
        let behind = self.last.take().and_then(|last| {
            let behind = (Bound::Excluded(last), Bound::Unbounded);
            self.words.range(behind).next().map(|(account, _)| account.clone())
        });
        let (account, word) = match behind {
            Some(account) => self.words.remove_entry(&account)?,
            None => self.words.pop_first()?,
        };
        self.last = Some(account);
        Some(word)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits for room.
    Later,
    Now,
}

/// The ends of every lane, one `Mesh` per shard.
pub(crate) fn weave(bells: &[Arc<Bell>]) -> Vec<Mesh> {
    let shards = bells.len();
    let lane_len = (2 * limits::MESH_QUEUE_LEN / shards.max(2)).max(LANE_LEN_MIN);
    let lanes: Vec<Vec<Option<Lane>>> = (0..shards)
        .map(|from| {
            let lane = |to| (from != to).then(|| Arc::new(ArrayQueue::new(lane_len)));
            (0..shards).map(lane).collect()
        })
        .collect();
    (0..shards)
        .map(|me| Mesh {
            outgoing: lanes[me].clone(),
            incoming: lanes.iter().map(|from| from[me].clone()).collect(),
            bells: bells.to_vec(),
            late: VecDeque::new(),
            late_to: 0,
            accounts: (0..shards).map(|_| LateAccounts::default()).collect(),
            accounts_waiting: 0,
            to_wake: 0,
            next: 0,
        })
        .collect()
}

impl Mesh {
    /// The message comes back when the lane is full or leads nowhere.
    pub(crate) fn send(&mut self, to: ShardId, message: MeshMessage) -> Result<Sent, MeshMessage> {
        if message.has_to_arrive() {
            return self.send_surely(to, message);
        }
        self.push(to, message).map(|()| Sent::Now)
    }

    /// It waits for room, behind others of its kind that do, or with one of them that it goes along with.
    fn send_surely(&mut self, to: ShardId, message: MeshMessage) -> Result<Sent, MeshMessage> {
        let index = usize::from(to.0);
        if !matches!(self.outgoing.get(index), Some(Some(_))) {
            return Err(message);
        }
        let bit = 1 << index;
        let is_about_account = matches!(message, MeshMessage::Toll { .. });
        let must_wait =
            self.late_to & bit != 0 || is_about_account && !self.accounts[index].words.is_empty();
        let rest = if must_wait { Err(message) } else { self.push(to, message) };
        let Err(message) = rest else { return Ok(Sent::Now) };
        if is_about_account {
            return self.keep_account(index, message);
        }
        if self.late.len() >= LATE_MAX {
            return Err(message);
        }
        self.late.push_back((to, message));
        self.late_to |= bit;
        Ok(Sent::Later)
    }

    fn keep_account(&mut self, to: usize, message: MeshMessage) -> Result<Sent, MeshMessage> {
        let MeshMessage::Toll { counted, .. } = &message else { return Err(message) };
        match self.accounts[to].words.entry(counted.0.clone()) {
            Entry::Occupied(mut waiting) => waiting.get_mut().absorb(message)?,
            Entry::Vacant(_) if self.accounts_waiting >= LATE_ACCOUNTS_MAX => return Err(message),
            Entry::Vacant(place) => {
                place.insert(message);
                self.accounts_waiting += 1;
            }
        }
        Ok(Sent::Later)
    }

    /// Those that there is room for now: first the words about legs, then those about accounts.
    fn send_late(&mut self) {
        let mut full = 0_u64;
        for _ in 0..self.late.len() {
            let Some((to, message)) = self.late.pop_front() else { break };
            let bit = 1 << usize::from(to.0);
            let rest = if full & bit == 0 { self.push(to, message) } else { Err(message) };
            if let Err(message) = rest {
                full |= bit;
                self.late.push_back((to, message));
            }
        }
        self.late_to = full;
        if self.accounts_waiting > 0 {
            self.send_late_accounts();
        }
    }

    fn send_late_accounts(&mut self) {
        for (index, accounts) in self.accounts.iter_mut().enumerate() {
            let Some(Some(lane)) = self.outgoing.get(index) else { continue };
            // Nobody else fills the lane: where there is room a word finds it.
            while !lane.is_full()
                && let Some(word) = accounts.pop()
            {
                self.accounts_waiting -= 1;
                self.to_wake |= 1 << index;
                if let Err(word) = lane.push(word) {
                    debug_assert!(false, "no room for {word:?}");
                }
            }
        }
    }

    fn push(&mut self, to: ShardId, message: MeshMessage) -> Result<(), MeshMessage> {
        let index = usize::from(to.0);
        let Some(Some(lane)) = self.outgoing.get(index) else { return Err(message) };
        lane.push(message)?;
        self.to_wake |= 1 << index;
        Ok(())
    }

    /// Wakes every shard that was sent something since the last call.
    pub(crate) fn wake(&mut self) {
        if !self.late.is_empty() || self.accounts_waiting > 0 {
            self.send_late();
        }
        while self.to_wake != 0 {
            let index = self.to_wake.trailing_zeros() as usize;
            self.bells[index].ring();
            self.to_wake &= self.to_wake - 1;
        }
    }

    /// The next message, from each shard in turn.
    pub(crate) fn take(&mut self) -> Option<(ShardId, MeshMessage)> {
        let shards = self.incoming.len();
        for step in 0..shards {
            let from = (self.next + step) % shards;
            if let Some(message) = self.incoming[from].as_ref().and_then(|lane| lane.pop()) {
                self.next = from + 1;
                return Some((ShardId(from as u8), message));
            }
        }
        None
    }

    pub(crate) fn has_incoming(&self) -> bool {
        self.incoming.iter().flatten().any(|lane| !lane.is_empty())
    }
}

const _: () = assert!(limits::SHARDS_MAX <= u64::BITS as usize);

#[cfg(test)]
mod tests {
    use call::io::{Account, Tally};

    use super::*;

    fn mesh(shards: usize) -> Vec<Mesh> {
        let bells: Vec<_> =
            (0..shards).map(|_| Arc::new(Bell::new().expect("an eventfd"))).collect();
        weave(&bells)
    }

    fn ask(number: u64) -> MeshMessage {
        MeshMessage::AskBindings { ask: number, aor: "1001".into(), phone: None }
    }

    fn number(message: &MeshMessage) -> u64 {
        match message {
            MeshMessage::AskBindings { ask, .. } => *ask,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_of_one_pair_arrive_in_order_and_from_the_right_shard() {
        let mut all = mesh(3);
        for count in 0..10 {
            all[2].send(ShardId(0), ask(count)).expect("room");
        }
        for count in 0..10 {
            let (from, message) = all[0].take().expect("it was sent");
            assert_eq!((from, number(&message)), (ShardId(2), count));
        }
        assert!(all[0].take().is_none() && all[1].take().is_none());
    }

    #[test]
    fn a_talkative_shard_does_not_starve_the_others() {
        let mut all = mesh(3);
        for count in 0..100 {
            all[1].send(ShardId(0), ask(count)).expect("room");
        }
        all[2].send(ShardId(0), ask(7)).expect("room");
        let first_two = [all[0].take(), all[0].take()].map(|taken| taken.expect("sent").0);
        assert!(first_two.contains(&ShardId(2)));
    }

    #[test]
    fn a_full_lane_gives_the_message_back() {
        let mut all = mesh(2);
        let mut sent = 0;
        let back = loop {
            match all[0].send(ShardId(1), ask(sent)) {
                Ok(_) => sent += 1,
                Err(message) => break message,
            }
        };
        assert_eq!(sent, limits::MESH_QUEUE_LEN as u64);
        assert_eq!(number(&back), sent);
    }

    #[test]
    fn there_is_no_lane_to_oneself_or_to_nobody() {
        let mut all = mesh(2);
        assert!(all[0].send(ShardId(0), ask(1)).is_err());
        assert!(all[0].send(ShardId(9), ask(1)).is_err());
    }

    #[test]
    fn what_has_to_arrive_waits_for_room_and_keeps_its_order() {
        let mut all = mesh(3);
        let mut filled = 0;
        while all[0].send(ShardId(1), ask(filled)).is_ok() {
            filled += 1;
        }
        for count in 1_000..1_003 {
            all[0].send_surely(ShardId(1), ask(count)).expect("it waits");
        }
        all[0].send_surely(ShardId(2), ask(7)).expect("that lane has room");
        assert_eq!(all[2].take().map(|(_, message)| number(&message)), Some(7));
        for count in 0..2 {
            assert_eq!(all[1].take().map(|(_, message)| number(&message)), Some(count));
        }
        all[0].wake();
        let mut last = Vec::new();
        while let Some((_, message)) = all[1].take() {
            last.push(number(&message));
        }
        assert_eq!(last[last.len() - 2..], [1_000, 1_001], "as much as there was room for");
        all[0].wake();
        assert_eq!(all[1].take().map(|(_, message)| number(&message)), Some(1_002));
        assert!(all[0].late.is_empty());
        assert!(all[0].send_surely(ShardId(9), ask(1)).is_err(), "it leads nowhere");
    }

    /// A word about this extension to shard 1; `None`: it came back.
    fn sent(mesh: &mut Mesh, name: &str) -> Option<Sent> {
        let counted = Box::new((Account::Extension(name.into()), Tally::default()));
        mesh.send(ShardId(1), MeshMessage::Toll { counted, begun: 1 }).ok()
    }

    /// What is said of accounts while a lane is full is said when there is room, once for each of them.
    #[test]
    fn words_about_accounts_wait_for_room_and_none_is_lost() {
        let mut all = mesh(2);
        let mut filled = 0;
        while all[0].send(ShardId(1), ask(filled)).is_ok() {
            filled += 1;
        }
        for name in ["1001", "1002", "1001", "1001"] {
            assert_eq!(sent(&mut all[0], name), Some(Sent::Later), "counted as one that waits");
        }
        assert_eq!(all[0].accounts_waiting, 2);
        while all[1].take().is_some() {}
        all[0].wake();
        let mut heard = Vec::new();
        while let Some((_, message)) = all[1].take() {
            let MeshMessage::Toll { counted, begun } = message else { panic!("{message:?}") };
            heard.push((counted.0.to_string(), begun));
        }
        assert_eq!(heard, [("extension 1001".to_owned(), 3), ("extension 1002".to_owned(), 1)]);
        assert_eq!(sent(&mut all[0], "1001"), Some(Sent::Now), "there is room again");
        // More accounts than may wait: what does not fit comes back, to be counted as lost.
        while all[0].send(ShardId(1), ask(filled)).is_ok() {}
        for number in 0..LATE_ACCOUNTS_MAX {
            assert_eq!(sent(&mut all[0], &number.to_string()), Some(Sent::Later));
        }
        assert_eq!(sent(&mut all[0], "one more"), None);
        assert_eq!(sent(&mut all[0], "7"), Some(Sent::Later), "it goes along with another");
    }

    /// However many accounts wait, a word about a leg finds its place, and goes first.
    #[test]
    fn words_about_accounts_crowd_out_none_about_legs() {
        let mut all = mesh(2);
        let mut filled = 0;
        while all[0].send(ShardId(1), ask(filled)).is_ok() {
            filled += 1;
        }
        let accounts = (0..=LATE_ACCOUNTS_MAX).map(|number| number.to_string());
        let kept = accounts.filter(|name| sent(&mut all[0], name).is_some()).count();
        assert_eq!(kept, LATE_ACCOUNTS_MAX);
        assert_eq!(all[0].send_surely(ShardId(1), ask(7)).ok(), Some(Sent::Later));
        while all[1].take().is_some() {}
        all[0].wake();
        assert_eq!(all[1].take().map(|(_, first)| number(&first)), Some(7));
        // While there is room for few, those that were said first do not go before all others again.
        let mut heard = std::collections::BTreeSet::new();
        for _ in 0..=LATE_ACCOUNTS_MAX {
            let Some((_, MeshMessage::Toll { counted, .. })) = all[1].take() else { break };
            sent(&mut all[0], "0");
            heard.insert(counted.0);
            all[0].wake();
        }
        assert_eq!(heard.len(), LATE_ACCOUNTS_MAX, "all of them");
    }
}
