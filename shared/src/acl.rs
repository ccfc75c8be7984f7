//! Who may open a dialog, register or ask with us, by source address: `allow` and `deny` in order.
//! Owns:  `Acl`, `AclRule`; the form of a rule.
//! Gives: `admits`.
//! Never: a decision about credentials: who is admitted still shows them.
//! Holds: an empty list admits everybody; what no rule names gets the opposite of the last rule, so
//!        that a list of refusals leaves the rest in, and a list of permissions leaves the rest out.

use std::fmt;
use std::net::IpAddr;

use crate::config::Network;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclRule {
    pub allow: bool,
    pub network: Network,
}

impl AclRule {
    /// `allow NETWORK` or `deny NETWORK`; a network is an address, CIDR, `all` or `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let (verb, network) = text.trim().split_once(char::is_whitespace)?;
        let allow = match verb.to_ascii_lowercase().as_str() {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let network = match network.trim() {
            word if word.eq_ignore_ascii_case("all") => Network::All,
            network => Network::parse(network)?,
        };
        Some(Self { allow, network })
    }
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow " } else { "deny " })?;
        match self.network {
            Network::All => f.write_str("all"),
            network => network.fmt(f),
        }
    }
}

/// The first rule that names a source decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl(pub Vec<AclRule>);

impl Acl {
    pub fn admits(&self, source: IpAddr) -> bool {
        let named = self.0.iter().find(|rule| rule.network.contains(source));
        match (named, self.0.last()) {
            (Some(rule), _) => rule.allow,
            (None, Some(last)) => !last.allow,
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(rules: &[&str], source: &str) -> bool {
        let rules = rules.iter().map(|rule| AclRule::parse(rule).expect("a rule"));
        Acl(rules.collect()).admits(source.parse().expect("an address"))
    }

    #[test]
    fn the_first_rule_that_names_a_source_decides() {
        let rules = ["deny 10.0.0.5", "allow 10.0.0.0/8", "deny all"];
        assert!(!admits(&rules, "10.0.0.5"));
        assert!(admits(&rules, "10.0.0.6"));
        assert!(!admits(&rules, "192.0.2.1"));
        assert!(!admits(&rules, "::ffff:10.0.0.5"), "it came in over an IPv6 socket");
    }

    #[test]
    fn what_no_rule_names_gets_the_opposite_of_the_last_rule() {
        assert!(admits(&[], "192.0.2.1"));
        assert!(admits(&["deny 10.0.0.0/8"], "192.0.2.1"));
        assert!(!admits(&["allow 10.0.0.0/8"], "192.0.2.1"));
        assert!(!admits(&["allow 10.0.0.0/8"], "2001:db8::1"));
    }

    #[test]
    fn rules_are_two_words() {
        let shown = |text: &str| AclRule::parse(text).map(|rule| rule.to_string());
        assert_eq!(shown(" Allow  ALL "), Some("allow all".to_owned()));
        assert_eq!(shown("deny\t2001:db8::/32"), Some("deny 2001:db8::/32".to_owned()));
        for wrong in ["", "all", "allow", "refuse all", "deny 10.0.0.0/33", "deny 10.0.0.1 now"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }
}
