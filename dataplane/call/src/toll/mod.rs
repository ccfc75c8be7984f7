//! Calls over trunks are paid for by somebody: where they may go, and how many of them (toll fraud).
//! Owns:  whose account a call is on, the refusal, the look at a standing call's minutes.
//! Gives: `Core::pays` before a trunk is called; what follows of a call's bill is in `bill`.
//! Never: holds up an emergency call, a call within the house, or anything without `[proxy.toll_fraud]`.
//! Holds: what one shard counts all shards hear at once; two of them that decide within the same
//!        moment may let one call more each through than the cap says, and no more.

mod bill;
mod ledger;
mod texts;

use std::time::Duration;

use shared::act::HangUp;
use shared::cdr::HangupReason;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::time::Instant;
use shared::toll::{Caps, Number, TollRules, Verdict};

use crate::b2bua::compose::readable;
use crate::b2bua::forward::user_in;
use crate::b2bua::{Call, Failure, INVITER};
use crate::core::Core;
use crate::desk::Desk;
use crate::edge::key_of;
use crate::io::MeshMessage;
use crate::notifier::dialogs::Mark;
use crate::place::uri_of;
use crate::slots::Key;

use bill::Refused;
pub(crate) use bill::{Bill, Charge};
use ledger::Cap;
pub(crate) use ledger::Ledger;
pub use ledger::{Account, Tally};

/// A standing call's minutes are looked at this often, since other calls use them, too.
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Why a number is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Cap(Cap),
    Country,
    Premium,
}

impl Why {
    /// The key of the configuration that it is for.
    const fn word(self) -> &'static str {
        match self {
            Self::Cap(Cap::Calls) => "max_calls",
            Self::Cap(Cap::Daily) => "daily_limit",
            Self::Cap(Cap::International) => "max_international",
            Self::Cap(Cap::Minute) => "calls_per_minute",
            Self::Cap(Cap::Minutes) => "daily_minutes",
            Self::Cap(Cap::Room) => "too_many_accounts",
            Self::Country => "allowed_destination_countries",
            Self::Premium => "premium_prefixes",
        }
    }

    const fn counter(self) -> Counter {
        match self {
            Self::Cap(_) => Counter::TollLimitsRefused,
            Self::Country | Self::Premium => Counter::TollNumbersRefused,
        }
    }
}

impl Core {
    /// Whether the call may go to this address over that trunk; if so it is on its accounts from now on,
    /// until it ends. Else the call has the failure that its caller hears.
    pub(crate) fn pays(&mut self, slot: Key, trunk: &str, uri: &[u8]) -> bool {
        let Some(rules) = self.desk.snapshot.toll.clone() else { return true };
        let Some(call) = self.calls.find(slot) else { return false };
        let number = rules.read(&user_in(uri).unwrap_or_default());
        let accounts = payer(call, &self.desk).into_iter().chain([Account::Trunk(trunk.into())]);
        let bill = call.shares.bill.as_deref();
        // Of those that count already nothing is asked; `true`: the number is tried once more.
        let due = accounts.filter_map(|account| {
            match bill.and_then(|bill| bill.stands(&account, &number)) {
                Some(true) => None,
                known => Some((account, known.is_some())),
            }
        });
        let accounts: Vec<(Account, bool)> = due.collect();
        let outcome = self.try_accounts(&rules, &number, &accounts);
        if let Err((why, account)) = outcome {
            let account = account.or_else(|| accounts.into_iter().next().map(|(first, _)| first));
            self.refuse_toll(slot, why, account.as_ref(), trunk, uri);
            return false;
        }
        let Self { calls, desk, .. } = self;
        let Some(call) = calls.find_mut(slot) else { return false };
        let bill = call.shares.bill.get_or_insert_default();
        let mut accounts = accounts.into_iter();
        let outcome = accounts.try_for_each(|(account, _)| bill.charge(desk, account, &number));
        bill.look_at = bill.next_look(desk);
        if let Err((cap, account)) = outcome {
            self.refuse_toll(slot, Why::Cap(cap), Some(&account), trunk, uri);
            return false;
        }
        true
    }

