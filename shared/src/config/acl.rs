//! `[proxy] acl_rules`, and those of `acl_files`: source addresses that may send us requests.
//! Owns:  the check of the rules.
//! Gives: the `Acl` that every shard serves.
//! Never: rules of trunks: their sources are admitted because they are trunks.
//! Holds: rules that are written and not followed are a warning.

use super::problem::Report;
use crate::acl::{Acl, AclRule};

const KEY: &str = "proxy.acl_rules";

pub(super) fn check(
    written: Option<&[String]>,
    modules: Option<&[String]>,
    report: &mut Report<'_>,
) -> Acl {
    let mut rules = Vec::new();
    for (place, text) in written.unwrap_or_default().iter().enumerate() {
        match AclRule::parse(text) {
            Some(rule) => rules.push(rule),
            None => report.error_try(
                &format!("{KEY}[{place}]"),
                format!("\"{text}\" is not a rule"),
                "write \"allow 10.0.0.0/8\", \"deny 192.0.2.1\" or \"deny all\"",
            ),
        }
    }
    let served = modules.is_none_or(|modules| modules.iter().any(|module| module == "acl"));
    if !served && !rules.is_empty() {
        let text = "is not followed: proxy.modules has no \"acl\"";
        report.warning_try(KEY, text, "add \"acl\" to proxy.modules");
        rules.clear();
    }
    Acl(rules)
}
