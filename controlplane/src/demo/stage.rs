//! Where the demo plays: a folder of its own, spare ports, a configuration, passwords.
//! Owns:  the temporary folder and the configuration file in it.
//! Gives: a gateway that nothing else on this machine notices.
//! Never: a port below 1024, an address that another machine reaches.
//! Holds: the configuration goes through the same checks as any other.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use super::{CALLEE, CALLER, DRAIN};
use crate::configuration::{self, Configured};
use crate::logs;
use crate::supervisor::{self, Cores, Gateway, ServeOptions};

/// Ports are tried until one is free for UDP and TCP.
const PORT_TRIES: u32 = 50;
/// Even; below the range that Linux hands out by itself.
const RTP_FIRST: u16 = 20_000;
const RTP_PORTS: u16 = 400;
const RTP_WINDOWS: u16 = 30;

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    pub(super) sip: SocketAddr,
    pub(super) passwords: [String; 2],
    cores: Cores,
}

impl Stage {
    pub(super) fn build() -> Result<Self, String> {
        let folder =
            std::env::temp_dir().join(format!("ringgate-demo-{:08x}", rand::random::<u32>()));
        supervisor::private_folder(&folder)?;
        let sip = spare_port().map_err(|error| format!("no spare port: {error}"))?;
        let password = || format!("{:032x}", rand::random::<u128>());
        let passwords = [password(), password()];
        let stage = Self { folder, sip, passwords, cores: supervisor::default_cores()? };
        stage.write_configuration().map_err(|error| format!("the configuration: {error}"))?;
        logs::start("warn", None)?;
        Ok(stage)
    }

    pub(super) fn runtime(&self) -> io::Result<Runtime> {
        supervisor::runtime(&self.cores)
    }

    pub(super) async fn start(&self) -> Result<Gateway, String> {
        let file = Some(self.configuration());
        let configured: Configured = configuration::from_parts(file, Vec::new(), true)
            .map_err(|refused| refused.to_string())?;
        let options = ServeOptions { drain: DRAIN, demo_extensions: false };
        let started = Gateway::start(configured, self.cores.clone(), options).await;
        started.map_err(|failed| failed.to_string())
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("ringgate.toml")
    }

    fn write_configuration(&self) -> io::Result<()> {
        let port = self.sip.port();
        let [caller, callee] = &self.passwords;
        let first = RTP_FIRST + rand::random_range(0..RTP_WINDOWS) * RTP_PORTS;
        let text = format!(
            r#"http_addr = "127.0.0.1:0"
data_dir = {folder:?}
rtp_start_port = {first}
rtp_end_port = {last}

[proxy]
addr = "127.0.0.1"
udp_port = {port}
tcp_port = {port}

[[proxy.user_backends]]
type = "memory"
users = [
  {{ username = "{CALLER}", password = "{caller}" }},
  {{ username = "{CALLEE}", password = "{callee}" }},
]

[recording]
enabled = true
"#,
            folder = self.folder,
            last = first + RTP_PORTS - 1,
        );
        write_private(&self.configuration(), &text)
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A port of the loopback address that is free for UDP and for TCP.
fn spare_port() -> io::Result<SocketAddr> {
    let mut last = io::Error::other("none was tried");
    for _ in 0..PORT_TRIES {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}
