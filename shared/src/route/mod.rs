//! The static dial plan: rules in the order in which they are asked, patterns ready to match.
//! Owns:  `RouteTable`, `Route` and its parts; the reading of a rule lies in `document`.
//! Gives: plain values for the snapshot; the engine that asks them lives in `call::router`.
//! Never: a decision about a call.
//! Holds: a `Route` was checked as a whole; `for_shard` shares no matcher with another thread.

mod document;
mod explain;
mod pattern;
mod template;

use std::time::Duration;

pub use document::{ROUTE_FIELDS_READ_ONLY, check};
pub use explain::{Chosen, Explanation, RuleOutcome, RuleVerdict, Trial};
pub use pattern::Pattern;
pub use template::{Part, Template};

use crate::config::Network;

/// Rules in one table. Each costs a call that it does not match well under a microsecond.
pub const ROUTES_MAX: usize = 5_000;
/// Trunks that one rule may name.
pub const DESTS_MAX: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// Highest priority first, then as they were written.
    pub routes: Vec<Route>,
    pub emergency: Option<Emergency>,
}

impl RouteTable {
    /// Brings the rules into the order in which they are asked; equal ones stay as they are.
    pub fn sorted(mut routes: Vec<Route>, emergency: Option<Emergency>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.priority));
        Self { routes, emergency }
    }
}

/// Numbers that go first, to one trunk, whatever the rules and the limits say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// Compared as a whole: a number that contains one of them is another number.
    pub numbers: Vec<Box<str>>,
    pub trunk: Box<str>,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub name: Box<str>,
    pub priority: i32,
    pub disabled: bool,
    pub direction: RouteDirection,
    /// Empty: any source.
    pub source_trunks: Vec<Box<str>>,
    pub source_networks: Vec<Network>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    pub rewrites: Vec<Rewrite>,
    pub action: Action,
    pub max_ring: Option<Duration>,
}

impl Route {
    /// Trunks that the rule names, as a source or as a destination.
    pub fn trunks(&self) -> impl Iterator<Item = &str> {
        let dests = match &self.action {
            Action::Forward { dests, .. } => dests.as_slice(),
            _ => &[],
        };
        let dests = dests.iter().map(|dest| &*dest.trunk);
        self.source_trunks.iter().map(|trunk| &**trunk).chain(dests)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteDirection {
    #[default]
    Any,
    /// From a trunk.
    Inbound,
    /// From a user.
    Outbound,
}

impl RouteDirection {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Condition {
    pub field: Field,
    pub pattern: Pattern,
}

#[derive(Clone, Debug)]
pub struct Rewrite {
    pub field: Field,
    pub template: Template,
}

/// A part of an INVITE that a rule can look at or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `user@host` of To.
    Callee,
    /// `user@host` of From.
    Caller,
    /// The whole URI.
    From,
    FromHost,
    FromUser,
    Header(Box<str>),
    RequestHost,
    RequestPort,
    RequestUser,
    /// The whole URI.
    To,
    ToHost,
    ToPort,
    ToUser,
}

impl Field {
    /// The names of the original's rule language.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "callee" => Self::Callee,
            "caller" => Self::Caller,
            "from" => Self::From,
            "from.host" => Self::FromHost,
            "from.user" => Self::FromUser,
            "request_uri.host" => Self::RequestHost,
            "request_uri.port" => Self::RequestPort,
            "request_uri.user" => Self::RequestUser,
            "to" => Self::To,
            "to.host" => Self::ToHost,
            "to.port" => Self::ToPort,
            "to.user" => Self::ToUser,
            other => {
                let (start, header) = other.split_at_checked("header.".len())?;
                let token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
                let fits = start.eq_ignore_ascii_case("header.")
                    && !header.is_empty()
                    && header.len() <= 128
                    && header.chars().all(token);
                return fits.then(|| Self::Header(header.into()));
            }
        })
    }

    pub fn name(&self) -> String {
        match self {
            Self::Callee => "callee",
            Self::Caller => "caller",
            Self::From => "from",
            Self::FromHost => "from.host",
            Self::FromUser => "from.user",
            Self::Header(name) => return format!("header.{name}"),
            Self::RequestHost => "request_uri.host",
            Self::RequestPort => "request_uri.port",
            Self::RequestUser => "request_uri.user",
            Self::To => "to",
            Self::ToHost => "to.host",
            Self::ToPort => "to.port",
            Self::ToUser => "to.user",
        }
        .to_owned()
    }

    /// Hosts compare without regard to case (RFC 3261 19.1.4).
    pub const fn folds(&self) -> bool {
        matches!(self, Self::FromHost | Self::ToHost | Self::RequestHost)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// 486.
    Busy,
    Forward {
        /// None: to our own users, under the rewritten address.
        dests: Vec<Dest>,
        select: Select,
    },
    /// A queue, an application, an IVR, a mailbox: 501, and the operator reads why.
    NotBuilt(Box<str>),
    Reject {
        status: u16,
        reason: Option<Box<str>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dest {
    pub trunk: Box<str>,
    /// Overrides the trunk's own.
    pub weight: Option<u32>,
}

/// Which of several trunks is tried first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    Hash(HashKey),
    Random,
    RoundRobin,
    /// As written.
    Sequential,
    Weighted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    CallId,
    Field(Field),
}
