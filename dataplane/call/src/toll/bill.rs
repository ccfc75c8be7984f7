//! What a call has on whose account: a number counts while a leg rings or talks for it, and no longer.
//! Owns:  `Bill`: the numbers that were called, and the legs that each was called by.
//! Gives: `Core::balance_bill` after whatever happened to the call; `charges` for a leg that moves on.
//! Never: a second call for a number that is tried once more, by the same trunk or another one; one call
//!        for two legs that talk with one number.
//! Holds: what stands on a bill stands in the ledger once, from `begin` to `end`; a leg that comes to
//!        another call is on that call's bill from then on.

use std::time::Duration;

use shared::time::{Instant, Now};
use shared::toll::Number;

use super::ledger::Cap;
use super::{Account, LOOK_MAX, LOOK_MIN, Why, caps_of, tell_tally};
use crate::b2bua::forward::user_in;
use crate::b2bua::{Call, Leg, LegState, State, Target};
use crate::core::Core;
use crate::desk::Desk;
use crate::slots::Key;

/// Most calls have none.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    pub(super) items: Vec<Item>,
    /// The user whose forwarding sends the call out.
    pub(super) forwarder: Option<Box<str>>,
    /// Some number was refused.
    pub(super) is_refused: bool,
    /// By what no other trunk would change.
    pub(super) is_broke: bool,
    /// The last refusal that the log has: every trunk of a rule may be asked the same.
    pub(super) logged: Option<Refused>,
    /// When the minutes are looked at again.
    pub(super) look_at: Option<Instant>,
}

/// One number that was called, on one account; further tries at it are no further calls until somebody
/// answers there.
#[derive(Debug)]
pub(super) struct Item {
    charge: Charge,
    /// The legs that were called for it.
    legs: Vec<u8>,
    /// It may be called, and no leg is there yet.
    awaits_leg: bool,
    /// A leg of it talked: who is called at the number from then on is called beside it.
    was_up: bool,
    /// Since when it counts.
    stands: Option<Standing>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    began: Now,
    /// Since when somebody talks there.
    answered: Option<Now>,
}

/// Whose account a leg is on, for which number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    account: Account,
    number: Number,
}

/// Why, whose account it was, which number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub Why, pub Option<Account>, pub Vec<u8>);

impl Item {
    const fn new(charge: Charge) -> Self {
        Self { charge, legs: Vec::new(), awaits_leg: false, was_up: false, stands: None }
    }

    fn is_for(&self, trunk: &str) -> bool {
        !matches!(&self.charge.account, Account::Trunk(name) if **name != *trunk)
    }

    fn begin(&mut self, desk: &mut Desk, again: bool) -> Result<(), Cap> {
        let (now, Charge { account, number }) = (desk.now, &self.charge);
        match again {
            true => desk.toll.resume(now, account, number.is_abroad)?,
            false => desk.toll.begin(now, account, number.is_abroad)?,
        }
        tell_tally(desk, account, !again);
        self.stands = Some(Standing { began: now, answered: None });
        Ok(())
    }

    fn end(&mut self, desk: &mut Desk) {
        let Some(Standing { began, answered }) = self.stands.take() else { return };
        let (now, Charge { account, number }) = (desk.now, &self.charge);
        let talked = answered.map(|at| now.mono.since(at.mono)).unwrap_or_default();
        desk.toll.end(now, account, began.wall, number.is_abroad, talked);
        tell_tally(desk, account, false);
    }

    /// Counts for as long as its legs do; `true`: that has changed. `awaits`: the call has targets
    /// that no leg was made for yet.
    fn balance(&mut self, desk: &mut Desk, legs: &[Leg], awaits: bool) -> bool {
        let own = || self.legs.iter().filter_map(|leg| legs.get(usize::from(*leg)));
        let is_up = own().any(|leg| leg.state == LegState::Up);
        self.was_up |= is_up;
        let counts = is_up || own().any(rings) || self.awaits_leg && awaits;
        let has_changed = counts != self.stands.is_some();
        if has_changed && counts {
            // Without room in the ledger it is tried again with whatever happens to the call next.
            let _ = self.begin(desk, true);
        } else if has_changed {
            self.awaits_leg = false;
            self.end(desk);
        }
        if let Some(Standing { answered, .. }) = &mut self.stands
            && is_up
        {
            answered.get_or_insert(desk.now);
        }
        has_changed
    }
}

/// Its INVITE is out, and an answer is wanted.
fn rings(leg: &Leg) -> bool {
    let is_left = leg.given_up || leg.cancelled || leg.cancel_wanted.is_some();
    leg.state == LegState::Inviting && !is_left && leg.on_loan.is_none()
}

impl Bill {
    /// How a try at this number stands with an account: not yet, `Some(true)`: it counts, or it did.
    pub(super) fn stands(&self, account: &Account, number: &Number) -> Option<bool> {
        Some(self.find(account, number)?.stands.is_some())
    }

    fn find(&self, account: &Account, number: &Number) -> Option<&Item> {
        let same = |charge: &Charge| charge.account == *account && charge.number == *number;
        self.items.iter().find(|item| !item.was_up && same(&item.charge))
    }