    /// Whether the number in this address may be called, or written to, at all.
    pub(crate) fn may_be_called(&self, uri: &[u8]) -> bool {
        let Some(rules) = &self.desk.snapshot.toll else { return true };
        rules.verdict(&rules.read(&user_in(uri).unwrap_or_default())) == Verdict::Open
    }

    fn try_accounts(
        &self,
        rules: &TollRules,
        number: &Number,
        accounts: &[(Account, bool)],
    ) -> Result<(), (Why, Option<Account>)> {
        match rules.verdict(number) {
            Verdict::Closed => return Err((Why::Country, None)),
            Verdict::Premium => return Err((Why::Premium, None)),
            Verdict::Open => {}
        }
        let (ledger, now) = (&self.desk.toll, self.desk.now);
        for (account, again) in accounts {
            let caps = caps_of(rules, account);
            let outcome = match again {
                true => ledger.check_again(now, account, caps, number.is_abroad),
                false => ledger.check(now, account, caps, number.is_abroad),
            };
            outcome.map_err(|cap| (Why::Cap(cap), Some(account.clone())))?;
        }
        Ok(())
    }

    fn refuse_toll(
        &mut self,
        slot: Key,
        why: Why,
        account: Option<&Account>,
        trunk: &str,
        uri: &[u8],
    ) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        let reason = toll_reason(why.word());
        call.note_failure(Failure { reason, ..Failure::ours(403, readable(uri)) });
        let user = user_in(uri).unwrap_or_default();
        let refused = Refused(why, account.cloned(), user);
        let bill = call.shares.bill.get_or_insert_default();
        bill.is_refused = true;
        let is_known = bill.logged.as_ref() == Some(&refused);
        bill.logged = Some(refused);
        let is_trunks = matches!((why, account), (Why::Cap(_), Some(Account::Trunk(_))));
        if !is_trunks {
            // Another trunk would be paid by the same account, for the same number.
            call.hunt.drop_stand_ins();
            call.shares.bill.get_or_insert_default().is_broke = true;
        }
        if is_known {
            return;
        }
        let (id, source) = (call.id, call.source);
        self.desk.count(why.counter());
        self.desk.security("toll_refused", &source, || {
            let account = account.map(ToString::to_string).unwrap_or_default();
            let (why, number) = (why.word(), readable(uri));
            format!(" why={why} call={id} account={account:?} trunk={trunk:?} number={number:?}")
        });
    }
}

/// The phrase that the caller hears, by the key of the configuration.
pub(crate) fn toll_reason(word: &str) -> Vec<u8> {
    format!("Toll limit: {word}").into_bytes()
}

/// The other shards hear what this one has counted.
fn tell_tally(desk: &mut Desk, account: &Account, has_begun: bool) {
    let begun = u32::from(has_begun);
    let (me, shards) = (desk.settings.shard.0, desk.settings.shards);
    if shards == 1 {
        return;
    }
    let tally = desk.toll.own(account);
    for other in (0..shards).filter(|&other| other != me) {
        let message = MeshMessage::Toll { counted: Box::new((account.clone(), tally)), begun };
        desk.out.mesh(ShardId(other), message);
    }
}

impl Call {
    /// A user's forwarding sends the call on: what it costs is that user's.
    pub(crate) fn forwarded_by(&mut self, desk: &Desk, user: &str) {
        if desk.snapshot.toll.is_some() {
            self.shares.bill.get_or_insert_default().forwarder = Some(user.into());
        }
    }

    /// Another number is tried: what was refused before says nothing of it.
    pub(crate) fn forget_refused_bill(&mut self) {
        if let Some(bill) = &mut self.shares.bill {
            (bill.is_refused, bill.is_broke) = (false, false);
        }
    }

