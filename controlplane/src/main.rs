//! The program `ringgate`.
//! Owns:  nothing; `controlplane::cli` does the work.
//! Gives: the exit code.
//! Never: anything else.
//! Holds: every way out has one of the codes of `exit`.

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::cli::run().into()
}
