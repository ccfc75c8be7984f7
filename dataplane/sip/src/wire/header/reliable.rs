//! RSeq and RAck: the number of a reliable provisional response, and who acknowledges it (RFC 3262 7).
//! Owns:  their fields.
//! Gives: `parse_rseq`, `RAck::parse`.
//! Never: a judgement whether a number is the next one.
//! Holds: a response number is never 0 and fits 32 bits.

use super::super::{Malformed, Method};
use super::{CSeq, parse_number};

/// What a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck {
    /// RSeq of the response.
    pub rseq: u32,
    /// CSeq of the response.
    pub cseq: u32,
    pub method: Method,
}

impl RAck {
    /// # Errors
    /// Refuses what is not `response-number CSeq-number method`.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let bad = Malformed::BadHeader("RAck");
        let blank = value.iter().position(u8::is_ascii_whitespace).ok_or(bad)?;
        let rseq = number(&value[..blank]).ok_or(bad)?;
        let CSeq { number, method } =
            CSeq::parse(value[blank..].trim_ascii_start()).map_err(|_| bad)?;
        Ok(Self { rseq, cseq: number, method })
    }
}

/// # Errors
/// Refuses what is not a number of 1 or more.
pub fn parse_rseq(value: &[u8]) -> Result<u32, Malformed> {
    number(value).ok_or(Malformed::BadHeader("RSeq"))
}

fn number(text: &[u8]) -> Option<u32> {
    parse_number(text).filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rack_names_the_response_and_its_request() {
        let read = |text: &str| RAck::parse(text.as_bytes()).ok();
        let expected = RAck { rseq: 776_656, cseq: 1, method: Method::Invite };
        assert_eq!(read("776656 1 INVITE"), Some(expected));
        assert_eq!(read("776656 \t1  INVITE"), Some(expected));
        for bad in
            ["", "1", "1 2", "0 1 INVITE", "x 1 INVITE", "1 -2 INVITE", "4294967296 1 INVITE"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_rseq_is_a_number_and_not_zero() {
        let read = |text: &str| parse_rseq(text.as_bytes()).ok();
        assert_eq!((read("1"), read("4294967295")), (Some(1), Some(u32::MAX)));
        for bad in ["", "0", "-1", "1 ", "1;x", "4294967296"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
