//! Texts over trunks cost money as calls do: how many of them, on whose account.
//! Owns:  what is asked of the ledger before a MESSAGE leaves by a trunk.
//! Gives: `Desk::pays_text`.
//! Never: a call that is not made because somebody wrote: texts are counted beside calls, by the same caps.
//! Holds: a text counts once for its sender, and once for each trunk that it was given to.

use shared::metrics::Counter;
use shared::net::Source;

use super::{Account, Cap, Why, caps_of, tell_tally};
use crate::b2bua::compose::readable;
use crate::b2bua::forward::user_in;
use crate::desk::Desk;

/// Why a text does not go by a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextRefused {
    /// The key of the configuration.
    pub why: &'static str,
    /// It is the trunk that may take no more; another one may.
    pub is_trunks: bool,
}

impl Desk {
    /// One more text for this address over that trunk. `sender`: the extension that it is on the account
    /// of; `None` where it paid before, or where a trunk sends it.
    pub(crate) fn pays_text(
        &mut self,
        from: &Source,
        sender: Option<&str>,
        trunk: &str,
        uri: &[u8],
    ) -> Result<(), TextRefused> {
        let Some(rules) = self.snapshot.toll.clone() else { return Ok(()) };
        let number = rules.read(&user_in(uri).unwrap_or_default());
        let sender = sender.map(|name| Account::Texter(name.into()));
        let accounts = sender.into_iter().chain([Account::TrunkTexts(trunk.into())]);
        let accounts: Vec<Account> = accounts.collect();
        let now = self.now;
        let refused = accounts.iter().find_map(|account| {
            let caps = caps_of(&rules, account);
            let cap = self.toll.check(now, account, caps, number.is_abroad).err()?;
            Some((cap, account))
        });
        if let Some((cap, account)) = refused {
            return Err(self.refuse_text(from, cap, account, trunk, uri));
        }
        for account in &accounts {
            if let Err(cap) = self.toll.begin(now, account, number.is_abroad) {
                return Err(self.refuse_text(from, cap, account, trunk, uri));
            }
            self.toll.end(now, account, now.wall, number.is_abroad, std::time::Duration::ZERO);
            tell_tally(self, account, true);
        }
        Ok(())
    }

    fn refuse_text(
        &mut self,
        from: &Source,
        cap: Cap,
        account: &Account,
        trunk: &str,
        uri: &[u8],
    ) -> TextRefused {
        let why = Why::Cap(cap).word();
        self.count(Counter::TollLimitsRefused);
        self.security("toll_refused", from, || {
            let (account, number) = (account.to_string(), readable(uri));
            format!(" why={why} account={account:?} trunk={trunk:?} number={number:?}")
        });
        TextRefused { why, is_trunks: matches!(account, Account::TrunkTexts(_)) }
    }
}
