//! When a call that a trunk does not take goes on to the next destination.
//! Owns:  `Failover`, the set of statuses that say "not here" and not "not at all".
//! Gives: `FailoverCodes::parse` for configuration and API; the defaults.
//! Never: a decision about a call; `call::b2bua` asks.
//! Holds: a set has statuses from 400 to 599 only: a success and a 6xx are nobody's to try again.

use std::time::Duration;

const FIRST: u16 = 400;
const LAST: u16 = 599;
const WORDS: usize = (LAST - FIRST) as usize / 64 + 1;

/// How a trunk is left for the next destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// How long it may say nothing at all, not even 100, while somebody else could be tried.
    pub setup: Duration,
    pub codes: FailoverCodes,
}

impl Failover {
    /// Four INVITEs over UDP are out by then (RFC 3261 17.1.1.2).
    pub const SETUP_DEFAULT: Duration = Duration::from_secs(5);
}

impl Default for Failover {
    fn default() -> Self {
        Self { setup: Self::SETUP_DEFAULT, codes: FailoverCodes::default() }
    }
}

/// Final statuses after which another destination may take the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailoverCodes([u64; WORDS]);

impl FailoverCodes {
    pub const NONE: Self = Self([0; WORDS]);

    /// `"503"` and `"500-599"`. The error names the place in the list and the reason.
    pub fn parse(texts: &[String]) -> Result<Self, (usize, String)> {
        let mut codes = Self::NONE;
        for (place, text) in texts.iter().enumerate() {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let status = |text: &str| {
                text.trim().parse().ok().filter(|status| (FIRST..=LAST).contains(status))
            };
            match (status(first), status(last)) {
                (Some(first), Some(last)) if first <= last => {
                    (first..=last).for_each(|status| codes.set(status, true));
                }
                _ => {
                    let text = format!("\"{text}\" is no status from {FIRST} to {LAST} or range");
                    return Err((place, text));
                }
            }
        }
        Ok(codes)
    }

    pub fn contains(&self, status: u16) -> bool {
        let bit = usize::from(status.wrapping_sub(FIRST));
        status <= LAST && self.0.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// As `parse` reads it, neighbours as ranges.
    pub fn texts(&self) -> Vec<String> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for status in (FIRST..=LAST).filter(|status| self.contains(*status)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == status => *last = status,
                _ => ranges.push((status, status)),
            }
        }
        let text = |(first, last)| match first == last {
            true => format!("{first}"),
            false => format!("{first}-{last}"),
        };
        ranges.into_iter().map(text).collect()
    }

    fn set(&mut self, status: u16, on: bool) {
        let bit = usize::from(status - FIRST);
        let mask = 1 << (bit % 64);
        if on { self.0[bit / 64] |= mask } else { self.0[bit / 64] &= !mask }
    }
}

/// 408 and 5xx, without those that say that nobody would understand the request: 501, 505, 513 and
/// 580 are the request's fault, and the next trunk would hear the same.
impl Default for FailoverCodes {
    fn default() -> Self {
        let mut codes = Self::NONE;
        codes.set(408, true);
        for status in (500..=599).filter(|status| !matches!(status, 501 | 505 | 513 | 580)) {
            codes.set(status, true);
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<FailoverCodes, (usize, String)> {
        FailoverCodes::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn codes_are_read_as_they_are_written() {
        let codes = parse(&["404", "500-503", "599"]).expect("good codes");
        let inside: Vec<u16> = (0..=699).filter(|status| codes.contains(*status)).collect();
        assert_eq!(inside, [404, 500, 501, 502, 503, 599]);
        assert_eq!(codes.texts(), ["404", "500-503", "599"]);
        assert_eq!(parse(&[]), Ok(FailoverCodes::NONE));
        for wrong in ["200", "600", "503-500", "5xx", "", "500-600"] {
            assert_eq!(parse(&["404", wrong]).map_err(|(place, _)| place), Err(1), "{wrong}");
        }
    }

    #[test]
    fn the_default_is_what_another_trunk_may_do_better() {
        let codes = FailoverCodes::default();
        assert_eq!(codes.texts(), ["408", "500", "502-504", "506-512", "514-579", "581-599"]);
        assert!(!codes.contains(486) && !codes.contains(603) && !codes.contains(200));
    }
}
