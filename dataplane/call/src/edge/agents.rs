//! User-Agent: programs that only scan, and the lists of the operator.
//! Owns:  the names of scanners.
//! Gives: `verdict` for a request outside of a dialog.
//! Never: trust: a scanner may call itself anything, so a good name opens nothing.
//! Holds: names are compared without case.

use shared::edge::EdgeRules;

/// What the well-known scanners call themselves when nobody tells them to lie (SIPVicious, sipcli,
/// iWar, smap, SIVuS and their kind), in lower case.
const SCANNERS: [&[u8]; 9] = [
    b"friendly-scanner",
    b"friendly-request",
    b"sipvicious",
    b"sipcli",
    b"sundayddr",
    b"sip-scan",
    b"iwar",
    b"sivus",
    b"pplsip",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    Fine,
    Refused,
    Scanner,
}

pub(crate) fn verdict(rules: &EdgeRules, agent: Option<&[u8]>) -> Agent {
    let name = agent.unwrap_or_default();
    let starts = |scanner: &&[u8]| {
        name.get(..scanner.len()).is_some_and(|start| start.eq_ignore_ascii_case(scanner))
    };
    if rules.bans() && SCANNERS.iter().any(starts) {
        return Agent::Scanner;
    }
    let has = |words: &[Box<str>]| words.iter().any(|word| contains(name, word.as_bytes()));
    let missing = !rules.agents_admitted.is_empty() && !has(&rules.agents_admitted);
    if missing || has(&rules.agents_refused) { Agent::Refused } else { Agent::Fine }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_case_and_lists_may_name_a_part() {
        let lists = |refused: &[&str], admitted: &[&str]| EdgeRules {
            agents_refused: refused.iter().map(|&word| word.into()).collect(),
            agents_admitted: admitted.iter().map(|&word| word.into()).collect(),
            ..EdgeRules::default()
        };
        let none = EdgeRules::default();
        assert_eq!(verdict(&none, Some(b"Friendly-Scanner")), Agent::Scanner);
        assert_eq!(verdict(&none, Some(b"Yealink SIP-T46S")), Agent::Fine);
        assert_eq!(verdict(&none, None), Agent::Fine);
        assert_eq!(verdict(&lists(&["evil"], &[]), Some(b"An EVIL phone")), Agent::Refused);
        assert_eq!(verdict(&lists(&[], &["yealink"]), Some(b"Yealink T46S")), Agent::Fine);
        assert_eq!(verdict(&lists(&[], &["yealink"]), None), Agent::Refused);
        let off = EdgeRules { ban: std::time::Duration::ZERO, ..none };
        assert_eq!(verdict(&off, Some(b"sipcli/v1.8")), Agent::Fine);
    }
}
