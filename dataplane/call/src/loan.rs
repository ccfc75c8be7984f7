//! Legs between calls: an attended transfer joins legs of two calls, which may be on two shards.
//! Owns:  the words that two calls say to each other about a leg, and where legs are that have moved.
//! Gives: `carry` for what a call wants said; `leg_of` for what a tag names now.
//! Never: a leg in two calls: one lends it, the other tries if its peer agrees, and takes it or gives
//!        it back.
//! Holds: whoever lends is told what became of the leg, and whoever borrows when there is none any
//!        more. A leg that came from another shard goes to no third one.

use rustc_hash::FxHashMap;
use shared::ids::{CallId, ShardId};
use shared::limits::CALLS_PER_SHARD_MAX;
use shared::net::{Destination, Source};
use shared::time::Instant;
use sip::auth::NonceCounts;
use sip::dialog::Dialog;
use sip::wire::{HeaderName, Message, Replaces};

use crate::b2bua::{Call, SessionTimer};
use crate::core::Core;
use crate::desk::TimerKey;
use crate::io::MeshMessage;
use crate::mint::{self, LegName, TagParts};
use crate::notifier::dialogs::Mark;
use crate::slots::Key;
use crate::toll::Charge;

/// What one call says to another about a leg.
#[derive(Clone, Debug)]
pub struct Loan(pub(crate) Box<Word>);

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a word is always in a box")]
pub(crate) enum Word {
    /// To the shard of the dialog: lend me the leg that talks with it.
    Ask(Ask),
    /// To the borrower: the lender's call is over, and this leg's dialog with it. `says_bye`: its peer
    /// does not know yet.
    Gone { to: Borrower, name: LegName, says_bye: bool },
    /// To where its tag says that it is: the call that a moved leg was in is over.
    Left(LegName),
    /// To the borrower: here it is, and nobody else speaks in its dialog.
    Lent { to: Borrower, leg: LentLeg },
    /// To the borrower.
    Refused { to: Borrower, status: u16 },
    /// To the lender: it is yours again.
    Returned { to: TagParts, from: Borrower, leg: Returned },
    /// To the lender: it talks here now, as this leg of ours.
    Taken { to: TagParts, from: Borrower, name: LegName, at: TagParts },
}

/// Who borrows, and for which of its transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Borrower {
    pub shard: ShardId,
    pub call: Key,
    pub id: CallId,
    pub transfer: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub borrower: Borrower,
    pub replaces: Replaces,
    /// The trunk of who sent the REFER: the dialog that it names has to be of the same one.
    pub trunk: Option<Box<str>>,
    /// The address family of the ports that the leg would face.
    pub is_ipv4: Option<bool>,
}

/// All that a call needs to speak for a leg.
#[derive(Clone, Debug)]
pub(crate) struct LentLeg {
    /// Where the lender keeps it.
    pub lender: TagParts,
    pub name: LegName,
    pub dialog: Dialog,
    pub way: Destination,
    pub has_called: bool,
    pub user: Option<Mark>,
    /// What the rules go by where its From names nobody.
    pub identity: Option<Box<[u8]>>,
    pub trunk: Option<Box<str>>,
    pub is_host: bool,
    pub is_guest: bool,
    pub timer: SessionTimer,
    pub origin_id: u64,
    pub origin_version: u64,
    pub last_sdp: Vec<u8>,
    pub said: Vec<u8>,
    pub held: bool,
    pub refers: u8,
    /// Limits and wishes of the lender's call that go on with it.
    pub end_at: Option<Instant>,
    pub is_recorded: bool,
    /// Its call goes on over TLS only.
    pub is_sips: bool,
    /// What it costs, and whom.
    pub charges: Vec<Charge>,
    /// How often its shard has used the nonces that the leg's trunk may ask with again.
    pub counts: NonceCounts,
}

/// A leg that comes back, as its dialog is by now.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    pub dialog: Dialog,
    pub timer: SessionTimer,
    pub origin_version: u64,
    pub last_sdp: Vec<u8>,
    pub how: Back,
    pub counts: NonceCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Its peer took what the borrower said: it has to hear again where it is.
    Astray,
    /// Its dialog is no more: 408 or 481.
    Dead(u16),
    Untouched,
}

/// In the borrower's leg: whose it is.
#[derive(Clone, Debug)]
pub(crate) struct OnLoan {
    pub shard: ShardId,
    pub lender: TagParts,
    pub borrower: Borrower,
    pub name: LegName,
    pub end_at: Option<Instant>,
    pub is_recorded: bool,
    pub is_sips: bool,
    pub charges: Vec<Charge>,
}

