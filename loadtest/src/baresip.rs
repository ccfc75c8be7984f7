//! baresip 1.0 as a peer: its configuration, its control port, what it heard.
//! Owns:  a folder with config, accounts and tone, one baresip process.
//! Gives: dial, hang up, waits for events, the audio that it decoded.
//! Never: a sound card: a tone file is the microphone, the sndfile module the ear, and aubridge
//!        stands in for the loudspeaker, because without one baresip does not decode.
//! Holds: MD5 only: with a SHA-256 challenge in the 401, baresip 1.0 gives up.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::net::Transport;

use crate::gateway::{Folder, spare_port};
use crate::process::Running;
use crate::{tones, wait};

const READY: Duration = Duration::from_secs(10);
/// Where Debian's baresip-core keeps its modules.
const MODULES: &str = "/usr/lib/baresip/modules";

#[derive(Clone, Debug)]
pub struct Account<'a> {
    pub user: &'a str,
    pub password: &'a str,
    /// Where it registers and sends its calls.
    pub registrar: SocketAddr,
    /// Seconds; 0 does not register.
    pub register_s: u32,
    /// What it speaks.
    pub tone_hz: u16,
}

#[derive(Debug)]
pub struct Baresip {
    process: Running,
    folder: Folder,
    control: TcpStream,
    unread: Vec<u8>,
    events: Vec<Value>,
    pub sip: SocketAddr,
}

impl Baresip {
    pub fn start(account: &Account<'_>) -> Result<Self, String> {
        Self::start_over(account, Transport::Udp, None)
    }

