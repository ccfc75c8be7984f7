//! Deliberate faults of the world, to prove that the checker sees them (issue 2, must show 8).
//! Owns:  `Broken`, the names for `--broken`.
//! Gives: each fault's name and the rule that must catch it.
//! Never: a hook in the core; a fault happens between the core and the checker.
//! Holds: a run without `--broken` never asks for one.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The shard's deadline lies in the past for good.
    BusyLoop,
    /// A CDR reaches the checker twice.
    DoubleRecord,
    /// A CDR never arrives.
    DropRecord,
    /// Closed relays are not reported to the core, which keeps their ports.
    LeakPort,
    /// The journal gets the start of an answered call only after the answer has left.
    LateStart,
    /// A new request leaves for a call that has its record.
    LateRequest,
    /// BYEs to callees are lost on the way out of the core.
    LostBye,
    /// PRACKs to callees are lost on the way out of the core.
    LostPrack,
    /// A failure is followed by another one.
    SecondAnswer,
    /// A forwarded packet goes to an address that nobody gave.
    StrayMedia,
    /// Final answers to INVITEs are lost on the way out of the core.
    SwallowAnswer,
    /// The CDR has another status than the caller heard.
    WrongStatus,
}

impl Broken {
    pub const ALL: [Self; 12] = [
        Self::BusyLoop,
        Self::DoubleRecord,
        Self::DropRecord,
        Self::LeakPort,
        Self::LateRequest,
        Self::LateStart,
        Self::LostBye,
        Self::LostPrack,
        Self::SecondAnswer,
        Self::StrayMedia,
        Self::SwallowAnswer,
        Self::WrongStatus,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::BusyLoop => "busy-loop",
            Self::DoubleRecord => "double-record",
            Self::DropRecord => "drop-record",
            Self::LeakPort => "leak-port",
            Self::LateRequest => "late-request",
            Self::LateStart => "late-start",
            Self::LostBye => "lost-bye",
            Self::LostPrack => "lost-prack",
            Self::SecondAnswer => "second-answer",
            Self::StrayMedia => "stray-media",
            Self::SwallowAnswer => "swallow-answer",
            Self::WrongStatus => "wrong-status",
        }
    }

    /// Rules of which one must catch it.
    pub const fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::BusyLoop => &["busy loop"],
            Self::DoubleRecord => &["two records"],
            Self::DropRecord => &["no record"],
            Self::LeakPort => &["leak", "relays"],
            Self::LateRequest => &["output after the end"],
            Self::LateStart => &["answer before journal"],
            Self::LostBye => {
                &["dialog left open", "legs end apart", "call never ended", "phone left in a call"]
            }
            Self::LostPrack => &["no PRACK"],
            Self::SecondAnswer => &["two final answers"],
            Self::StrayMedia => &["stray media"],
            Self::SwallowAnswer => &["no final answer", "phone left in a call"],
            Self::WrongStatus => &["news", "record"],
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }
}
