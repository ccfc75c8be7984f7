//! Call forwarding of a user: when its calls go elsewhere, and where to.
//! Owns:  `Forwarding`, the words of its mode, the checks of its destination.
//! Gives: `Forwarding::read` from the three fields that files, the API and tables have for it.
//! Never: follows a forward; the data plane does.
//! Holds: a mode covers the causes that it names, and `Always` alone stands for no try at all.

use std::time::Duration;

/// `call_forwarding_*` of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    pub mode: ForwardMode,
    /// A user, a number or a SIP URI.
    pub to: Box<str>,
    /// How long the user's phones ring before nobody has answered.
    pub ring: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardMode {
    Always,
    WhenBusy,
    WhenNotAnswered,
    WhenNotRegistered,
    /// Any of the three before.
    WhenUnavailable,
}

/// Why a call leaves a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardCause {
    Always,
    Busy,
    /// It sent the call away by a 3xx.
    Deflected,
    NotAnswered,
    /// No phone is registered, or none was reached.
    NotRegistered,
}

/// `proxy.follow_redirects`: whose 3xx sends a call on. Those of others are passed on to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    #[default]
    PassedOn,
    OfUsers,
    /// Of our users' phones and of trunks.
    OfAll,
}

impl Redirects {
    /// In the order of the variants.
    pub const WORDS: [&str; 3] = ["none", "users", "all"];

    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::PassedOn,
            "users" => Self::OfUsers,
            "all" => Self::OfAll,
            _ => return None,
        })
    }
}

/// What is wrong with one of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardingFlaw {
    pub field: &'static str,
    pub missing: bool,
    pub text: String,
}

pub const MODE: &str = "call_forwarding_mode";
pub const DESTINATION: &str = "call_forwarding_destination";
pub const TIMEOUT: &str = "call_forwarding_timeout";
/// The last two are ours.
pub const MODES: [&str; 6] =
    ["none", "always", "when_busy", "when_not_answered", "when_not_registered", "when_unavailable"];
/// Seconds, as the original has them.
pub const TIMEOUT_MIN_S: i64 = 5;
pub const TIMEOUT_MAX_S: i64 = 120;
pub const TIMEOUT_DEFAULT_S: i64 = 30;
const DESTINATION_BYTES_MAX: usize = 256;

impl Forwarding {
    /// `None`: calls are not forwarded.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn read(
        mode: Option<&str>,
        to: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<Option<Self>, ForwardingFlaw> {
        let flaw = |field, missing, text: String| Err(ForwardingFlaw { field, missing, text });
        let mode = match mode.unwrap_or("none") {
            "none" => None,
            word => match ForwardMode::parse(word) {
                Some(mode) => Some(mode),
                None => return flaw(MODE, false, format!("is none of {}", MODES.join(", "))),
            },
        };
        let seconds = seconds.unwrap_or(TIMEOUT_DEFAULT_S);
        if !(TIMEOUT_MIN_S..=TIMEOUT_MAX_S).contains(&seconds) {
            let text = format!("must be from {TIMEOUT_MIN_S} to {TIMEOUT_MAX_S} seconds");
            return flaw(TIMEOUT, false, text);
        }
        let to = to.map(str::trim).filter(|to| !to.is_empty());
        // What is kept for later and not used may be anything.
        if let Some(wrong) = to.filter(|_| mode.is_some()).and_then(odd_destination) {
            return flaw(DESTINATION, false, wrong);
        }
        match (mode, to) {
            (None, _) => Ok(None),
            (Some(_), None) => flaw(DESTINATION, true, "forwarding needs a destination".to_owned()),
            (Some(mode), Some(to)) => {
                let ring = Duration::from_secs(seconds.unsigned_abs());
                Ok(Some(Self { mode, to: to.into(), ring }))
            }
        }
    }

    /// What a table holds, which was checked when it was written. A destination that cannot be read
    /// any more is refused when a call comes, and said in the log.
    pub fn kept(mode: Option<&str>, to: Option<&str>, seconds: Option<i64>) -> Option<Self> {
        let mode = ForwardMode::parse(mode?)?;
        let seconds = seconds.unwrap_or(TIMEOUT_DEFAULT_S).clamp(TIMEOUT_MIN_S, TIMEOUT_MAX_S);
        let ring = Duration::from_secs(seconds.unsigned_abs());
        Some(Self { mode, to: to?.trim().into(), ring })
    }
}

