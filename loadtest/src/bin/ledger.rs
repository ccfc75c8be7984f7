//! `ledger`: joins the caller's log, the call records and the webhook receiver's log.
//! Owns:  the command line.
//! Gives: exit 0 and a summary, or exit 1 and the first broken promise.
//! Never: a gateway of its own; records come from a file or from one that runs.
//! Holds: every log is one JSON value per line; README.md of this crate names their fields.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use loadtest::ledger::{Books, check, fetch, read_deliveries, read_lines};

#[derive(Debug, Parser)]
struct Arguments {
    /// What the caller heard.
    #[arg(long)]
    heard: PathBuf,
    /// When the gateway was killed.
    #[arg(long)]
    kills: Option<PathBuf>,
    /// Call records, or whole CDRs.
    #[arg(long, required_unless_present = "gateway")]
    records: Option<PathBuf>,
    /// Where a gateway gives its call records over HTTP.
    #[arg(long, conflicts_with = "records")]
    gateway: Option<SocketAddr>,
    /// Its token with the scope `cdr:read`.
    #[arg(long, requires = "gateway")]
    token: Option<String>,
    /// What the webhook receiver got.
    #[arg(long)]
    deliveries: Option<PathBuf>,
}

fn main() -> ExitCode {
    match books(&Arguments::parse()).and_then(|books| check(&books)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("ledger: {broken}");
            ExitCode::FAILURE
        }
    }
}

fn books(arguments: &Arguments) -> Result<Books, String> {
    Ok(Books {
        heard: read_lines(&arguments.heard)?,
        records: match (&arguments.records, arguments.gateway) {
            (Some(file), _) => read_lines(file)?,
            (None, Some(gateway)) => fetch(gateway, arguments.token.as_deref())?,
            (None, None) => return Err("records are neither in a file nor at a gateway".to_owned()),
        },
        kills: arguments.kills.as_deref().map_or(Ok(Vec::new()), read_lines)?,
        deliveries: arguments.deliveries.as_deref().map(read_deliveries).transpose()?,
        stalls_ms: 0,
    })
}
