//! Toll fraud: which numbers a call may go to over a trunk, and how much of it one account may do.
//! Owns:  `TollRules`, `Caps`, and the reading of a number.
//! Gives: `TollRules::read` for a called number, `verdict` for what was read; plain values for every shard.
//! Never: counts; who has used how much stands with the shards.
//! Holds: a number is read for what its digits say, however it is written, so that no spelling opens a
//!        country; what is neither ours nor allowed is closed.

const PHONE_CONTEXT: &[u8] = b"phone-context=";

/// `[proxy.toll_fraud]`; without the section nobody is held up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TollRules {
    /// Our own country code; its numbers are no international ones.
    pub country: Option<Box<str>>,
    /// What stands in front of a country code; the longest that fits counts.
    pub international_prefixes: Vec<Box<str>>,
    /// Starts of international numbers that may be called; `None`: all may.
    pub countries: Option<Vec<Box<str>>>,
    /// Starts of numbers that nobody may call, as `Number::digits` has them.
    pub premium: Vec<Box<str>>,
    pub extension: Caps,
    pub trunk: Caps,
}

/// What one account may do; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub calls_max: Option<u32>,
    pub international_max: Option<u32>,
    pub calls_per_minute: Option<u32>,
    pub calls_per_day: Option<u32>,
    pub minutes_per_day: Option<u32>,
}

/// A called number, as far as it matters what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// `+` and the country code in front where it was dialled with an international prefix.
    pub digits: String,
    pub is_abroad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Open,
    /// Of a country that is not allowed.
    Closed,
    Premium,
}

