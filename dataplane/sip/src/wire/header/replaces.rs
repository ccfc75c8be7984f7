//! Replaces: the dialog whose place a new one takes (RFC 3891 6.1).
//! Owns:  its fields.
//! Gives: `Replaces::parse`, for the header and for the same value in a Refer-To.
//! Never: a judgement whether there is such a dialog.
//! Holds: tags are named as whoever receives the INVITE sees them: `to` is its own.

use super::super::Malformed;
use super::params;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    pub call_id: Vec<u8>,
    pub to_tag: Vec<u8>,
    pub from_tag: Vec<u8>,
    /// Only a dialog that nobody has answered yet may be replaced.
    pub early_only: bool,
}

impl Replaces {
    /// # Errors
    /// Refuses a value without a Call-ID or without exactly one of each tag.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let bad = Malformed::BadHeader("Replaces");
        let value = value.trim_ascii();
        let end = value.iter().position(|&byte| byte == b';').ok_or(bad)?;
        let (call_id, behind) = (value[..end].trim_ascii_end(), &value[end..]);
        let is_word = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
        if call_id.is_empty() || !call_id.iter().all(is_word) || !params::well_formed(behind) {
            return Err(bad);
        }
        let tag = |name: &str| {
            let named = |found: &&[u8]| found.eq_ignore_ascii_case(name.as_bytes());
            let count = params::each(behind).filter(|(found, _)| named(found)).count();
            let tag = params::find(behind, name).flatten().unwrap_or_default();
            (count == 1 && !tag.is_empty()).then(|| tag.to_vec())
        };
        Ok(Self {
            call_id: call_id.to_vec(),
            to_tag: tag("to-tag").ok_or(bad)?,
            from_tag: tag("from-tag").ok_or(bad)?,
            early_only: params::find(behind, "early-only").is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3891_read() {
        let read = |text: &str| Replaces::parse(text.as_bytes());
        let plain = read("98732@sip.example.com\r\n ;from-tag=r33th4x0r\r\n ;to-tag=ff87ff");
        let plain = plain.expect("RFC 3891 6.1");
        assert_eq!(plain.call_id, b"98732@sip.example.com");
        assert_eq!((&plain.to_tag[..], &plain.from_tag[..]), (&b"ff87ff"[..], &b"r33th4x0r"[..]));
        assert!(!plain.early_only);
        let early = read("12adf2f34456gs5;to-tag=12345;from-tag=54321;early-only");
        assert!(early.expect("RFC 3891 6.1").early_only);
    }

    #[test]
    fn one_call_id_and_one_of_each_tag_or_nothing() {
        for bad in [
            "",
            "a",
            ";to-tag=b;from-tag=c",
            "a;to-tag=b",
            "a;from-tag=c",
            "a;to-tag;from-tag=c",
            "a;to-tag=b;to-tag=d;from-tag=c",
            "a b;to-tag=b;from-tag=c",
            "a;to-tag=b;from-tag=c, d;to-tag=b;from-tag=c",
        ] {
            assert!(Replaces::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