impl ForwardMode {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "always" => Self::Always,
            "when_busy" => Self::WhenBusy,
            "when_not_answered" => Self::WhenNotAnswered,
            "when_not_registered" => Self::WhenNotRegistered,
            "when_unavailable" => Self::WhenUnavailable,
            _ => return None,
        })
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::WhenBusy => "when_busy",
            Self::WhenNotAnswered => "when_not_answered",
            Self::WhenNotRegistered => "when_not_registered",
            Self::WhenUnavailable => "when_unavailable",
        }
    }

    pub const fn covers(self, cause: ForwardCause) -> bool {
        matches!(
            (self, cause),
            (Self::Always, ForwardCause::Always)
                | (Self::WhenBusy | Self::WhenUnavailable, ForwardCause::Busy)
                | (Self::WhenNotAnswered | Self::WhenUnavailable, ForwardCause::NotAnswered)
                | (Self::WhenNotRegistered | Self::WhenUnavailable, ForwardCause::NotRegistered)
        )
    }
}

impl ForwardCause {
    /// `diversion-reason` of RFC 5806.
    pub const fn diversion_reason(self) -> &'static str {
        match self {
            Self::Always => "unconditional",
            Self::Busy => "user-busy",
            Self::Deflected => "deflection",
            Self::NotAnswered => "no-answer",
            Self::NotRegistered => "unavailable",
        }
    }

    /// `cause` of RFC 4458 2, which RFC 7044 takes for a History-Info entry.
    pub const fn code(self) -> u16 {
        match self {
            Self::Always => 302,
            Self::Busy => 486,
            Self::Deflected => 480,
            Self::NotAnswered => 408,
            Self::NotRegistered => 503,
        }
    }
}

/// Why a destination cannot be called. What a word without a scheme means, the dial plan says.
fn is_sip(scheme: &str) -> bool {
    ["sip", "sips"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

fn odd_destination(to: &str) -> Option<String> {
    if to.len() > DESTINATION_BYTES_MAX {
        return Some(format!("has more than {DESTINATION_BYTES_MAX} bytes"));
    }
    if to.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"".contains(c)) {
        return Some("is neither a user, a number nor a SIP URI".to_owned());
    }
    match to.split_once(':') {
        Some((scheme, rest)) if is_sip(scheme) => {
            rest.is_empty().then(|| "is no SIP URI".to_owned())
        }
        Some((scheme, _)) => {
            Some(format!("\"{scheme}:\" is not built: write a user, a number or sip:"))
        }
        None if to.contains('@') => Some("is an address without \"sip:\" before it".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_modes() {
        for word in &MODES[1..] {
            assert_eq!(ForwardMode::parse(word).map(ForwardMode::as_str), Some(*word));
        }
        assert_eq!(ForwardMode::parse(MODES[0]), None);
    }

    #[test]
    fn three_fields_make_a_forwarding_or_name_the_wrong_one() {
        let read = Forwarding::read;
        let forwarding = read(Some("when_busy"), Some(" 1002 "), Some(20)).expect("right");
        let ring = Duration::from_secs(20);
        assert_eq!(
            forwarding,
            Some(Forwarding { mode: ForwardMode::WhenBusy, to: "1002".into(), ring })
        );
        assert_eq!(read(None, None, None), Ok(None));
        assert_eq!(read(Some("none"), Some("1002"), None), Ok(None));
        let wrong = |mode, to, seconds| read(mode, to, seconds).expect_err("wrong").field;
        assert_eq!(wrong(Some("sometimes"), Some("1"), None), MODE);
        assert_eq!(wrong(Some("always"), None, None), DESTINATION);
        assert_eq!(wrong(Some("always"), Some("voicemail:1"), None), DESTINATION);
        assert_eq!(wrong(Some("always"), Some("a b"), None), DESTINATION);
        assert_eq!(wrong(Some("always"), Some("1002@host"), None), DESTINATION);
        assert_eq!(wrong(Some("always"), Some("1"), Some(4)), TIMEOUT);
        assert!(read(Some("always"), Some("sip:+4930@carrier.test"), None).is_ok());
    }

    #[test]
    fn unavailable_covers_every_condition_and_no_other_mode_covers_two() {
        use ForwardCause::{Always, Busy, Deflected, NotAnswered, NotRegistered};
        let causes = [Always, Busy, Deflected, NotAnswered, NotRegistered];
        let covered =
            |mode: ForwardMode| causes.iter().filter(|cause| mode.covers(**cause)).count();
        let counts = MODES[1..].iter().filter_map(|word| ForwardMode::parse(word)).map(covered);
        assert_eq!(counts.collect::<Vec<_>>(), [1, 1, 1, 1, 3]);
        assert!(!ForwardMode::WhenUnavailable.covers(Always));
    }
}
