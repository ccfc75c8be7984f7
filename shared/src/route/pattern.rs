//! One pattern of a rule: an exact text, or a regular expression where it has the signs of one.
//! Owns:  the choice between the two, the limits of an expression.
//! Gives: `matches`, `captures`; the text as it was written.
//! Never: back-tracks: the engine is linear in the length of the value.
//! Holds: `clone` gives a matcher with scratch space of its own, so two shards share nothing.

use regex::bytes::{Captures, Regex, RegexBuilder};

/// Longer ones are a mistake or an attack on the table's memory.
const PATTERN_BYTES_MAX: usize = 512;
/// Memory of one compiled expression, and of its lazily built automaton.
const PROGRAM_BYTES_MAX: usize = 256 << 10;
const AUTOMATON_BYTES_MAX: usize = 128 << 10;

#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact {
        /// Hosts and header names compare without regard to case.
        fold: bool,
    },
    Regex(Regex),
}

impl Pattern {
    /// The error says what is wrong with it, in one line.
    pub fn compile(text: &str, fold: bool) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        if !is_regex(text) {
            return Ok(Self { text: text.into(), matcher: Matcher::Exact { fold } });
        }
        // Bytes, not characters: what a peer sends need not be UTF-8, and `\d` means 0 to 9.
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .case_insensitive(fold)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(AUTOMATON_BYTES_MAX)
            .build()
            .map_err(|error| format!("is no regular expression: {}", one_line(&error)))?;
        Ok(Self { text: text.into(), matcher: Matcher::Regex(regex) })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_regex(&self) -> bool {
        matches!(self.matcher, Matcher::Regex(_))
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact { fold: false } => value == self.text.as_bytes(),
            Matcher::Exact { fold: true } => value.eq_ignore_ascii_case(self.text.as_bytes()),
            Matcher::Regex(regex) => regex.is_match(value),
        }
    }

    /// Groups in round brackets; an exact text has none.
    pub fn groups(&self) -> usize {
        match &self.matcher {
            Matcher::Exact { .. } => 0,
            Matcher::Regex(regex) => regex.captures_len() - 1,
        }
    }

    pub fn captures<'v>(&self, value: &'v [u8]) -> Option<Captures<'v>> {
        match &self.matcher {
            Matcher::Exact { .. } => None,
            Matcher::Regex(regex) => regex.captures(value),
        }
    }
}

/// A dot alone is no sign of an expression: hosts have dots. Nor is a plus before a number.
fn is_regex(text: &str) -> bool {
    let plus = text.chars().skip(1).any(|c| c == '+');
    plus || text.contains(['^', '$', '*', '?', '(', ')', '[', ']', '{', '}', '|', '\\'])
}

/// The library draws the pattern over several lines; its last one says what is wrong.
fn one_line(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim().trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::compile(text, false).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_text_without_signs_matches_itself_only() {
        for text in ["1001", "sip.example.com", "+4930123", "a-b_c~d"] {
            assert!(!pattern(text).is_regex(), "{text}");
            assert!(pattern(text).matches(text.as_bytes()));
            assert!(!pattern(text).matches(format!("{text}9").as_bytes()));
        }
        assert!(!pattern("sip.example.com").matches(b"sipxexample.com"), "a dot is a dot");
        let host = Pattern::compile("SIP.Example.com", true).expect("it compiles");
        assert!(host.matches(b"sip.example.COM"));
    }

    #[test]
    fn an_expression_is_found_anywhere_unless_it_is_anchored() {
        assert!(pattern("1|2").matches(b"x2y"));
        assert!(pattern("^9(\\d+)$").matches(b"90123"));
        assert!(!pattern("^9(\\d+)$").matches(b"8901"));
        assert!(pattern("10[0-9]{2}").matches(b"1099"));
        assert_eq!(pattern("^(\\d)(\\d)$").groups(), 2);
        let digit = pattern("^\\d$");
        assert!(!digit.matches("\u{0663}".as_bytes()), "only 0 to 9 are digits of a number");
        assert!(pattern("^.+$").matches(b"\xff\xfe"), "bytes that are not UTF-8 match too");
    }

    #[test]
    fn what_cannot_be_compiled_says_why_in_one_line() {
        let error = |text: &str| Pattern::compile(text, false).expect_err("it is wrong");
        assert!(error("(12").contains("unclosed group"), "{}", error("(12"));
        assert!(!error("(12").contains('\n'));
        assert!(error("((a{100}){100}){100}").contains("too large"));
        assert!(error("(?=9)").contains("look-around"), "{}", error("(?=9)"));
        assert!(error(&"1".repeat(600)).contains("longer than 512"));
    }
}