    /// Whether it is the caller's account, or the number, that another trunk could not help with.
    pub(crate) fn is_broke(&self) -> bool {
        self.shares.bill.as_ref().is_some_and(|bill| bill.is_broke)
    }

    /// The status for a call that has no trunk to go by: none has room, or nobody may pay for it.
    pub(crate) fn unplaced_status(&self) -> u16 {
        if self.shares.bill.as_ref().is_some_and(|bill| bill.is_refused) { 403 } else { 503 }
    }

    pub(crate) fn toll_deadline(&self) -> Option<Instant> {
        self.shares.bill.as_ref()?.look_at
    }

    /// The minutes that are left are looked at: with none the call ends.
    pub(crate) fn toll_timeout(&mut self, desk: &mut Desk) {
        let Some(bill) = &mut self.shares.bill else { return };
        if bill.look_at.take_if(|at| *at <= desk.now.mono).is_none() {
            return;
        }
        let Some((left, account)) = bill.left(desk) else { return };
        if !left.is_zero() {
            bill.look_at = bill.next_look(desk);
            return;
        }
        let (id, source, account) = (self.id, self.source, account.to_string());
        let word = Why::Cap(Cap::Minutes).word();
        desk.count(Counter::TollCallsEnded);
        desk.security("toll_ended", &source, || {
            format!(" why={word} call={id} account={account:?}")
        });
        let reason = Some(format!("Toll limit: {word}").into());
        self.hung_up = Some(HangUp { code: None, reason, by: "toll_fraud".into() });
        let status = if self.answered.is_some() { 200 } else { 403 };
        self.end(desk, HangupReason::Autohangup, status, None);
    }
}

const fn caps_of<'r>(rules: &'r TollRules, account: &Account) -> &'r Caps {
    match account {
        Account::Extension(_) | Account::Source(_) | Account::Texter(_) => &rules.extension,
        Account::Trunk(_) | Account::TrunkTexts(_) => &rules.trunk,
    }
}

/// Who pays, beside the trunk: who sends the call out of the house. For a call from trunk to trunk
/// nobody does.
fn payer(call: &Call, desk: &Desk) -> Option<Account> {
    let named = |party: &[u8]| {
        let user = user_in(uri_of(party)).unwrap_or_default();
        Account::Extension(String::from_utf8_lossy(&user).into())
    };
    if let Some(transfer) = &call.transfer {
        if call.trunk_of(transfer.leaves).is_some() {
            return None;
        }
        if !desk.settings.call_auth {
            let leaves = call.leg(transfer.leaves)?;
            return Some(Account::Source(key_of(leaves.way.peer.ip())));
        }
        // A caller's From was proven; what it wrote into To is its own invention, and no name of who
        // it called.
        if transfer.leaves == INVITER && call.caller_hash.is_some() {
            return Some(Account::Extension(call.caller.as_str().into()));
        }
        if let Some(mark) = call.leg(transfer.leaves).and_then(|leg| leg.user) {
            let known = desk.snapshot.users.keys().find(|name| Mark::of(name.as_bytes()) == mark);
            // A backend's user has its account under the mark.
            let name = known.map_or_else(|| format!("#{:x}", mark.number()), ToString::to_string);
            return Some(Account::Extension(name.into()));
        }
        return call.leg(transfer.leaves).map(|leg| named(&leg.dialog.remote_party));
    }
    if let Some(user) = call.shares.bill.as_ref().and_then(|bill| bill.forwarder.as_ref()) {
        return Some(Account::Extension(user.clone()));
    }
    if let Some(dial) = &call.dial {
        return Some(named(&dial.caller));
    }
    if call.inbound_trunk.is_some() {
        return None;
    }
    if desk.settings.call_auth {
        return Some(Account::Extension(call.caller.as_str().into()));
    }
    // Anybody may call itself anything here.
    Some(Account::Source(key_of(call.source.peer.ip())))
}
