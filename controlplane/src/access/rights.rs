//! What somebody may do: rights, and the named sets of them that tokens and roles carry.
//! Owns:  the list of rights, the scopes of tokens, the resource and action pairs of roles.
//! Gives: `Rights`, a set; parsing and printing of both vocabularies.
//! Never: who has a right; `caller` knows.
//! Holds: a scope is a set of rights and nothing more; a pair of the original that means nothing here
//!        is known and gives nothing.

macro_rules! rights {
    ($( $variant:ident $resource:literal $action:literal; )*) => {
        /// One thing that a route may ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Right { $( $variant, )* }

        impl Right {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// As roles write it.
            pub const fn pair(self) -> (&'static str, &'static str) {
                match self { $( Self::$variant => ($resource, $action), )* }
            }

            /// `resource:action`
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => concat!($resource, ":", $action), )* }
            }
        }
    };
}

rights! {
    Ami "ami" "access";
    AuditRead "audit" "read";
    CallsControl "calls" "control";
    CallsRead "calls" "read";
    CdrDelete "cdr" "delete";
    CdrRead "cdr" "read";
    CdrWrite "cdr" "write";
    ExtensionsRead "extensions" "read";
    ExtensionsWrite "extensions" "write";
    RecordingsRead "cdr" "read:recording";
    RoutesRead "routes" "read";
    RoutesWrite "routes" "write";
    SystemAdmin "system" "write";
    SystemRead "system" "read";
    TrunksRead "trunks" "read";
    TrunksWrite "trunks" "write";
    UsersManage "users" "manage";
    WebhooksRead "webhooks" "read";
    WebhooksWrite "webhooks" "write";
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self::of(Right::ALL);

    pub const fn of(rights: &[Right]) -> Self {
        let (mut bits, mut place) = (0, 0);
        while place < rights.len() {
            bits |= 1 << rights[place] as u32;
            place += 1;
        }
        Self(bits)
    }

    pub const fn has(self, right: Right) -> bool {
        self.0 & (1 << right as u32) != 0
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether everything in `other` is in here too.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.iter().copied().filter(move |right| self.has(*right))
    }
}

/// What a token may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Ami,
    CallsControl,
    CallsRead,
    CdrRead,
    ConfigRead,
    ConfigWrite,
    RecordingsRead,
    SystemAdmin,
    SystemRead,
    WebhooksWrite,
}

impl Scope {
    pub const ALL: [Self; 10] = [
        Self::Ami,
        Self::CallsControl,
        Self::CallsRead,
        Self::CdrRead,
        Self::ConfigRead,
        Self::ConfigWrite,
        Self::RecordingsRead,
        Self::SystemAdmin,
        Self::SystemRead,
        Self::WebhooksWrite,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ami => "ami",
            Self::CallsControl => "calls:control",
            Self::CallsRead => "calls:read",
            Self::CdrRead => "cdr:read",
            Self::ConfigRead => "config:read",
            Self::ConfigWrite => "config:write",
            Self::RecordingsRead => "recordings:read",
            Self::SystemAdmin => "system:admin",
            Self::SystemRead => "system:read",
            Self::WebhooksWrite => "webhooks:write",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    pub const fn rights(self) -> Rights {
        use Right::{
            Ami, AuditRead, CallsControl, CallsRead, CdrDelete, CdrRead, CdrWrite, ExtensionsRead,
            ExtensionsWrite, RecordingsRead, RoutesRead, RoutesWrite, SystemAdmin, SystemRead,
            TrunksRead, TrunksWrite, UsersManage, WebhooksRead, WebhooksWrite,
        };
        match self {
            Self::Ami => Rights::of(&[Ami]),
            Self::CallsControl => Rights::of(&[CallsControl]),
            Self::CallsRead => Rights::of(&[CallsRead]),
            Self::CdrRead => Rights::of(&[CdrRead]),
            Self::ConfigRead => Rights::of(&[ExtensionsRead, RoutesRead, TrunksRead, WebhooksRead]),
            Self::ConfigWrite => Rights::of(&[ExtensionsWrite, RoutesWrite, TrunksWrite]),
            Self::RecordingsRead => Rights::of(&[RecordingsRead]),
            Self::SystemAdmin => {
                Rights::of(&[AuditRead, CdrDelete, CdrWrite, SystemAdmin, UsersManage])
            }
            Self::SystemRead => Rights::of(&[SystemRead]),
            Self::WebhooksWrite => Rights::of(&[WebhooksRead, WebhooksWrite]),
        }
    }

    /// The scopes that give a right.
    pub fn with(right: Right) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |scope| scope.rights().has(right))
    }
}

/// Pairs of the original that guard things which are not here, and the two that ours has in one.
const FOREIGN: [(&str, &[&str]); 11] = [
    ("cdr", &["export"]),
    ("departments", &["write"]),
    ("diagnostics", &["read"]),
    ("endpoints", &["read", "reboot", "write"]),
    ("extensions", &["delete"]),
    ("ivr", &["publish", "read", "write"]),
    ("metrics", &["read"]),
    ("queues", &["read", "realtime", "write"]),
    ("trunks", &["delete"]),
    ("voicemail", &["read", "settings", "write"]),
    ("wholesale", &["billing", "read", "settings", "write"]),
];

/// What a permission of a role gives; `None` when nobody knows such a permission.
pub fn of_permission(resource: &str, action: &str) -> Option<Rights> {
    match (resource, action) {
        ("*", "*") => Some(Rights::ALL),
        ("extensions", "delete") => Some(Rights::of(&[Right::ExtensionsWrite])),
        ("metrics" | "diagnostics", "read") => Some(Rights::of(&[Right::SystemRead])),
        _ => {
            let ours = Right::ALL.iter().find(|right| right.pair() == (resource, action));
            let foreign =
                || FOREIGN.iter().any(|(r, actions)| *r == resource && actions.contains(&action));
            ours.map(|right| Rights::of(&[*right])).or_else(|| foreign().then_some(Rights::NONE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_is_in_a_scope_and_no_scope_has_all() {
        for right in Right::ALL {
            assert!(Scope::with(*right).next().is_some(), "{}", right.as_str());
        }
        for scope in Scope::ALL {
            assert!(!scope.rights().covers(Rights::ALL), "{}", scope.as_str());
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        let all = Scope::ALL.iter().fold(Rights::NONE, |all, scope| all.and(scope.rights()));
        assert_eq!(all, Rights::ALL);
    }

    #[test]
    fn a_scope_that_reads_writes_nothing() {
        for scope in Scope::ALL.iter().filter(|scope| scope.as_str().ends_with(":read")) {
            for right in scope.rights().iter() {
                assert!(right.as_str().contains(":read"), "{} has {right:?}", scope.as_str());
            }
        }
    }

    #[test]
    fn permissions_of_the_original_are_known_and_others_are_not() {
        assert_eq!(of_permission("*", "*"), Some(Rights::ALL));
        let pair = Rights::of(&[Right::RecordingsRead]);
        assert_eq!(of_permission("cdr", "read:recording"), Some(pair));
        assert_eq!(of_permission("queues", "realtime"), Some(Rights::NONE));
        for (resource, action) in [("*", "read"), ("cdr", "*"), ("", ""), ("moon", "read")] {
            assert_eq!(of_permission(resource, action), None, "{resource}:{action}");
        }
    }
}