    /// The number is on this account until its legs are over; they follow.
    pub(super) fn charge(
        &mut self,
        desk: &mut Desk,
        account: Account,
        number: &Number,
    ) -> Result<(), (Cap, Account)> {
        let charge = Charge { account, number: number.clone() };
        let again = self.stands(&charge.account, number).is_some();
        let item = self.item_of(charge);
        let outcome = item.begin(desk, again);
        item.awaits_leg = outcome.is_ok();
        outcome.map_err(|cap| (cap, item.charge.account.clone()))
    }

    fn item_of(&mut self, charge: Charge) -> &mut Item {
        let place = self.items.iter().position(|item| !item.was_up && item.charge == charge);
        let place = place.unwrap_or_else(|| {
            self.items.push(Item::new(charge));
            self.items.len() - 1
        });
        &mut self.items[place]
    }

    /// The least that any of its accounts has left of its minutes, and whose that is.
    pub(super) fn left(&self, desk: &Desk) -> Option<(Duration, &Account)> {
        let rules = desk.snapshot.toll.as_ref()?;
        let standing = self.items.iter().filter(|item| item.stands.is_some());
        let left = standing.filter_map(|item| {
            let account = &item.charge.account;
            let left = desk.toll.left(desk.now, account, caps_of(rules, account))?;
            Some((left, account))
        });
        left.min_by_key(|(left, _)| *left)
    }

    pub(super) fn next_look(&self, desk: &Desk) -> Option<Instant> {
        self.left(desk).map(|(left, _)| desk.now.mono + left.clamp(LOOK_MIN, LOOK_MAX))
    }
}

impl Core {
    /// What became of the call's legs: those that are gone cost nothing more, those that came do.
    pub(crate) fn balance_bill(&mut self, slot: Key) {
        let Self { calls, desk, .. } = self;
        let Some(call) = calls.find_mut(slot) else { return };
        let Some(mut bill) = call.shares.bill.take() else { return };
        let awaits = call.awaits_legs();
        let mut has_changed = false;
        for item in &mut bill.items {
            has_changed |= item.balance(desk, &call.legs, awaits);
        }
        if has_changed {
            bill.look_at = bill.next_look(desk);
        }
        call.shares.bill = Some(bill);
        if has_changed {
            call.arm(desk);
        }
    }

    /// Whoever was to be called by a group that is over, and was not, will not be.
    pub(crate) fn drop_uncalled(&mut self, slot: Key) {
        let Some(call) = self.calls.find_mut(slot).filter(|call| call.dial.is_none()) else {
            return;
        };
        let Some(bill) = &mut call.shares.bill else { return };
        for item in &mut bill.items {
            item.awaits_leg = false;
        }
        self.balance_bill(slot);
    }

    /// What a call that is over had on its accounts.
    pub(crate) fn settle_bill(&mut self, bill: Option<Box<Bill>>) {
        let Some(mut bill) = bill else { return };
        for item in &mut bill.items {
            item.end(&mut self.desk);
        }
    }
}

impl Call {
    /// Whether it has targets, or looks for them, that are called later on.
    fn awaits_legs(&self) -> bool {
        !matches!(self.state, State::Ringing | State::Talking)
            || self.dial.is_some()
            || self.transfer.is_some() && self.round.is_none()
    }

    /// Leg `index` is called at `target`.
    pub(crate) fn put_on_bill(&mut self, desk: &Desk, index: u8, target: &Target) {
        let Some(bill) = &mut self.shares.bill else { return };
        let (Some(rules), Some(trunk)) = (&desk.snapshot.toll, &target.trunk) else { return };
        let number = rules.read(&user_in(&target.uri).unwrap_or_default());
        let tries = bill.items.iter_mut().filter(|item| !item.was_up);
        for item in tries.filter(|item| item.charge.number == number) {
            if item.is_for(trunk) {
                item.legs.push(index);
                item.awaits_leg = false;
            }
        }
    }

    /// Somebody else of the same trunk comes in the place of a leg, and costs what that did.
    pub(crate) fn bill_takes_over(&mut self, goes: u8, comes: u8) {
        let is_same = self.trunk_of(goes) == self.trunk_of(comes);
        let Some(bill) = self.shares.bill.as_mut().filter(|_| is_same) else { return };
        for item in bill.items.iter_mut().filter(|item| item.legs.contains(&goes)) {
            item.legs.push(comes);
        }
    }

    /// What a leg costs, and whom.
    pub(crate) fn charges(&self, leg: u8) -> Vec<Charge> {
        let items = self.shares.bill.iter().flat_map(|bill| &bill.items);
        items.filter(|item| item.legs.contains(&leg)).map(|item| item.charge.clone()).collect()
    }

    /// A leg that talks has come from another call, and what it costs with it.
    pub(crate) fn take_charges(&mut self, leg: u8, charges: Vec<Charge>) {
        for charge in charges {
            let bill = self.shares.bill.get_or_insert_default();
            bill.items.push(Item { legs: vec![leg], was_up: true, ..Item::new(charge) });
        }
    }
}
