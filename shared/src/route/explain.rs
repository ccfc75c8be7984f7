//! A call that is only asked about, and what the engine says of it.
//! Owns:  `Trial` (the question), `Explanation` (the answer), both for people and programs.
//! Gives: every rule in the order in which it was asked, with its first condition that failed.
//! Never: a decision; the engine that routes calls fills this in.
//! Holds: the answer comes out of the very walk that routes calls.

use std::net::IpAddr;

use serde::Serialize;

/// An INVITE as far as routing sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// URIs.
    pub from: String,
    pub to: String,
    pub request_uri: String,
    /// A call from this trunk; without one it comes from a user.
    pub source_trunk: Option<String>,
    pub source_ip: Option<IpAddr>,
    pub call_id: String,
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Of the table that was asked.
    pub generation: u64,
    pub direction: &'static str,
    /// What was found before any rule was asked: `emergency`, `user`, `trunk_address`, or nothing.
    pub before_rules: Option<&'static str>,
    /// In the order in which they were asked; the last one may be the one that matched.
    pub rules: Vec<RuleOutcome>,
    pub matched: Option<String>,
    pub rewrites: Vec<(String, String)>,
    pub outcome: Chosen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleOutcome {
    pub name: String,
    pub priority: i32,
    #[serde(flatten)]
    pub verdict: RuleVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum RuleVerdict {
    Disabled,
    /// The first condition that did not hold.
    Failed {
        condition: String,
        expected: String,
        found: Option<String>,
    },
    Matched,
}

/// Where the call would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Chosen {
    Refuse {
        status: u16,
        reason: Option<String>,
        because: String,
    },
    /// In the order in which they are tried; one without room is passed over.
    Trunks {
        trunks: Vec<String>,
        request_user: String,
        max_ring_time: Option<u64>,
    },
    User {
        user: String,
    },
}
