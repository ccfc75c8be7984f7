//! `receiver`: takes webhooks, writes one JSON line per delivery, fails by plan.
//! Owns:  the command line and the file of the ledger.
//! Gives: lines that the ledger checker joins with the other logs.
//! Never: ends by itself.
//! Holds: a line is written before its answer goes out.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;

use clap::Parser;
use loadtest::receiver::{LISTENING, Ledger, Receiver, Spell};

#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port to listen on; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File that lines are appended to, instead of standard output.
    #[arg(long)]
    log: Option<PathBuf>,
    /// AT:FAULT:FOR, in seconds after the start; FAULT is refuse, hang, slow=MILLISECONDS or a status.
    /// May be given several times.
    #[arg(long)]
    fault: Vec<Spell>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("receiver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    let out: Box<dyn Write + Send> = match &arguments.log {
        Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        None => Box::new(io::stdout()),
    };
    let out = Mutex::new(out);
    let ledger: Ledger = Box::new(move |delivery| {
        let mut line = serde_json::to_string(delivery).unwrap_or_default();
        line.push('\n');
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            eprintln!("receiver: the ledger: {error}");
        }
    });
    let receiver = Receiver::start(arguments.listen, arguments.fault, ledger)?;
    eprintln!("{LISTENING}{}", receiver.address);
    loop {
        std::thread::park();
    }
}