impl TollRules {
    pub const INTERNATIONAL_PREFIXES: [&'static str; 2] = ["+", "00"];
    /// Premium rate of all countries, satellites and networks without a country (ITU-T E.164.1), and
    /// North America's pay-per-call.
    pub const PREMIUM: [&'static str; 8] =
        ["+979", "+870", "+878", "+881", "+882", "+883", "+1900", "+1976"];
    /// Longer numbers there are not (ITU-T E.164: 15 digits), prefixes and extensions included.
    const DIGITS_MAX: usize = 40;

    /// `user`: the user part of the called address, with its escapes resolved. Parameters are cut off,
    /// and everything that a carrier may skip is skipped.
    pub fn read(&self, user: &[u8]) -> Number {
        let mut parts = user.split(|byte| *byte == b';');
        let user = parts.next().unwrap_or_default();
        let context = parts.find_map(|part| {
            let (name, value) = part.split_at_checked(PHONE_CONTEXT.len())?;
            name.eq_ignore_ascii_case(PHONE_CONTEXT).then_some(value)
        });
        // RFC 3966 5.1.5: a local number of the place that the context names.
        let is_global = |text: &[u8]| text.first() == Some(&b'+');
        let context = context.filter(|context| is_global(context) && !is_global(user));
        let mut dialled = String::new();
        for &byte in context.unwrap_or_default().iter().chain(user) {
            let counts = byte.is_ascii_digit()
                || matches!(byte, b'*' | b'#')
                || (byte == b'+' && dialled.is_empty());
            if counts && dialled.len() < Self::DIGITS_MAX {
                dialled.push(char::from(byte));
            }
        }
        let fitting = self.international_prefixes.iter().filter(|one| dialled.starts_with(&***one));
        let Some(prefix) = fitting.max_by_key(|one| one.len()) else {
            return Number { digits: dialled, is_abroad: false };
        };
        // `00` behind a `+` is a slip that some carriers forgive.
        let code = dialled[prefix.len()..].trim_start_matches(['+', '0']);
        let is_ours = self.country.as_deref().is_some_and(|own| code.starts_with(own));
        Number { digits: format!("+{code}"), is_abroad: !is_ours }
    }

    pub fn verdict(&self, number: &Number) -> Verdict {
        if self.premium.iter().any(|start| number.digits.starts_with(&**start)) {
            return Verdict::Premium;
        }
        let code = number.digits.trim_start_matches('+');
        let is_allowed = match &self.countries {
            Some(countries) => countries.iter().any(|start| code.starts_with(&**start)),
            None => true,
        };
        if number.is_abroad && !is_allowed { Verdict::Closed } else { Verdict::Open }
    }
}

impl Default for TollRules {
    /// What holds when the section stands there and says nothing: no country but the own one.
    fn default() -> Self {
        Self {
            country: None,
            international_prefixes: Self::INTERNATIONAL_PREFIXES.map(Into::into).to_vec(),
            countries: Some(Vec::new()),
            premium: Self::PREMIUM.map(Into::into).to_vec(),
            extension: Caps::EXTENSION,
            trunk: Caps::default(),
        }
    }
}

impl Caps {
    pub const EXTENSION: Self = Self {
        calls_max: None,
        international_max: Some(2),
        calls_per_minute: Some(5),
        calls_per_day: None,
        minutes_per_day: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn german() -> TollRules {
        let countries = Some(vec!["43".into(), "4420".into()]);
        let mut premium: Vec<Box<str>> = TollRules::default().premium;
        premium.extend(["+49900".into(), "0900".into()]);
        TollRules { country: Some("49".into()), countries, premium, ..TollRules::default() }
    }

    fn verdict(rules: &TollRules, user: &str) -> Verdict {
        rules.verdict(&rules.read(user.as_bytes()))
    }

    #[test]
    fn a_country_is_found_however_the_number_is_written() {
        let rules = german();
        let ways = [
            "+22512345678",
            "0022512345678",
            "00 225 123-456.78",
            "(00)22512345678",
            "+0022512345678",
            "+225;npdi;rn=+49",
            "0x0y225123",
            "12345678;phone-context=+225",
        ];
        for way in ways {
            assert_eq!(verdict(&rules, way), Verdict::Closed, "{way}");
            assert!(rules.read(way.as_bytes()).is_abroad, "{way}");
        }
        for open in [
            "+4930123",
            "004930123",
            "030123",
            "+43123",
            "00442012",
            "1001",
            "alice",
            "",
            "30123;Phone-Context=+49",
            "1;phone-context=pbx.test",
        ] {
            assert_eq!(verdict(&rules, open), Verdict::Open, "{open}");
        }
        assert_eq!(verdict(&rules, "+44700"), Verdict::Closed, "a part of a country");
        assert!(!rules.read(b"+4930123").is_abroad && rules.read(b"+43123").is_abroad);
    }

    #[test]
    fn premium_numbers_are_closed_even_in_an_allowed_country() {
        let mut rules = german();
        for number in ["+49900123", "0049900123", "0900-123", "+979123", "00881612", "+19005551234"]
        {
            assert_eq!(verdict(&rules, number), Verdict::Premium, "{number}");
        }
        rules.countries = None;
        assert_eq!(verdict(&rules, "+22512345"), Verdict::Open, "all countries");
        assert_eq!(verdict(&rules, "+88212345"), Verdict::Premium);
    }

    #[test]
    fn a_carrier_that_takes_bare_numbers_has_the_empty_prefix() {
        let rules = TollRules {
            international_prefixes: ["", "+", "011"].map(Into::into).to_vec(),
            country: Some("1".into()),
            ..TollRules::default()
        };
        assert_eq!(verdict(&rules, "22512345678"), Verdict::Closed);
        assert_eq!(verdict(&rules, "01122512345678"), Verdict::Closed);
        assert_eq!(verdict(&rules, "12125551234"), Verdict::Open);
        assert_eq!(verdict(&rules, "19005551234"), Verdict::Premium);
    }

    #[test]
    fn without_a_country_of_ours_every_international_number_is_abroad() {
        let rules = TollRules::default();
        assert_eq!(verdict(&rules, "+4930123"), Verdict::Closed);
        assert_eq!(verdict(&rules, "030123"), Verdict::Open);
    }
}