    /// Over another transport, and over IPv6 where the registrar is there; a TLS server bears the
    /// certificate that is believed.
    pub fn start_over(
        account: &Account<'_>,
        transport: Transport,
        believed: Option<&Path>,
    ) -> Result<Self, String> {
        let folder = Folder::new("baresip")?;
        let local: IpAddr = match account.registrar.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let sip = SocketAddr::new(local, spare_port(local)?);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let control = SocketAddr::new(loopback, spare_port(loopback)?);
        let mut text = configuration(&folder.path, sip, control, account.tone_hz);
        if let Some(path) = believed {
            text.push_str(&format!("sip_cafile {}\n", path.display()));
        }
        let write = |error: std::io::Error| format!("{}: {error}", folder.path.display());
        fs::write(folder.path.join("config"), text).map_err(write)?;
        fs::write(folder.path.join("contacts"), "").map_err(write)?;
        let Account { user, password, registrar, register_s, .. } = account;
        let way = transport.uri_word();
        let line = format!(
            "<sip:{user}@{registrar};transport={way}>;auth_user={user};auth_pass={password};\
             answermode=auto;regint={register_s};audio_codecs=PCMU/8000/1;ptime=20;\
             outbound=\"sip:{registrar};transport={way}\"\n"
        );
        fs::write(folder.path.join("accounts"), line).map_err(write)?;
        tones::write_wav(&folder.path, account.tone_hz).map_err(|error| error.to_string())?;
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&folder.path).arg("-v").current_dir(&folder.path);
        let log = folder.path.join("baresip.log");
        let process = Running::start("baresip", &mut command, &log)?;
        let stream =
            wait::until("control port of baresip", READY, || TcpStream::connect(control).ok())
                .map_err(|error| format!("{error}\n{}", process.tail()))?;
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .map_err(|error| error.to_string())?;
        Ok(Self { process, folder, control: stream, unread: Vec::new(), events: Vec::new(), sip })
    }

    /// Waits until the registrar has answered 200. The log says so even when the answer came
    /// before the control port was connected; an event would be lost then.
    pub fn await_registered(&self, limit: Duration) -> Result<(), String> {
        wait::until("registration of baresip", limit, || {
            let log = fs::read_to_string(&self.process.log).ok()?;
            log.contains("} 200 OK (").then_some(())
        })
        .map_err(|error| format!("{error}\n{}", self.process.tail()))
    }

    pub fn dial(&mut self, uri: &str) -> Result<(), String> {
        self.command("dial", uri)
    }

    pub fn hang_up(&mut self) -> Result<(), String> {
        self.command("hangup", "")
    }

    /// Sends the other side of its call on to somebody else, by REFER.
    pub fn transfer(&mut self, uri: &str) -> Result<(), String> {
        self.command("transfer", uri)
    }

    /// What happened before is not waited for.
    pub fn forget_events(&mut self) {
        self.read_events();
        self.events.clear();
    }

    /// The next event of this type that nobody waited for before.
    pub fn await_event(&mut self, kind: &str, limit: Duration) -> Result<Value, String> {
        let give_up_at = Instant::now() + limit;
        loop {
            self.read_events();
            let found = self.events.iter().position(|event| event["type"] == kind);
            if let Some(index) = found {
                return Ok(self.events.remove(index));
            }
            if Instant::now() >= give_up_at {
                let tail = self.process.tail();
                return Err(format!("baresip: no {kind} in {limit:?}; {:?}\n{tail}", self.events));
            }
        }
    }

    /// What the decoder gave, from the file that the sndfile module completes after the call.
    pub fn await_heard(&self, limit: Duration) -> Result<Vec<i16>, String> {
        let mut last = String::new();
        wait::until("what baresip heard", limit, || match self.heard() {
            Ok(samples) if !samples.is_empty() => Some(samples),
            Ok(_) => None,
            Err(error) => {
                last = error;
                None
            }
        })
        .map_err(|error| format!("{error}: {last}"))
    }

    fn heard(&self) -> Result<Vec<i16>, String> {
        let found = fs::read_dir(&self.folder.path)
            .map_err(|error| error.to_string())?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-dec.wav"))
            })
            .ok_or("baresip wrote no file")?;
        let bytes = fs::read(&found).map_err(|error| error.to_string())?;
        crate::wav::read_mono(&bytes)
    }

    fn command(&mut self, name: &str, params: &str) -> Result<(), String> {
        let text = json!({ "command": name, "params": params, "token": name }).to_string();
        let framed = format!("{}:{text},", text.len());
        self.control.write_all(framed.as_bytes()).map_err(|error| format!("baresip: {error}"))
    }

    /// Netstrings: length, colon, JSON, comma.
    fn read_events(&mut self) {
        let mut buffer = [0u8; 8_192];
        if let Ok(length) = self.control.read(&mut buffer) {
            self.unread.extend_from_slice(&buffer[..length]);
        }
        while let Some((text, used)) = first_netstring(&self.unread) {
            if let Ok(event) = serde_json::from_slice::<Value>(text) {
                self.events.push(event);
            }
            self.unread.drain(..used);
        }
    }
}

fn first_netstring(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let text = bytes.get(colon + 1..colon + 1 + length)?;
    bytes.get(colon + 1 + length)?;
    Some((text, colon + length + 2))
}

fn configuration(folder: &Path, sip: SocketAddr, control: SocketAddr, hz: u16) -> String {
    let ip = sip.ip();
    let folder = folder.display();
    format!(
        "poll_method epoll\nsip_listen {sip}\nnet_interface {ip}\n\
         module_path {MODULES}\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\n\
         module aubridge.so\nmodule_app account.so\nmodule_app menu.so\n\
         module ctrl_tcp.so\nctrl_tcp_listen {control}\nsnd_path {folder}\n\
         audio_source aufile,{folder}/tone-{hz}.wav\naudio_player aubridge,ear\n\
         audio_path {folder}\naudio_txmode thread\n\
         rtp_ports 10000-11998\njitter_buffer_delay 2-10\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring_is_cut_only_when_it_is_whole() {
        assert_eq!(first_netstring(b"3:abc,4:de"), Some((b"abc".as_slice(), 6)));
        assert_eq!(first_netstring(b"3:abc"), None);
        assert_eq!(first_netstring(b""), None);
    }
}
