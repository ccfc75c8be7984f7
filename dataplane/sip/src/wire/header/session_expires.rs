//! Session-Expires and Min-SE: how long a session stands without a refresh (RFC 4028 4, 5).
//! Owns:  their fields.
//! Gives: `SessionExpires::parse`, `parse_min_se`.
//! Never: a judgement whether an interval is long enough.
//! Holds: a number beyond 32 bits is the most there is; that is as good as never.

use super::super::Malformed;
use super::params;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    pub seconds: u32,
    pub refresher: Option<Refresher>,
}

/// By its role in the transaction that carries the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    Uac,
    Uas,
}

impl Refresher {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uac => "uac",
            Self::Uas => "uas",
        }
    }
}

impl SessionExpires {
    /// # Errors
    /// Refuses what is not `seconds;refresher=uac` or `uas`, other parameters aside.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let bad = Malformed::BadHeader("Session-Expires");
        let (seconds, behind) = cut_seconds(value).ok_or(bad)?;
        if !params::well_formed(behind) {
            return Err(bad);
        }
        let refresher = match params::find(behind, "refresher") {
            None => None,
            Some(Some(word)) if word.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(Some(word)) if word.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return Err(bad),
        };
        Ok(Self { seconds, refresher })
    }
}

/// # Errors
/// Refuses what is not a number of seconds, parameters aside.
pub fn parse_min_se(value: &[u8]) -> Result<u32, Malformed> {
    let bad = Malformed::BadHeader("Min-SE");
    let (seconds, behind) = cut_seconds(value).ok_or(bad)?;
    if params::well_formed(behind) { Ok(seconds) } else { Err(bad) }
}

/// The digits that a value starts with, and what follows them.
fn cut_seconds(value: &[u8]) -> Option<(u32, &[u8])> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, behind) = value.split_at(digits);
    let add = |seconds: u32, digit: &u8| {
        seconds.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
    };
    (digits > 0).then(|| (number.iter().fold(0, add), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_reads_with_and_without_its_refresher() {
        let read = |text: &str| SessionExpires::parse(text.as_bytes()).ok();
        let with = |seconds, refresher| Some(SessionExpires { seconds, refresher });
        assert_eq!(read("1800"), with(1_800, None));
        assert_eq!(read("90;refresher=uac"), with(90, Some(Refresher::Uac)));
        assert_eq!(read("90 ; x=\"a;b\" ; Refresher = UAS"), with(90, Some(Refresher::Uas)));
        assert_eq!(read("99999999999999;y"), with(u32::MAX, None));
        for bad in ["", ";refresher=uac", "-1", "1 2", "90;refresher", "90;refresher=me", "90,91"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn min_se_is_a_number_with_nothing_but_parameters_behind_it() {
        let read = |text: &str| parse_min_se(text.as_bytes()).ok();
        assert_eq!(read("90"), Some(90));
        assert_eq!(read("4294967296"), Some(u32::MAX));
        assert_eq!(read("120;lr"), Some(120));
        for bad in ["", "x", "90 s", "9 0"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
