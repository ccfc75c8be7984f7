//! Typed headers, one file each, and what they share: lists, parameters, numbers.
//! Owns:  the readers of header values.
//! Gives: views into the value; nothing is copied.
//! Never: a reader that accepts what RFC 3261 25.1 does not, unless the field does it every day.
//! Holds: LWS inside a value, folds included, is what a blank is (RFC 3261 7.3.1).

mod cseq;
pub(crate) mod list;
mod name_addr;
pub(crate) mod params;
mod reliable;
mod replaces;
mod session_expires;
mod via;

pub use cseq::CSeq;
pub use name_addr::NameAddr;
pub use reliable::{RAck, parse_rseq};
pub use replaces::Replaces;
pub use session_expires::{Refresher, SessionExpires, parse_min_se};
pub use via::Via;

/// Digits only, at most a u32.
pub(crate) fn parse_number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |value, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
    })
}
