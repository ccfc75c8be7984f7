//! Exit codes, the same for every command.
//! Owns:  `Exit`.
//! Gives: what scripts test for.
//! Never: a code of its own for one command.
//! Holds: 2 is also what the command line parser ends with.

use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// Refused or failed.
    Failed = 1,
    Usage = 2,
    ConfigInvalid = 3,
    Unreachable = 4,
    Partial = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