/// Where legs are that came to be in other calls.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    legs: FxHashMap<LegName, Place>,
}

#[derive(Debug)]
struct Place {
    at: At,
    /// What it counts against, as long as it stands.
    share: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Here(TagParts),
    Shard(ShardId),
}

impl Moved {
    pub(crate) fn len(&self) -> usize {
        self.legs.len()
    }

    /// Where messages to this tag go on to.
    fn shard_of(&self, tag: &[u8]) -> Option<ShardId> {
        match self.legs.get(&mint::leg_name(tag)?)?.at {
            At::Shard(shard) => Some(shard),
            At::Here(_) => None,
        }
    }
}

impl Core {
    /// The leg that a tag of ours names, in whichever call of this shard it is now.
    pub(crate) fn leg_of(&self, tag: &[u8]) -> Option<TagParts> {
        let name = mint::leg_name(tag)?;
        match self.moved.legs.get(&name).map(|place| place.at) {
            Some(At::Here(parts)) => Some(parts),
            Some(At::Shard(_)) => None,
            None => (name.shard == self.desk.settings.shard).then_some(name.parts),
        }
    }

    /// A message of a leg that went to another shard goes after it; `true` when it did.
    pub(crate) fn sent_onward(&mut self, from: &Source, message: &Message<'_>) -> bool {
        if self.moved.legs.is_empty() || !message.is_request() {
            return false;
        }
        let tag = message.to().ok().and_then(|to| to.tag()).map(<[u8]>::to_vec);
        let place = || {
            let value = message.first(HeaderName::Replaces)?;
            Some(Replaces::parse(value).ok()?.to_tag)
        };
        let tag = tag.or_else(place);
        let Some(shard) = tag.and_then(|tag| self.moved.shard_of(&tag)) else { return false };
        // What was answered here before it moved has its repeats, and its ACK, here.
        let is_known = || {
            let hash = self.desk.transactions.server_hash(message, message.method());
            self.desk.transactions.server_by_hash(hash).is_some()
        };
        if message.check_request().is_err() || is_known() {
            return false;
        }
        let onward = MeshMessage::Onward { from: *from, bytes: message.bytes().to_vec() };
        self.desk.out.mesh(shard, onward);
        true
    }

    /// Takes what a call has to say to another one's shard.
    pub(crate) fn carry(&mut self, to: ShardId, mut loan: Loan) {
        let own = self.desk.settings.shard;
        if to == own {
            return self.hear_loan(own, loan);
        }
        match &mut *loan.0 {
            Word::Taken { name, at, .. } => {
                self.moved.legs.insert(*name, Place { at: At::Here(*at), share: None });
            }
            // A count that was used there must not be used here once more (RFC 7616 3.4.5).
            Word::Lent { leg, .. } => leg.counts.clone_from(&self.desk.nonce_counts),
            Word::Returned { leg, .. } => leg.counts.clone_from(&self.desk.nonce_counts),
            Word::Ask(_) | Word::Gone { .. } | Word::Left(_) | Word::Refused { .. } => {}
        }
        self.desk.out.mesh(to, MeshMessage::Loan(loan));
    }

    pub(crate) fn hear_loan(&mut self, from: ShardId, Loan(word): Loan) {
        match *word {
            Word::Ask(ask) => self.lend(ask),
            Word::Gone { to, name, says_bye } => self.with_call(Some(to.call), |call, desk, _| {
                call.loan_gone(desk, &to, name, says_bye);
            }),
            Word::Left(name) => self.leg_left(name),
            Word::Lent { to, leg } => {
                self.desk.nonce_counts.learn(&leg.counts);
                self.borrow(from, to, leg);
            }
            Word::Refused { to, status } => self.with_call(Some(to.call), |call, desk, _| {
                call.loan_refused(desk, &to, status);
            }),
            Word::Returned { to, from, leg } => {
                self.desk.nonce_counts.learn(&leg.counts);
                self.with_call(Some(to.call), |call, desk, _| {
                    call.leg_returned(desk, to.leg, &from, leg);
                });
            }
            Word::Taken { to, from: borrower, name, at } => {
                let at =
                    if from == self.desk.settings.shard { At::Here(at) } else { At::Shard(from) };
                self.leg_taken(to, &borrower, name, at);
            }
        }
    }

