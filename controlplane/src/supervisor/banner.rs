//! What the operator reads when the gateway is up.
//! Owns:  the text on standard output.
//! Gives: versions, addresses, CPUs, the first passwords (once), and what to do next.
//! Never: the log; a password goes to standard output only.
//! Holds: every line says something that is true now.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use shared::config::{Config, Database};
use shared::net::Transport;
use shared::snapshot::Secret;

use super::cores::{self, Cores};
use super::first_start::FirstUser;
use crate::VERSION;
use crate::store::Extension;

#[derive(Debug)]
pub(super) struct Banner<'a> {
    pub config: &'a Config,
    pub listeners: &'a [(Transport, SocketAddr)],
    pub cores: &'a Cores,
    pub http: SocketAddr,
    /// Made by this start.
    pub first_user: Option<&'a FirstUser>,
    /// Made by this start.
    pub extensions: &'a [Extension],
    pub users: usize,
}

impl Banner<'_> {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("text grows");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (config, files) = (self.config, self.config.files());
        writeln!(out, "Ringgate {VERSION}")?;
        let listeners = self.listeners.iter();
        let sip = listeners.map(|(by, address)| format!("{} {address}", by.uri_word()));
        writeln!(out, "  SIP        {}", sip.collect::<Vec<_>>().join(", "))?;
        let range = config.rtp_ports();
        writeln!(out, "  RTP        ports {}-{}", range.first, range.last)?;
        if !config.external_ip().is_empty() {
            let shown: Vec<_> = config.external_ip().iter().map(ToString::to_string).collect();
            writeln!(out, "  Advertised {}", shown.join(", "))?;
        }
        let reach = if self.http.ip().to_canonical().is_loopback() {
            "on this machine only"
        } else {
            "from the network, without TLS of our own"
        };
        writeln!(out, "  HTTP       http://{} ({reach})", self.http)?;
        let count = self.cores.shards.len();
        let noun = if count == 1 { "shard" } else { "shards" };
        writeln!(
            out,
            "  CPUs       {count} {noun} on {}; control plane on {}",
            cores::show(&self.cores.shards),
            cores::show(&self.cores.control)
        )?;
        let database = match files.database() {
            Database::Memory => "database in memory".to_owned(),
            Database::Postgres { url, .. } => format!("database postgres at {}", url.place()),
            Database::Sqlite(path) => format!("database {}", path.display()),
        };
        writeln!(out, "  Files      {}; {database}", files.folder().display())?;
        let recording = match files.recording() {
            Some(on) if on.auto_start => {
                format!("every call, to {}", files.recordings().display())
            }
            Some(_) => "on, but no call starts it (auto_start = false)".to_owned(),
            None => "off ([recording] enabled = true switches it on)".to_owned(),
        };
        writeln!(out, "  Recording  {recording}")?;
        writeln!(out, "  Users      {}", self.users)?;
        self.write_passwords(out)?;
        self.write_next(out)
    }

    fn write_passwords(&self, out: &mut String) -> std::fmt::Result {
        if let Some(FirstUser { name, password, .. }) = self.first_user {
            writeln!(out, "\nLogin for HTTP, shown this once:")?;
            writeln!(out, "  login {name}  password {password}")?;
        }
        if self.extensions.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nDemo extensions, shown this once:")?;
        for extension in self.extensions {
            if let Secret::Plain(password) = &extension.secret {
                writeln!(out, "  user {}  password {password}", extension.extension)?;
            }
        }
        Ok(())
    }

    fn write_next(&self, out: &mut String) -> std::fmt::Result {
        let at = self.listeners.first().map_or_else(String::new, |(_, address)| {
            let host = match address.ip() {
                ip if !ip.is_unspecified() => ip.to_string(),
                IpAddr::V4(_) | IpAddr::V6(_) => "THIS_HOST".to_owned(),
            };
            format!("{host}:{}", address.port())
        });
        writeln!(out, "\nNext:")?;
        match self.extensions {
            [one, two, ..] => writeln!(
                out,
                "  register two soft phones at {at} as {} and {}, then call one from the other",
                one.extension, two.extension
            )?,
            _ => writeln!(out, "  register a soft phone at {at}")?,
        }
        writeln!(out, "  curl http://{}/ami/v1/health", self.http)?;
        writeln!(out, "  ringgate demo        a recorded call without any phone")
    }
}
