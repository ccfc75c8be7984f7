//! The command line: what the program is asked to do.
//! Owns:  the commands and their options.
//! Gives: `run`, which does one command and names its exit code.
//! Never: a password on the command line.
//! Holds: no command means `serve`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::configuration::{self, Configured};
use crate::exit::Exit;
use crate::supervisor::{self, ServeOptions};
use crate::{VERSION, demo, recovery, tls_keys};

/// SIP and RTP gateway.
#[derive(Debug, Parser)]
#[command(name = "ringgate", version = VERSION, about, max_term_width = 100)]
pub struct Cli {
    /// Configuration file; without it ./ringgate.toml if there, else built-in defaults
    #[arg(long, alias = "conf", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Do not create the demo extensions 1001 and 1002 on the first start
    #[arg(long, global = true)]
    no_demo: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration, print every problem, change nothing
    CheckConfig(CheckConfig),
    /// Place a recorded call between two built-in soft phones, on spare ports, in a temporary folder
    Demo(Demo),
    /// Run the gateway (the default)
    Serve(Serve),
    /// Users of the console and the API, for when nobody can log in any more
    #[command(subcommand)]
    User(User),
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct CheckConfig {
    /// Unknown keys are errors and not warnings
    #[arg(long)]
    strict: bool,
    /// Print every value that holds, and where it comes from
    #[arg(long)]
    effective: bool,
}

#[derive(Args, Debug)]
struct Demo {
    /// How long the two phones talk
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    talk: u64,
}

#[derive(Args, Debug)]
struct Serve {
    /// How long standing calls may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
}

#[derive(Debug, Subcommand)]
enum User {
    /// Give a user a new random password, print it once, and end the user's sessions. An unknown
    /// name becomes a new user who may do everything
    Reset {
        #[arg(default_value = "admin")]
        name: String,
    },
}

/// Parses the arguments and does what they say.
pub fn run() -> Exit {
    let cli = Cli::parse();
    let file = cli.config.clone();
    match cli.command.unwrap_or(Command::Serve(Serve { drain: 30 })) {
        Command::CheckConfig(args) => check_config(file, &args),
        Command::Demo(args) => demo::run(Duration::from_secs(args.talk)),
        Command::Serve(args) => serve(file, &args, cli.no_demo),
        Command::User(User::Reset { name }) => reset_user(file, &name),
        Command::Version { json } => version(json),
    }
}

fn serve(file: Option<PathBuf>, args: &Serve, no_demo: bool) -> Exit {
    let configured = match configuration::read(file, false) {
        Ok(configured) => configured,
        Err(refused) => {
            say_err(&refused.to_string());
            return Exit::ConfigInvalid;
        }
    };
    let drain = Duration::from_secs(args.drain);
    supervisor::serve(configured, ServeOptions { drain, demo_extensions: !no_demo })
}

fn check_config(file: Option<PathBuf>, args: &CheckConfig) -> Exit {
    let checked = configuration::read(file, args.strict);
    let (mut problems, effective, mut exit) = match &checked {
        Ok(Configured { problems, effective, .. }) => (problems.clone(), effective, Exit::Ok),
        Err(refused) => (refused.problems.clone(), &refused.effective, Exit::ConfigInvalid),
    };
    if let Ok(Configured { config, effective, .. }) = &checked
        && let Err(problem) = tls_keys::read(config, effective)
    {
        problems.push(problem);
        exit = Exit::ConfigInvalid;
    }
    if args.effective {
        for row in effective.rows() {
            say(&format!("{} = {}  # {}", row.key, row.value, row.origin));
        }
    }
    for problem in &problems {
        say(&problem.to_string());
    }
    say(&configuration::verdict(&problems));
    exit
}

fn reset_user(file: Option<PathBuf>, name: &str) -> Exit {
    let configured = match configuration::read(file, false) {
        Ok(configured) => configured,
        Err(refused) => {
            say_err(&refused.to_string());
            return Exit::ConfigInvalid;
        }
    };
    match recovery::reset(&configured.config, name) {
        Ok(password) => {
            say(&format!("login {name}  password {password}"));
            Exit::Ok
        }
        Err(reason) => {
            say_err(&reason);
            Exit::Failed
        }
    }
}

fn version(json: bool) -> Exit {
    if json {
        say(&serde_json::json!({ "name": "ringgate", "version": VERSION }).to_string());
    } else {
        say(&format!("ringgate {VERSION}"));
    }
    Exit::Ok
}

/// A line for the reader of standard output. One that went away (`| head`) is not our failure.
pub(crate) fn say(line: &str) {
    let _reader_gone = writeln!(std::io::stdout(), "{line}");
}

/// A line for the reader of standard error.
pub(crate) fn say_err(line: &str) {
    let _reader_gone = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_spellings_of_the_configuration_option_are_taken() {
        for spelling in ["--config", "--conf"] {
            let cli = Cli::parse_from(["ringgate", "serve", spelling, "x.toml"]);
            assert_eq!(cli.config, Some(PathBuf::from("x.toml")));
        }
        assert!(Cli::parse_from(["ringgate"]).command.is_none());
        assert!(Cli::parse_from(["ringgate", "--no-demo"]).no_demo);
    }
}