    fn lend(&mut self, ask: Ask) {
        let (to, tag) = (ask.borrower, ask.replaces.to_tag.as_slice());
        if let Some(shard) = self.moved.shard_of(tag) {
            return self.carry(shard, Loan(Box::new(Word::Ask(ask))));
        }
        let found = self.leg_of(tag).filter(|parts| {
            let leg = self.calls.find(parts.call).and_then(|call| call.leg(parts.leg));
            leg.is_some_and(|leg| is_dialog(&leg.dialog, &ask.replaces))
        });
        let own = self.desk.settings.shard;
        let is_its_own = to.shard == own && found.is_some_and(|parts| parts.call == to.call);
        let is_full = self.moved.len() >= CALLS_PER_SHARD_MAX;
        let Some(parts) = found.filter(|_| !is_its_own && !is_full) else {
            let status = if is_its_own {
                400
            } else if is_full {
                503
            } else {
                481
            };
            let word = Word::Refused { to, status };
            return self.carry(to.shard, Loan(Box::new(word)));
        };
        let mut word = None;
        self.with_call(Some(parts.call), |call, desk, _| {
            word = Some(match call.lend(desk, parts.leg, &ask) {
                Ok(leg) => Word::Lent { to, leg },
                Err(status) => Word::Refused { to, status },
            });
            call.arm(desk);
        });
        if let Some(word) = word {
            self.carry(to.shard, Loan(Box::new(word)));
        }
    }

    fn borrow(&mut self, from: ShardId, to: Borrower, leg: LentLeg) {
        if let Some(flow) = leg.way.flow {
            self.flows.insert(flow);
        }
        let mut leg = Some(leg);
        self.with_call(Some(to.call), |call, desk, _| {
            leg = leg.take().and_then(|leg| call.adopt(desk, from, &to, leg));
            call.arm(desk);
        });
        if let Some(leg) = leg {
            self.carry(from, leg.back(to, Back::Untouched));
        }
    }

    fn leg_taken(&mut self, lender: TagParts, borrower: &Borrower, name: LegName, at: At) {
        let (mut share, mut is_taken) = (None, false);
        self.with_call(Some(lender.call), |call, desk, _| {
            is_taken = call.leg_taken(desk, lender.leg, borrower, &mut share);
        });
        if !is_taken {
            return; // its call has ended: the borrower hears that
        }
        match self.moved.legs.get_mut(&name) {
            Some(place) => place.at = at,
            None => drop(self.moved.legs.insert(name, Place { at, share })),
        }
    }

    /// The call that a moved leg was in is over.
    pub(crate) fn leg_left(&mut self, name: LegName) {
        let Some(place) = self.moved.legs.get_mut(&name) else { return };
        if let Some(share) = place.share.take() {
            self.desk.trunks.return_call(&share);
        }
        let Some(place) = self.moved.legs.get(&name) else { return };
        if matches!(place.at, At::Shard(_)) {
            // Its last requests were answered there, and so are their repeats (RFC 3261 17.2).
            let at = self.desk.now.mono + 64 * self.desk.timers.t1;
            return self.desk.wheel.arm(at, TimerKey::Moved(name));
        }
        self.moved.legs.remove(&name);
        if name.shard != self.desk.settings.shard {
            self.carry(name.shard, Loan(Box::new(Word::Left(name))));
        }
    }

    pub(crate) fn forget_moved(&mut self, name: LegName) {
        self.moved.legs.remove(&name);
    }

    /// A call is removed: the names of legs that came to it go, too.
    pub(crate) fn forget_names(&mut self, call: &Call) {
        for name in call.legs.iter().filter_map(|leg| leg.name) {
            self.leg_left(name);
        }
    }
}

impl LentLeg {
    /// What brings it back as it went.
    pub(crate) fn back(self, from: Borrower, how: Back) -> Loan {
        let Self { lender, dialog, timer, origin_version, last_sdp, .. } = self;
        let counts = NonceCounts::default();
        let leg = Returned { dialog, timer, origin_version, last_sdp, how, counts };
        Loan(Box::new(Word::Returned { to: lender, from, leg }))
    }
}

/// All three have to be the same, in their places (RFC 3891 3).
pub(crate) fn is_dialog(dialog: &Dialog, replaces: &Replaces) -> bool {
    dialog.call_id == replaces.call_id
        && dialog.local_tag.as_bytes() == replaces.to_tag
        && dialog.remote_tag == replaces.from_tag
}

#[cfg(test)]
mod tests;
