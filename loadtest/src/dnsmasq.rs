//! dnsmasq as the name server of a test: it answers what it is told, and nothing else.
//! Owns:  one process with its folder.
//! Gives: its address, for `[dns] servers`.
//! Never: asks another name server, reads the host's files.
//! Holds: its answers may be kept for `TTL_S` seconds only, so that a test sees a change.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::gateway::Folder;
use crate::process::Running;
use crate::wait;

const READY: Duration = Duration::from_secs(10);
pub const TTL_S: u32 = 1;

#[derive(Debug)]
pub struct Dnsmasq {
    process: Running,
    pub at: SocketAddr,
    /// Goes away with it.
    _folder: Folder,
}

impl Dnsmasq {
    /// `records` as dnsmasq's options say them: `--srv-host=...`, `--host-record=...`.
    pub fn start(at: SocketAddr, records: &[String]) -> Result<Self, String> {
        let folder = Folder::new("dnsmasq")?;
        let mut command = Command::new("/usr/sbin/dnsmasq");
        command
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"])
            .args(["--bind-interfaces", "--user=root", "--pid-file", "--log-facility=-"])
            .args(["--local=/test/", "--dns-loop-detect"])
            .arg(format!("--listen-address={}", at.ip()))
            .arg(format!("--port={}", at.port()))
            .arg(format!("--local-ttl={TTL_S}"))
            .arg(format!("--neg-ttl={TTL_S}"))
            .args(records);
        let log = folder.path.join("dnsmasq.log");
        let process = Running::start("dnsmasq", &mut command, &log)?;
        let mut server = Self { process, at, _folder: folder };
        let ready = wait::until("an answer of dnsmasq", READY, || {
            (!server.process.is_running() || answers(at)).then_some(())
        });
        match ready {
            Ok(()) if server.process.is_running() => Ok(server),
            Ok(()) => Err(format!("dnsmasq ended: {}", server.process.tail())),
            Err(error) => Err(format!("{error}: {}", server.process.tail())),
        }
    }
}

/// Whether somebody answers a question for `ready.test`, whatever the answer.
fn answers(at: SocketAddr) -> bool {
    const QUESTION: &[u8] =
        b"\x51\x52\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x04test\x00\
                              \x00\x01\x00\x01";
    let ask = || {
        let socket = UdpSocket::bind((at.ip(), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(QUESTION, at)?;
        socket.recv(&mut [0; 512])
    };
    ask().is_ok()
}
