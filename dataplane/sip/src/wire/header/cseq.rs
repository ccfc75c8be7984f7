//! CSeq (RFC 3261 20.16): number and method.
//! Owns:  its two fields.
//! Gives: `CSeq::parse`.
//! Never: a number of 2^31 or more (RFC 3261 8.1.1.5).
//! Holds: the method is `Other` for one that we do not know.

use super::super::{Malformed, Method};
use super::parse_number;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    /// # Errors
    /// Refuses what is not `number method`.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let bad = Malformed::BadHeader("CSeq");
        let blank = value.iter().position(u8::is_ascii_whitespace).ok_or(bad)?;
        let number = parse_number(&value[..blank]).filter(|number| *number < 1 << 31).ok_or(bad)?;
        let method = value[blank..].trim_ascii();
        if method.is_empty() || !method.iter().all(|&byte| super::super::scan::is_token(byte)) {
            return Err(bad);
        }
        Ok(Self { number, method: Method::parse(method) })
    }
}
