//! A PostgreSQL server of our own: a cluster in a temporary folder.
//! Owns:  the shell that starts and stops it (`peers/postgres.sh`).
//! Gives: databases by name, and their URLs.
//! Never: a server that somebody else runs on this machine.
//! Holds: the server ends with this process, however that ends: the shell waits for the end of a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::gateway::spare_port;

const KEEPER: &str = include_str!("../peers/postgres.sh");
/// Where Debian keeps the server, one folder per major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    Off,
    On,
}

#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    keeper: Child,
    pipe: Option<ChildStdin>,
}

impl Cluster {
    /// Returns when the server takes connections.
    pub fn start(fsync: Fsync) -> Result<Self, String> {
        let bin = newest_server()?;
        let port = spare_port(Ipv4Addr::LOCALHOST.into())?;
        let mut command = as_postgres("sh");
        command.args(["-c", KEEPER, "postgres.sh"]).arg(&bin).arg(std::env::temp_dir());
        command.arg(port.to_string()).arg(if fsync == Fsync::On { "on" } else { "off" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir("/");
        let failed = |error| format!("PostgreSQL does not start: {error}");
        let mut keeper = command.spawn().map_err(|error| failed(error.to_string()))?;
        let pipe = keeper.stdin.take();
        let mut folder = String::new();
        if let Some(out) = keeper.stdout.take() {
            let read = BufReader::new(out).read_line(&mut folder);
            read.map_err(|error| failed(error.to_string()))?;
        }
        if folder.is_empty() {
            let mut reason = String::new();
            if let Some(mut error) = keeper.stderr.take() {
                error.read_to_string(&mut reason).map_err(|error| failed(error.to_string()))?;
            }
            keeper.wait().map_err(|error| failed(error.to_string()))?;
            return Err(failed(reason));
        }
        Ok(Self { bin, folder: folder.trim().into(), port, keeper, pipe })
    }

    /// Makes an empty database and gives its URL, over the socket in the cluster's folder.
    pub fn create(&self, database: &str) -> Result<String, String> {
        self.run("postgres", &format!("CREATE DATABASE \"{database}\""))?;
        let Self { folder, port, .. } = self;
        Ok(format!("postgres:///{database}?host={}&port={port}&user=gate", folder.display()))
    }

    /// Runs one statement.
    pub fn run(&self, database: &str, statement: &str) -> Result<(), String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "gate", "-d", database, "-h"])
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-c", statement]);
        let output = psql.output().map_err(|error| format!("psql: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The same database over TCP, encrypted.
    pub fn tls_url(&self, database: &str) -> String {
        format!("postgres://gate@127.0.0.1:{}/{database}?sslmode=require", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The shell stops the server and removes the folder.
        drop(self.pipe.take());
        drop(self.keeper.wait());
    }
}

/// The server refuses to run as root.
fn as_postgres(program: &str) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", program]);
        command
    } else {
        Command::new(program)
    }
}

fn newest_server() -> Result<PathBuf, String> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let installed = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path));
    installed.map(|path| path.join("bin")).ok_or_else(|| {
        format!(
            "no PostgreSQL server in {VERSIONS}: `make test-tools` installs it \
             (apt-get install postgresql)"
        )
    })
}
